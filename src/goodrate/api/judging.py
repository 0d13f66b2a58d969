"""Judges: open one, tell it what is known of queries, judge a file of pairs, calibrate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.items import Catalog
    from goodrate.relevance.facts import FactBook
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.pairs import Item, Pair
    from goodrate.relevance.protocol import Judge
    from goodrate.relevance.query_notes import QueryNotes
    from goodrate.relevance.tuning import Tuning
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.relevance.verdicts import Verdict
    from goodrate.scale import RelevanceScale

UNKNOWN_ITEM = "unknown_item"
BLOCK, BLOCK_WITH_REASONS = 200, 40  # pairs judged and stored at once: what Ctrl-C can cost
FIRST = 40  # pairs of the first block, on which a caller can measure the time


def open_judge(
    folder: str | Path, *, facts: str | Path | None = None, contexts: str | None = None,
    items: Callable[[], Catalog | None] | None = None, context_encoder: str | None = None,
    store: str | Path | None = None,
) -> CalibratedJudge:  # fmt: skip
    """The judge of a folder, whatever its kind (lm, encoder, human).

    facts: a facts.jsonl, what is known of names in queries. contexts: for a judge that reads retrieved texts, a file of
    them or "items" of a catalogue. store: an SQLite file that keeps verdicts; made where there is none. Raises
    FileNotFoundError that says what the folder is and how a judge is made of it, ValueError naming the file.
    """
    from goodrate.relevance import judge as judges
    from goodrate.relevance.verdict_store import VerdictStore

    named_texts(folder, contexts, context_encoder)
    judge = judges.open_judge(folder)
    known = facts is not None or contexts is not None  # else an index that it reranks tells it what it knows
    notes = query_notes(judge, facts, contexts, items, context_encoder) if known else None
    return judge.with_notes(notes, VerdictStore(store) if store else None)


def query_notes(
    judge: CalibratedJudge, facts: str | Path | None = None, contexts: str | None = None,
    items: Callable[[], Catalog | None] | None = None, context_encoder: str | None = None, folder: Path | None = None,
) -> QueryNotes:  # fmt: skip
    """What a judge is told of queries. folder: where the index of the texts stays; None: a temporary one.

    Raises ValueError for texts that the judge does not read, and for an encoder without texts; FileNotFoundError for
    facts that are not there.
    """
    from goodrate.relevance.context import context_finder
    from goodrate.relevance.query_notes import QueryNotes

    _require_texts(judge.contexts, judge.folder or judge.name, contexts, context_encoder)
    require_facts(facts)
    book = fact_book(facts)
    if contexts is None:
        return QueryNotes(book.of)
    finder, count = context_finder(contexts, items, context_encoder, folder), judge.contexts
    return QueryNotes(book.of, lambda query: finder.line(query, count))


def named_texts(
    folder: str | Path, contexts: str | None, context_encoder: str | None = None, default: Path | None = None
) -> str | None:
    """The texts that the judge of a folder is to read: those that are named, else those at `default` if it reads any.

    Looks at its judge.json alone: what is wrong is said before a model is loaded. Raises as open_judge and query_notes.
    """
    from goodrate.relevance.judge_card import read_judge_card

    count = read_judge_card(folder).contexts
    texts = str(default) if contexts is None and count and default is not None and default.is_file() else contexts
    _require_texts(count, folder, texts, context_encoder)
    return texts


def _require_texts(count: int, judge: str | Path, contexts: str | None, context_encoder: str | None) -> None:
    """ValueError when texts are named that the judge does not read, or an encoder that has no texts to find."""
    if context_encoder is not None and contexts is None:
        raise ValueError(f"--context-encoder {context_encoder} finds texts, and none are named: --contexts FILE")
    if contexts is not None and not count:
        raise ValueError(f"texts are given ({contexts}), and the judge {judge} reads none (judge.json, contexts)")


def require_facts(facts: str | Path | None) -> None:
    """FileNotFoundError when a file of facts is named that is not there."""
    if facts is not None and not Path(facts).is_file():
        raise FileNotFoundError(f"--facts: no file {facts}")


def fact_book(path: str | Path | None) -> FactBook:
    """The facts of a facts.jsonl, none without one. Raises ValueError naming file and row of a broken one."""
    from goodrate.relevance.facts import FactBook

    return FactBook.load(Path(path)) if path else FactBook.create([])


@dataclass(frozen=True)
class ItemSource:
    """Where the items of a pair file are: a catalogue file, an index folder, or neither (the file has texts).

    format, map, decimal, currency: of the catalogue, see read_catalog.
    """

    catalog: Path | None = None
    format: str | None = None
    map: Mapping[str, str] | None = None
    index: Path | None = None
    decimal: str | None = None
    currency: str | None = None

    def __post_init__(self) -> None:
        if self.catalog is not None and self.index is not None:
            raise ValueError("give --catalog or --index, not both")

    @cached_property
    def items(self) -> Catalog | None:
        """The items, None where there is neither."""
        if self.catalog is not None:
            from goodrate.api.reading import read_catalog

            return read_catalog(self.catalog, self.format, self.map, decimal=self.decimal, currency=self.currency)
        if self.index is not None:
            from goodrate.retrieval.store import Store

            return Store.open(self.index).all_items()
        return None

    @property
    def facts(self) -> Path | None:
        """The facts.jsonl of the index, None without one."""
        path = self.index / "facts.jsonl" if self.index else None
        return path if path and path.is_file() else None

    @property
    def contexts(self) -> Path | None:
        """Where the texts of the index are, if it has any."""
        return self.index / "contexts.jsonl" if self.index else None

    def find(self, ids: Sequence[str]) -> dict[str, Item]:
        """The rows of those ids that exist, also with other leading zeros or ".0" (see catalog.item_ids)."""
        import polars as pl

        from goodrate.catalog.item_ids import match_ids

        items = self.items
        assert items is not None
        theirs = pl.Series("theirs", list(ids), dtype=pl.String)
        ours = match_ids(theirs, items.frame["id"]).apply(theirs)
        rows = {row["id"]: row for row in items.frame.filter(items.frame["id"].is_in(ours.to_list())).to_dicts()}
        return {one: rows[other] for one, other in zip(theirs, ours, strict=True) if other in rows}


def read_pair_file(
    path: str | Path, source: ItemSource, map: Mapping[str, str] | None = None, skip_bad: int = 0
) -> PairFile:
    """The pairs of a csv, tsv, jsonl or parquet file: query and item_text, or query and item_id of the source.

    Raises ValueError with file, row, column and what was expected, and when no item id is known.
    """
    from goodrate.relevance.pair_file import read_pairs

    find = source.find if source.catalog is not None or source.index is not None else None
    return read_pairs(path, dict(map) if map else None, find, skip_bad)


def noted_pairs(table: PairFile, notes: QueryNotes | None) -> tuple[list[Pair], int]:
    """The pairs of a file that can be judged, with what is known of their queries where the file did not say it.

    Also returns how many distinct queries have no text.
    """
    pairs = [pair for pair in table.pairs if pair is not None]
    if notes is None:
        return pairs, len({pair.query for pair in pairs if not pair.context})
    queries = dict.fromkeys(pair.query for pair in pairs)
    known = {query: notes.pairs(query, [{}])[0] for query in queries}
    noted = [
        replace(pair, facts=pair.facts or known[pair.query].facts, context=pair.context or known[pair.query].context)
        for pair in pairs
    ]
    return noted, len({pair.query for pair in noted if not pair.context})


def verdict_store(path: str | Path) -> VerdictStore:
    """The SQLite file that keeps verdicts, made where there is none; use it in a with block."""
    from goodrate.relevance.verdict_store import VerdictStore

    return VerdictStore(path)


@dataclass(frozen=True)
class JudgeRun:
    """The work on a pair file: which pairs are stored already, and blocks of the others."""

    judge: CalibratedJudge
    store: VerdictStore
    pairs: list[Pair]
    keys: list[str]
    pending: int
    blocks: list[list[int]]
    options: Mapping[str, bool]

    @classmethod
    def plan(
        cls, judge: CalibratedJudge, store: VerdictStore, pairs: list[Pair], reasons: bool = False,
        retry_failed: bool = False, missing: bool = False,
    ) -> JudgeRun:  # fmt: skip
        """What is to do: a small first block, then blocks; items of one query side by side share its forward pass."""
        from goodrate.relevance.judge import verdict_keys

        options = {"reasons": reasons, "retry_failed": retry_failed, "missing": missing}
        keys = verdict_keys(judge, pairs)
        open_keys = store.pending(keys, **options)
        places = {key: place for place, key in enumerate(keys) if key in open_keys}
        order = sorted(places.values(), key=lambda i: (pairs[i].query, pairs[i].facts, pairs[i].context or "", i))
        size = BLOCK_WITH_REASONS if reasons else BLOCK
        rest = order[FIRST:]
        blocks = [order[:FIRST], *(rest[start : start + size] for start in range(0, len(rest), size))]
        return cls(judge, store, pairs, keys, len(order), [block for block in blocks if block], options)

    def work(self, block: list[int]) -> None:
        """Judge one block; its verdicts are stored when this returns."""
        from goodrate.relevance.judge import stored_verdicts

        stored_verdicts(self.judge, self.store, [self.pairs[place] for place in block], **self.options)

    def finish(self, told: Callable[[int, int], None] | None = None) -> list[Verdict]:
        """Judge what is left, block by block, and give all verdicts. told: how many pairs have one, and of how many."""
        done = len(self.pairs) - self.pending
        for block in self.blocks:
            self.work(block)
            done += len(block)
            if told is not None:
                told(done, len(self.pairs))
        return self.verdicts()

    def verdicts(self) -> list[Verdict]:
        """All verdicts in the order of the pairs, from the store."""
        from goodrate.relevance.judge import stored_verdicts

        return stored_verdicts(self.judge, self.store, self.pairs, missing=True)


def verdict_rows(table: PairFile, verdicts: Sequence[Verdict], scale: RelevanceScale) -> Iterator[dict[str, Any]]:
    """One row per row of the file: its columns, then the verdict's; an unknown item has its status and nothing else."""
    from goodrate.relevance.verdicts import Verdict

    remaining = iter(verdicts)
    for columns, pair in zip(table.shown.iter_rows(named=True), table.pairs, strict=True):
        verdict = next(remaining) if pair is not None else Verdict(status=UNKNOWN_ITEM)
        named = verdict.as_dict(scale)
        probabilities, gain = named["probabilities"], verdict.expected_gain
        yield {
            **columns,
            **{name: named[name] for name in ("label", "tier")},
            "expected_gain": None if gain is None else round(gain, 6),
            **{f"p_{label}": round(probabilities[label], 6) if probabilities else None for label in scale.labels},
            **{name: named[name] for name in ("status", "item_cut", "reason", "reason_status", "inconsistent")},
        }


