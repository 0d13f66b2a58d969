"""A language model as a judge without training: it is asked, and at most the odds of its answers are set on labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from goodrate.catalog.splits import evenly
from goodrate.examples.data import TrainingData
from goodrate.models.causal_lm import CausalLM
from goodrate.models.chat_frame import chat_frame
from goodrate.models.pretrained import remembered_name
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.encoder_baseline import FIELDS, NO_LABELS, guessed_odds
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.relevance.odds import fit_odds
from goodrate.relevance.pairs import gold_labels
from goodrate.relevance.probe_judge import model_fingerprint, open_model
from goodrate.relevance.zero_shot_judge import (
    NO_AND_YES,
    YES_NO,
    Card,
    ZeroShotJudge,
    label_words,
    write_zero_shot_judge,
)
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale, scale_entry

FITTED_PAIRS = 1000  # labelled pairs that set the odds, at most
SAMPLE = 100  # items whose titles stand for queries when nobody gave labels


class Settings(BaseModel):
    """Which model, and what it is asked."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="folder or hub id of a causal language model")
    form: Literal["yes_no", "words"] = Field("yes_no", description="is it what is looked for, or one word a label")
    words: list[str] | None = Field(None, description="of the labels, worst first; null = their names")
    fields: list[str] = Field(default=list(FIELDS), description="what it reads of an item")
    characters: int = Field(300, ge=20, description="of an item that it reads")
    chat: bool | None = Field(None, description="in the model's chat template; null = where it has one")
    labels: bool = Field(True, description="false: no label is read; the order is the same, labels are a guess")


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Set the odds on training pairs where there is something to set; tune and measure on the dev queries."""
    model = open_model(settings.model)
    card = zero_shot_card(settings, model, data.scale)
    judge = ZeroShotJudge(model, card)
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    if settings.form == YES_NO:
        card = _with_odds(judge, data, settings.labels)
    for folder, chosen in remembered:  # last: what cannot start binds no folder to its data
        folder.begin(chosen, data.choice.split_seed)
    write_zero_shot_judge(out / "judge", card)
    if not settings.labels:
        return TrainingResult(out / "judge", {}, (*data.notes, NO_LABELS))
    report = tune_and_measure(out / "judge", data)
    return TrainingResult(out / "judge", report.rows, (*data.notes, *report.notes), (*report.warnings, *report.advice))


def zero_shot_card(settings: Settings, model: CausalLM, scale: RelevanceScale) -> Card:
    """The card of a model that is asked so; odds are not set."""
    words = NO_AND_YES if settings.form == YES_NO else tuple(settings.words or label_words(scale))
    in_chat = bool(model.tokenizer.chat_template) if settings.chat is None else settings.chat
    frame = chat_frame(model.tokenizer, settings.model) if in_chat else None
    start = str(model.tokenizer.bos_token) if model.start_ids else ""
    around = (frame.opening, frame.closing) if frame else (start, "") if start else ()
    return Card(
        scale=scale_entry(scale), language_model=remembered_name(settings.model), fingerprint=model_fingerprint(model),
        form=settings.form, words=words, cuts=(0.0,) * (len(scale) - 1) if settings.form == YES_NO else (),
        fields=tuple(settings.fields), characters=settings.characters, chat_frame=around,
    )  # fmt: skip


def _with_odds(judge: ZeroShotJudge, data: TrainingData, labels: bool) -> Card:
    """The card with odds from training labels, or guessed from titles and their items."""
    if not labels:
        items, seed = list(data.rows.values()), data.choice.split_seed
        slope, cuts = guessed_odds(judge.scores, items, len(data.scale), seed, SAMPLE)
        return replace(judge.card, slope=slope, cuts=cuts)
    pairs = evenly(data.training_pairs(), FITTED_PAIRS)
    slope, cuts = fit_odds(judge.scores(pairs), gold_labels(pairs), len(data.scale))
    return replace(judge.card, slope=slope, cuts=cuts, labelled_pairs=len(pairs))


JUDGE_ZERO_SHOT = Recipe(Settings, run)
