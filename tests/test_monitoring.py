"""goodrate monitor: exact rates of small pages, drift between runs, history, bounds, webhook, and going on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

import goodrate as gr
from goodrate.api import alerts
from goodrate.api.index import Index
from goodrate.api.monitoring import Watched, monitor, watch
from goodrate.catalog.judgements import Judgements
from goodrate.cli.monitor import command
from goodrate.evaluation.drift import drift
from goodrate.evaluation.look_history import read_run, run_folders
from goodrate.evaluation.look_page import plot_lines
from goodrate.evaluation.monitored import RESULTS, Cuts, Look, look
from goodrate.relevance.human_judge import write_human_judge
from goodrate.scale import FOUR_LEVEL

TIME = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SCRIPT = "<script>window.harmed = true</script>"
ITEMS = pl.DataFrame(
    [
        ("k1", "red kettle"), ("k2", "blue kettle"), ("k3", "kettle cord"), ("k4", "tea kettle"),
        ("l1", "desk lamp"), ("l2", f"floor lamp {SCRIPT}"), ("s1", "socks"),
    ],
    schema=["id", "title"], orient="row",
)  # fmt: skip
LABELS = [
    ("kettle", "k1", "excellent"), ("kettle", "k2", "related"), ("kettle", "k3", "irrelevant"),
    ("kettle", "k4", "excellent"), ("lamp", "l1", "excellent"), ("lamp", "l2", "mismatch"),
]  # fmt: skip


def labels(rows: Sequence[tuple[str, str, str]] = LABELS) -> Judgements:
    frame = pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row")
    return gr.read_judgements(frame.with_columns(query_id=pl.col("query")), "four_level")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index", ITEMS)


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """People's labels as a judge: it is sure of what it knows, and fails on the rest."""
    return write_human_judge(tmp_path / "judge", labels())


def row(query: str, rank: int, item: str, label: str | None, **more: Any) -> dict[str, Any]:
    by = "judge" if label else None
    told = {"query": query, "rank": rank, "item_id": item, "title": item, "label": label, "label_by": by}
    tier = {"excellent": "Good", "related": "Good", "mismatch": "Mid", "irrelevant": "Bad"}.get(label or "")
    return {**told, "judge_label": label, "tier": tier, "confidence": 0.9 if label else None, "status": "ok", **more}


def seen(rows: list[dict[str, Any]], queries: list[str], number: int = 1, **facts: Any) -> Look:
    told = {"number": number, "time": "2026-03-02T09:30:00Z", "scale": "four_level", **facts}
    return look(pl.DataFrame(rows, schema=RESULTS), queries, FOUR_LEVEL, told, Cuts())


PAGES = [
    *(row("a", rank, f"a{rank}", "excellent") for rank in range(1, 5)),  # 4 of 5: Good
    row("a", 5, "a5", "irrelevant"),
    row("b", 1, "b1", "related"),  # 1 of 2, the third is not judged: Mid
    row("b", 2, "b2", "mismatch", confidence=0.5),
    row("b", 3, "b3", None, status="not_judged"),
    row("c", 1, "c1", "irrelevant"),  # Bad
    row("e", 1, "e1", None, status="cut_off"),  # nothing is known
]


def test_rates_of_small_pages_are_exact() -> None:
    found = seen(PAGES, ["a", "b", "c", "d", "e"])  # d has no result: it counts 0
    rates = {name: rate["value"] for name, rate in found.numbers["rates"].items()}
    assert found.queries["item_goodrate"].to_list() == [0.8, 0.5, 0.0, 0.0, None]
    assert found.queries["page"].to_list() == ["Good", "Mid", "Bad", "Bad", "unknown"]
    assert rates["query_goodrate"] == 0.5  # a and b of a, b, c and d
    assert rates["item_goodrate"] == pytest.approx((0.8 + 0.5) / 4)
    assert rates["confidence"] == pytest.approx((0.9 + 0.7 + 0.9) / 3)  # of a, b and c; b: (0.9 + 0.5) / 2
    assert rates["judged_share"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)  # d has nothing to judge
    assert found.numbers["pages"] == {"Good": 1, "Mid": 1, "Bad": 2, "unknown": 1}
    assert found.numbers["counts"] == {
        "queries": 5, "empty": 1, "results": 10, "judged": 8, "by_people": 0, "failed": 1,
    }  # fmt: skip
    assert found.numbers["tiers"] == {"Good": 0.5, "Mid": 0.1, "Bad": 0.2, "none": 0.2}
    assert found.numbers["people"] is None


