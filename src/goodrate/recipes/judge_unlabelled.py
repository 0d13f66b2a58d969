"""A judge without any label: cosine, words and constraints added as usual, and a probe taught by the cosine.

With a language model, that model writes queries for items, and the probe learns from soft targets that are the
encoder's own; its states are no copy of it. benchmarks/results/real_judges.md says what that gains. Without one the sum
is as it is, and titles stand for queries. What it says of labels is a guess that nobody checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goodrate.catalog.items import Catalog
from goodrate.examples.sources import read_items
from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from goodrate.recipes.encoder_baseline import CHARACTERS, FIELDS, NO_LABELS
from goodrate.recipes.judge_ensemble import FEATURES_FILE
from goodrate.recipes.probe_setup import ProbeSetup
from goodrate.recipes.registry import Progress, Recipe, TrainingResult
from goodrate.recipes.score_sum import ALPHA, PROBE, Member, added
from goodrate.recipes.untrained_members import (
    COSINE,
    SCALES,
    USUAL,
    UntrainedJudge,
    untrained_judges,
    write_member,
)
from goodrate.relevance import ensemble_judge, probe_judge
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.odds import CHANCE_QUANTILE, cuts_without_labels
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.probe_head import ridge_heads
from goodrate.relevance.probe_judge import CLICKED, QUERY
from goodrate.retrieval.languages import check_language
from goodrate.run_folder import RunFolder, new_folder
from goodrate.scale import get_scale, scale_entry

ITEMS = 5000  # drawn from a larger catalogue: queries are written for some of them, neighbours are found among them
QUERY_TOKENS = 16  # that a written query has at most
SHORTEST, LONGEST = 3, 60  # characters of a query that is kept
NEAREST, FAR = (1, 10), (11, 150)  # ranks of an encoder's neighbours that stand for good and for near misses
DRAWN = {"near": 3, "far": 2, "random": 2}  # items for a query, beside the one it was written for


class Settings(BaseModel):
    """Which items, models and how many queries."""

    model_config = ConfigDict(extra="forbid")
    catalog: str | None = Field(None, description="file of items")
    catalog_format: str | None = None
    catalog_map: dict[str, str] = {}
    index: str | None = Field(None, description="folder of an index in place of catalog")
    skip_bad: int = Field(0, ge=0)
    encoder: str = Field(description="folder or hub id of a text encoder")
    language_model: str | None = Field(None, description="folder or hub id of a causal language model; null = no probe")
    scale: str | dict[str, Any] = Field("four_level", description="a name, or a TOML file of your own")
    decimal: Literal["point", "comma"] | None = None
    currency: str | None = None
    fields: list[str] = Field(default=list(FIELDS), description="what is read of an item")
    characters: int = Field(160, ge=20, description="of an item that the probe reads")
    encoder_characters: int = Field(CHARACTERS, ge=20, description="of an item that an encoder reads")
    language: str = Field("en", description="of queries: rules for exclusions and measures (en, de; others have none)")
    queries: int = Field(160, ge=10, description="that the language model writes")
    temperature: float = Field(0.8, gt=0)
    seed: int = 0

    @field_validator("scale")
    @classmethod
    def _whole_scale(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """The content of a scale's file in place of its name."""
        return scale_entry(get_scale(value))

    @field_validator("language")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_language(value)

    @model_validator(mode="after")
    def _one_source(self) -> Settings:
        if (self.catalog is None) == (self.index is None):
            raise ValueError("expected either catalog or index")
        return self


