"""goodrate warm: known queries are judged in advance, and searches for them ask no judge; search with a judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from fastapi.testclient import TestClient

import goodrate as gr
from calling import Run, called
from entity_shop import CARD, LampModel
from goodrate.api.serving import open_live
from goodrate.api.warming import most_frequent
from goodrate.models.encoder import Encoder
from goodrate.recipes.encoder_baseline import encoder_card
from goodrate.relevance.encoder_judge import EncoderJudge, write_encoder_judge
from goodrate.relevance.entities import Entity, EntityRules
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.entity_verdicts import EntityCache
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Pair
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.http import create_app
from tiny_models import tokenizer_file

NOUNS = ("lamp", "chair", "desk", "steel", "oak", "item", "answer", "query", "facts", "context", "color", "size")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 items, a random encoder, and its cosine as a judge."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("warm")
    frame = {"id": [f"i{n}" for n in range(12)], "title": [f"red {noun}" for noun in NOUNS], "brand": ["Velto"] * 12}
    pl.DataFrame(frame).write_csv(path / "items.csv")
    Encoder.create(tokenizer_file(path), hidden=16, layers=1, heads=2).save(path / "encoder")
    loaded = Encoder.load(path / "encoder", precision="auto")
    write_encoder_judge(path / "judge", encoder_card(str(path / "encoder"), loaded, FOUR_LEVEL))
    pl.DataFrame({"q": ["blue lamp", "red oak", "red"], "n": [1, 5, 9]}).write_csv(path / "log.csv")
    return path


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Path:
    gr.Index.create(tmp_path / "index", pl.read_csv(folder / "items.csv"))
    return tmp_path / "index"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Queries that the judge was asked about, once a pair."""
    queries: list[str] = []
    whole = EncoderJudge.assess

    def noted(self: EncoderJudge, pairs: Sequence[Pair]) -> Any:
        queries.extend(pair.query for pair in pairs)
        return whole(self, pairs)

    monkeypatch.setattr(EncoderJudge, "assess", noted)
    return queries


