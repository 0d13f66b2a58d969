"""A judge of entities: a query is held against each entity of an item, and a soft logic joins the verdicts.

After EBRM (arXiv 2307.00370), of which the idea is public and no formula: query-entity verdicts by a cross-encoder,
kept because entities recur, joined by a logic that an editor can read and overrule. See docs/entity_judge.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.relevance.cross_encoder_judge import START
from goodrate.relevance.encoder_judge import Card as EncoderCard
from goodrate.relevance.encoder_judge import open_kind as open_encoder_judge
from goodrate.relevance.entities import SOURCES, EntityRules
from goodrate.relevance.entity_reasons import explanation
from goodrate.relevance.entity_start import EntityStart
from goodrate.relevance.entity_verdicts import (
    EntityCache,
    EntityTable,
    QueryEntityModel,
    QueryEntityVerdicts,
)
from goodrate.relevance.judge_card import JudgeCard, read_judge_card, require_count, write_judge_card
from goodrate.relevance.overrides import NONE, Overrides, read_overrides
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.soft_logic import LABELS, UNKNOWN, Evidence, Logic, Truth, label_probabilities, truth
from goodrate.relevance.verdicts import OK, TOO_LONG, Explanation
from goodrate.retrieval.rewriting.constraint_rules import languages
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale

NO_ENTITIES = "no_entities"
MODEL_FOLDER, PHRASES_FILE = "model", "phrases.json"
OVERRIDES_FILE, CACHE_FILE = "overrides.toml", "query_entities.sqlite"


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """types: that a query can constrain. sources: of entities. most: of an item. tnorm, unknown, logic_temperature,
    constraints_conflict: of the logic (soft_logic.Logic). labelled_pairs: how many it was trained on. whole: fields of
    the whole item, of which the judge in the folder START says how it stands (entity_start); none for a judge without.
    language: of the rule for what a query excludes; "" = no rule.
    """

    kind: ClassVar[str] = "entity"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "types"})
    types: tuple[str, ...]
    sources: str = SOURCES[0]
    most: int = 20
    tnorm: str = "product"
    unknown: float = UNKNOWN
    logic_temperature: float = 1.0
    constraints_conflict: bool = True
    labelled_pairs: int = 0
    whole: tuple[str, ...] = ()
    language: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language and self.language not in languages():
            raise ValueError(f"language {self.language!r}: no rules for it; known: {', '.join(languages())}")
        require_count("most", self.most, least=1, most=1000)
        self.logic  # noqa: B018  says what is wrong with it
        if len(self.relevance_scale) not in LABELS:
            raise ValueError(f"scale of {len(self.relevance_scale)} labels; {TOO_MANY}")

    @property
    def logic(self) -> Logic:
        """How its verdicts are joined."""
        return Logic(self.tnorm, self.unknown, self.logic_temperature, self.constraints_conflict)


TOO_MANY = "an entity judge gives 2, 3 or 4: bin them (edges in a scale's file, docs/data.md)"


def open_kind(folder: Path, card: JudgeCard) -> EntityJudge:
    """The judge of a folder; its query-entity verdicts are kept there where it can be written to.

    Raises FileNotFoundError when its model or its phrases are missing, ValueError naming what is wrong.
    """
    assert isinstance(card, Card)
    rules = EntityRules(card.types, _phrases(folder / PHRASES_FILE), card.sources, card.most, card.whole)
    saved = folder / OVERRIDES_FILE
    overrides = read_overrides(saved) if saved.is_file() else NONE
    return EntityJudge(_model(folder, card), rules, card, _cache(folder), overrides)


def _model(folder: Path, card: Card) -> QueryEntityModel:
    """The start, a cross-encoder, or one on top of the other."""
    from goodrate.relevance.entity_model import CrossEncoderVerdicts

    if not card.whole:
        return CrossEncoderVerdicts.load(folder / MODEL_FOLDER)
    own = read_judge_card(folder / START)
    if not isinstance(own, EncoderCard) or own.relevance_scale.labels != card.relevance_scale.labels:
        raise ValueError(f"{folder / START}: expected a judge of kind encoder with the labels of the judge around it")
    start = EntityStart(open_encoder_judge(folder / START, own), card.logic, card.language)
    return CrossEncoderVerdicts.load(folder / MODEL_FOLDER, start) if (folder / MODEL_FOLDER).is_dir() else start


def _cache(folder: Path) -> EntityCache | None:
    try:
        return EntityCache(folder / CACHE_FILE)
    except OSError:  # a folder that cannot be written to: verdicts are kept in memory alone
        return None


def _phrases(path: Path) -> frozenset[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the judge's folder is incomplete: train it anew")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(content, list) and all(isinstance(one, str) for one in content)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{path}: expected a JSON list of texts") from error
    return frozenset(content)


def write_entity_judge(folder: Path, card: Card, rules: EntityRules) -> None:
    """Write the card and the phrases; the model is written by its own kind, beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PHRASES_FILE, json.dumps(sorted(rules.phrases), ensure_ascii=False, indent=0) + "\n")
    write_judge_card(folder, card)


