"""Grading: the queue, votes by the rules, two raters a pair, agreement over time, export, and nothing that is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.api import grading as api
from goodrate.api.index import Index
from goodrate.cli.grade import command
from goodrate.evaluation.agreement_over_time import agreement_over_time
from goodrate.examples.taught_reasons import read_reasons
from goodrate.relevance.human_judge import write_human_judge
from goodrate.relevance.partial_rules import deciding_rule
from goodrate.relevance.rulebook import RuleBook, combinations, named_rulebook
from goodrate.scale import GRADED_0_3
from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.grading import CANNOT_TELL, LABEL, SKIP, Grading, QueuedPair, Vote
from goodrate.serving.workbench.store import Workbench
from serving_shop import fake_pipeline

ITEMS = pl.DataFrame(
    [
        ("a1", "red desk lamp", "lamps", '{"color": "red"}'), ("a2", "blue desk lamp", "lamps", '{"color": "blue"}'),
        ("a3", "floor lamp", "lamps", "{}"), ("b1", "oak desk", "desks", '{"material": "oak"}'),
        ("b2", "pine desk", "desks", '{"material": "pine"}'), ("c1", "red rug", "rugs", '{"color": "red"}'),
    ],
    schema=["id", "title", "category", "attributes"], orient="row",
)  # fmt: skip
PAIRS = [QueuedPair("lamp", item, item, "top") for item in ("a1", "a2", "a3")]
SAME = {"category": "same", "must": "none", "may": "none", "not": "none", "alternative": "none"}


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self, now: float = 1_772_440_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def queue(folder: Path, raters: int = 1, pairs: list[QueuedPair] = PAIRS, clock: Clock | None = None) -> Grading:
    """A queue on grades from 0 to 3 without a rule book."""
    grading = Grading(Workbench(folder), clock or Clock())
    grading.set_up(GRADED_0_3, None, raters)
    grading.add(pairs)
    return grading


def graded(grading: Grading, rater: str, pair: int, label: str | None = "3", **more: Any) -> int:
    return grading.vote(Vote(pair, rater, LABEL if label else CANNOT_TELL, label, **more))


def next_item(grading: Grading, rater: str) -> str | None:
    found = grading.next(rater)
    return found["item_id"] if found else None


@pytest.mark.parametrize("name", ["shop", "esci"])
def test_a_partly_filled_book_decides_only_what_is_certain(name: str) -> None:
    book = named_rulebook(name)
    every = combinations(book)
    step = 7 if name == "esci" else 1
    for whole in every[::step]:
        decided = deciding_rule(book, whole)
        codes = {column: book.codes(column, [value]) for column, value in whole.items()}
        assert decided is not None and decided == book.rules[int(book.decide(codes)[0])]
        first, *rest = whole
        partial = deciding_rule(book, {column: whole[column] for column in rest})
        if partial is not None:  # then it is the same whatever the column has
            assert partial == decided, first


def test_pairs_come_in_order_and_a_skipped_one_comes_last(tmp_path: Path) -> None:
    grading = queue(tmp_path)
    assert next_item(grading, "Ada") == "a1" == next_item(grading, "Ada")  # asked again: the same one
    grading.vote(Vote(1, "Ada", SKIP))
    assert next_item(grading, "Ada") == "a2"
    graded(grading, "Ada", 2)
    graded(grading, "Ada", 3, None)
    again = grading.next("Ada")
    assert again is not None and again["item_id"] == "a1" and again["skipped"] == 1
    assert grading.progress("Ada") == {
        "pairs": 3, "finished": 2, "votes": 2, "cannot_tell": 1, "overruled": 0, "mine": 2, "skipped": 1,
        "remaining": 1, "raters": 1,
    }  # fmt: skip
    graded(grading, " ada ", 1)  # the same person
    assert grading.next("ADA") is None and grading.progress("Ada")["mine"] == 3


def test_two_who_grade_at_once_get_different_pairs(tmp_path: Path) -> None:
    clock = Clock()
    grading = queue(tmp_path, clock=clock)
    assert [next_item(grading, name) for name in ("Ada", "Bo", "Cy", "Di")] == ["a1", "a2", "a3", None]
    graded(grading, "Ada", 1)
    assert next_item(grading, "Di") is None  # Bo and Cy still have theirs
    clock.now += 601
    assert next_item(grading, "Di") == "a2"


def test_two_raters_grade_each_pair_and_neither_sees_the_other(tmp_path: Path) -> None:
    grading = queue(tmp_path, raters=2)
    graded(grading, "Ada", 1, "3", reason="as asked")
    assert next_item(grading, "Ada") == "a2" and next_item(grading, "Bo") == "a1"
    client = TestClient(create_app(fake_pipeline(), Parts(workbench=Workbench(tmp_path))))
    told = client.get("/grading/next", params={"rater": "Bo"}).json()
    assert told["pair"]["item_id"] == "a1" and "as asked" not in json.dumps(told)
    assert set(told["pair"]) == {"pair", "query", "item_id", "title", "skipped", "item"}
    assert client.get("/grading/votes", params={"rater": "Bo"}).json() == {"votes": []}
    graded(grading, "Bo", 1, "1")
    assert next_item(grading, "Cy") == "a2" and grading.progress()["finished"] == 1


def test_a_later_vote_counts_in_place_of_an_earlier_one_and_none_counts_twice(tmp_path: Path) -> None:
    grading = queue(tmp_path)
    first = graded(grading, "Ada", 1, "0", token="x")
    assert graded(grading, "Ada", 1, "0", token="x") == first  # sent again, since the answer was lost
    graded(grading, "Ada", 1, "2", token="y", seconds=7.5)
    votes = grading.votes()
    assert [(row["label"], row["seconds"]) for row in votes] == [("2", 7.5)]
    kept = Workbench(tmp_path).rows("SELECT label FROM grading_votes ORDER BY id")
    assert [row["label"] for row in kept] == ["0", "2"]  # nothing is removed


@pytest.fixture
def by_rules(tmp_path: Path) -> Path:
    api.make_queue(tmp_path / "team", PAIRS, rules="shop", raters=2)
    return tmp_path / "team"


def test_the_label_follows_from_the_rules_and_is_overruled_with_a_reason(by_rules: Path) -> None:
    grading = Grading(Workbench(by_rules))
    grading.vote(Vote(1, "Ada", LABEL, "excellent", SAME))
    with pytest.raises(ValueError, match="the rules say mismatch, the label is excellent: say why"):
        grading.vote(Vote(2, "Ada", LABEL, "excellent", {**SAME, "must": "conflict"}))
    grading.vote(Vote(2, "Ada", LABEL, "excellent", {**SAME, "must": "conflict"}, "sold as red"))
    with pytest.raises(ValueError, match="no rule decides yet"):
        grading.vote(Vote(3, "Ada", LABEL, "excellent", {"category": "same"}))
    with pytest.raises(ValueError, match="no column 'colour'"):
        grading.vote(Vote(3, "Ada", LABEL, "excellent", {"colour": "red"}))
    rows = {row["pair"]: row for row in grading.votes()}
    assert (rows[1]["rule"], rows[1]["rule_label"]) == ("all_met", "excellent")
    assert (rows[2]["rule"], rows[2]["rule_label"], rows[2]["label"]) == (
        "requirement_failed", "mismatch", "excellent",
    )  # fmt: skip
    assert grading.progress()["overruled"] == 1


def test_a_queue_stays_on_its_scale_and_rules(by_rules: Path) -> None:
    with pytest.raises(ValueError, match="has a queue on scale four_level"):
        api.make_queue(by_rules, PAIRS, scale="esci")
    more = [*PAIRS, QueuedPair("LAMP ", "a1", "a1", "top"), QueuedPair("desk", "b1", "b1", "top")]
    assert api.make_queue(by_rules, more, rules="shop", raters=1).added == 1
    assert Grading(Workbench(by_rules)).scheme().raters == 1


@pytest.mark.parametrize("name", ["", "  ", "model:big", "Model:big"])
def test_a_name_that_is_no_persons_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a person's name"):
        queue(tmp_path).next(name)


def test_http_refuses_what_is_wrong_in_words(tmp_path: Path) -> None:
    client = TestClient(create_app(fake_pipeline()), raise_server_exceptions=False)
    assert client.get("/grading").status_code == 501
    empty = TestClient(create_app(fake_pipeline(), Parts(workbench=Workbench(tmp_path / "empty"))))
    assert empty.get("/grading").status_code == 404 and "goodrate grade make" in empty.get("/grading").json()["message"]
    queue(tmp_path)
    there = TestClient(create_app(fake_pipeline(), Parts(workbench=Workbench(tmp_path))))
    body = {"pair": 1, "rater": "Ada", "kind": "label", "label": "3"}
    assert there.post("/grading/votes", json={**body, "label": "7"}).status_code == 400
    assert there.post("/grading/votes", json={**body, "pair": 9}).status_code == 404
    assert there.post("/grading/votes", json={**body, "rater": "model:x"}).status_code == 400
    assert there.post("/grading/votes", json=body).json()["progress"]["finished"] == 1


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    queue(tmp_path, pairs=[QueuedPair("lamp", str(number), "", "top") for number in range(2000)])
    code = f"""
