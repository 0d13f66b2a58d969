"""Grading: make a queue of pairs for people, see how far they are and how they agree, and export what they said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from goodrate.api.index import Index
from goodrate.api.reading import Scale, read_judgements, scale_of
from goodrate.api.teaching import rule_book
from goodrate.run_folder import write_atomic
from goodrate.scale import Merge, RelevanceScale

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.agreement_over_time import By as By
    from goodrate.evaluation.agreement_over_time import Period as Period
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pairs import Pair
    from goodrate.relevance.verdicts import Verdict
    from goodrate.serving.workbench.grading import Grading, QueuedPair, Scheme

Queue = Literal["next-labels", "disagreement", "top"]
Told = Callable[[int, int], None]  # (pairs judged, of how many)
TOP = 10
EXPORTED = (
    "query", "item_id", "title", "label", "rater", "reason", "rule", "rule_label", "columns", "status", "seconds",
    "time", "queue", "why",
)  # fmt: skip


@dataclass(frozen=True)
class QueueReport:
    """added: pairs that are new in the queue, of how many that were found (found); left_out: in words, why others are
    not among them; "" for none. pairs: in the queue now.
    """

    added: int
    found: int
    pairs: int
    left_out: str = ""

    def __str__(self) -> str:
        """One line."""
        apart = f"; {self.left_out}" if self.left_out else ""
        return f"{self.added:,} of {self.found:,} pairs are new in the queue, which has {self.pairs:,}{apart}"


@dataclass(frozen=True)
class Exported:
    """What was written. judgements: one label a pair by the rule; labels: votes with one. cannot_tell: votes without.

    reasons: counts of reasons by "reason" and what prevented others, empty where none were asked for.
    """

    judgements: Judgements
    labels: int
    cannot_tell: int
    reasons: Counter[str]

    def lines(self) -> list[str]:
        """In words."""
        told = [f"{self.labels:,} labels of {len(self.judgements):,} pairs, and {self.cannot_tell:,} times no label"]
        told += self.judgements.notes
        if self.reasons:
            failed = Counter({name: count for name, count in self.reasons.items() if name != "reason"})
            apart = ", ".join(f"{name} {count:,}" for name, count in failed.most_common())
            told.append(f"{self.reasons['reason']:,} pairs have a reason{f'; none: {apart}' if apart else ''}")
        return told


def open_grading(workbench: str | Path) -> Grading:
    """The queue and votes of a workbench. Raises FileNotFoundError where there is none."""
    from goodrate.serving.workbench.grading import Grading
    from goodrate.serving.workbench.store import FILE, Workbench

    if not (Path(workbench) / FILE).is_file():
        raise FileNotFoundError(f"{workbench} is no workbench; make a queue in it with: goodrate grade make")
    return Grading(Workbench(workbench))


def require_labels(rules: str | Path | None, scale: Scale | None) -> RelevanceScale:
    """The scale that raters grade on, from a rule book or as it is named. ValueError where neither is, and for a book
    on another number of labels.
    """
    if rules is not None:
        return rule_book(rules, scale).scale
    if scale is None:
        told = "--rules with a rule book, or --scale NAME (esci, graded_0_3, ... or a TOML file)"
        raise ValueError(f"which labels do raters give? {told}")
    return scale_of(scale)


def make_queue(
    workbench: str | Path, pairs: Sequence[QueuedPair], rules: str | Path | None = None, scale: Scale | None = None,
    raters: int | None = None, found: int | None = None, left_out: str = "",
) -> QueueReport:  # fmt: skip
    """Put pairs at the end of a workbench's queue, which is made where there is none; those that it has stay.

    rules: a rule book's file or name (esci, graded_0_3, shop), whose columns raters mark; None: they choose a label.
    scale: of the labels; None = the book's. raters: how many people grade each pair, 1 unless said.
    Raises ValueError without a pair, and where the queue that is there has other labels or rules.
    """
    from goodrate.relevance.rulebook import BOOKS
    from goodrate.serving.workbench.grading import Grading
    from goodrate.serving.workbench.store import Workbench
    from goodrate.text_file import read_text

    labels = require_labels(rules, scale)
    if not pairs:
        raise ValueError(f"no pair is left to grade{f': {left_out}' if left_out else ''}")
    text = read_text(BOOKS.get(str(rules), Path(str(rules)))) if rules is not None else None
    with Workbench(workbench) as store:
        grading = Grading(store)
        grading.set_up(labels, text, raters)
        added = grading.add(pairs)
        return QueueReport(added, len(pairs) if found is None else found, grading.progress()["pairs"], left_out)


def next_label_pairs(index: Index, table: str | Path, map: Mapping[str, str] | None = None) -> list[QueuedPair]:
    """The pairs of a file that `next-labels` wrote (columns query, item_id), in its order; those with a label are not
    among them. Raises ValueError naming file, row and column.
    """
    from goodrate.api.judging import ItemSource, read_pair_file
    from goodrate.serving.workbench.grading import QueuedPair

    read = read_pair_file(table, ItemSource(index=index.store.path), map)
    each = zip(read.pairs, read.labels, strict=True)
    return [
        QueuedPair(pair.query, str(pair.item["id"]), str(pair.item["title"] or ""), "next-labels")
        for pair, label in each
        if pair is not None and not label
    ]


def disagreement_pairs(
    index: Index, judge: CalibratedJudge, judgements: Judgements, count: int | None = None,
    progress: Told | None = None,
) -> list[QueuedPair]:  # fmt: skip
    """Pairs that people labelled otherwise than the judge, the furthest apart first: by the gain of people's label
    against the judge's expected gain, then by query and item. count: so many at most. progress: told of pairs judged,
    and of how many. A judge that keeps verdicts is asked block by block: the same call goes on where it was broken off.

    Raises ValueError for labels on another scale than the judge's, and when no item is in the index.
    """
    from goodrate.serving.workbench.grading import QueuedPair

    if judgements.scale.labels != judge.scale.labels:
        raise ValueError(f"the judge has scale {judge.scale.name}, the judgements {judgements.scale.name}")
    frame = judgements.join(index.items).frame
    rows = {row["id"]: row for row in index.store.items(sorted(set(frame["item_id"]))).to_dicts()}
    known = frame.select("query", "item_id", "label").rows()
    pairs = [pair for query, item, _ in known for pair in judge.pairs(query, [rows[item]])]
    found = []
    for (query, item, label), verdict in zip(known, _verdicts(judge, pairs, progress), strict=True):
        if verdict.label is None or verdict.label == label:
            continue
        gain = judge.scale.gains[judge.scale.index(label)] / judge.scale.gains[-1]
        why = f"people say {label}, the judge {verdict.label} ({max(verdict.probabilities):.2f})"
        one = QueuedPair(query, item, str(rows[item]["title"] or ""), "disagreement", why)
        found.append((-abs(gain - (verdict.expected_gain or 0.0)), query, item, one))
    return [one for _, _, _, one in sorted(found, key=lambda row: row[:3])][:count]


def _verdicts(judge: CalibratedJudge, pairs: list[Pair], progress: Told | None) -> list[Verdict]:
    """The verdicts of the pairs, stored as they come where the judge keeps them."""
    from goodrate.api.judging import JudgeRun

    if judge.store is None:
        return judge.pair_verdicts(pairs)
    return JudgeRun.plan(judge, judge.store, pairs).finish(progress)


def top_pairs(index: Index, queries: Iterable[str | tuple[str, float]], k: int = TOP) -> list[QueuedPair]:
    """The first k results of each query as the index is served, in order of the queries' counts and of the results."""
    from goodrate.api.warming import most_frequent
    from goodrate.serving.workbench.grading import QueuedPair

    return [
        QueuedPair(query, result.item["id"], str(result.item["title"] or ""), "top", f"result {result.rank}")
        for query in most_frequent(queries)
        for result in index.search(query, k=k)
    ]


