"""People's verdicts of a workbench in goodrate search and evaluate: an option that says what it did."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import goodrate as gr
from calling import Run, called
from goodrate.api.overruling import people_of
from goodrate.relevance.human_judge import write_human_judge
from goodrate.serving.workbench.overrules import Overrules
from goodrate.serving.workbench.store import Workbench

ITEMS = pl.DataFrame({"id": ["a", "b", "c"], "title": ["red lamp", "red lamp two", "red lamp three"]})
LABELS = [("red lamp", "a", "excellent"), ("red lamp", "b", "mismatch"), ("red lamp", "c", "irrelevant")]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An index, labels, a judge that says them, and a workbench where Ada says another thing of c."""
    gr.Index.create(tmp_path / "index", ITEMS)
    frame = pl.DataFrame(LABELS, schema=["query", "item_id", "label"], orient="row")
    frame.write_csv(tmp_path / "labels.csv")
    write_human_judge(tmp_path / "judge", gr.read_judgements(frame, "four_level"))
    with Workbench(tmp_path / "team") as workbench:
        Overrules(workbench).set("Red  LAMP", "c", "excellent", "Ada")
    return tmp_path


def test_search_shows_what_a_person_said(run: Run, shop: Path) -> None:
    asked = ("search", shop / "index", "red lamp", "--model", shop / "judge")
    _, out, _ = run(*asked, "--json")
    assert [(one["id"], one["label"]) for one in json.loads(out)["results"]][1:] == [
        ("b", "mismatch"), ("c", "irrelevant")
    ]  # fmt: skip
    code, out, err = run(*asked, "--workbench", shop / "team", "--json")
    found = {one["id"]: one for one in json.loads(out)["results"]}
    assert code == 0 and found["c"]["label"] == "excellent" and found["c"]["set_by"] == "Ada", err
    assert "set_by" not in found["a"] and list(found)[2] == "b"
    assert "1 of them by a person" in " ".join(run(*asked, "--workbench", shop / "team")[1].split())
    assert "--workbench are for a judge" in run("search", shop / "index", "x", "--workbench", shop / "team")[2]
    assert "is no workbench" in run(*asked, "--workbench", shop)[2]


@pytest.mark.parametrize("more", [(), ("--judged-only",)], ids=["whole", "judged"])
def test_evaluate_orders_by_it_and_says_so_and_counts_the_judges_own_labels(
    run: Run, shop: Path, more: tuple[str, ...]
) -> None:
    asked = ("evaluate", shop / "index", "--judgements", shop / "labels.csv", "--scale", "four_level", "--systems",
             "judge", "--model", shop / "judge", "--trained-queries", "keep", "--json", *more)  # fmt: skip
    without, told = json.loads(run(*asked)[1]), json.loads(run(*asked, "--workbench", shop / "team")[1])
    assert (
        without["systems"][0]["metrics"]["ndcg@10"]["value"] == 1.0 > told["systems"][0]["metrics"]["ndcg@10"]["value"]
    )
    assert told["labels"]["judge"]["accuracy"] == 1.0  # the judge's labels, not Ada's
    assert "1 verdicts are people's, not the judge's" in str(told) and "people's" not in str(without)
    table = run(*asked[: -1 - len(more)], *more, "--workbench", shop / "team")[1]
    assert "1 verdicts are people's, not the judge's" in table
    refused = run("evaluate", shop / "index", "--judgements", shop / "labels.csv", "--systems", "lexical",
                  "--workbench", shop / "team")  # fmt: skip
    assert refused[0] == 2 and "--workbench is for the system judge" in refused[2]


def test_from_python_a_search_reads_what_holds_now(shop: Path) -> None:
    index = gr.Index.open(shop / "index").rerank(gr.open_judge(shop / "judge")).but(overrules=people_of(shop / "team"))
    assert {one.item["id"]: one.verdict.label for one in index.search("red lamp").results}["c"] == "excellent"
    with Workbench(shop / "team") as workbench:
        Overrules(workbench).undo(1, "Bo")
    assert {one.item["id"]: one.verdict.label for one in index.search("red lamp").results}["c"] == "irrelevant"
    with pytest.raises(FileNotFoundError, match="is no workbench"):
        people_of(shop)
