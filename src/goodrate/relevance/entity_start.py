"""Where an entity judge starts before it learns: the calibrated cosine of the whole item, inside its logic. Ours.

A whole item is two entities. As WHOLE_ITEM it is of the kind asked for, M, and free of conflicts, N; as WHOLE_TEXT it
meets what is wanted, W. With g the cosine's probabilities of "this label or a better one", M is g of the second label,
and N and W are residua of the t-norm, so that the logic joins M, N and W to g again: of an item whose other entities
are neutral it says what the cosine says. Parts of an item are all but neutral at first (REST), but for one rule: a
constraint or text that has what the query excludes ("without X") is in conflict, as far as CONFLICTING.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goodrate.relevance.calibration import softmax
from goodrate.relevance.constraint_judge import rules_hash
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.entities import KIND_TYPES, WANTS, WHOLE_ITEM, WHOLE_TEXT, Entity
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.soft_logic import Logic, residuum
from goodrate.retrieval.rewriting.exclusions import evidence
from goodrate.retrieval.rewriting.query_constraints import read_query
from goodrate.strict_json import dumps

REST = -7.0  # logit of support and of conflict of a part, beside 0 of neutral: 0.0009
CONFLICTING = 0.9  # of what the query excludes
WHOLE = (WHOLE_ITEM, WHOLE_TEXT)


class EntityStart:
    """A model of query-entity verdicts that needs no training but the cosine's odds.

    judge: the calibrated cosine. logic: that joins the verdicts. language: of the rules that queries are read by; "" =
    no rule.
    """

    def __init__(self, judge: EncoderJudge, logic: Logic, language: str = "en") -> None:
        self.judge, self.logic, self.language = judge, logic, language
        rules = rules_hash(language) if language else ""
        self.fingerprint = dumps([dict(judge.identity), list(judge.card.fields), logic.tnorm, rules])

    def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Support and conflict (N, 2). A whole item can be of the kind and in conflict: their sum can exceed 1."""
        told = softmax(self.logits(queries, entities))[:, :2]
        for row, entity in enumerate(entities):
            if entity == (WANTS, WHOLE_TEXT):
                told[row] = 1.0, 0.0
        whole = np.asarray([row for row, one in enumerate(entities) if one.type in WHOLE], dtype=np.int64)
        if len(whole):
            told[whole] = self._whole([queries[row] for row in whole], [entities[row] for row in whole])
        return told

    def knows(self, entity: Entity) -> bool:
        """Whether the start says all that is said of an entity: of a whole item, and that it is wanted."""
        return entity.type in WHOLE or entity == (WANTS, WHOLE_TEXT)

    def logits(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Logits (N, 3) of support, conflict and neutral of parts, which a cross-encoder's numbers are added to."""
        rows = np.tile([REST, REST, 0.0], (len(entities), 1))
        rows[self._excluded(queries, entities), 1] = np.log(CONFLICTING / (1 - CONFLICTING))
        return rows

    def _excluded(self, queries: Sequence[str], entities: Sequence[Entity]) -> list[int]:
        """Rows of entities that have what their query excludes; what an item is (KIND_TYPES) is left out."""
        if not self.language:
            return []
        without = {query: read_query(query, self.language).must_not for query in dict.fromkeys(queries)}
        return [
            row
            for row, (query, entity) in enumerate(zip(queries, entities, strict=True))
            if without[query] and entity.type not in (*KIND_TYPES, WANTS, WHOLE_ITEM)
            and any(evidence(one, entity.text) == "present" for one in without[query])
        ]  # fmt: skip

    def _whole(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Verdicts (N, 2) of whole items by their cosine and the rule."""
        distinct = list(dict.fromkeys(queries))
        place = {query: row for row, query in enumerate(distinct)}
        vectors = self.judge.vectors.queries(distinct)[[place[query] for query in queries]]
        cosines = np.einsum("nd,nd->n", vectors, self.judge.vectors.items([one.text for one in entities]))
        kind, clean, met = whole_degrees(self._labels(cosines), self.logic)
        item = np.asarray([one.type == WHOLE_ITEM for one in entities])
        told = np.stack([np.where(item, kind, met), np.where(item, 1 - clean, 0.0)], axis=1)
        told[self._excluded(queries, entities), 1] = CONFLICTING
        return told

    def _labels(self, cosines: np.ndarray) -> np.ndarray:
        return label_probabilities(cosines, self.judge.card.slope, self.judge.card.cuts)


def whole_degrees(labels: np.ndarray, logic: Logic) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M, N and W, (N,) each, that the logic joins to label probabilities (N, L), L of 2 to 4, worst label first.

    >>> [part.round(3).tolist() for part in whole_degrees(np.array([[0.2, 0.2, 0.3, 0.3]]), Logic())]
    [[0.8], [0.75], [0.5]]
    """
    at_least = np.clip(np.cumsum(labels[:, ::-1], axis=1)[:, ::-1], 0.0, 1.0)
    kind, best = at_least[:, 1], at_least[:, -1]
    before = at_least[:, -2] if labels.shape[1] > 2 else best
    clean = residuum(kind, before, logic) if labels.shape[1] > 3 else np.ones_like(kind)
    return kind, clean, residuum(before, best, logic)
