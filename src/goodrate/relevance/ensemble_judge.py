"""A calibrated sum of other judges' scores, as a judge; labels follow from it by proportional odds.

Its members are judge folders inside its own. A cosine and a probe, each right where the other is not, are the usual
pair. The sum orders and its odds say how probable each label is; or a label head does both, which reads the members
and the features of the probe among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.relevance.judge_card import JudgeCard, kind_module, read_judge_card, require_number, write_judge_card
from goodrate.relevance.label_head import LabelHead
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.probe_judge import ProbeJudge
from goodrate.relevance.protocol import Assessment, Judge
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale

LABELS_FILE = "labels.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """members: folders beside judge.json. weights, means, spreads: of each, for sum_m w_m * (s_m - mean_m) / spread_m.

    slope, cuts (L - 1): from that sum to labels. labelled_pairs: how many set weights and odds. label_head: the digest
    of the one in LABELS_FILE, None without one.
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
    label_head: str | None = None

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
    return EnsembleJudge(members, card, _label_head(folder, card, members) if card.label_head else None)


def _label_head(folder: Path, card: Card, members: Mapping[str, Judge]) -> LabelHead:
    """The head that the card names. ValueError for another one, or without a single probe whose features it reads."""
    path = folder / LABELS_FILE
    probes = [one for one in members.values() if isinstance(one, ProbeJudge)]
    if len(probes) != 1:
        raise ValueError(f"{path}: a label head reads the features of one probe; the members hold {len(probes)}")
    head = LabelHead.load(path, probes[0].reader.dimension, len(members), len(card.relevance_scale))
    if head.digest != card.label_head:
        raise ValueError(f"{path} is another label head than {folder} was made with; fit the judge anew")
    return head


def write_ensemble_judge(folder: Path, card: Card, label_head: LabelHead | None = None) -> None:
    """Write the label head and the card, which names it; the members' folders are written by their own kinds."""
    folder.mkdir(parents=True, exist_ok=True)
    if label_head:
        label_head.save(folder / LABELS_FILE)
    write_judge_card(folder, replace(card, label_head=label_head.digest if label_head else None))


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
    """Judges by name with a card, and a label head that reads the features of the probe among them."""

    def __init__(self, members: Mapping[str, Judge], card: Card, label_head: LabelHead | None = None) -> None:
        self.members, self.card, self.label_head = dict(members), card, label_head

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its members, how they are added, and how that becomes labels."""
        card = self.card
        added = [list(card.weights), list(card.means), list(card.spreads), card.slope, list(card.cuts)]
        members = {name: dict(one.identity) for name, one in self.members.items()}
        labels = {"labels": card.label_head} if card.label_head else {}
        return {"members": members, "added": added, **labels}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """What the members read of each item, joined."""
        return ["\n".join(texts) for texts in zip(*(one.reads(items) for one in self.members.values()), strict=True)]

    def parts(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What each member adds to the score of each pair: (M, N)."""
        return self._read(pairs)[0] * np.asarray(self.card.weights)[:, None]

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The weighted sum of each pair, (N,); what orders is the expected gain, which a label head gives anew."""
        return self.parts(pairs).sum(axis=0) if pairs else np.zeros(0)

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the sum, or by the label head where there is one; a pair that a member fails on is a failure."""
        if not pairs:
            return Assessment.of(np.zeros((0, len(self.scale))))
        standardised, features = self._read(pairs)
        if self.label_head:
            assert features is not None
            return Assessment.of(self.label_head.probabilities(features, standardised.T))
        total = (standardised * np.asarray(self.card.weights)[:, None]).sum(axis=0)
        return Assessment.of(label_probabilities(total, self.card.slope, self.card.cuts))

    def _read(self, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray | None]:
        """Standardised scores (M, N), and the features (N, D) that the label head reads: they are computed once."""
        scores, features = [], None
        for one in self.members.values():
            if self.label_head and isinstance(one, ProbeJudge):
                features = one.features(pairs)
                scores.append(one.head.scores(features))
            else:
                scores.append(member_scores(one, pairs))
        each = zip(scores, self.card.means, self.card.spreads, strict=True)
        return np.stack([(score - mean) / spread for score, mean, spread in each]), features

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """What each member adds, and the query's words that the item has and lacks."""
        if not pairs:
            return []
        texts = next(iter(self.members.values())).reads([pair.item for pair in pairs])
        parts = self._parts_for(pairs, labels).tolist()
        return [self._explanation(pair, text, row) for pair, text, row in zip(pairs, texts, parts, strict=True)]

    def _parts_for(self, pairs: Sequence[Pair], labels: Sequence[int]) -> np.ndarray:
        """What each member adds to the sum, or with a label head to the log odds of the label given, (N, M)."""
        if self.label_head is None:
            return self.parts(pairs).T
        standardised, features = self._read(pairs)
        assert features is not None
        probe = next(place for place, one in enumerate(self.members.values()) if isinstance(one, ProbeJudge))
        parts = self.label_head.parts(features, standardised.T, probe)
        return parts[:, np.arange(len(pairs)), np.asarray(labels)].T

    def _explanation(self, pair: Pair, text: str, parts: Sequence[float]) -> Explanation:
        """parts: (M,) what each member adds, in spreads from its mean, or for the label."""
        named = zip(self.members, parts, strict=True)
        shares = [ReasonStep(name, f"Part of {name}", f"{name} {part:+.2f}", f"{part:+.2f}") for name, part in named]
        return explained(shares, pair.query, text)