from goodrate.serving.workbench.grading import Grading, Vote
from goodrate.serving.workbench.store import Workbench
grading = Grading(Workbench({str(tmp_path)!r}))
while (found := grading.next("Ada")) is not None:
    print(found["place"], grading.vote(Vote(found["place"], "Ada", "label", "2")), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(15)]
    process.send_signal(signal.SIGKILL)
    said += [line for line in process.stdout.readlines() if line.endswith("\n")]
    process.wait()
    grading = Grading(Workbench(tmp_path))
    kept = {(row["pair"], row["id"]) for row in grading.votes()}
    acknowledged = {tuple(int(part) for part in line.split()) for line in said}
    assert len(acknowledged) >= 15 and acknowledged <= kept
    found = grading.next("Ada")  # and she goes on behind them
    assert found is not None and found["place"] == len(kept) + 1


def rating(item: str, rater: str, label: str, day: int) -> tuple[str, str, str, str, float]:
    return ("q", item, rater, label, day * 86400.0 + 100)


def test_agreement_by_day_and_by_pairs_is_exact() -> None:
    rows = [
        # day 1: ada and bo agree on 3 of 4; labels 0 0 3 3 against 0 0 3 0
        *(rating(f"x{n}", "ada", label, 1) for n, label in enumerate("0033")),
        *(rating(f"x{n}", "bo", label, 1) for n, label in enumerate("0030")),
        # a pair counts on the day of its last label: day 2
        rating("y", "ada", "3", 1), rating("y", "bo", "3", 2),
        rating("z", "ada", "3", 2),  # one rater alone
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=["query_id", "item_id", "rater", "label", "time"], orient="row")
    days = agreement_over_time(table, GRADED_0_3)
    assert [(one.first[:10], one.pairs, one.same) for one in days] == [("1970-01-02", 4, 0.75), ("1970-01-03", 1, 1.0)]
    # chance: 0.5 * 0.75 + 0.5 * 0.25 = 0.5; kappa = (0.75 - 0.5) / (1 - 0.5)
    assert days[0].kappa == pytest.approx(0.5) and days[0].kappa_quadratic == pytest.approx(0.5)
    assert days[1].kappa != days[1].kappa and days[1].as_dict()["kappa"] is None  # one label: nothing could differ
    assert [one.pairs for one in agreement_over_time(table, GRADED_0_3, 2)] == [2, 2, 1]
    with pytest.raises(ValueError, match="expected 'day' or a number"):
        agreement_over_time(table, GRADED_0_3, 0)