def unlabelled(pairs: Sequence[QueuedPair], judgements: Judgements | None) -> tuple[list[QueuedPair], str]:
    """The pairs that people have not labelled, and how many they have, in words. Queries in their normal form."""
    from goodrate.catalog.normal_form import normal_text

    if judgements is None:
        return list(pairs), ""
    known = {(normal_text(query), item) for query, item in judgements.frame.select("query", "item_id").iter_rows()}
    kept = [one for one in pairs if (normal_text(one.query), one.item_id) not in known]
    return kept, f"{len(pairs) - len(kept):,} have a label" if len(kept) < len(pairs) else ""


def votes_frame(workbench: str | Path) -> pl.DataFrame:
    """What raters said, one row a rater and pair, the oldest first: EXPORTED. label is null where one could not tell.

    columns: what was marked, as JSON. rule_label: that of the rules, another than label where it was overruled.
    """
    import polars as pl

    from goodrate.serving.workbench.grading import LABEL
    from goodrate.strict_json import dumps

    votes = open_grading(workbench).votes()
    names = {row["rater_key"]: row["rater"] for row in votes}  # a person's name as it was written first
    rows = [
        {
            **{name: row[name] for name in EXPORTED if name in row}, "rater": names[row["rater_key"]],
            "columns": dumps(row["said"], sort_keys=True),
            "status": "ok" if row["kind"] == LABEL else row["kind"],
            "time": datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for row in reversed(votes)
    ]  # fmt: skip
    schema = {name: pl.Float64 if name == "seconds" else pl.String for name in EXPORTED}
    return pl.DataFrame(rows, schema=schema)


def export(
    workbench: str | Path, out: str | Path, *, merge: Merge = "median", resolved: str | Path | None = None,
    reasons: str | Path | None = None, index: Index | None = None,
) -> Exported:  # fmt: skip
    """Write what raters said as a file that read_judgements takes, one row a rater and pair.

    merge: how several labels of a pair become one: median, majority, mean or min. resolved: a file with that one label
    a pair. reasons: a file with the reasons of labels (see teaching.graded_reasons), which `goodrate train` takes as
    data.rationales; index: whose items they are about. Raises ValueError when nobody has labelled anything.
    """
    from goodrate.catalog.tables import write_table

    scheme, frame = open_grading(workbench).scheme(), votes_frame(workbench)
    labelled = frame.filter(frame["label"].is_not_null())
    if labelled.is_empty():
        raise ValueError(f"{workbench}: nobody has labelled a pair yet")
    if reasons is not None and (scheme.book is None or index is None):
        raise ValueError("--reasons needs a queue with a rule book, and --index for the items that it is about")
    out = Path(out)
    write_table(out, frame)
    judgements = read_judgements(out, scheme.scale, merge=merge)
    if resolved is not None:
        table = judgements.frame.select("query", "item_id", "label")
        write_table(Path(resolved), table)
    counts: Counter[str] = Counter()
    if reasons is not None and index is not None:
        counts = _write_reasons(Path(reasons), labelled, judgements, scheme, index)
    return Exported(judgements, len(labelled), len(frame) - len(labelled), counts)


def _write_reasons(
    path: Path, labelled: pl.DataFrame, judgements: Judgements, scheme: Scheme, index: Index
) -> Counter[str]:
    """One JSON line a pair in the form of `goodrate teach`; how many have a reason, and what prevented others."""
    from goodrate.teaching.taught_file import to_jsonl

    lines = _taught(labelled, judgements, scheme, index)
    write_atomic(path, to_jsonl(lines))
    return Counter({"reason": 0}) + Counter(line.failure or "reason" for line in lines)


def _taught(labelled: pl.DataFrame, judgements: Judgements, scheme: Scheme, index: Index) -> list[Any]:
    """A TaughtLine for each pair: by the first rater whose label is that of the pair."""
    from goodrate.relevance.pairs import JudgedPair
    from goodrate.strict_json import parse
    from goodrate.teaching.graded_reasons import PEOPLE, graded_reason
    from goodrate.teaching.query_reading import Lexicon
    from goodrate.teaching.taught_file import TaughtLine
    from goodrate.teaching.teacher import Taught
    from goodrate.teaching.typed_item import typed_item

    book = scheme.book
    assert book is not None
    items = {row["id"]: row for row in index.items.to_rows()}
    said: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in labelled.iter_rows(named=True):
        said.setdefault((row["query"], row["item_id"], row["label"]), row)
    lexicon = Lexicon.of((typed_item(item) for item in items.values()), judgements.frame["query"].unique().to_list())
    lines = []
    for query, item, label in judgements.frame.select("query", "item_id", "label").iter_rows():
        vote = said.get((query, item, label))
        if vote is None or item not in items:  # a merged label that nobody gave has nobody's reason
            one = Taught(None, False, "merged_label" if vote is None else "unknown_item")
        else:
            pair = JudgedPair(query, items[item], label=scheme.scale.index(label))
            rule = book.rules[book.index(vote["rule"])] if vote["rule"] else None
            one = graded_reason(book, lexicon, pair, parse(vote["columns"]), rule)
        lines.append(
            TaughtLine(query, item, label, one.rationale, one.silver, PEOPLE, book.hash, one.failure)
        )  # fmt: skip
    return lines
