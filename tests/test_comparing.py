"""goodrate compare: two systems on a query set, votes, the report; resumed, blinded, exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from goodrate.api import comparing
from goodrate.api.comparing import compare, comparison_report
from goodrate.api.systems import read_system
from goodrate.catalog.items import Catalog
from goodrate.cli.compare import command
from goodrate.evaluation.query_choice import average_overlap, draw_by_size
from goodrate.evaluation.votes import vote_report
from goodrate.retrieval.store import Store
from goodrate.serving.http import create_compare_app
from goodrate.serving.workbench.comparisons import Comparisons
from goodrate.serving.workbench.store import Workbench
from serving_shop import CATALOGUE

QUERIES = ["red shoes", "running", "socks without red", "shoe care without polish", "red"]
PINS = '[[pin]]\nname = "kettle first"\nquery = "red"\nids = ["a5"]\n'


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "index"
    Store.create(folder, None, None).upsert(Catalog(CATALOGUE), None)
    (folder.parent / "pins.toml").write_text(PINS)
    return folder


def made(index: Path, out: Path, **more: Any) -> comparing.ComparisonSet:
    """Without rules against with a pin for "red": the two differ on that query and on one with an exclusion."""
    old = f"{index},name=old,as_typed=true"
    return compare(old, f"{index},name=new,rules={index.parent / 'pins.toml'}", QUERIES, out, **more)


def client(out: Path) -> TestClient:
    return TestClient(create_compare_app(Workbench(out)))


def vote(web: TestClient, rater: str, wanted: dict[str, str], comment: str = "") -> None:
    """Vote for the side whose first item is the wanted one; "same" where none is named."""
    for one in web.get("/compare/sets/1", params={"rater": rater}).json()["queries"]:
        shown = web.get(f"/compare/queries/{one['id']}", params={"rater": rater}).json()
        first = [side for side in ("left", "right") if shown[side] and shown[side][0]["id"] == wanted.get(one["query"])]
        body = {"query_id": one["id"], "rater": rater, "better": first[0] if first else "same", "comment": comment}
        assert web.post("/compare/votes", json=body).json() == {"kept": True}


def test_identical_lists_are_counted_and_asked_of_nobody(index: Path, tmp_path: Path) -> None:
    found = made(index, tmp_path)
    with Workbench(tmp_path) as workbench:
        rows = workbench.rows("SELECT * FROM compared_queries")
    differing = {row["query"] for row in rows if json.loads(row["a"]) != json.loads(row["b"])}
    assert "red" in differing and "running" not in differing
    assert (found.queries, found.identical, found.asked, found.made) == (5, 5 - len(differing), len(differing), 5)
    asked = client(tmp_path).get("/compare/sets/1", params={"rater": "Ada"}).json()["queries"]
    assert {one["query"] for one in asked} == differing


def test_raters_see_no_sign_of_which_system_is_which(index: Path, tmp_path: Path) -> None:
    made(index, tmp_path)
    web = client(tmp_path)
    shown = [web.get("/compare/sets"), web.get("/compare/sets/1", params={"rater": "Ada"})]
    queries = shown[1].json()["queries"]
    shown += [web.get(f"/compare/queries/{one['id']}", params={"rater": "Ada"}) for one in queries]
    assert all(word not in answer.text for answer in shown[1:] for word in ("old", "pins", "rules", "a_is_left"))
    assert {*shown[2].json()} == {"query", "left", "right", "better", "comment"}
    assert {*shown[2].json()["left"][0]} == {*comparing.SHOWN, "description", "attributes"}


def test_sides_are_drawn_by_the_seed_and_fairly(tmp_path: Path) -> None:
    with Workbench(tmp_path) as workbench:
        kept = Comparisons(workbench)
        for seed in (1, 2, 1):
            with workbench.writing() as connection:
                connection.execute("DELETE FROM compared_queries")
                connection.execute("INSERT OR IGNORE INTO comparisons VALUES (1, 'x', '{}', 0, 0)")
                connection.executemany(
                    "INSERT INTO compared_queries (comparison, query, a, b, overlap, identical) "
                    "VALUES (1, ?, '[]', '[]', 0.5, 0)",
                    [(f"query {number:03}",) for number in range(200)],
                )
            kept.finish(1, seed, None)
            sides = [row["a_is_left"] for row in workbench.rows("SELECT * FROM compared_queries ORDER BY query")]
            first = sides if seed == 1 else first  # noqa: F821
            assert 70 < sum(sides) < 130 and (sides == first) == (seed == 1)


def test_an_interrupted_one_goes_on_and_another_of_its_name_is_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = comparing.system_results

    def stopped(opened: Any, settings: Any, query: str, k: int) -> Any:
        asked.append(query)
        if len(asked) == 6:  # in the midst of the third query
            raise KeyboardInterrupt
        return plain(opened, settings, query, k)

    monkeypatch.setattr(comparing, "system_results", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(index, tmp_path)
    assert client(tmp_path).get("/compare/sets").json() == {"sets": []}  # no part of a set is shown
    assert made(index, tmp_path).made == 3 and made(index, tmp_path).made == 0
    assert asked[6:] == [query for query in QUERIES[2:] for _ in "ab"]
    with pytest.raises(ValueError, match="comparison 'old against new' made of other k; give this one another --name"):
        made(index, tmp_path, k=3)
    assert made(index, tmp_path, k=3, name="three").made == 5


def test_votes_are_kept_changed_and_gone_on_with(index: Path, tmp_path: Path) -> None:
    made(index, tmp_path)
    web = client(tmp_path)
    first = web.get("/compare/sets/1", params={"rater": "Ada"}).json()["queries"][0]
    for better in ("left", "right"):
        web.post("/compare/votes", json={"query_id": first["id"], "rater": "Ada", "better": better, "comment": "hm"})
    again = client(tmp_path)  # another server over the same file
    queries = again.get("/compare/sets/1", params={"rater": "Ada"}).json()["queries"]
    assert [one["voted"] for one in queries] == [True] + [False] * (len(queries) - 1)
    shown = again.get(f"/compare/queries/{first['id']}", params={"rater": "Ada"}).json()
    assert (shown["better"], shown["comment"]) == ("right", "hm")
    assert again.get(f"/compare/queries/{first['id']}", params={"rater": "Bo"}).json()["better"] is None
    assert len(comparison_report(tmp_path).votes) == 1
    assert web.post("/compare/votes", json={"query_id": 99, "rater": "Ada", "better": "left"}).status_code == 404
    assert web.post("/compare/votes", json={"query_id": first["id"], "rater": " ", "better": "left"}).status_code == 422
    assert web.post("/compare/votes", json={"query_id": first["id"], "rater": "A", "better": "a"}).status_code == 422


def test_the_report_says_which_system_is_better_whatever_the_sides(index: Path, tmp_path: Path) -> None:
    made(index, tmp_path)
    web = client(tmp_path)
    vote(web, "Ada", {"red": "a5"})
    vote(web, "Bo", {"red": "a5"}, comment="=cmd()")
    found = comparison_report(tmp_path)
    report = found.report
    assert (report.counts.good, report.counts.bad, report.voted) == (1, 0, report.asked)
    assert report.gsb.value == pytest.approx(1 / 5) and report.gsb.units == 5
    assert report.raters_agree is not None and report.raters_agree.rater_pairs[0].same == 1.0
    assert found.lines()[0].startswith("B (new) against A (old): GSB +0.200 [")
    by_query = {(one["rater"], one["query"]): one["label"] for one in found.votes}
    assert by_query["Ada", "red"] == "good"
    found.export(tmp_path / "votes.csv")
    rows = list(csv.DictReader((tmp_path / "votes.csv").open()))
    assert [row["comment"] for row in rows if row["rater"] == "Bo"] == ["'=cmd()"] * report.asked
    found.export(tmp_path / "votes.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows) and {one["comment"] for one in lines if one["rater"] == "Bo"} == {"=cmd()"}


def test_raters_who_all_say_the_same_agree_to_an_unknown_degree(index: Path, tmp_path: Path) -> None:
    made(index, tmp_path)
    web = client(tmp_path)
    number = web.get("/compare/sets").json()["sets"][0]["id"]
    first = web.get(f"/compare/sets/{number}", params={"rater": "Ada"}).json()["queries"][0]["id"]
    for rater in ("Ada", "Bo"):
        web.post("/compare/votes", json={"query_id": first, "rater": rater, "better": "left"})
    said = " ".join(comparison_report(tmp_path).lines())
    assert "alpha unknown (one and the same vote throughout) on 1 queries" in said and "nan" not in said


def votes_of(scores: dict[str, list[str]], chance: float = 1.0) -> pl.DataFrame:
    """Votes by query, the n-th of rater n."""
    rows = [(query, str(number), label, chance) for query, said in scores.items() for number, label in enumerate(said)]
    return pl.DataFrame(rows, schema=["query", "rater", "label", "chance"], orient="row")


def test_gsb_by_hand() -> None:
    votes = votes_of({"a": ["good", "good", "bad"], "b": ["bad"], "c": ["same"], "d": ["good"], "e": ["good", "bad"]})
    report = vote_report(votes, queries=10, identical=5, asked=5)
    # by majority a good, b bad, c same, d good, e same; five more are the same: (2 - 1) / 10
    assert (report.counts.good, report.counts.same, report.counts.bad) == (2, 2, 1)
    assert report.gsb.value == pytest.approx(0.1) and report.gsb.low < 0 < report.gsb.high
    assert report.counts.p == 1.0 and report.votes == {"0": 5, "1": 2, "2": 1}
    half = vote_report(votes_of({"a": ["good"], "b": ["same"]}), queries=12, identical=2, asked=10)
    # two of the ten that differ were voted on and speak for all ten: 10 * 0.5 / 12
    assert half.gsb.value == pytest.approx(5 / 12) and half.raters_agree is None


def test_queries_drawn_by_difference_do_not_move_the_mean() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.uniform(0.05, 1.0, 400)
    better = (rng.random(400) < sizes).astype(float)  # B is better the more the lists differ
    true, plain, weighted = better.mean(), [], []
    for seed in range(60):
        chances = draw_by_size(sizes, 100, seed)
        drawn = chances > 0
        assert drawn.sum() == 100
        plain.append(better[drawn].mean())
        labels = {str(row): ["good" if better[row] else "same"] for row in np.flatnonzero(drawn)}
        votes = votes_of(labels).with_columns(pl.Series("chance", chances[drawn]))
        if seed < 5:
            assert abs(vote_report(votes, 400, 0, 100).gsb.value - true) < 0.2
        weighted.append(np.average(better[drawn], weights=1 / chances[drawn]))
    assert abs(np.mean(weighted) - true) < 0.02 < abs(np.mean(plain) - true)


def test_chances_are_by_size_and_at_most_one() -> None:
    counts = sum((draw_by_size([1.0, 1.0, 2.0, 100.0], 2, seed) > 0).astype(int) for seed in range(2000))
    assert counts[3] == 2000 and counts[2] / 2000 == pytest.approx(0.5, abs=0.04)
    assert counts[:2] / 2000 == pytest.approx([0.25, 0.25], abs=0.04)


def test_overlap_by_hand() -> None:
    assert average_overlap(["a", "b", "c"], ["a", "c", "b"]) == pytest.approx((1 + 0.5 + 1) / 3)
    assert average_overlap([], []) == 1.0 and average_overlap(["a"], []) == 0.0


def test_systems_in_one_line_and_as_files(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text('index = "shop"\nmode = "lexical"\njudge = "runs/judge"\ndepth = 20\n')
    assert read_system(str(tmp_path / "new.toml")).name == "new"
    one = read_system("shop,mode=lexical,depth=20,judge=runs/judge,name=new")
    assert one == read_system(str(tmp_path / "new.toml"))
    for text, told in [
        ("shop,mood=lexical", "did you mean 'mode'"),
        ("shop,mode", "expected key=value"),
        ("shop,mode=fast", "mode"),
        (str(tmp_path / "no.toml"), "no settings file"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=told):
            read_system(text)


def test_systems_that_find_the_same_need_no_votes(index: Path, tmp_path: Path) -> None:
    found = compare(f"{index},name=one", f"{index},name=two", QUERIES, tmp_path)
    assert (found.identical, found.asked) == (5, 0)
    with pytest.raises(ValueError, match="'one against two' find the same for every query; GSB is 0"):
        comparison_report(tmp_path)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=True)


def test_the_verb(index: Path, tmp_path: Path) -> None:
    queries, out = tmp_path / "queries.csv", tmp_path / "team"
    queries.write_text("query\n" + "\n".join(QUERIES) + "\n")
    new = f"{index},rules={index.parent / 'pins.toml'}"
    result = run(index, new, "--queries", queries, "--out", out, "--name", "pins")
    assert result.exit_code == 0 and "pins: 5 queries" in result.stderr, result.output
    assert run("make", index, new, "--queries", queries, "--out", out, "--name", "pins").exit_code == 0
    nobody = run("report", out)
    assert isinstance(nobody.exception, ValueError) and "nobody has voted" in str(nobody.exception)
    vote(client(out), "Ada", {"red": "a5"})
    told = run("report", out, "--export", tmp_path / "votes.csv")
    assert told.exit_code == 0 and "GSB +0.200" in told.stdout and "agreement: no query" in told.stdout
    parsed = json.loads(run("report", out, "--json").stdout)
    assert parsed["good"] == 1 and parsed["gsb"]["value"] == 0.2 and parsed["agreement"] is None
    assert "no whole comparison 'x'" in str(run("report", out, "--name", "x").exception)
    assert isinstance(run("report", tmp_path / "none").exception, FileNotFoundError)


def test_the_page_shows_what_the_script_wrote() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "comparing.md").read_text()
    parts = (root / "benchmarks" / "results" / "comparing_walk.txt").read_text().strip().split("\n\n")
    assert len(parts) == 3 and all(part.strip() in page for part in parts)
