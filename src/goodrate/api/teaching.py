"""Write the reasons of labels, by plain matching or with a language model behind an endpoint."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api.endpoints import Endpoint, opened_asker
from goodrate.api.judging import UNKNOWN_ITEM, ItemSource, fact_book, read_pair_file, require_facts
from goodrate.api.reading import Scale, scale_of
from goodrate.run_folder import write_atomic

if TYPE_CHECKING:
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.pairs import Item, JudgedPair
    from goodrate.relevance.rulebook import RuleBook
    from goodrate.scale import RelevanceScale
    from goodrate.teaching.endpoint_teacher import EndpointTeacher
    from goodrate.teaching.taught_file import TaughtLine
    from goodrate.teaching.teacher import Progress, Taught, Teacher

TEACHERS = ("template", "facts", "endpoint")
NO_LABEL = "no_label"


@dataclass(frozen=True)
class LabelledRows:
    """pairs: those that can be taught. items: of the whole catalogue, or of the pairs.

    rows: query and item of every row of the file. labels: by row, None = it has none. unusable: failure by row.
    """

    table: PairFile
    pairs: list[JudgedPair]
    items: Sequence[Item]
    rows: list[dict[str, Any]]
    labels: list[str | None]
    unusable: dict[int, str]


def rule_book(name: str | Path | None, scale: Scale | None = None) -> RuleBook:
    """The rule book of a file or of a name that ships (esci, graded_0_3, shop); None = the shop's.

    scale: the labels' own, where it is another than the book's. A book is about labels by their place, worst first: on
    another scale with as many labels it reads the same. Raises ValueError when the number of labels differs.
    """
    from goodrate.relevance.rulebook import named_rulebook, on_scale

    book = named_rulebook("shop" if name is None else name)
    return book if scale is None else on_scale(book, scale_of(scale))


def read_labelled(
    path: str | Path, source: ItemSource, scale: RelevanceScale, map: Mapping[str, str] | None = None,
    facts: str | Path | None = None, skip_bad: int = 0,
) -> LabelledRows:  # fmt: skip
    """The labelled pairs of a file. Raises ValueError and FileNotFoundError naming file, row and column."""
    from goodrate.relevance.pairs import JudgedPair

    require_facts(facts)
    table = read_pair_file(path, source, map, skip_bad)
    gold = iter(table.gold(scale))
    labels = [None if pair is None else next(gold) for pair in table.pairs]
    if all(label is None for label in labels):
        raise ValueError(f"{path}: no row has a label; name its column with --map label=COLUMN")
    book = fact_book(facts or source.facts)
    pairs: list[JudgedPair] = []
    unusable: dict[int, str] = {}
    for number, (pair, label) in enumerate(zip(table.pairs, labels, strict=True)):
        if pair is None or label is None:
            unusable[number] = UNKNOWN_ITEM if pair is None else NO_LABEL
            continue
        pairs.append(JudgedPair(pair.query, pair.item, pair.facts or book.of(pair.query), pair.context, label=label))
    items = source.items.to_rows() if source.items is not None else [pair.item for pair in pairs]
    named = [None if label is None else scale.labels[label] for label in labels]
    return LabelledRows(table, pairs, items, table.shown.to_dicts(), named, unusable)


def template_teacher(book: RuleBook, labelled: LabelledRows) -> Teacher:
    """The template writer, with the words of the whole catalogue, or of the items in the file."""
    from goodrate.teaching.query_reading import Lexicon
    from goodrate.teaching.template_teacher import TemplateTeacher
    from goodrate.teaching.typed_item import typed_item

    items = [typed_item(item) for item in labelled.items]
    return TemplateTeacher(book, Lexicon.of(items, (f"{p.query} {p.facts}" for p in labelled.pairs)))


def fact_teacher(book: RuleBook, labelled: LabelledRows) -> Teacher:
    """Reasons of facts on any catalogue: words, brands, identifiers, measures, exclusions and prices, plainly read."""
    from goodrate.teaching.fact_reading import FactReader
    from goodrate.teaching.fact_teacher import FactTeacher

    return FactTeacher(book, FactReader(labelled.items))


@contextlib.contextmanager
def endpoint_teacher(options: Endpoint, book: RuleBook) -> Iterator[EndpointTeacher]:
    """The teacher of an endpoint; its answers are stored and paid for once."""
    from goodrate.teaching.endpoint_teacher import EndpointTeacher

    with opened_asker(options) as asker:
        yield EndpointTeacher(book, asker)


def teach(
    teacher: Teacher, labelled: LabelledRows, book: RuleBook, out: Path, tick: Progress | None = None
) -> Counter[str]:
    """Write one JSON line per row of the file, whole or not at all.

    Returns counts: "reason", which is there when it is 0, too, and failures by name.
    """
    from goodrate.teaching.taught_file import to_jsonl

    taught = teacher.teach(labelled.pairs, tick)
    write_atomic(out, to_jsonl(_lines(labelled, taught, teacher, book)))
    counts = Counter({"reason": sum(one.rationale is not None for one in taught)})
    counts.update(one.failure for one in taught if one.failure)
    counts.update(labelled.unusable.values())
    return counts


def _lines(labelled: LabelledRows, taught: Sequence[Taught], teacher: Teacher, book: RuleBook) -> Iterator[TaughtLine]:
    """One line per row of the file, in its order."""
    from goodrate.teaching.taught_file import TaughtLine
    from goodrate.teaching.teacher import Taught

    remaining = iter(taught)
    for number, (row, label) in enumerate(zip(labelled.rows, labelled.labels, strict=True)):
        failure = labelled.unusable.get(number)
        one = Taught(None, teacher.silver, failure) if failure else next(remaining)
        line = TaughtLine(
            row["query"],
            row.get("item_id") or "",
            label,
            one.rationale,
            one.silver,
            teacher.name,
            book.hash,
            one.failure,
        )
        yield replace(line, item_text=row.get("item_text") or "")
