"""Grading and the monitored search in Chromium: keyboard, rules, two raters, correcting, history; axe-core is clean."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import page_browser
from goodrate.api.grading import make_queue
from goodrate.api.index import Index
from goodrate.api.monitoring import monitor, watch
from goodrate.relevance.human_judge import write_human_judge
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.workbench.grading import LABEL, Grading, QueuedPair, Vote
from goodrate.serving.workbench.store import Workbench
from page_browser import NARROW, WIDE, Served, shot, until, violations
from serving_shop import SCRIPT, FakeSearcher, FakeStore, fake_judge
from test_monitoring import ITEMS, labels

pytest.importorskip("axe_playwright_python")
pytestmark = page_browser.MARKS
QUERY = f"red shoes {SCRIPT}"
PAIRS = [QueuedPair(QUERY, item, item, "top") for item in ("a4", "a1", "a2")]
SAME = {"category": "same", "must": "none", "may": "none", "not": "none", "alternative": "none"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(params=[WIDE, NARROW], ids=["1280", "390"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, request.param)


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path / "team")


@pytest.fixture
def served(workbench: Workbench) -> Iterator[Served]:
    server = Served(SearchPipeline(FakeStore(), FakeSearcher(), fake_judge()), Parts(workbench=workbench))
    yield server
    server.stop()


def begin(page: Any, served: Served, rater: str) -> None:
    page.goto(f"{served.url}grade/")
    page.get_by_label("Your name").fill(rater)
    page.get_by_role("button", name="Go on").click()
    page.locator(".grading").wait_for()


def clean(page: Any, name: str) -> None:
    """axe-core finds nothing, nothing is wider than the window, and a picture is kept where one is wanted."""
    assert violations(page) == [], name
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name
    shot(page, f"{name}_{page.viewport_size['width']}")


def title(page: Any) -> str:
    return str(page.locator(".item h3").inner_text())


def pressed(page: Any) -> list[str]:
    return list(
        page.locator(".choices [aria-pressed=true]").evaluate_all("all => all.map((one) => one.firstChild.data)")
    )


def test_pairs_are_graded_by_the_rules_with_the_keyboard_alone(page: Any, served: Served, workbench: Workbench) -> None:
    make_queue(workbench.folder, PAIRS, rules="shop")
    begin(page, served, "Ada")
    assert page.locator(".asked").inner_text() == f"The query\n{QUERY}"
    assert title(page) == f"Shoe polish {SCRIPT}" and page.evaluate("window.harmed") is None
    assert page.get_by_role("button", name="Save").is_disabled()
    page.get_by_text("The rules say nothing yet: Kind of product is open").wait_for()
    clean(page, "grade_open")
    for _ in range(3):
        page.keyboard.press("a")  # same, sibling, accessory
    page.get_by_text("By the rules: irrelevant, because it goes with the wanted product but is not one").wait_for()
    assert pressed(page) == ["irrelevant"]
    page.keyboard.press("Enter")
    page.get_by_text("Saved: irrelevant.").wait_for()
    until(page, "document.querySelector('.item h3').textContent.startsWith('Trail')")
    assert "1 of 3 pairs done, 1 by you" in page.locator("#progress").inner_text()
    page.keyboard.press("s")
    page.get_by_text("Skipped: it comes again at the end.").wait_for()
    until(page, "document.querySelector('.item h3').textContent.startsWith('Road')")
    page.keyboard.press("x")
    page.get_by_text("Saved: cannot tell.").wait_for()
    until(page, "document.querySelector('.asked').textContent.startsWith('You skipped this one before')")
    assert title(page).startswith("Trail")
    clean(page, "grade_skipped")
    votes = Grading(workbench).votes()
    assert [(row["kind"], row["label"], row["rule"]) for row in votes] == [
        ("cannot_tell", None, None), ("label", "irrelevant", "accessory_only"),
    ]  # fmt: skip
    assert votes[1]["said"] == {**SAME, "category": "accessory"} and 0 <= votes[1]["seconds"] < 60


def test_a_rule_is_overruled_only_with_a_reason_and_a_grade_is_corrected(
    page: Any, served: Served, workbench: Workbench
) -> None:
    make_queue(workbench.folder, PAIRS, rules="shop")
    begin(page, served, "Ada")
    page.get_by_label("the same").check()
    assert pressed(page) == ["excellent"]
    page.get_by_role("group", name="Label").get_by_role("button", name="mismatch").click()
    page.get_by_label("Why is it not what the rules say?").wait_for()
    page.get_by_role("button", name="Save").click()
    assert page.evaluate("document.activeElement.type") == "text" and Grading(workbench).votes() == []
    clean(page, "grade_overruled")
    page.keyboard.type("no shoe")  # letters in a text are no keys
    page.keyboard.press("Enter")
    page.get_by_text("Saved: mismatch.").wait_for()
    page.get_by_role("button", name="Correct: Shoe polish").click()
    page.get_by_text("You correct a grade").wait_for()
    assert pressed(page) == ["mismatch"] and page.get_by_label("the same").is_checked()
    page.get_by_label("another", exact=True).first.check()
    page.get_by_role("group", name="Label").get_by_role("button", name="irrelevant").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved: irrelevant.").wait_for()
    votes = Grading(workbench).votes()
    assert [(row["label"], row["rule"]) for row in votes] == [("irrelevant", "other_category")]


def test_the_second_rater_sees_nothing_of_the_first_and_agreement_is_told(
    page: Any, served: Served, workbench: Workbench
) -> None:
    make_queue(workbench.folder, PAIRS, scale="graded_0_3", raters=2)
    grading = Grading(workbench)
    for place, label in ((1, "0"), (2, "3"), (3, "3")):
        grading.vote(Vote(place, "Bo", LABEL, label, reason="a secret"))
    begin(page, served, "Ada")
    assert "secret" not in page.content() and pressed(page) == []
    for label in "033":
        page.keyboard.press(label)  # labels of one digit are their own keys
        assert pressed(page) == [label]
        page.keyboard.press("Enter")
        page.get_by_text(f"Saved: {label}.").wait_for()
        until(page, f"document.querySelectorAll('#mine li').length == {len(grading.votes('Ada'))}")
    page.get_by_text("Nothing is left for you").wait_for()
    until(page, "document.querySelector('#agreement td.n')?.textContent == '3'")
    row = page.locator("#agreement tbody tr")
    assert row.locator("td").all_inner_texts()[1:] == ["3", "100%", "1.00", "1.00", "1.00"]
    assert "3 of 3 pairs done, 3 by you" in page.locator("#progress").inner_text()
    clean(page, "grade_done")


def test_what_could_not_be_saved_stays_and_is_saved_once(page: Any, served: Served, workbench: Workbench) -> None:
    make_queue(workbench.folder, PAIRS, scale="graded_0_3")
    begin(page, served, "Ada")
    page.route("**/grading/votes", lambda route: (route.fetch(), route.abort()))  # it came, and the answer was lost
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.get_by_text("Not saved: The server does not answer").wait_for()
    assert pressed(page) == ["2"]
    page.unroute("**/grading/votes")
    page.keyboard.press("Enter")
    page.get_by_text("Saved: 2.").wait_for()
    assert len(workbench.rows("SELECT id FROM grading_votes")) == 1


def test_states_without_a_queue(page: Any, served: Served) -> None:
    page.goto(f"{served.url}grade/")
    page.get_by_text("make one with: goodrate grade make").wait_for()
    clean(page, "grade_none")
    page.goto(f"{served.url}monitor/")
    page.get_by_text("No run yet").wait_for()
    clean(page, "monitor_none")


def test_the_history_of_the_monitored_search(page: Any, served: Served, workbench: Workbench, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", ITEMS)
    judge = write_human_judge(tmp_path / "judge", labels())
    for day in (1, 2):
        asked = watch(Index.open(index.store.path), ["kettle", f"lamp {SCRIPT}"], judge)
        monitor(asked, workbench.folder / "monitor", last=True, now=datetime(2026, 3, day, tzinfo=UTC))
        index.remove(["k1", "k2"])
    page.goto(f"{served.url}monitor/")
    page.get_by_role("heading", name="Run 2: 2026-03-02 00:00").wait_for()
    rows = page.locator("#history tbody tr")
    assert rows.count() == 2 and "Run 2" in rows.first.inner_text() and "0.500" in rows.first.inner_text()
    assert "Items that the index lacks: k1, k2" in page.locator("#run").inner_text()
    assert page.locator("#history circle").count() == 4 and page.evaluate("window.harmed") is None
    clean(page, "monitor")
    page.get_by_role("button", name="Run 1").click()
    page.get_by_role("heading", name="Run 1: 2026-03-01 00:00").wait_for()
    assert page.url.endswith("#1") and f"lamp {SCRIPT}" in page.locator("#run").inner_text()
    page.reload()
    page.get_by_role("heading", name="Run 1: 2026-03-01 00:00").wait_for()
    page.goto(f"file://{workbench.folder / 'monitor' / 'report.html'}")
    clean(page, "monitor_report")
