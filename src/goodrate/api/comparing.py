"""Two systems side by side: a blinded set of queries with both lists for people to vote on, and what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api.systems import SystemSettings, open_systems, read_system, system_results

if TYPE_CHECKING:
    from goodrate.evaluation.votes import VoteReport
    from goodrate.ranking.results import Result
    from goodrate.serving.workbench.store import Workbench

K = 10
SHOWN = ("id", "title", "brand", "category", "price", "currency", "rating", "image")
DESCRIPTION = 300  # characters of an item's description that raters see
ATTRIBUTES = 8


@dataclass(frozen=True)
class ComparisonSet:
    """A set that was made. queries: how many; identical: with one and the same list, which count as Same; asked: those
    that people are asked about; made: how many of them were searched for now.
    """

    name: str
    queries: int
    identical: int
    asked: int
    made: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.name}: {self.queries:,} queries, {self.identical:,} with the same list, people are asked about "
            f"{self.asked:,} of the other {self.queries - self.identical:,}"
        )


def compare(
    a: str | SystemSettings, b: str | SystemSettings, queries: Iterable[str] | str | Path, out: str | Path, *,
    name: str | None = None, k: int = K, seed: int = 0, ask: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ComparisonSet:  # fmt: skip
    """Search for each query in both systems and keep the first k results for people to vote on, blinded.

    a, b: the old and the new system (read_system). queries: texts, or a file with a column query. out: the folder of a
    workbench. name: of the set, "A against B" unless said. ask: how many queries people are asked about at most; they
    are drawn by how much the lists differ, and the report weighs them accordingly. The same call goes on where one was
    stopped. Raises ValueError for a set of that name that is made of something else.
    """
    from goodrate.serving.workbench.comparisons import Comparisons, MadeOf

    first, second = (read_system(one) if isinstance(one, str) else one for one in (a, b))
    texts = query_texts(queries)
    listed = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    made_of = MadeOf(first.model_dump(), second.model_dump(), k, seed, listed, ask)
    name = name or f"{first.name} against {second.name}"
    with _workbench(out) as workbench:
        kept = Comparisons(workbench)
        number = kept.begin(name, made_of)
        known = kept.done(number)
        missing = [text for text in texts if text not in known]
        systems = open_systems(first, second) if missing else []
        for done, query in enumerate(missing, start=1):
            both = zip(systems, (first, second), strict=True)
            lists = [[shown(one) for one in system_results(index, own, query, k)] for index, own in both]
            kept.add(number, query, *lists)
            if progress is not None:
                progress(done, len(missing))
        if missing or number not in {one["id"] for one in kept.sets()}:
            kept.finish(number, seed, ask)
        found = kept.named(name)
    return ComparisonSet(name, found["queries"], found["identical"], found["asked"], len(missing))


def query_texts(queries: Iterable[str] | str | Path) -> list[str]:
    """Distinct queries in their order. Raises ValueError for none, and as read_query_log."""
    if isinstance(queries, str | Path):
        from goodrate.catalog.query_log import read_query_log

        queries = [text for text, _ in read_query_log(queries)]
    texts = list(dict.fromkeys(text.strip() for text in queries if text.strip()))
    if not texts:
        raise ValueError("no query to compare two systems on; expected one at least")
    return texts


def shown(result: Result) -> dict[str, Any]:
    """What raters see of a result: nothing of how it was found or judged."""
    item = result.item
    text = " ".join(str(item.get("description") or "").split())
    cut = text if len(text) <= DESCRIPTION else text[: DESCRIPTION - 1] + "…"
    attributes = dict(list((item.get("attributes") or {}).items())[:ATTRIBUTES])
    return {**{name: item.get(name) for name in SHOWN}, "description": cut, "attributes": attributes}


@dataclass(frozen=True)
class Comparison:
    """What people say of two systems. name: of the set; a, b: of the systems; votes: those that count, a dict each."""

    name: str
    a: str
    b: str
    report: VoteReport
    votes: Sequence[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        return {"name": self.name, "a": self.a, "b": self.b, **self.report.as_dict()}

    def lines(self) -> list[str]:
        """The report in words."""
        found = self.report
        gsb, counts = found.gsb, found.counts
        better = f"B ({self.b}) against A ({self.a})"
        lines = [
            f"{better}: GSB {gsb.bracketed()} over {found.queries:,} queries",
            f"Good {counts.good:,}, Same {counts.same:,}, Bad {counts.bad:,} of {found.voted:,} queries with votes, of "
            f"{found.asked:,} that are asked; {found.identical:,} have the same list and count as Same",
            f"sign test: p = {counts.p:.3g}",
            "votes: " + ", ".join(f"{rater} {count:,}" for rater, count in found.votes.items()),
        ]
        return [*lines, *self._agreement()]

    def _agreement(self) -> list[str]:
        found = self.report.raters_agree
        if found is None:
            return ["agreement: no query has the votes of two raters"]
        alpha = found.alpha["ordinal"]
        unknown = "unknown (one and the same vote throughout)"
        told = unknown if alpha.value != alpha.value else alpha.bracketed(".2f")
        lines = [f"agreement: Krippendorff's alpha {told} on {found.several:,} queries with several votes"]
        for two in found.rater_pairs:
            kappa = two.kappa["none"]
            shown = "unknown (both gave one and the same vote throughout)" if kappa != kappa else f"{kappa:.2f}"
            lines.append(f"  {two.raters[0]} and {two.raters[1]}: Cohen's kappa {shown} on {two.pairs:,} queries")
        return lines

    def export(self, path: str | Path) -> int:
        """Write the votes as .csv, .jsonl or .parquet; how many. In a csv, cells that begin as a formula does get a
        quote in front."""
        import polars as pl

        from goodrate.catalog.tables import write_table

        path = Path(path)
        table = pl.DataFrame(list(self.votes), infer_schema_length=None)
        write_table(path, table)
        return len(table)


def comparison_report(folder: str | Path, name: str | None = None, seed: int = 0) -> Comparison:
    """What people say in a workbench of two systems. name: of the set; None: the only one.

    Raises FileNotFoundError without a workbench, ValueError without votes or for a name that is none.
    """
    import polars as pl

    from goodrate.evaluation.votes import vote_report
    from goodrate.serving.workbench.comparisons import Comparisons
    from goodrate.serving.workbench.store import existing_workbench

    with existing_workbench(folder) as workbench:
        kept = Comparisons(workbench)
        found = kept.named(name)
        votes = kept.votes(found["id"])
    if not found["asked"]:
        raise ValueError(f"{folder}: both systems of {found['name']!r} find the same for every query; GSB is 0")
    if not votes:
        raise ValueError(f"{folder}: nobody has voted on {found['name']!r} yet; goodrate compare serve {folder}")
    table = pl.DataFrame(votes, infer_schema_length=None)
    report = vote_report(table, found["queries"], found["identical"], found["asked"], seed)
    named = [{"comparison": found["name"], **vote} for vote in votes]
    return Comparison(found["name"], found["a"], found["b"], report, named)


def _workbench(folder: str | Path) -> Workbench:
    from goodrate.serving.workbench.store import Workbench

    return Workbench(folder)


def comparison_names(folder: str | Path) -> list[str]:
    """The names of the sets of a workbench, the newest first. Raises FileNotFoundError or ValueError for none."""
    from goodrate.serving.workbench.comparisons import Comparisons
    from goodrate.serving.workbench.store import existing_workbench

    with existing_workbench(folder) as workbench:
        names = [one["name"] for one in Comparisons(workbench).sets()]
    if not names:
        raise ValueError(f"{folder} has no whole comparison; goodrate compare A B --out {folder} makes one")
    return names
