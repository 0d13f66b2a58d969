"""The cosine of a text encoder as a judge, calibrated on labels: the baseline that every other judge must beat."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.data import TrainingData
from goodrate.models.encoder import Encoder
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.encoder_baseline import FIELDS, NO_LABELS, encoder_card, fitted_card, guessed_odds
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.relevance.encoder_judge import Card, EncoderJudge, write_encoder_judge
from goodrate.relevance.pairs import Item, gold_labels
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

SAMPLE = 500  # items whose titles stand for queries when nobody gave labels


class Settings(BaseModel):
    """Which encoder, and what it reads."""

    model_config = ConfigDict(extra="forbid")
    encoder: str = Field(description="sentence-transformers folder or hub id")
    fields: list[str] = Field(default=list(FIELDS), description="what it reads of an item")
    labels: bool = Field(default=True, description="false: no label is read; the order is the same, labels are a guess")


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Fit on the training pairs; tune and measure on the dev queries."""
    encoder = Encoder.load(settings.encoder, precision="auto")
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    if settings.labels:
        pairs = data.training_pairs()
        card = fitted_card(settings.encoder, encoder, data.scale, pairs, gold_labels(pairs), settings.fields)
    else:
        card = unlabelled_card(settings, encoder, data.scale, list(data.rows.values()), data.choice.split_seed)
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, data.choice.split_seed)
    write_encoder_judge(out / "judge", card)
    if not settings.labels:
        return TrainingResult(out / "judge", {}, (*data.notes, NO_LABELS))
    report = tune_and_measure(out / "judge", data, baseline=False)
    return TrainingResult(out / "judge", report.rows, (*data.notes, *report.notes), (*report.warnings, *report.advice))


def unlabelled_card(settings: Settings, encoder: Encoder, scale: RelevanceScale, items: list[Item], seed: int) -> Card:
    """The card of an encoder alone: titles of the catalogue stand for queries."""
    judge = EncoderJudge(encoder, encoder_card(settings.encoder, encoder, scale, settings.fields))
    odds = guessed_odds(judge.cosines, items, len(scale), seed, SAMPLE)
    return encoder_card(settings.encoder, encoder, scale, settings.fields, *odds)


JUDGE_ENCODER = Recipe(Settings, run)