def test_warmed_queries_are_answered_without_the_judge(
    run: Run, folder: Path, index: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verb = ("warm", index, "--queries", folder / "log.csv", "--map", "query=q,count=n", "--model", folder / "judge")
    code, _, err = run(*verb)
    # "red" and "red oak" match all 12 titles, "blue lamp" is in one
    assert code == 0, err
    assert "3 of 3 queries: 0 results were judged before, 25 now; the file holds 25 verdicts" in err
    assert list(dict.fromkeys(asked)) == ["red", "red oak", "blue lamp"]  # the most frequent first
    code, _, err = run(*verb)
    assert code == 0 and "25 results were judged before, 0 now; the file holds 25" in err and len(asked) == 25

    served, live = open_live(index, str(folder / "judge"))
    expected = [result.item["id"] for result in served.search("red oak", k=12)]
    monkeypatch.setattr(EncoderJudge, "assess", lambda self, pairs: pytest.fail("the judge was asked"))
    client = TestClient(create_app(live))
    for query, count in (("red", 12), (" red oak ", 12), ("blue lamp", 1)):
        for more in ({}, {"k": 3, "offset": 3}, {"judge_ms": 0}):
            answer = client.get("/search", params={"query": query, **more}).json()
            assert (answer["judged"], answer["cached"], answer["live"], answer["left"]) == (count, count, 0, 0)
    code, out, _ = run("search", index, "red oak", "--model", folder / "judge", "-k", "12", "--json")
    found = json.loads(out)
    assert code == 0 and (found["judged"], found["cached"], found["live"]) == (12, 12, 0)
    assert [row["id"] for row in found["results"]] == expected and {row["tier"] for row in found["results"]} <= {
        "Good", "Mid", "Bad",
    }  # fmt: skip
    with pytest.raises(pytest.fail.Exception, match="the judge was asked"):
        served.search("steel")


def test_it_stops_when_the_time_is_over_or_somebody_stops_it_and_goes_on(
    run: Run, folder: Path, index: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "plain.csv").write_text("query\nred\nred oak\n\nblue lamp\nred oak\n")
    verb = ("warm", index, "--queries", folder / "plain.csv", "--model", folder / "judge", "--skip-bad", 1)
    code, _, err = run(*verb, "--max-minutes", "0")
    assert code == 0 and "0 of 3 queries" in err and "the time is over; the same command goes on" in err
    whole = EncoderJudge.assess

    def interrupted(self: EncoderJudge, pairs: Sequence[Pair]) -> Any:
        if pairs[0].query == "red":
            raise KeyboardInterrupt  # what Ctrl-C raises there
        return whole(self, pairs)

    with monkeypatch.context() as patched:
        patched.setattr(EncoderJudge, "assess", interrupted)
        code, _, err = run(*verb)
    assert code == 130 and f"{index / 'verdicts.sqlite'} keeps what was judged, the same command goes on" in err
    code, _, err = run(*verb)
    assert code == 0 and "12 results were judged before, 13 now" in err  # red oak, which is asked for twice, was first


def test_from_python(folder: Path, index: Path, tmp_path: Path, asked: list[str]) -> None:
    told: list[tuple[int, int]] = []
    report = gr.warm(index, ["red"], folder / "judge", depth=4, progress=lambda *done: told.append(done))
    assert (report.queries, report.stored, report.judged, report.failed, report.verdicts) == (1, 0, 4, 0, 4)
    assert told == [(1, 1)]
    judge = gr.open_judge(folder / "judge", store=tmp_path / "other.sqlite")
    opened = gr.Index.open(index).rerank(judge, depth=3, judge_ms=0)
    assert opened.search("red").live == 0  # no time for verdicts
    assert gr.warm(opened, ["red"]).judged == 3  # warming has it
    assert (opened.search("red").cached, opened.search("red").left) == (3, 0)
    assert most_frequent([("b", 1.0), (" a", 1.5), ("a", 1.0), "b", "c"]) == ["a", "b", "c"]
    for wrong, message in (
        ((index, ["red"]), "none is named"), ((gr.Index.open(index), ["red"]), "no judge that keeps verdicts"),
        ((index, [" "], folder / "judge"), "no query to warm"),
        ((opened, ["red"], folder / "judge"), "an open one has"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            gr.warm(*wrong)


def test_search_with_a_judge_says_what_it_judged(run: Run, folder: Path, index: Path, asked: list[str]) -> None:
    code, out, _ = run("search", index, "red oak", "--model", folder / "judge", "--depth", "5", "--judge-ms", "600000")
    assert code == 0 and "5 judged (0 stored, 5 now)" in " ".join(out.split()) and "tier" in out
    code, out, _ = run("search", index, "red oak", "--model", folder / "judge", "--judge-ms", "0", "--json")
    found = json.loads(out)
    assert (found["judged"], found["left"]) == (5, 7) and [row["rank"] for row in found["results"]] == [*range(1, 11)]
    assert "judged" not in json.loads(run("search", index, "red oak", "--json")[1])
    code, _, err = run("search", index, "red oak", "--judge-ms", "5")
    assert code == 2 and "--model JUDGE" in err
    code, _, err = run("serve", index, "--judge-ms", "5", "--port", "0")
    assert code == 2 and "--model JUDGE" in err


def test_a_server_holds_its_searches_to_the_time_and_its_file_to_the_bound(
    folder: Path, index: Path, asked: list[str]
) -> None:
    served, live = open_live(index, str(folder / "judge"), judge_ms=0, keep_verdicts=7)
    client = TestClient(create_app(live))
    answer = client.get("/search", params={"query": "red"}).json()
    assert (answer["judged"], answer["left"], answer["judge_ms"]) == (0, 12, 0) and asked == []
    answer = client.get("/search", params={"query": "red", "judge_ms": 600_000}).json()
    assert (answer["judged"], answer["left"]) == (12, 0) and len(asked) == 12
    assert served.judge is not None and served.judge.store is not None
    assert sum(served.judge.store.counts().values()) == 7  # of 12 that were written


def test_entities_of_known_queries_are_filled_and_it_goes_on_where_it_stopped(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.relevance.entity_filling.BLOCK", 4)

    def opened(model: LampModel) -> Any:
        inner = EntityJudge(model, EntityRules(("brand",)), CARD, EntityCache(tmp_path / "entities.sqlite"))
        return gr.Index.open(index).rerank(CalibratedJudge(inner, store=VerdictStore(tmp_path / "v.sqlite")))

    class Breaks(LampModel):
        def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> Any:
            asked.append(len(entities))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().verdicts(queries, entities)

    asked: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        gr.warm(opened(Breaks()), ["red lamp", "oak"], entities=0)
    kept = len(EntityCache(tmp_path / "entities.sqlite"))
    assert kept == sum(asked[:2]) > 0
    told = gr.warm(opened(LampModel()), ["red lamp", "oak"], entities=0)
    assert told.filled is not None and told.filled.computed == 2 * told.filled.entities - kept
    assert told.filled.share == 1.0 and str(told.filled).endswith(f"{told.filled.computed} computed now")
    again = gr.warm(opened(LampModel()), ["red lamp", "oak"], entities=3)
    assert again.filled is not None and again.filled.computed == 0 and again.filled.share < 1.0


def test_entities_are_of_a_judge_of_entities(run: Run, index: Path, folder: Path) -> None:
    code, _, err = run("warm", index, "--queries", folder / "log.csv", "--map", "query=q,count=n", "--model",
                       folder / "judge", "--entities", "5")  # fmt: skip
    assert code == 2 and "judge is no judge of kind entity" in err
