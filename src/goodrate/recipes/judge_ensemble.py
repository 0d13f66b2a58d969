"""A judge from few labels: cosines, words, constraints and a probe of a frozen language model, added and weighed.

Nothing is trained but a ridge regression, a handful of weights and the odds of labels, so it is fitted in seconds once
the features of the labelled pairs are there. Those are kept in the run folder; with more labels another run computes
the new ones only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from goodrate.examples.data import TrainingData
from goodrate.models.encoder import Encoder
from goodrate.recipes import score_sum
from goodrate.recipes.encoder_baseline import CHARACTERS, FIELDS
from goodrate.recipes.ensemble_report import BM25, Report, lexical_scores, measured_report
from goodrate.recipes.probe_setup import ProbeSetup
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data, write_rows
from goodrate.recipes.score_sum import ALPHA, PROBE, LabelledPairs, Member, ScoreSums, probe_scores
from goodrate.recipes.untrained_members import (
    USUAL,
    UntrainedJudge,
    untrained_judges,
    untrained_members,
    write_member,
)
from goodrate.relevance import ensemble_judge, probe_judge
from goodrate.relevance.label_choice import balanced_weights
from goodrate.relevance.odds import fit_odds
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.relevance.seen_queries import write_seen
from goodrate.relevance.tiers import choose_beta
from goodrate.relevance.tuning import TIER_FLOOR
from goodrate.retrieval.languages import check_language
from goodrate.run_folder import RunFolder, new_folder, write_atomic
from goodrate.scale import scale_entry
from goodrate.strict_json import dumps

REPORT_FILE, FEATURES_FILE = "fit.json", "features.safetensors"


class Settings(BaseModel):
    """What is added up."""

    model_config = ConfigDict(extra="forbid")
    encoders: list[str] = Field(min_length=1, description="folders or hub ids of text encoders; the first is the rival")
    language_model: str | None = Field(None, description="folder or hub id of a causal language model; null = no probe")
    layers: list[int] | None = Field(None, description="that the probe reads; null = those at 1/2 and 2/3 of its depth")
    fields: list[str] = Field(default=list(FIELDS), description="what is read of an item")
    characters: int = Field(160, ge=20, description="of an item that the probe reads")
    encoder_characters: int = Field(CHARACTERS, ge=20, description="of an item that an encoder reads")
    neighbours: bool = Field(False, description="also compare an item with what the query finds; encodes the catalogue")
    language: str = Field("en", description="of queries: rules for exclusions and measures (en, de; others have none)")
    opening: str | None = Field(None, description="what the probe reads before every pair; null = an invented log")
    features: str | None = Field(None, description="run folder before this one, whose pairs need not be read again")
    folds: int = Field(score_sum.FOLDS, ge=2, description="of query groups, to weigh and to measure on")

    @field_validator("language")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_language(value)


@dataclass(frozen=True)
class Probe:
    """A language model set up to be probed, and the features (N, D) of the labelled pairs."""

    setup: ProbeSetup
    features: np.ndarray


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Weigh, measure and fit on the labelled pairs of training and dev; the table is over folds."""
    data.parts["train"].require_one_kind()  # the table is over folds of train and dev
    if bool(data.parts["train"].models) != bool(data.parts["dev"].models):
        raise ValueError("train and dev are labelled by people and by a model; the judge is measured on both together")
    pairs = [*data.pairs("train"), *data.pairs("dev")]
    labelled = LabelledPairs(pairs, data.scale, settings.folds, data.choice.split_seed)
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    encoders = {name: Encoder.load(name, precision="auto") for name in settings.encoders}
    labelled.fold  # noqa: B018  too few groups of queries are said before anything is computed
    for folder, chosen in remembered:
        folder.begin(chosen, data.choice.split_seed)
    judges = untrained_judges(
        encoders, data.catalog, data.scale, settings.language, settings.fields, settings.encoder_characters,
        settings.neighbours,
    )  # fmt: skip
    members = untrained_members(judges, pairs)
    probe = _probe(settings, data, pairs, out, progress) if settings.language_model else None
    if probe:
        members[PROBE] = Member.of(probe_scores(probe.features, labelled), USUAL[PROBE])
    sums = ScoreSums(labelled, members)
    report = measured_report(sums, {BM25: lexical_scores(data.catalog, pairs)}, probe.features if probe else None)
    report = replace(report, warnings=(*report.warnings, *data.label_warnings))
    _write_judge(out / "judge", sums, judges, probe, report)
    write_seen(out / "judge", {"train": {pair.query for pair in pairs}}, {})
    RunFolder(out).write(REPORT_FILE, dumps(report.as_dict(), indent=2) + "\n")
    rows = report.rows()
    write_rows(out, rows)
    return TrainingResult(out / "judge", rows, (*data.notes, *report.notes), report.warnings)