def test_the_export_is_read_as_judgements_with_its_raters(tmp_path: Path) -> None:
    grading = queue(tmp_path / "team", raters=2, pairs=[*PAIRS, QueuedPair("=lamp", "b1", "x", "top")])
    for place, (ada, bo) in enumerate([("3", "1"), ("2", "2"), (None, "0"), ("3", "3")], start=1):
        graded(grading, "Ada", place, ada, reason="=HYPERLINK(1)")
        graded(grading, "Bo" if place < 3 else " bo", place, bo)  # the same person
    done = api.export(tmp_path / "team", tmp_path / "out.csv", resolved=tmp_path / "resolved.csv")
    assert (done.labels, done.cannot_tell) == (7, 1)
    read = gr.read_judgements(tmp_path / "out.csv", "graded_0_3")
    assert dict(read.frame.select("item_id", "label").rows()) == {"a1": "1", "a2": "2", "a3": "0", "b1": "3"}  # lower
    assert read.read.ratings is not None and sorted(read.read.ratings["rater"].unique()) == ["Ada", "Bo"]
    assert "=lamp" in read.frame["query"].to_list()
    assert "'=HYPERLINK(1)" in (tmp_path / "out.csv").read_text()
    whole = gr.read_judgements(tmp_path / "resolved.csv", "graded_0_3")
    assert whole.frame.equals(read.frame) and whole.read.ratings is None
    best = api.export(tmp_path / "team", tmp_path / "out.jsonl", merge="mean")
    assert dict(best.judgements.frame.select("item_id", "label").rows())["a1"] == "2"  # (3 + 1) / 2


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index", ITEMS)