@dataclass(frozen=True)
class Written:
    """Pairs of queries with items. is_source: (N,) bool, the item that the query was written for.

    is_close: (N,) bool, that item and neighbours of the encoder, such as a search finds.
    """

    pairs: list[Pair]
    is_source: np.ndarray
    is_close: np.ndarray


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Write queries, draw items for them, fit the probe to the cosine, and add all up."""
    scale, folder = get_scale(settings.scale), RunFolder(out)
    folder.require_same(settings)
    catalog = read_items(settings)
    rows = _drawn_items(catalog, settings.seed)
    encoders = {settings.encoder: Encoder.load(settings.encoder, precision="auto")}
    name = settings.language_model
    setup = ProbeSetup.open(name, scale, settings.fields, settings.characters) if name else None
    folder.begin(settings, settings.seed)
    judges = untrained_judges(
        encoders, catalog, scale, settings.language, settings.fields, settings.encoder_characters
    )  # fmt: skip
    cosine = judges[COSINE]
    assert isinstance(cosine, EncoderJudge)
    if setup is None:
        _write_judge(out / "judge", judges, title_pairs(rows, cosine, settings), None, np.zeros(0))
        return TrainingResult(out / "judge", {}, ("titles stood for queries", NO_LABELS))
    written = written_pairs(rows, setup, cosine, settings)
    features = setup.features(written.pairs, out / FEATURES_FILE, progress)
    _write_judge(out / "judge", judges, written, setup, features)
    examples = list(dict.fromkeys(pair.query for pair in written.pairs))
    told = f"{len(examples)} queries were written, such as {', '.join(map(repr, examples[:5]))}"
    return TrainingResult(out / "judge", {}, (told, NO_LABELS))


def _drawn_items(catalog: Catalog, seed: int) -> Sequence[Item]:
    """The rows of a catalogue, or of ITEMS of its items, in catalogue order."""
    frame = catalog.frame
    if len(frame) > ITEMS:
        places = np.sort(np.random.default_rng(seed).permutation(len(frame))[:ITEMS])
        frame = frame[places.tolist()]
    return frame.to_dicts()


def written_queries(
    model: CausalLM, opening: str, texts: Sequence[str], seeds: Sequence[int], temperature: float
) -> list[str]:
    """A query that the model writes behind each item's text, "" where it wrote none that can be used."""
    stop = model.encode("\n")[-1]
    begun = [*model.start_ids, *model.encode(opening)]
    prompts = [[*begun, *model.encode(f"{CLICKED}{text}{QUERY}")] for text in texts]
    done = model.generate(prompts, QUERY_TOKENS, stop, temperature, list(seeds))
    return [_usable(one.text.split("\n")[0], text) for one, text in zip(done, texts, strict=True)]


def _usable(query: str, text: str) -> str:
    """The query, "" for one that is too short or long, or the item's own text."""
    query = " ".join(query.split())
    good = SHORTEST <= len(query) <= LONGEST and query.lower() != text.lower() and CLICKED.strip() not in query
    return query if good else ""


def written_pairs(rows: Sequence[Item], setup: ProbeSetup, cosine: EncoderJudge, settings: Settings) -> Written:
    """Queries written for random items, each with that item, neighbours near and far, and random items.

    Raises ValueError when the model writes too few that can be used.
    """
    rng = np.random.default_rng(settings.seed)
    places = rng.permutation(len(rows))[: 2 * settings.queries].tolist()
    texts = setup.reader.reads([rows[place] for place in places])
    seeds = rng.integers(0, 2**31, len(places)).tolist()
    queries = written_queries(setup.reader.model, setup.card.opening, texts, seeds, settings.temperature)
    source_of: dict[str, int] = {}
    for query, place in zip(queries, places, strict=True):
        if query:
            source_of.setdefault(query, place)
    chosen = dict(list(source_of.items())[: settings.queries])
    if len(chosen) < settings.queries // 4:
        raise ValueError(
            f"{settings.language_model} wrote {len(chosen)} queries that can be used, of {len(places)} items; another "
            "language model is needed, or a larger catalogue"
        )
    return _with_items(chosen, rows, cosine, rng)


def title_pairs(rows: Sequence[Item], cosine: EncoderJudge, settings: Settings) -> Written:
    """Titles in place of queries, each with items as in written_pairs."""
    rng = np.random.default_rng(settings.seed)
    places = rng.permutation(len(rows))[: settings.queries].tolist()
    return _with_items({str(rows[place]["title"]): place for place in places}, rows, cosine, rng)


