"""Reasons that a teacher wrote (`goodrate teach`), joined with the training pairs of `goodrate train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.rationale import Rationale
    from goodrate.relevance.rulebook import RuleBook
    from goodrate.teaching.taught_file import TaughtLine

SILVER_WEIGHT = 0.5  # of an example whose reason nobody checked, unless the settings say another


@dataclass(frozen=True)
class TaughtReasons:
    """by_pair: (query, item id) -> its steps and the weight of its example. rule_book: hash of the book they cite.

    path: of their file. notes: how many were used, how many silver, and what was left out.
    """

    by_pair: dict[tuple[str, str], tuple[Rationale, float]]
    rule_book: str
    notes: tuple[str, ...]
    path: str = ""

    def require_rules(self, book: RuleBook) -> None:
        """ValueError naming a pair whose reason states a rule that the book does not have."""
        known = {rule.id for rule in book.rules}
        bad = [(pair, steps.rule) for pair, (steps, _) in self.by_pair.items() if steps.rule not in known]
        if bad:
            (query, item), rule = bad[0]
            raise ValueError(
                f"data.rationales: {self.path}: {len(bad):,} reasons state a rule that rule book {book.hash} does not "
                f"have; the first is of query {query!r} and item {item!r}, column rationale.rule: expected one of "
                f"{', '.join(sorted(known))}, found {rule!r}"
            )


def read_reasons(path: str, train: Judgements, silver_weight: float, skip_bad: int = 0) -> TaughtReasons:
    """The reasons of a file whose pair and label stand in the training part; the others are counted.

    Raises FileNotFoundError, ValueError naming file, row and column, and when no reason is one of a training pair.
    """
    from goodrate.teaching.taught_file import read_taught

    read, skipped = read_taught(path, train.scale, skip_bad)
    lines = [line for line in read if line.rationale is not None]
    books = sorted({line.rule_book for line in lines})
    if len(books) > 1:
        raise ValueError(f"data.rationales: {path} cites several rule books: {', '.join(books)}; teach with one")
    rows = train.frame.select("query", "item_id", "label").iter_rows()
    gold = {(query, item): label for query, item, label in rows}
    joined = [line for line in lines if (line.query, line.item_id) in gold]
    agreeing = [line for line in joined if gold[line.query, line.item_id] == line.label]
    if not agreeing:
        raise ValueError(_none_matches(path, lines, joined, gold))
    by_pair = {(line.query, line.item_id): _weighted(line, silver_weight) for line in agreeing}
    silver = sum(line.silver for line in agreeing)
    notes = [f"{len(by_pair):,} of {len(gold):,} training pairs have a reason ({silver:,} silver)"]
    notes += _counted("reasons match no training pair", len(lines) - len(joined))
    notes += _counted("reasons are of another label than the judgement", len(joined) - len(agreeing))
    notes += _counted("bad rows of reasons skipped", len(skipped))
    return TaughtReasons(by_pair, books[0], tuple(notes), path)


def _weighted(line: TaughtLine, silver_weight: float) -> tuple[Rationale, float]:
    assert line.rationale is not None
    return line.rationale, silver_weight if line.silver else 1.0


def _counted(what: str, count: int) -> list[str]:
    return [f"{count:,} {what}"] if count else []


def _none_matches(
    path: str, lines: list[TaughtLine], joined: list[TaughtLine], gold: dict[tuple[str, str], str]
) -> str:
    """Why nothing is left, with an example from both sides."""
    if not lines:
        return f"data.rationales: {path} holds no reason, only failures"
    if joined:
        return f"data.rationales: all {len(joined):,} reasons that match are of another label than the judgement"
    theirs, (query, item) = lines[0], next(iter(gold))
    named = theirs.item_id or theirs.item_text[:40]
    return (
        f"data.rationales: none of the {len(lines):,} reasons in {path} is of a training pair: it names query "
        f"{theirs.query!r} and item {named!r}, the judgements {query!r} and {item!r}"
    )