def asked(query: str, item: str) -> QueuedPair:
    return QueuedPair(query, item, item, "top")


def test_what_raters_marked_becomes_reasons_to_train_on(index: Index, tmp_path: Path) -> None:
    team = tmp_path / "team"
    pairs = [asked("red lamp", item) for item in ("a1", "a2", "a3", "c1")] + [
        asked("lamp", "a3"),
        asked("red lamp", "b1"),
    ]
    api.make_queue(team, pairs, rules="shop")
    grading = Grading(Workbench(team))
    marked = {
        1: ("excellent", {**SAME, "must": "match"}, ""),
        2: ("mismatch", {**SAME, "must": "conflict"}, ""),
        3: ("related", {**SAME, "must": "unknown"}, ""),
        4: ("irrelevant", {**SAME, "category": "other", "must": "match"}, ""),
        5: ("excellent", {**SAME, "must": "match"}, ""),  # "lamp" asks for nothing that could be met
        6: ("related", {**SAME, "category": "other", "must": "unknown"}, "our customers take it"),
    }
    for place, (label, said, reason) in marked.items():
        grading.vote(Vote(place, "Ada", LABEL, label, said, reason))
    done = api.export(team, tmp_path / "labels.csv", reasons=tmp_path / "reasons.jsonl", index=index)
    assert done.reasons == {"reason": 4, "columns_unread": 1, "label_overruled": 1}
    judgements = gr.read_judgements(tmp_path / "labels.csv", "four_level")
    taught = read_reasons(str(tmp_path / "reasons.jsonl"), judgements, silver_weight=0.5)  # as goodrate train reads it
    taught.require_rules(named_rulebook("shop"))
    one, weight = taught.by_pair["red lamp", "a2"]
    assert (one.category, one.found_category, one.relation, one.rule) == ("lamp", "lamps", "same", "requirement_failed")
    assert one.wants[0].value == "red" and one.found == ("blue",) and one.checks == ("conflict",) and weight == 1.0
    assert taught.by_pair["red lamp", "c1"][0].rule == "other_category"