def write_verdicts(out: Path, table: PairFile, verdicts: Sequence[Verdict], scale: RelevanceScale) -> None:
    """The whole file of verdicts (.csv or .jsonl), or none."""
    from goodrate.catalog.tables import write_table

    write_table(out, verdict_frame(table, verdicts, scale), ".jsonl")


def verdict_frame(table: PairFile, verdicts: Sequence[Verdict], scale: RelevanceScale) -> pl.DataFrame:
    """verdict_rows as a frame; a column without any value is one of texts."""
    import polars as pl

    frame = pl.DataFrame(list(verdict_rows(table, verdicts, scale)), infer_schema_length=None)
    empty = [name for name, dtype in frame.schema.items() if dtype == pl.Null]
    return frame.with_columns(pl.col(name).cast(pl.String) for name in empty)


def verdict_counts(table: PairFile, verdicts: Sequence[Verdict]) -> tuple[Counter[str], Counter[str], dict[str, int]]:
    """Tiers; failures by status, unknown items among them; and what else has to be said, with its count."""
    tiers = Counter(verdict.tier for verdict in verdicts if verdict.tier)
    failures = Counter(verdict.status for verdict in verdicts if verdict.label is None)
    failures.update({UNKNOWN_ITEM: table.unknown_items} if table.unknown_items else {})
    explanations = [verdict.explanation for verdict in verdicts if verdict.explanation is not None]
    notes = {
        "item texts were too long and lost their end": sum(verdict.item_cut for verdict in verdicts),
        "reasons contradict their label": sum(why.inconsistent is True for why in explanations),
        "reasons cannot be read": sum(why.status != "ok" for why in explanations),
    }
    return tiers, failures, {what: count for what, count in notes.items() if count}


def notices(judge: Judge, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> list[str]:
    """What is to be said of a judge's answers as a whole: see relevance.notices."""
    from goodrate.relevance.notices import notices as told

    return told(judge, pairs, verdicts)


def calibrate(folder: str | Path, table: PairFile, judge: CalibratedJudge, pairs: Sequence[Pair]) -> Tuning:
    """Set temperature and tier threshold of a judge folder from the labels of a pair file; says what changed.

    Raises ValueError, and writes nothing, when the labelled rows are too few to choose on or tell no temperature (see
    relevance.tuning.tune).
    """
    from goodrate.relevance.tuning import tune, write_tuning

    labels = table.gold(judge.scale)
    labelled = [(pair, label) for pair, label in zip(pairs, labels, strict=True) if label is not None]
    if not labelled:
        raise ValueError("--calibrate needs a column label with a label in some rows (--map label=COLUMN)")
    tuning = tune(judge, [pair for pair, _ in labelled], [label for _, label in labelled])
    write_tuning(folder, tuning)
    return tuning