@dataclass(frozen=True)
class Reading:
    """What the judge holds of N pairs. numbers (N, E): of entities, -1 none. evidence: with overrides applied."""

    numbers: np.ndarray
    evidence: Evidence
    parts: Truth


class EntityJudge:
    """A model of query-entity verdicts with the rules of entities, a card, and what an editor says."""

    def __init__(
        self, model: QueryEntityModel, rules: EntityRules, card: Card, cache: EntityCache | None = None,
        overrides: Overrides = NONE,
    ) -> None:  # fmt: skip
        self.card, self.rules, self.overrides = card, rules, overrides
        self.table = EntityTable(rules)
        self.kept = QueryEntityVerdicts(model, self.table, cache)

    def overruled(self, overrides: Overrides) -> EntityJudge:
        """The same judge with other overrides; both share what the model has said."""
        other = EntityJudge(self.kept.model, self.rules, self.card, None, overrides)
        other.table, other.kept = self.table, self.kept
        return other

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, how its verdicts are joined, and what an editor says against them."""
        card = self.card
        logic = [*astuple(card.logic), list(card.types)]
        return {"model": self.kept.model.fingerprint, "logic": logic, "overrides": self.overrides.identity}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The entities of each item, as "type: text ; type: text"."""
        return [" ; ".join(str(self.table.entities[number]) for number in self.table.row(item)) for item in items]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the logic; an item without an entity is a failure."""
        labels = len(self.scale)
        if not pairs:
            return Assessment.of(np.zeros((0, labels)))
        reading = self.read(pairs)
        rows = label_probabilities(reading.parts, labels, self.card.logic)
        rows = np.clip(rows, 0.0, 1.0)
        rows /= rows.sum(axis=1, keepdims=True)
        silent = (reading.numbers < 0).all(axis=1)
        rows[silent] = np.nan
        unread = np.isnan(rows).any(axis=1)  # a query that leaves no room for an entity
        status = np.where(silent, NO_ENTITIES, np.where(unread, TOO_LONG, OK))
        return Assessment.of(rows, status.tolist())

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What orders: the expected gain, (N,)."""
        return self.scale.expected_gain(self.assess(pairs).probabilities)

    def kind_degrees(self, pairs: Sequence[Pair]) -> np.ndarray:
        """How far each item is of the kind that is asked for, (N,): what the category alone says."""
        return self.read(pairs).parts.kind if pairs else np.zeros(0)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The entities that support and conflict, the wants and the factors: all that the label was made of."""
        if not pairs:
            return []
        reading = self.read(pairs)
        return [explanation(self, pair.query, reading, row, label)
                for row, (pair, label) in enumerate(zip(pairs, labels, strict=True))]  # fmt: skip

    def read(self, pairs: Sequence[Pair]) -> Reading:
        """Entities and verdicts of N pairs; the model is asked for those that nobody has asked for before."""
        numbers, groups = self.table.rows([pair.item for pair in pairs])
        queries = list(dict.fromkeys(pair.query for pair in pairs))
        place = {query: at for at, query in enumerate(queries)}
        of_row = np.fromiter((place[pair.query] for pair in pairs), np.int64, len(pairs))
        wanted = {}
        for at, query in enumerate(queries):
            own = numbers[of_row == at] if len(queries) > 1 else numbers
            wanted[query] = np.concatenate([self.table.demand, np.unique(own[own >= 0])])
        known = self.kept.of(wanted)
        verdicts = np.zeros((*numbers.shape, 2))
        demand = np.zeros((len(pairs), len(self.table.demand)))
        for at, query in enumerate(queries):
            rows = np.flatnonzero(of_row == at)
            told = self._overruled(query, wanted[query], known[query])
            verdicts[rows] = told[numbers[rows]]
            demand[rows] = told[self.table.demand, 0]
        verdicts[numbers < 0] = 0.0
        evidence = Evidence(verdicts[..., 0], verdicts[..., 1], groups, demand)
        return Reading(numbers, evidence, truth(evidence, self.card.logic))

    def _overruled(self, query: str, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Verdicts (V, 2) of a query by number of the entity, with what the editor says of the wanted ones."""
        if not self.overrides.override:
            return known
        told = known.copy()
        entities = [self.table.entities[number] for number in numbers.tolist()]
        told[numbers] = self.overrides.applied(query, entities, known[numbers])
        return told
