"""Everything above a judge's probabilities, once for all kinds: calibration, tiers, expected gain, stored verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge_card import JudgeCard, kind_module, read_judge_card
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.notices import notices
from goodrate.relevance.pairs import Item, Pair, as_asked, text_item
from goodrate.relevance.protocol import Assessment, Judge
from goodrate.relevance.reason_words import steps_of_text
from goodrate.relevance.verdicts import OK, Verdict, verdicts_of, with_tiers
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.catalog.images import Pictures
    from goodrate.catalog.items import Catalog
    from goodrate.relevance.query_notes import QueryNotes
    from goodrate.relevance.verdict_store import VerdictStore

Items = Any  # a Catalog, catalogue rows, or texts


@dataclass(frozen=True)
class CalibratedJudge:
    """A judge of any kind with its two scalars: temperature of its probabilities, beta_cum of its tiers.

    inner: the judge of its kind. name: for reports. folder: where it was read from. contexts: how many retrieved texts
    of a query it reads. notes: what it is told of a query beside its words. store: keeps verdicts; None = none kept.
    warnings: what its folder says has to be known before it is used. label_weights: as its card's.
    """

    inner: Judge
    temperature: float = 1.0
    beta_cum: float = 0.5
    contexts: int = 0
    name: str = "judge"
    folder: Path | None = None
    notes: QueryNotes | None = None
    store: VerdictStore | None = None
    warnings: tuple[str, ...] = ()
    label_weights: tuple[float, ...] = ()

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.inner.scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides a verdict besides the pair. Not beta_cum: tiers are drawn anew from stored probabilities."""
        weights = {"label_weights": list(self.label_weights)} if self.label_weights else {}
        return {**self.inner.identity, "temperature": self.temperature, **weights}

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """The label position (N,) of each row (N, L) of its calibrated probabilities; -1 for a row of NaN.

        Weights are of probabilities before calibration, so that a temperature moves no label.
        """
        return chosen_labels(probabilities, tuple(weight ** (1.0 / self.temperature) for weight in self.label_weights))

    # ---- for a query and its items, as people ask

    def probabilities(self, query: str, items: Items) -> np.ndarray:
        """Calibrated probabilities (N, L), worst label first; NaN where the judge failed."""
        return self.pair_probabilities(self.pairs(query, items))

    def judge(self, query: str, items: Items, reasons: bool = False) -> list[Verdict]:
        """One verdict per item, in order; from the store where they are kept. reasons: with explanations (slow).

        Warns (UserWarning) when many items are in a form that the judge was not trained on, or many verdicts failed.
        """
        return self.pair_verdicts(self.pairs(query, items), reasons)

    def with_notes(self, notes: QueryNotes | None, store: VerdictStore | None = None) -> CalibratedJudge:
        """The same judge with other notes, and a store where one is given."""
        return replace(self, notes=notes, store=store or self.store)

    def with_pictures(self, pictures: Pictures) -> CalibratedJudge:
        """The same judge, which sees these pictures where it is one that sees."""
        from goodrate.relevance.seeing_judge import SeeingJudge, pictures_in

        if not isinstance(self.inner, SeeingJudge):
            return self
        return replace(self, inner=self.inner.with_pictures(pictures_in(pictures)))

    def pairs(self, query: str, items: Items) -> list[Pair]:
        """The pairs of a query and its items (a Catalog, rows, or texts), with what the judge is told of the query."""
        if self.notes is None:
            return [Pair(query, item) for item in as_items(items)]
        return self.notes.pairs(query, as_items(items))

    # ---- for many pairs

    def pair_probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Calibrated probabilities (N, L), worst label first; NaN where the judge failed. Nothing is stored."""
        return calibrated(self.inner.assess(as_asked(pairs)).probabilities, self.temperature)

    def pair_verdicts(self, pairs: Sequence[Pair], reasons: bool = False) -> list[Verdict]:
        """One verdict per pair, in order; stored ones are taken over, new ones are stored. Warns as `judge` does."""
        if self.store is None:
            verdicts = self.fresh_verdicts(pairs, reasons)
        else:
            verdicts = stored_verdicts(self, self.store, pairs, reasons)
        for notice in notices(self.inner, pairs, verdicts):
            warnings.warn(f"{self.folder or self.name}: {notice}", stacklevel=3)
        return verdicts

    def kept_verdicts(self, pairs: Sequence[Pair]) -> list[Verdict | None]:
        """The stored verdict of each pair, in order, a failure too; None where there is none. Nothing is judged."""
        return kept_verdicts(self, self.store, pairs) if self.store is not None else [None] * len(pairs)

    def fresh_verdicts(self, pairs: Sequence[Pair], reasons: bool = False) -> list[Verdict]:
        """One verdict per pair, judged now, whatever is stored."""
        assessment = self.inner.assess(as_asked(pairs))
        verdicts = self._verdicts(pairs, assessment)
        return self.explained(pairs, verdicts) if reasons else verdicts

    def explained(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts with their explanations; failed ones, and those that have one, stay as they are."""
        rows = [
            row for row, verdict in enumerate(verdicts) if verdict.label is not None and verdict.explanation is None
        ]
        labels = [self.scale.index(verdicts[row].label) for row in rows]
        explanations = self.inner.explain(as_asked([pairs[row] for row in rows]), labels) if rows else []
        complete = list(verdicts)
        for row, explanation in zip(rows, explanations, strict=True):
            complete[row] = replace(verdicts[row], explanation=explanation)
        return complete

    def with_tiers(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts with the tiers of this judge's threshold."""
        return with_tiers(verdicts, self.scale, self.beta_cum)

    def _verdicts(self, pairs: Sequence[Pair], assessment: Assessment) -> list[Verdict]:
        rows = calibrated(assessment.probabilities, self.temperature)
        verdicts = verdicts_of(rows, assessment.status, self.scale, self.beta_cum, self.labels(rows))
        each = zip(pairs, verdicts, assessment.item_cut, assessment.explanations, strict=True)
        return [
            replace(verdict, item_cut=cut, context=pair.context, explanation=why if verdict.status == OK else None)
            for pair, verdict, cut, why in each
        ]


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T) over the rows (N, L), normalised: softmax(log p / T). NaN rows stay NaN; T = 1 changes nothing.

    >>> calibrated(np.array([[0.2, 0.8]]), 0.5).round(3).tolist()
    [[0.059, 0.941]]
    """
    if temperature == 1.0:
        return probabilities
    return softmax(np.log(np.maximum(probabilities, 1e-300)), temperature)


def as_calibrated(judge: Judge | CalibratedJudge) -> CalibratedJudge:
    """The judge with temperature 1 and tiers at the median, unless it has its own already."""
    return judge if isinstance(judge, CalibratedJudge) else CalibratedJudge(judge, name=type(judge).__name__)


def as_items(items: Catalog | Iterable[Item | str] | Any) -> Sequence[Item]:
    """Rows of a Catalog or of a polars or pandas frame, mappings as they are, and texts as items.

    Raises ValueError for a single text or row, which would else be read letter by letter.
    """
    from goodrate.catalog.items import Catalog

    if isinstance(items, (str, Mapping)):
        raise ValueError(f"expected a list of items, found a single one; write [item]: {str(items)[:60]!r}")
    if isinstance(items, Catalog):
        return items.to_rows()
    if hasattr(items, "columns"):
        from goodrate.catalog.readers import frame_catalog

        return frame_catalog(items).to_rows()
    return [text_item(item) if isinstance(item, str) else item for item in items]


def open_judge(
    folder: str | Path, *, notes: QueryNotes | None = None, store: VerdictStore | None = None
) -> CalibratedJudge:
    """The judge of a folder, whatever its kind.

    Raises FileNotFoundError saying what the folder is and how a judge is made of it, ValueError naming the file.
    """
    card = read_judge_card(folder)
    return calibrated_judge(kind_module(card.kind).open_kind(Path(folder), card), card, Path(folder), notes, store)


def calibrated_judge(
    judge: Judge, card: JudgeCard, folder: Path | None = None, notes: QueryNotes | None = None,
    store: VerdictStore | None = None,
) -> CalibratedJudge:  # fmt: skip
    """A judge with the scalars of its card."""
    name = folder.name if folder else card.kind
    scalars = card.temperature, card.beta_cum, card.contexts
    return CalibratedJudge(judge, *scalars, name, folder, notes, store, card.warnings, card.label_weights)


def verdict_keys(judge: CalibratedJudge, pairs: Sequence[Pair]) -> list[str]:
    """sha256 (64 hex) of each pair as the judge reads it, and of all that decides its verdict (Judge.identity)."""
    from goodrate.relevance.verdict_store import verdict_key

    identity = dict(judge.identity)
    texts = judge.inner.reads([pair.item for pair in pairs])
    return [verdict_key(pair, text, identity) for pair, text in zip(pairs, texts, strict=True)]


def _completed(verdicts: Sequence[Verdict], pairs: Sequence[Pair], judge: CalibratedJudge) -> list[Verdict]:
    """Stored verdicts with what follows from their pairs and probabilities: context and tier; label, gain and steps of
    rows that were migrated."""
    each = zip(verdicts, pairs, strict=True)
    named = [replace(_renewed(verdict, pair, judge), context=pair.context) for verdict, pair in each]
    return judge.with_tiers(named)


def _renewed(verdict: Verdict, pair: Pair, judge: CalibratedJudge) -> Verdict:
    """The whole verdict of a migrated row, which has probabilities and no label; others as they are."""
    if verdict.label is not None or not verdict.probabilities:
        return verdict
    p, explanation = verdict.probabilities, verdict.explanation
    if explanation is not None:
        because = getattr(judge.inner, "because", {})  # LM judges alone have written such rows
        explanation = replace(explanation, steps=steps_of_text(explanation.text, because, pair.context))
    label = judge.scale.labels[int(judge.labels(np.asarray([p]))[0])]
    gain = float(judge.scale.expected_gain([p])[0])
    return replace(verdict, label=label, expected_gain=gain, explanation=explanation)


def stored_verdicts(
    judge: CalibratedJudge,
    store: VerdictStore,
    pairs: Sequence[Pair],
    reasons: bool = False,
    retry_failed: bool = False,
    missing: bool = False,
) -> list[Verdict]:
    """Verdicts of the pairs, in order: stored ones from the store (cached), the others judged now and stored.

    Equal pairs are judged once. A stored verdict without an explanation gets one when reasons are asked for. A stored
    failure is judged again only with retry_failed. missing: stored verdicts stay as they are, explained or not.
    """
    keys = verdict_keys(judge, pairs)
    by_key = dict(zip(keys, pairs, strict=True))
    stored = store.get_many(by_key)
    pending = store.pending(keys, reasons, retry_failed, missing)
    new = new_verdicts(judge, {key: (by_key[key], stored.get(key)) for key in sorted(pending)}, reasons)
    if new:
        store.put_many(new)
    verdicts = {**{key: replace(verdict, cached=True) for key, verdict in stored.items()}, **new}
    return _completed([verdicts[key] for key in keys], pairs, judge)


def new_verdicts(
    judge: CalibratedJudge, work: Mapping[str, tuple[Pair, Verdict | None]], reasons: bool = False
) -> dict[str, Verdict]:
    """The verdict of each key's pair, judged now. work: in the order of judging, each with what is stored.

    A stored verdict that is no failure is not judged again: it gets its explanation.
    """
    again = [key for key, (_, stored) in work.items() if stored is None or stored.status != OK]
    explained = [key for key, (_, stored) in work.items() if stored is not None and stored.status == OK]
    fresh = judge.fresh_verdicts([work[key][0] for key in again], reasons) if again else []
    new = dict(zip(again, fresh, strict=True))
    if explained:
        waiting = [work[key][0] for key in explained]
        unreasoned = _completed([verdict for key in explained if (verdict := work[key][1])], waiting, judge)
        new.update(zip(explained, judge.explained(waiting, unreasoned), strict=True))
    return new


def kept_verdicts(judge: CalibratedJudge, store: VerdictStore, pairs: Sequence[Pair]) -> list[Verdict | None]:
    """The verdicts of the pairs that are stored, in order, None for the others."""
    keys = verdict_keys(judge, pairs)
    stored = store.get_many(keys)
    places = [place for place, key in enumerate(keys) if key in stored]
    named = [replace(stored[keys[place]], cached=True) for place in places]
    whole = _completed(named, [pairs[place] for place in places], judge)
    verdicts: list[Verdict | None] = [None] * len(keys)
    for place, verdict in zip(places, whole, strict=True):
        verdicts[place] = verdict
    return verdicts