def test_item_goodrate_is_that_of_evaluate(index: Index, judge: Path, tmp_path: Path) -> None:
    watched = watch(index, ["kettle", "lamp"], judge)
    found = monitor(watched, tmp_path / "out", now=TIME)
    measured = gr.evaluate([watched.index], labels(), ["goodrate@10"])
    assert found.look.rate("item_goodrate") == pytest.approx(measured[watched.index.name]["goodrate@10"])
    assert found.look.rate("item_goodrate") == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_drift_of_two_runs_is_exact() -> None:
    before = seen(PAGES, ["a", "b", "c", "d", "e"])
    after_rows = [
        *(row("a", rank, f"a{rank}", "irrelevant", confidence=0.6) for rank in range(1, 5)),  # Good items became Bad
        row("a", 5, "new", "excellent"),
        row("b", 1, "b1", "related"),
        row("b", 2, "b2", "related", confidence=0.5),  # Mid became Good
        row("c", 1, "c1", "irrelevant"),
        row("f", 1, "f1", "excellent"),
    ]
    after = seen(after_rows, ["a", "b", "c", "f"], number=2)
    found = drift(before, after, lambda ids: set(ids) - {"a5", "e1"})
    assert (found.shared, found.added, found.dropped) == (3, 1, 2)
    change = found.rates["item_goodrate"]
    assert change.before == pytest.approx((0.8 + 0.5 + 0) / 3) and change.after == pytest.approx((0.2 + 1.0 + 0) / 3)
    assert change.difference.value == pytest.approx((-0.6 + 0.5) / 3)
    assert found.rates["query_goodrate"].difference.value == pytest.approx(-1 / 3)  # a: Good became Bad
    assert [(one.query, round(one.change, 6), one.new, one.gone) for one in found.queries] == [
        ("a", -0.6, ("new",), ("a5",)), ("b", 0.5, (), ("b3",)),
    ]  # fmt: skip
    assert found.tiers == {("Good", "Good"): 1, ("Good", "Bad"): 4, ("Mid", "Good"): 1, ("Bad", "Bad"): 1}
    assert found.kept == 7 and found.vanished == (("a5", 1), ("e1", 1))
    # the same results: a 0.9 -> 0.6; b and c as before
    assert found.confidence.difference.value == pytest.approx(-0.3 / 3)


def test_runs_that_cannot_be_compared_are_refused() -> None:
    one = seen(PAGES, ["a", "b", "c", "e"])
    with pytest.raises(ValueError, match="no query in common"):
        drift(one, seen([row("z", 1, "z1", "related")], ["z"], 2), set)
    other = drift(one, seen(PAGES, ["a", "b", "c", "e"], 2, judge="new"), lambda ids: set(ids))
    assert other.facts == ("judge: None then, new now",) and other.queries == ()
    with pytest.raises(ValueError, match="cannot be compared"):
        drift(one, seen(PAGES, ["a", "b", "c", "e"], 2, scale="esci"), set)


def test_a_rate_that_is_unknown_passes_no_bound() -> None:
    found = seen([row("e", 1, "e1", None, status="cut_off")], ["e"])
    assert alerts.failures(found, None, {"item_goodrate": 0.0}, {}) == [
        "item_goodrate is unknown, at least 0 was expected"
    ]
    whole = seen(PAGES, ["a", "b", "c", "d", "e"])
    assert alerts.failures(whole, None, {"query_goodrate": 0.5, "judged_share": 0.9}, {}) == [
        "judged_share is 0.667, at least 0.9 was expected"
    ]
    changes = drift(whole, seen(PAGES[:5], ["a"], 2), set)
    assert alerts.failures(whole, changes, {}, {"item_goodrate": 0.0}) == []  # a alone is in both, and is as it was


@pytest.mark.parametrize("text", ["query_goodrate", "query_goodrate=x", "ndcg=0.5", "query_goodrate=1.5", "=0.5"])
def test_a_bound_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--fail-under .*expected NAME=SHARE"):
        alerts.parse_bounds([text], "--fail-under")


def watched(index: Index, judge: Path, people: Judgements | None = None) -> Watched:
    return watch(index, ["kettle", "lamp", "socks"], judge, judgements=people)


