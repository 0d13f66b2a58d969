"""What `goodrate judge` judges: the pairs of a file, item texts by id, and what the shop knows of the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from goodrate.cli.context_input import require_contexts

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.relevance.judge import Pair
    from goodrate.relevance.pair_file import FindTexts, PairFile


@dataclass(frozen=True)
class Sources:
    """Where item texts come from (a catalogue file and its format, or an index), the facts file, and context texts."""

    catalog: Path | None = None
    format: str | None = None
    index: Path | None = None
    facts: Path | None = None
    contexts: str | None = None
    context_encoder: str | None = None

    @property
    def named(self) -> bool:
        """Whether there is a catalogue."""
        return self.catalog is not None or self.index is not None

    def items(self) -> Catalog:
        """The catalogue of the file or of the index."""
        if self.catalog is not None:
            from goodrate.catalog.readers import read_catalog

            return read_catalog(self.catalog, format=self.format)
        from goodrate.retrieval.store import Store

        assert self.index is not None
        return Store.open(self.index).all_items()


def read_input(
    path: Path, model: str, sources: Sources, map: str | None, skip_bad: int, console: Console
) -> tuple[PairFile, list[Pair]]:
    """The file, and its pairs that can be judged, written as the judge in the folder `model` reads them.

    Reports rows that were left out and items that nobody knows. Raises ValueError or FileNotFoundError naming the file.
    """
    from goodrate.relevance.context import require_text_reader
    from goodrate.relevance.judge_card import read_judge_card

    require_contexts(sources.contexts, sources.context_encoder)
    card = read_judge_card(model)
    form = card.item_form

    def find(ids: Sequence[str]) -> dict[str, str]:
        return texts_of(sources.items(), form, ids)

    if sources.contexts is not None:
        require_text_reader(model, sources.contexts)
    table, known = read_known(path, sources, find if sources.named else None, map, skip_bad, console)
    return table, with_texts(known, model, card.contexts, sources, console)


def with_texts(pairs: list[Pair], model: str, count: int, sources: Sources, console: Console) -> list[Pair]:
    """The pairs with the texts of their queries, for a judge that reads so many; what the file says stays."""
    lacking = sorted({pair.query for pair in pairs if not pair.context}) if count else []
    if not lacking:
        return pairs
    if sources.contexts is None:
        console.print(f"{len(lacking):,} queries are judged without a text; this judge reads some: --contexts FILE")
        return pairs
    from goodrate.relevance.context import finder_for

    with console.status("finding texts"):
        items = sources.items if sources.named else None
        finder = finder_for(model, sources.contexts, items, sources.context_encoder)
        found = {query: finder.line(query, count) for query in lacking}
    return [replace(pair, context=pair.context or found[pair.query]) for pair in pairs]


def read_known(
    path: Path, sources: Sources, find: FindTexts | None, map: str | None, skip_bad: int, console: Console
) -> tuple[PairFile, list[Pair]]:
    """As read_input, with item texts by `find` (None: the file has them)."""
    if sources.facts is not None and not sources.facts.is_file():
        raise FileNotFoundError(f"--facts: no file {sources.facts}")
    table = _read(path, map, find, skip_bad, console)
    return table, _with_facts(table, sources.facts or (sources.index / "facts.jsonl" if sources.index else None))


def texts_of(items: Catalog, form: str, ids: Sequence[str]) -> dict[str, str]:
    """The texts of those ids that the catalogue has, as a judge of that item form reads them."""
    from goodrate.relevance.pair_file import item_texts

    frame = items.frame.filter(items.frame["id"].is_in(list(ids)))
    return dict(zip(frame["id"], item_texts(frame, form), strict=True))


def _with_facts(table: PairFile, path: Path | None) -> list[Pair]:
    """The pairs that can be judged, with what the shop knows of their queries where the file did not say it."""
    pairs = [pair for pair in table.pairs if pair is not None]
    if path is None or not path.is_file():
        return pairs
    from goodrate.relevance.facts import FactBook

    book = FactBook.load(path)
    return [pair if pair.facts else replace(pair, facts=book.of(pair.query)) for pair in pairs]


def _read(path: Path, map: str | None, find: FindTexts | None, skip_bad: int, console: Console) -> PairFile:
    """The pairs, with the rows that were left out and the items that nobody knows reported."""
    from goodrate.catalog.problems import describe
    from goodrate.cli.index import parse_mapping
    from goodrate.relevance.pair_file import read_pairs

    with console.status(f"reading {path.name}"):
        table = read_pairs(path, parse_mapping(map), find, skip_bad)
    for line in describe(path, table.skipped):
        console.print(f"  left out: {escape(line)}", highlight=False)
    if table.unknown_items:
        console.print(f"{table.unknown_items:,} of {len(table.pairs):,} rows name an item that is not in the catalogue")
    return table