def _with_items(
    source_of: dict[str, int], rows: Sequence[Item], cosine: EncoderJudge, rng: np.random.Generator
) -> Written:
    """Each query with its source, neighbours near and far, and random items."""
    items = cosine.item_vectors(rows)
    pairs: list[Pair] = []
    places: list[int] = []
    for (query, source), vector in zip(source_of.items(), cosine.query_vectors(list(source_of)), strict=True):
        drawn = _drawn(items @ vector, source, rng)
        pairs += [Pair(query, rows[item]) for item in drawn]
        places += range(len(drawn))
    place = np.asarray(places)
    return Written(pairs, place == 0, place <= DRAWN["near"])


def _drawn(cosines: np.ndarray, source: int, rng: np.random.Generator) -> list[int]:
    """The source first, then others from near, from far and from everywhere, none twice."""
    order = np.argsort(-cosines, kind="stable")
    pools = {
        "near": order[NEAREST[0] - 1 : NEAREST[1]], "far": order[FAR[0] - 1 : FAR[1]], "random": np.arange(len(order))
    }  # fmt: skip
    drawn = [source]
    for name, pool in pools.items():
        free = pool[~np.isin(pool, drawn)]
        drawn += rng.permutation(free)[: DRAWN[name]].tolist()
    return drawn


def soft_targets(cosines: np.ndarray, is_source: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """0 at what unrelated pairs reach (their 99 % quantile), 1 at the median of sources, in between by cosine; (N,).

    >>> soft_targets(np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 0], bool), np.array([0.2])).round(2).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    low, high = float(np.quantile(chance, CHANCE_QUANTILE)), float(np.median(cosines[is_source]))
    return np.clip((cosines - low) / max(high - low, 1e-3), 0.0, 1.0)


def _write_judge(
    folder: Path, judges: dict[str, UntrainedJudge], written: Written, setup: ProbeSetup | None, features: np.ndarray
) -> None:
    """The ensemble with usual weights; cuts from unrelated pairs and from queries with their sources."""
    cosine = judges[COSINE]
    scores = {name: judge.scores(written.pairs) for name, judge in judges.items()}
    targets = soft_targets(scores[COSINE], written.is_source, _chance(cosine, written))
    head = None
    if setup is not None:
        (head,) = ridge_heads(features, targets, [ALPHA])
        scores[PROBE] = head.scores(features)
    members = {name: _close(name, one, written) for name, one in scores.items()}
    weights = {name: one.usual for name, one in members.items()}
    scale, unrelated = cosine.scale, targets <= 0
    scores["sum"] = added(members, weights)
    odds = {
        name: cuts_without_labels(one[unrelated], one[written.is_source], len(scale)) for name, one in scores.items()
    }
    with new_folder(folder) as beside:
        for name, judge in judges.items():
            write_member(beside / name, judge, *odds[name], 0)
        if setup is not None and head is not None:
            own = replace(setup.card, alpha=ALPHA, slope=odds[PROBE][0], cuts=odds[PROBE][1])
            probe_judge.write_probe_judge(beside / PROBE, own, head)
        ensemble = ensemble_judge.Card(
            scale=scale_entry(scale), members=tuple(weights), weights=tuple(weights.values()),
            means=tuple(one.mean for one in members.values()), spreads=tuple(one.spread for one in members.values()),
            slope=odds["sum"][0], cuts=odds["sum"][1], warnings=(NO_LABELS,),
        )  # fmt: skip
        ensemble_judge.write_ensemble_judge(beside, ensemble)


def _close(name: str, scores: np.ndarray, written: Written) -> Member:
    """A member as it is added: by mean and spread of close items, such as a search has to order."""
    if name in SCALES:
        return Member(scores, *SCALES[name], USUAL[name])
    close = Member.of(scores[written.is_close], USUAL.get(name, 1.0))
    return replace(close, scores=scores)


def _chance(cosine: UntrainedJudge, written: Written) -> np.ndarray:
    """Cosines of each query with another query's source."""
    sources = [pair for pair, own in zip(written.pairs, written.is_source, strict=True) if own]
    others = [*sources[1:], *sources[:1]]
    return cosine.scores([Pair(pair.query, other.item) for pair, other in zip(sources, others, strict=True)])


JUDGE_UNLABELLED = Recipe(Settings, run, needs_data=False)
