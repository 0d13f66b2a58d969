"""A calibrated sum of other judges' scores, as a judge; labels follow from it by proportional odds.

Its members are judge folders inside its own. A cosine and a probe, each right where the other is not, are the usual
pair. The sum orders; the odds say how probable each label is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.relevance.judge_card import JudgeCard, kind_module, read_judge_card, require_number, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment, Judge
from goodrate.relevance.reason_words import word_steps
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """members: folders beside judge.json. weights, means, spreads: of each, for sum_m w_m * (s_m - mean_m) / spread_m.

    slope, cuts (L - 1): from that sum to labels. labelled_pairs: how many set weights and odds.
    """

    kind: ClassVar[str] = "ensemble"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "members", "weights", "means", "spreads", "slope", "cuts"})
    members: tuple[str, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    slope: float
    cuts: tuple[float, ...]
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {len(values) for values in (self.members, self.weights, self.means, self.spreads)}
        if len(counts) != 1 or not self.members:
            raise ValueError("members, weights, means and spreads: expected one of each for every member, one at least")
        for name in self.members:
            if not isinstance(name, str) or Path(name).name != name or name.startswith("."):
                raise ValueError(f"members {name!r}: expected the name of a folder inside this one")
        for spread in self.spreads:
            require_number("spreads", spread, above=0)
        check_odds(self.slope, self.cuts, len(self.relevance_scale))


def open_kind(folder: Path, card: JudgeCard) -> EnsembleJudge:
    """The judge of a folder. Raises what opening its members raises, and ValueError for one of another scale."""
    assert isinstance(card, Card)
    members = {}
    for name in card.members:
        own = read_judge_card(folder / name)
        if own.scale != card.scale:
            raise ValueError(f"{folder / name} judges on scale {own.scale!r}, {folder} on {card.scale!r}")
        members[name] = kind_module(own.kind).open_kind(folder / name, own)
    return EnsembleJudge(members, card)


def write_ensemble_judge(folder: Path, card: Card) -> None:
    """Write the card; the members' folders are written by their own kinds."""
    folder.mkdir(parents=True, exist_ok=True)
    write_judge_card(folder, card)


def member_scores(judge: Judge, pairs: Sequence[Pair]) -> np.ndarray:
    """One number for each pair, (N,): the judge's own score, or its expected gain where it has none."""
    own = getattr(judge, "scores", None)
    return own(pairs) if own else judge.scale.expected_gain(judge.assess(pairs).probabilities)


def weighted_sum(
    scores: Sequence[np.ndarray], weights: Sequence[float], means: Sequence[float], spreads: Sequence[float]
) -> np.ndarray:
    """sum_m weights_m * (scores_m - means_m) / spreads_m, (N,).

    >>> weighted_sum([np.array([1.0, 3.0]), np.array([0.0, 8.0])], [1.0, 0.5], [2.0, 4.0], [1.0, 4.0]).tolist()
    [-1.5, 1.5]
    """
    parts = [w * (s - m) / d for s, w, m, d in zip(scores, weights, means, spreads, strict=True)]
    return np.sum(parts, axis=0)


class EnsembleJudge:
    """Judges by name with a card."""

    def __init__(self, members: Mapping[str, Judge], card: Card) -> None:
        self.members, self.card = dict(members), card

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its members, how they are added, and how the sum becomes labels."""
        card = self.card
        added = [list(card.weights), list(card.means), list(card.spreads), card.slope, list(card.cuts)]
        return {"members": {name: dict(one.identity) for name, one in self.members.items()}, "added": added}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """What the members read of each item, joined."""
        return ["\n".join(texts) for texts in zip(*(one.reads(items) for one in self.members.values()), strict=True)]

    def parts(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What each member adds to the score of each pair: (M, N)."""
        card = self.card
        scores = [member_scores(one, pairs) for one in self.members.values()]
        each = zip(scores, card.weights, card.means, card.spreads, strict=True)
        return np.stack([weighted_sum([s], [w], [m], [d]) for s, w, m, d in each])

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The weighted sum of each pair, (N,)."""
        return self.parts(pairs).sum(axis=0) if pairs else np.zeros(0)

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the sum; a pair that a member fails on is a failure."""
        return Assessment.of(label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """What each member adds, and the query's words that the item has and lacks."""
        if not pairs:
            return []
        texts = next(iter(self.members.values())).reads([pair.item for pair in pairs])
        parts = self.parts(pairs).T.tolist()
        return [self._explanation(pair, text, row) for pair, text, row in zip(pairs, texts, parts, strict=True)]

    def _explanation(self, pair: Pair, text: str, parts: Sequence[float]) -> Explanation:
        """parts: (M,) what each member adds, in spreads from its mean."""
        named = zip(self.members, parts, strict=True)
        shares = [ReasonStep(name, f"Part of {name}", f"{name} {part:+.2f}", f"{part:+.2f}") for name, part in named]
        steps = (*shares, *word_steps(pair.query, text))
        return Explanation("\n".join(step.line for step in steps), steps)
