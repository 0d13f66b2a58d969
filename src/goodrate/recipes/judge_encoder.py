"""The cosine of a text encoder as a judge, calibrated on labels: the baseline that every other judge must beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.data import TrainingData
from goodrate.models.encoder import Encoder
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data, write_rows
from goodrate.relevance.encoder_judge import (
    Card,
    EncoderJudge,
    cuts_without_labels,
    fit_odds,
    write_encoder_judge,
)
from goodrate.relevance.pairs import Item, Pair, gold_labels
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

SAMPLE = 500  # items whose titles stand for queries when nobody gave labels


class Settings(BaseModel):
    """Which encoder, and what it reads."""

    model_config = ConfigDict(extra="forbid")
    encoder: str = Field(description="sentence-transformers folder or hub id")
    fields: list[str] = Field(default=["title", "description"], description="what it reads of an item")
    labels: bool = Field(default=True, description="false: no label is read; the order is the same, labels are a guess")


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Fit on the training pairs; tune and measure on the dev queries."""
    encoder = Encoder.load(settings.encoder, precision="auto")
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    if settings.labels:
        pairs = data.training_pairs()
        card = fitted_card(settings, encoder, data.scale, pairs, gold_labels(pairs))
    else:
        card = unlabelled_card(settings, encoder, data.scale, list(data.rows.values()), data.choice.split_seed)
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, data.choice.split_seed)
    write_encoder_judge(out / "judge", card)
    if not settings.labels:
        return TrainingResult(out / "judge", {}, (*data.notes, "no label was read: trust the order, not the tiers"))
    rows, tuned = tune_and_measure(out / "judge", data)
    write_rows(out, rows)
    return TrainingResult(out / "judge", rows, (*data.notes, tuned))


def fitted_card(
    settings: Settings, encoder: Encoder, scale: RelevanceScale, pairs: Sequence[Pair], labels: np.ndarray
) -> Card:
    """The card with the proportional-odds model of labelled pairs. Raises ValueError when all labels are one."""
    cosines = EncoderJudge(encoder, _card(settings, encoder, scale, 1.0)).cosines(pairs)
    slope, cuts = fit_odds(cosines, labels, len(scale))
    return _card(settings, encoder, scale, slope, cuts, len(pairs))


def unlabelled_card(settings: Settings, encoder: Encoder, scale: RelevanceScale, items: list[Item], seed: int) -> Card:
    """The card of an encoder alone: titles of the catalogue stand for queries."""
    judge = EncoderJudge(encoder, _card(settings, encoder, scale, 1.0))
    rng = np.random.default_rng(seed)
    sample = [items[place] for place in rng.permutation(len(items))[:SAMPLE]]
    others = sample[1:] + sample[:1]
    alike = judge.cosines([Pair(str(item["title"]), item) for item in sample])
    chance = judge.cosines([Pair(str(item["title"]), other) for item, other in zip(sample, others, strict=True)])
    return _card(settings, encoder, scale, *cuts_without_labels(chance, alike, len(scale)))


def _card(
    settings: Settings, encoder: Encoder, scale: RelevanceScale, slope: float,
    cuts: tuple[float, ...] | None = None, labelled: int = 0,
) -> Card:  # fmt: skip
    path = Path(settings.encoder).expanduser()
    return Card(
        scale=scale.name, encoder=str(path.resolve()) if path.is_dir() else settings.encoder,
        fingerprint=encoder.fingerprint, slope=slope, cuts=cuts or (0.0,) * (len(scale) - 1),
        fields=tuple(settings.fields), labelled_pairs=labelled,
    )  # fmt: skip


JUDGE_ENCODER = Recipe(Settings, run)