def test_queues_of_the_top_of_disagreement_and_of_next_labels(index: Index, tmp_path: Path) -> None:
    assert [one.item_id for one in api.top_pairs(index, [("oak desk", 1), ("red rug", 5)], k=1)] == ["c1", "b1"]
    rows = [("desk", "b1", "excellent"), ("desk", "b2", "excellent"), ("lamp", "a1", "related")]
    frame = pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row")
    theirs = gr.read_judgements(frame, "four_level")
    judged = frame.with_columns(label=pl.Series(["irrelevant", "excellent", "excellent"]))
    write_human_judge(tmp_path / "judge", gr.read_judgements(judged, "four_level"))
    found = api.disagreement_pairs(index, gr.open_judge(tmp_path / "judge"), theirs)
    # gains 7 of 7 against 0, then 3 of 7 against 7
    assert [(one.query, one.item_id) for one in found] == [("desk", "b1"), ("lamp", "a1")]
    assert found[0].why == "people say excellent, the judge irrelevant (1.00)"
    assert len(api.disagreement_pairs(index, gr.open_judge(tmp_path / "judge"), theirs, count=1)) == 1
    told: list[tuple[int, int]] = []
    keeping = gr.open_judge(tmp_path / "judge", store=tmp_path / "verdicts.sqlite")
    assert api.disagreement_pairs(index, keeping, theirs, progress=lambda *done: told.append(done)) == found
    assert told == [(3, 3)]
    assert api.disagreement_pairs(index, keeping, theirs, progress=lambda *done: told.append(done)) == found
    assert told == [(3, 3)]  # nothing is judged twice
    (tmp_path / "picked.csv").write_text("query,item_id,label\nlamp,a2,\nlamp,a1,3\ndesk,b2,\n")
    assert [one.item_id for one in api.next_label_pairs(index, tmp_path / "picked.csv")] == ["a2", "b2"]
    left, told = api.unlabelled(found, theirs)
    assert left == [] and told == "2 have a label"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_the_commands_make_tell_and_export(index: Index, tmp_path: Path) -> None:
    (tmp_path / "queries.csv").write_text("query\nlamp\ndesk\n")
    team = tmp_path / "team"
    base = ("make", team, "--index", index.store.path, "--queue", "top", "--queries", tmp_path / "queries.csv")
    made = run(*base, "--rules", "esci", "-k", 2, "--raters", 2)
    assert made.exit_code == 0 and "4 of 4 pairs are new in the queue, which has 4" in made.output
    again = run(*base, "--rules", "esci", "-k", 2)
    assert "0 of 4 pairs are new" in again.output and Grading(Workbench(team)).scheme().raters == 2  # as it was
    empty = run("export", team, "--out", tmp_path / "labels.csv")
    assert isinstance(empty.exception, ValueError) and "nobody has labelled" in str(empty.exception)
    grading = Grading(Workbench(team))
    for rater in ("Ada", "Bo"):
        grading.vote(Vote(1, rater, LABEL, "irrelevant", {"category": "other"}))
    told = run("status", team)
    assert "1 of 4 pairs" in told.output and "100.0%" in told.output
    assert json.loads(run("status", team, "--json").stdout)["agreement"][0]["pairs"] == 1
    out = run("export", team, "--out", tmp_path / "labels.csv", "--merge", "majority")
    assert out.exit_code == 0 and "2 labels of 1 pairs" in out.output and "merged by majority" in out.output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--queue", "top", "--scale", "esci"], "needs --queries FILE"),
        (["--queue", "disagreement", "--scale", "esci"], "needs --judgements FILE"),
        (["--queue", "top", "--queries", "q.csv"], "which labels do raters give?"),
        (["--queue", "top", "--queries", "q.csv", "--rules", "none.toml"], "no rule book 'none.toml'"),
        (["--queue", "top", "--queries", "q.csv", "--rules", "esci", "--scale", "wands"], "gives 4 labels"),
    ],
)
def test_wrong_options_are_refused(index: Index, tmp_path: Path, more: list[str], said: str) -> None:
    refused = run("make", tmp_path / "team", "--index", index.store.path, *more)
    assert isinstance(refused.exception, ValueError | OSError) and said in str(refused.exception)
    assert not (tmp_path / "team").exists()


def test_a_rule_book_of_ones_own_is_kept_with_the_queue(tmp_path: Path) -> None:
    book = tmp_path / "own.toml"
    book.write_text(
        'scale = "binary"\n[columns]\nfits = ["yes", "no"]\n'
        '[[rules]]\nid = "ok"\nwhen = { fits = ["yes"] }\nlabel = "relevant"\n'
        '[[rules]]\nid = "bad"\nwhen = { fits = ["no"] }\nlabel = "irrelevant"\n'
    )
    api.make_queue(tmp_path / "team", PAIRS, rules=book)
    book.unlink()
    grading = Grading(Workbench(tmp_path / "team"))
    kept = grading.scheme().book
    assert isinstance(kept, RuleBook) and list(kept.columns) == ["fits"]
    grading.vote(Vote(1, "Ada", LABEL, "relevant", {"fits": "yes"}))
    rules = tmp_path / "team" / "grading_rules.toml"
    rules.write_text(rules.read_text().replace("bad", "wrong"))
    with pytest.raises(ValueError, match="is not the rule book that the queue was made with"):
        Grading(Workbench(tmp_path / "team")).scheme()
