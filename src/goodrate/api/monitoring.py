"""Follow a search over time: a set of queries as it is served, its Goodrates, what has changed, and what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api import alerts
from goodrate.api.index import DEPTH, Index
from goodrate.api.warming import most_frequent

if TYPE_CHECKING:
    from goodrate.catalog.judgements import Judgements as Judgements
    from goodrate.evaluation.drift import Drift
    from goodrate.evaluation.monitored import Cuts, Look
    from goodrate.ranking.results import Result
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.verdicts import Verdict

Told = Callable[[int, int], None]  # (queries done, of how many)
GOOD_PAGE, MID_PAGE = 0.8, 0.5  # evaluation.goodrates, without loading it
REPORT = "report.html"


@dataclass(frozen=True)
class Monitored:
    """A run that is in the history. changes: since the run that it is compared with, None without one.

    failures: the bounds that do not hold, in words. folder: of the run. report: the page. notes: what is to be said.
    """

    look: Look
    changes: Drift | None
    failures: tuple[str, ...]
    folder: Path
    report: Path
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        changes = self.changes.as_dict() if self.changes else None
        return {
            "facts": self.look.facts, "numbers": self.look.numbers, "changes": changes,
            "failures": list(self.failures), "folder": str(self.folder), "report": str(self.report),
        }  # fmt: skip

    @property
    def message(self) -> dict[str, Any]:
        """What a webhook is told."""
        return alerts.message(self.look, self.changes, list(self.failures), str(self.report))

    def lines(self) -> list[str]:
        """The run in words, one line each."""
        counts, rates = self.look.numbers["counts"], self.look.numbers["rates"]
        facts = self.look.facts
        told = [
            f"{self.look.name}: {counts['queries']:,} queries, {counts['results']:,} results, "
            f"{counts['judged']:,} with a label ({counts['by_people']:,} by people), {counts['failed']:,} that the "
            f"judge failed on; graded by {facts['grader'] or facts['judge']}"
        ]
        told += [self._rate_line(name, rate) for name, rate in rates.items()]
        tiers = ", ".join(f"{tier} {_share(share)}" for tier, share in self.look.numbers["tiers"].items())
        pages = ", ".join(f"{count:,} {page}" for page, count in self.look.numbers["pages"].items())
        told.append(f"pages: {pages}; results by tier: {tiers}")
        if self.changes is not None:
            told.append(
                f"since {self.changes.before}: {len(self.changes.queries):,} of {self.changes.shared:,} pages have "
                f"changed, {len(self.changes.vanished):,} items have gone from the index"
            )
            told += [f"not alike: {fact}" for fact in self.changes.facts]
        return [*told, *self.notes]

    def _rate_line(self, name: str, rate: Mapping[str, Any]) -> str:
        """query_goodrate 0.850 (0.725 to 0.950); since run 1: -0.050 (-0.125 to +0.000), p 0.25"""
        value = "unknown" if rate["value"] is None else f"{rate['value']:.3f}"
        interval = "" if rate["low"] is None else f" ({rate['low']:.3f} to {rate['high']:.3f})"
        if self.changes is None:
            return f"{name} {value}{interval}"
        change = self.changes.rates[name]
        moved = change.difference
        if moved.value != moved.value:
            return f"{name} {value}{interval}"
        bounds = f" ({moved.low:+.3f} to {moved.high:+.3f})" if moved.low == moved.low else ""
        return f"{name} {value}{interval}; since {self.changes.before}: {moved.value:+.3f}{bounds}, p {change.p:.2g}"


@dataclass(frozen=True)
class Watched:
    """What is monitored: a search as it is served, who grades its pages, and the labels of people that go before.

    index: with its judge, None for the index alone. grader: None = the judge that ranks. labels: of people.
    """

    index: Index
    queries: list[str]
    grader: CalibratedJudge | None
    labels: Judgements | None
    cuts: Cuts

    @property
    def judge(self) -> CalibratedJudge:
        """Who grades."""
        judge = self.grader or self.index.judge
        assert judge is not None
        return judge

    @cached_property
    def people(self) -> dict[tuple[str, str], str]:
        """People's labels by query (in normal form) and item."""
        from goodrate.catalog.normal_form import normal_text

        if self.labels is None:
            return {}
        rows = self.labels.join(self.index.items).frame.select("query", "item_id", "label").iter_rows()
        return {(normal_text(query), item): label for query, item, label in rows}

    def page(self, query: str) -> list[dict[str, Any]]:
        """What is shown for a query, a row of evaluation.monitored.RESULTS each."""
        from goodrate.catalog.normal_form import normal_text

        found = self.index.search(query, k=self.cuts.k).results
        asked = normal_text(query)
        each = zip(found, self._verdicts(query, found), strict=True)
        return [_row(query, one, verdict, self.people.get((asked, one.item["id"]))) for one, verdict in each]

    def _verdicts(self, query: str, found: Sequence[Result]) -> Sequence[Verdict | None]:
        """The verdict of who grades on each result."""
        if self.grader is None or not found:
            return [one.verdict for one in found]
        rows = self.index.store.items([one.item["id"] for one in found]).to_dicts()
        return self.grader.judge(query, rows)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a run is made of, for its record."""
        judge, grader, index = self.index.judge, self.grader, self.index
        return {
            "index": str(index.store.path), "items": len(index), "mode": index.mode or index.modes[0],
            "depth": index.depth if judge else 0, "k": self.cuts.k, "page_good": self.cuts.good,
            "page_mid": self.cuts.mid, "judge": judge.name if judge else None,
            "grader": grader.name if grader else None, "judge_identity": _digest(self.judge.identity),
            "scale": self.judge.scale.name,
            "judgements": None if self.labels is None else _digest(sorted(self.people.items())),
        }  # fmt: skip

    @property
    def key(self) -> str:
        """A hash of all that decides what a run finds: the files of the index, the judges, the queries, the labels."""
        from goodrate.run_folder import file_stamp

        folder = self.index.store.path
        apart = (".", "verdicts")  # locks, and verdicts, which the run itself writes
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(apart))
        ranked = self.index.judge.identity if self.index.judge else None
        state = [self.index.store.version, [[path.name, file_stamp(path)] for path in files], ranked, self.queries]
        return _digest([self.facts, state])


def _row(query: str, result: Result, verdict: Verdict | None, person: str | None) -> dict[str, Any]:
    from goodrate.evaluation.monitored import JUDGE, PEOPLE

    judged = verdict.label if verdict is not None else None
    return {
        "query": query, "rank": result.rank, "item_id": result.item["id"], "title": str(result.item["title"] or ""),
        "label": person or judged, "label_by": PEOPLE if person else JUDGE if judged else None, "judge_label": judged,
        "tier": verdict.tier if verdict is not None else None,
        "confidence": max(verdict.probabilities) if verdict is not None and verdict.probabilities else None,
        "status": verdict.status if verdict is not None else "not_judged",
    }  # fmt: skip


def _digest(value: Any) -> str:
    from goodrate.strict_json import dumps

    return hashlib.sha256(dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def watch(
    index: Index | str | Path, queries: Iterable[str | tuple[str, float]] | str | Path,
    judge: str | Path | CalibratedJudge | None = None, *, grader: str | Path | CalibratedJudge | None = None,
    judgements: Judgements | None = None, depth: int = DEPTH, verdicts: str | Path | None = None,
    encoder: str | Path | None = None, k: int = 10, page_good: float = GOOD_PAGE, page_mid: float = MID_PAGE,
) -> Watched:  # fmt: skip
    """What to monitor. index: a folder, or an open index with its judge, as it is served. judge: the one that ranks, as
    a folder, or open with the store that it has; grader: likewise the one that grades, where that is another.
    judgements: people's labels, which go before the judge's. depth: results that the judge ranks. verdicts: the file
    that keeps verdicts of a judge's folder, that of the index unless said. k: results of a page; page_good, page_mid:
    from which share of good ones on it is Good, and Mid.
    Verdicts have no time limit, whatever the server has: a run is not to hang on the machine's load.

    Raises ValueError without a judge, without a query, and for labels on another scale than the judge's.
    """
    from goodrate.api.judging import open_judge
    from goodrate.api.serving import verdicts_file, with_judge
    from goodrate.evaluation.monitored import Cuts
    from goodrate.relevance.judge import CalibratedJudge

    cuts = Cuts(page_good, page_mid, k)
    asked = most_frequent(queries)
    kept = Path(verdicts) if verdicts else None
    opened = index if isinstance(index, Index) else Index.open(index, encoder)
    if isinstance(judge, CalibratedJudge):
        opened = opened.rerank(judge, depth)
    elif judge is not None:
        opened = with_judge(opened, str(judge), kept, depth, must_keep=True)
    graded = grader if isinstance(grader, CalibratedJudge) else None
    if grader is not None:
        graded = graded or open_judge(str(grader), store=verdicts_file(opened.store.path, kept))
        graded = graded.with_notes(opened.notes(graded))
    watched = Watched(opened.but(judge_ms=None), asked, graded, judgements, cuts)
    if graded is None and opened.judge is None:
        raise ValueError("nobody grades the pages: name the judge that ranks (--model) or one that grades (--grader)")
    scale = watched.judge.scale
    if judgements is not None and (judgements.scale.name, judgements.scale.labels) != (scale.name, scale.labels):
        theirs = judgements.scale.name
        raise ValueError(f"the judge has scale {scale.name}, the judgements {theirs}: give labels on {scale.name}")
    return watched


def monitor(
    watched: Watched, out: str | Path, *, against: str | Path | None = None, last: bool = False,
    under: Mapping[str, float] | None = None, drop: Mapping[str, float] | None = None, seed: int = 0,
    now: datetime | None = None, progress: Told | None = None,
) -> Monitored:  # fmt: skip
    """Search for every query, put the run into the history `out`, and write its report page.

    against: a run, or a history whose last run is meant, to compare with; last: the last run of `out`. under: rates
    and the least that each may be; drop: rates and by how much each may fall. now: the time of the run. A run that is
    broken off goes on where it stopped, unless something has changed; it is in the history when it is whole.

    Raises ValueError for a drop without a run to compare with, for two runs, and FolderBusy when another run writes.
    """
    from goodrate.evaluation import look_history
    from goodrate.evaluation.look_page import write_page
    from goodrate.folder_lock import one_writer

    out = Path(out)
    if against is not None and last:
        raise ValueError("compare with --against DIR or with the --last run, not with both")
    if drop and against is None and not last:
        raise ValueError("--fail-drop needs a run to compare with: --last, or --against DIR")
    earlier = look_history.found_run(Path(against)) if against is not None else None
    with one_writer(out):
        folders = look_history.run_folders(out)
        earlier = folders[-1] if last and folders else earlier
        before = look_history.read_run(earlier) if earlier is not None else None
        found = _look(watched, out, look_history.next_number(out), seed, now, progress)
        changes = _drift(watched, before, found, seed)
        failed = alerts.failures(found, changes, under or {}, drop or {})
        summary = {"facts": found.facts, "numbers": found.numbers}
        history = [*(look_history.read_summary(folder) for folder in folders), summary]
        folder = look_history.write_run(out, found, changes.as_dict() if changes else None)
        write_page(out / REPORT, history, found, changes, before, failed)
        look_history.forget_unfinished(out)
    notes = ("no run came before this one: nothing is compared",) if last and before is None else ()
    return Monitored(found, changes, tuple(failed), folder, out / REPORT, notes)


def _look(watched: Watched, out: Path, number: int, seed: int, now: datetime | None, progress: Told | None) -> Look:
    """Search for what has not been searched for yet, and count."""
    import polars as pl

    from goodrate.evaluation.monitored import RESULTS, look
    from goodrate.evaluation.unfinished_look import UnfinishedLook

    done = UnfinishedLook(out, f"{number} {watched.key}")
    for place, query in enumerate(watched.queries, start=1):
        if query not in done.pages:
            done.add(query, watched.page(query))
        if progress is not None:
            progress(place, len(watched.queries))
    rows = [row for query in watched.queries for row in done.pages[query]]
    time = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts = {"number": number, "time": time, **watched.facts}
    return look(pl.DataFrame(rows, schema=RESULTS), watched.queries, watched.judge.scale, facts, watched.cuts, seed)


def _drift(watched: Watched, before: Look | None, found: Look, seed: int) -> Drift | None:
    from goodrate.evaluation.drift import drift

    if before is None:
        return None
    return drift(before, found, lambda ids: set(watched.index.store.known_items(list(ids))["id"]), seed)
