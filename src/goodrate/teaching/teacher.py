"""Teachers: from a labelled pair to the written reason of its label, or to the name of what prevented one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import Rationale, parse, write

Progress = Callable[[int], None]  # called with the number of pairs done so far


@dataclass(frozen=True)
class Taught:
    """A rationale whose label is the gold one, or a failure with a name; never both, never neither.

    silver: nobody who knows has checked it (a template or a language model wrote it).
    """

    rationale: Rationale | None
    silver: bool
    failure: str | None = None

    def __post_init__(self) -> None:
        assert (self.rationale is None) == (self.failure is not None)


class Teacher(Protocol):
    """Writes the reasons of labels. A teacher knows its rule book; the book's scale is that of the labels."""

    name: str
    silver: bool

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """One answer per pair, in order. A pair without a rationale has a failure; nothing is raised for it."""
        ...


class TruthTeacher:
    """The known truth as a teacher: the embedded shop's steps. They are gold.

    truth: (query, item id) -> the true rationale; KeyError for a pair that the truth does not know.
    """

    name = "truth"
    silver = False

    def __init__(self, truth: Callable[[str, str], Rationale]) -> None:
        self.truth = truth

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """The true steps. Failures: unknown_pair; label_disagrees when the gold label is not the true one."""
        return each(pairs, self._taught, progress)

    def _taught(self, pair: JudgedPair) -> Taught:
        try:
            rationale = self.truth(pair.query, pair.item_id)
        except KeyError:
            return Taught(None, self.silver, "unknown_pair")
        if rationale.label != pair.label:
            return Taught(None, self.silver, "label_disagrees")
        return Taught(rationale, self.silver)


def each(
    pairs: Sequence[JudgedPair], teach_pair: Callable[[JudgedPair], Taught], progress: Progress | None = None
) -> list[Taught]:
    """`teach_pair` of every pair, in order, telling `progress` after each."""
    taught = []
    for done, pair in enumerate(pairs, start=1):
        taught.append(teach_pair(pair))
        if progress:
            progress(done)
    return taught


def survives_writing(rationale: Rationale, num_labels: int) -> bool:
    """Whether the text of a rationale is read back as the same rationale: no value holds the text's own marks."""
    return parse(write(rationale), num_labels=num_labels).rationale == rationale