def _probe(settings: Settings, data: TrainingData, pairs: list[JudgedPair], out: Path, progress: Progress) -> Probe:
    """The model, and the features of all labelled pairs, from the run folder where they lie there."""
    assert settings.language_model is not None
    setup = ProbeSetup.open(
        settings.language_model, data.scale, settings.fields, settings.characters, settings.layers, settings.opening
    )
    kept = out / FEATURES_FILE
    if settings.features is not None and not kept.exists():
        write_atomic(kept, (Path(settings.features) / FEATURES_FILE).read_bytes())
    return Probe(setup, setup.features(pairs, kept, progress))


def _write_judge(
    folder: Path, sums: ScoreSums, judges: Mapping[str, UntrainedJudge], probe: Probe | None, report: Report
) -> None:
    """The ensemble with its members, each of which is a judge too; the folder appears complete or not at all."""
    data, weights = sums.data, report.weights
    slope, cuts = fit_odds(sums.total(weights), data.labels, len(data.scale))
    chosen = _beta(sums, report)
    with new_folder(folder) as beside:
        for name in weights:
            odds = fit_odds(sums.members[name].scores, data.labels, len(data.scale))
            if name == PROBE:
                assert probe is not None
                _write_probe(beside / PROBE, data, probe, *odds)
            else:
                write_member(beside / name, judges[name], *odds, len(data.pairs))
        added = [sums.members[name] for name in weights]
        card = ensemble_judge.Card(
            scale=scale_entry(data.scale), members=tuple(weights), weights=tuple(weights.values()),
            means=tuple(one.mean for one in added), spreads=tuple(one.spread for one in added), slope=slope, cuts=cuts,
            labelled_pairs=len(data.pairs), beta_cum=chosen[0], tuning=chosen[1], warnings=report.warnings,
            label_weights=balanced_weights(data.labels, len(data.scale)),
        )  # fmt: skip
        ensemble_judge.write_ensemble_judge(beside, card, report.head)


def _write_probe(folder: Path, data: LabelledPairs, probe: Probe, slope: float, cuts: tuple[float, ...]) -> None:
    """The head of all labelled pairs. slope, cuts: of scores out of fold, which are not too sure."""
    (head,) = ridge_heads(probe.features, gain_targets(data.labels, data.scale), [ALPHA])
    labelled = len(data.pairs)
    card = replace(probe.setup.card, alpha=ALPHA, slope=slope, cuts=cuts, labelled_pairs=labelled)
    probe_judge.write_probe_judge(folder, card, head)


def _beta(sums: ScoreSums, report: Report) -> tuple[float, str]:
    """The tier threshold, chosen on probabilities out of fold, and in words on what."""
    data = sums.data
    queries = [pair.query for pair in data.pairs]
    lacking = TIER_FLOOR.shortage(queries, data.scale.is_positive[data.labels], "side (good or not)")
    if lacking:
        return 0.5, f"tier threshold (beta_cum) stays 0.50: {lacking}"
    beta = choose_beta(report.probabilities, data.labels, data.scale).beta_cum
    return beta, f"tier threshold (beta_cum) {beta:.2f}, set on {len(queries):,} pairs judged out of fold"


JUDGE_ENSEMBLE = Recipe(Settings, run)