def test_the_same_search_gives_the_same_run(index: Index, judge: Path, tmp_path: Path) -> None:
    first = monitor(watched(index, judge), tmp_path / "out", now=TIME)
    second = monitor(watched(index, judge), tmp_path / "out", last=True, now=TIME)
    assert [folder.name for folder in run_folders(tmp_path / "out")] == ["0001", "0002"]
    assert first.look.numbers == second.look.numbers and first.look.results.equals(second.look.results)
    assert second.changes is not None and second.changes.queries == () and second.changes.facts == ()
    assert all(change.difference.value == 0 for change in second.changes.rates.values())
    kept = read_run(second.folder)
    assert kept.numbers == second.look.numbers and kept.results.equals(second.look.results)
    again = monitor(watched(index, judge), tmp_path / "other", now=TIME)
    for name in ("run.json", "results.parquet", "queries.parquet"):
        assert (again.folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_labels_of_people_go_before_the_judges_and_are_marked(index: Index, judge: Path, tmp_path: Path) -> None:
    people = labels([("Lamp", "l2", "excellent"), ("kettle", "k1", "excellent"), ("socks", "s1", "related")])
    found = monitor(watched(index, judge, people), tmp_path / "out", now=TIME)
    rows = {(r["query"], r["item_id"]): r for r in found.look.results.to_dicts()}
    assert rows["lamp", "l2"]["label"] == "excellent" and rows["lamp", "l2"]["judge_label"] == "mismatch"
    assert rows["lamp", "l2"]["label_by"] == "people" and rows["lamp", "l1"]["label_by"] == "judge"
    assert rows["socks", "s1"]["label"] == "related" and rows["socks", "s1"]["status"] == "no_label"  # judge's failure
    assert found.look.numbers["counts"]["by_people"] == 3
    assert found.look.numbers["people"]["pairs"] == 2 and found.look.numbers["people"]["same"] == 0.5
    page = (tmp_path / "out" / "report.html").read_text()
    assert "labelled by people" not in page  # lists are shown of queries that have changed


def test_another_judge_can_grade(index: Index, judge: Path, tmp_path: Path) -> None:
    found = monitor(watch(index, ["kettle"], grader=judge), tmp_path / "out", now=TIME)
    assert found.look.facts["judge"] is None and found.look.facts["grader"] == "judge"
    assert found.look.rate("item_goodrate") == 0.75
    with pytest.raises(ValueError, match="nobody grades the pages"):
        watch(index, ["kettle"])


class Stopped(Exception):
    """The run is broken off."""


def test_a_judge_may_be_open_already(index: Index, judge: Path, tmp_path: Path) -> None:
    by_folder = monitor(watch(index, ["kettle", "lamp"], judge), tmp_path / "a", now=TIME).look.numbers
    opened = gr.open_judge(judge)
    assert monitor(watch(index, ["kettle", "lamp"], opened), tmp_path / "b", now=TIME).look.numbers == by_folder
    graded = monitor(watch(index, ["kettle", "lamp"], grader=opened), tmp_path / "c", now=TIME)
    assert graded.look.facts["grader"] == opened.name and graded.look.facts["judge"] is None


def test_a_run_that_is_broken_off_goes_on(index: Index, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        monitor(watched(index, judge), out, now=TIME, progress=stop)
    assert run_folders(out) == []
    unfinished = out / ".unfinished.jsonl"
    unfinished.write_bytes(unfinished.read_bytes() + b'{"query": "socks", "pa')  # killed while it wrote
    asked: list[str] = []
    going_on = watched(index, judge)
    page = Watched.page

    def noted(self: Watched, query: str) -> list[dict[str, Any]]:
        asked.append(query)
        return page(self, query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watched, "page", noted)
        found = monitor(going_on, out, now=TIME)
    assert asked == ["socks"] and not unfinished.exists()
    whole = monitor(watched(index, judge), tmp_path / "whole", now=TIME)
    assert found.look.results.equals(whole.look.results) and found.look.numbers == whole.look.numbers


def test_an_index_that_has_changed_begins_the_run_anew(index: Index, judge: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        monitor(watched(index, judge), tmp_path / "out", now=TIME, progress=stop)
    index.remove(["k4"])
    found = monitor(watched(Index.open(index.store.path), judge), tmp_path / "out", now=TIME)
    assert "k4" not in found.look.results["item_id"].to_list()


def test_items_that_vanish_are_told(index: Index, judge: Path, tmp_path: Path) -> None:
    monitor(watched(index, judge), tmp_path / "out", now=TIME)
    index.remove(["k4"])
    found = monitor(watched(Index.open(index.store.path), judge), tmp_path / "out", last=True, now=TIME)
    assert found.changes is not None and found.changes.vanished == (("k4", 1),)
    assert found.changes.queries[0].query == "kettle" and found.changes.queries[0].gone == ("k4",)
    page = found.report.read_text()
    assert "Items of earlier pages that the index lacks" in page and "k4" in page


def test_no_text_of_the_catalogue_is_html_in_the_report(index: Index, judge: Path, tmp_path: Path) -> None:
    asked = watch(index, ["lamp", f"lamp {SCRIPT}"], judge)
    monitor(asked, tmp_path / "out", now=TIME)
    index.remove(["l1"])
    found = monitor(
        watch(Index.open(index.store.path), ["lamp", f"lamp {SCRIPT}"], judge), tmp_path / "out", last=True, now=TIME
    )
    page = found.report.read_text()
    assert "&lt;script&gt;" in page and "<script" not in page
    assert not re.search(r"(?:src|href)=", page)  # it needs nothing else


def summaries(values: list[float | None]) -> list[dict[str, Any]]:
    rate = [{"value": v, "low": None if v is None else v - 0.1, "high": None if v is None else v + 0.1} for v in values]
    return [
        {
            "facts": {"number": at + 1, "time": f"2026-03-0{at + 1}T00:00:00Z"},
            "numbers": {"rates": {"query_goodrate": one, "item_goodrate": one}},
        }
        for at, one in enumerate(rate)
    ]


def test_the_plot_has_a_gap_where_a_rate_is_unknown() -> None:
    line = plot_lines(summaries([0.5, 0.75, None, 1.0]))[0]
    # 720 wide, 62 left and 16 right of the plot; 240 high, 14 above and 34 below: 192 for a rate of 1
    assert line.path == "M62.0 110.0 L276.0 62.0 M704.0 14.0" and len(line.points) == 3
    assert line.points[0] == (62.0, 110.0, "run 1, 2026-03-01: 0.500")


@contextmanager
def listener(answers: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers with these codes, one after the other, and the bodies that came."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            code = answers[min(len(bodies), len(answers)) - 1]
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/secret", bodies
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answers", "tries", "said"),
    [
        ([200], 1, ""),
        ([503, 429, 204], 3, ""),
        ([500], 3, "127.0.0.1 answers 500, 3 times"),
        ([404], 1, "127.0.0.1 answers 404"),
        ([302], 1, "127.0.0.1 answers 302"),
    ],
)
def test_the_webhook_is_told_with_bounded_retries(answers: list[int], tries: int, said: str) -> None:
    waits: list[float] = []
    with listener(answers) as (url, bodies):
        assert alerts.send(url, {"status": "ok"}, sleep=waits.append) == said
    assert len(bodies) == tries and waits == [1.0, 2.0][: tries - 1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.csv"
    path.write_text("query\nkettle\nlamp\n")
    return path


def test_the_command_says_what_is_wrong_and_exits_1(index: Index, judge: Path, queries: Path, tmp_path: Path) -> None:
    base = (index.store.path, "--queries", queries, "--model", judge, "--out", tmp_path / "out")
    first = run(*base, "--last", "--fail-under", "query_goodrate=1", "--fail-drop", "item_goodrate=0.05")
    assert first.exit_code == 0 and "no run came before this one" in first.output
    assert "item_goodrate 0.625" in first.output  # (3 of 4, 1 of 2) / 2
    index.remove(["k1", "k2"])
    with listener([200]) as (url, bodies):
        second = run(
            *base, "--last", "--fail-under", "query_goodrate=0.9", "--fail-drop", "item_goodrate=0.05", "--webhook", url
        )
    # kettle: k3 and k4, one of them good; lamp as before: the mean falls from 0.625 to 0.5
    assert second.exit_code == 1
    assert "FAILED: item_goodrate fell by 0.125 since run 1, at most 0.05 was expected" in second.output
    assert [body["status"] for body in bodies] == ["failing"] and bodies[0]["failures"] == [
        "item_goodrate fell by 0.125 since run 1, at most 0.05 was expected"
    ]
    assert "kettle" not in json.dumps(bodies)
    assert (
        "FAILED" in (tmp_path / "out" / "report.html").read_text()
        or "fell by 0.125" in (tmp_path / "out" / "report.html").read_text()
    )


def test_a_webhook_that_fails_does_not_fail_the_run_unless_asked(
    index: Index, judge: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(alerts, "WAIT", 0.0)
    base = (index.store.path, "--queries", queries, "--model", judge, "--out", tmp_path / "out")
    with listener([404]) as (url, _):
        told = run(*base, "--webhook", url)
        assert told.exit_code == 0 and "the webhook was not told: 127.0.0.1 answers 404" in told.output
        assert "secret" not in told.output
        assert run(*base, "--webhook", url, "--webhook-required").exit_code == 1
        assert run(*base, "--webhook", url, "--webhook-failing", "--webhook-required").exit_code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fail-drop", "item_goodrate=0.1"], "--fail-drop needs a run to compare with"),
        (["--webhook", "file:///etc/passwd"], "expected an address that begins with http"),
        (["--against", "nothing"], "holds no run of goodrate monitor"),
        (["--page-mid", "0.9"], "expected 0 < Mid <= Good <= 1"),
        (["--last", "--against", "nothing"], "not with both"),
    ],
)
def test_wrong_options_are_refused(
    index: Index, judge: Path, queries: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    refused = run(index.store.path, "--queries", queries, "--model", judge, "--out", tmp_path / "out", *more)
    assert isinstance(refused.exception, ValueError | OSError) and said in str(refused.exception)
    assert run_folders(tmp_path / "out") == []
