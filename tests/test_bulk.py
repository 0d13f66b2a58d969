"""Bulk work without Ray: what goes to workers and comes back, in whatever order, and what stays when it is cut off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import goodrate as gr
from calling import Run, called
from chat_server import chat_server
from goodrate.api.bulk import BulkJudging, ask_on, encoding_on
from goodrate.api.endpoints import Endpoint, opened_asker
from goodrate.api.index import Index
from goodrate.api.judging import ItemSource, JudgeRun, open_judge, verdict_store
from goodrate.api.labelling import label_task
from goodrate.bulk.cluster import Cluster, Place
from goodrate.models.encoder import Encoder
from goodrate.relevance.constraint_judge import Card, write_constraint_judge
from goodrate.relevance.pair_parts import read_pair_parts
from goodrate.understanding import entities
from tiny_models import tokenizer_file


class Here(Cluster):
    """A cluster whose work is done in this process, last block first; it may break down before a block."""

    breaks_before = -1

    def stream(self, blocks: list[pa.Table], worker: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[Any]:
        work = worker(*arguments)
        for number, block in enumerate(reversed(blocks)):
            if number == self.breaks_before:
                raise KeyboardInterrupt
            yield work(block)


class Broken(Here):
    breaks_before = 1


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    write_constraint_judge(tmp_path / "judge", Card(scale="four_level", slope=2.0, cuts=(-1.0, 0.2, 0.9)))
    return tmp_path / "judge"


def pairs_file(path: Path, rows: int = 30) -> Path:
    queries = [f"bottle without {('straw', 'lid')[n % 2]}" for n in range(rows)]
    pl.DataFrame({"query": queries, "item_text": [f"bottle with straw {n % 20}" for n in range(rows)]}).write_parquet(
        path
    )
    return path


def bulk(judge: Path, pairs: Path, **more: Any) -> BulkJudging:
    store = verdict_store(pairs.with_suffix(".sqlite"))
    return BulkJudging(pairs, ItemSource(), open_judge(judge), str(judge), store, **more)


# ---- reading in parts


def test_a_parquet_file_is_read_in_parts_with_the_rows_of_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "pairs.parquet"
    rows = [{"query": f"lamp {n}", "item_text": "" if n in (3, 8) else "red lamp", "label": None} for n in range(10)]
    pl.DataFrame(rows).write_parquet(file)
    parts = list(read_pair_parts(file, skip_bad=2, rows=4))
    assert [part.rows for part in parts] == [[1, 2, 3], [5, 6, 7, 8], [10]]
    assert [bad.row for part in parts for bad in part.skipped] == [4, 9]
    with pytest.raises(ValueError, match="row 9, column item_text: expected a text, found nothing"):
        list(read_pair_parts(file, skip_bad=1, rows=4))
    with pytest.raises(ValueError, match="no column 'item_id'.*columns: query, item_text, label"):
        list(read_pair_parts(file, None, lambda ids: {}, rows=4))
    pl.DataFrame({"query": ["lamp"] * 5, "item_id": ["a", "b", "c", "d", "e"]}).write_parquet(file)
    known = list(read_pair_parts(file, None, lambda ids: {"e": {"id": "e"}}, rows=2))
    assert [part.unknown_items for part in known] == [2, 2, 0]
    with pytest.raises(ValueError, match="none of the item ids is in the catalogue, such as 'e'"):
        list(read_pair_parts(file, None, lambda ids: {}, rows=2))


# ---- judging


def test_each_distinct_pair_is_judged_once_and_the_file_is_as_without_workers(judge: Path, tmp_path: Path) -> None:
    whole, parted = pairs_file(tmp_path / "whole.parquet"), pairs_file(tmp_path / "parted.parquet")
    asked = bulk(judge, parted, rows=8)
    assert sum(asked.work(Here(2))) == asked.pending == 20 and asked.pairs == 30
    assert asked.store.counts() == {"ok": 20}
    said = asked.write(tmp_path / "parted.csv")
    one = bulk(judge, whole)
    assert sum(one.work(Here(2))) == 20
    one.write(tmp_path / "whole.csv")
    assert (tmp_path / "parted.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sum(said.tiers.values()) == 30 and not said.failures
    assert sum(bulk(judge, parted).work(Here(2))) == 0  # by content: nothing is judged again


def test_what_came_back_stays_when_the_run_breaks_off(
    judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.api.judging.FIRST", 5)
    monkeypatch.setattr("goodrate.api.judging.BLOCK", 5)
    asked = bulk(judge, pairs_file(tmp_path / "pairs.parquet"))
    with pytest.raises(KeyboardInterrupt):
        list(asked.work(Broken(1)))
    assert asked.store.counts() == {"ok": 5}
    assert sum(asked.work(Here(1))) == 15


def test_reasons_are_added_to_stored_verdicts_that_are_not_judged_again(judge: Path, tmp_path: Path) -> None:
    asked = bulk(judge, pairs_file(tmp_path / "pairs.parquet"))
    list(asked.work(Here(1)))
    pairs = [pair for pair in next(iter(read_pair_parts(asked.path))).pairs if pair is not None]
    before = JudgeRun.plan(asked.judge, asked.store, pairs).verdicts()
    asked.options = {"reasons": True}
    assert sum(asked.work(Here(1))) == 20
    after = JudgeRun.plan(asked.judge, asked.store, pairs).verdicts()
    assert [one.probabilities for one in after] == [one.probabilities for one in before]
    assert all(one.explanation is not None and one.explanation.text for one in after)


# ---- items of an index


def test_workers_encode_an_index_to_the_vectors_of_a_run_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.retrieval.indexing.ENCODE_ROWS", 3)
    folder = tmp_path / "encoder"
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(folder)
    items = pl.DataFrame({"id": [f"i{n}" for n in range(10)], "title": [f"red lamp {n}" for n in range(10)]})
    plain = Index.create(tmp_path / "plain", items, folder)
    with Index.writing(tmp_path / "shared", folder) as index:
        report = encoding_on(index, Here(2)).add(items)
    assert (report.added, report.encoded) == (10, 10)
    shared = Index.open(tmp_path / "shared")
    (ids, vectors), (others, expected) = shared.store.vectors(), plain.store.vectors()
    assert ids == others and vectors == pytest.approx(expected, abs=1e-6)
    assert [hit.item["id"] for hit in shared.search("lamp 3", 3).results] == [
        hit.item["id"] for hit in plain.search("lamp 3", 3).results
    ]
    with Index.writing(tmp_path / "words") as index, pytest.raises(ValueError, match="--ray shares out the work of an"):
        encoding_on(index, Here(2))


# ---- entities


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tagger was distilled, and its catalogue."""
    folder = tmp_path_factory.mktemp("found")
    types = '[types.color]\nseeds = ["red", "blue"]\n[types.kind]\nseeds = ["lamp", "chair"]\n'
    (folder / "types.toml").write_text(types, encoding="utf-8")
    titles = [f"The {kind} in {color}" for color in ("red", "blue", "green") for kind in ("lamp", "chair", "desk")]
    pl.DataFrame({"id": [f"i{n}" for n in range(9)], "title": titles}).write_csv(folder / "items.csv")
    overrides = ["rounds=1", "folds=1", "tagger.updates=10", "kept=1.0"]
    gr.understand(gr.read_catalog(folder / "items.csv"), folder / "found", types=folder / "types.toml",
                  overrides=overrides)  # fmt: skip
    return folder


def test_workers_find_the_entities_of_a_run_without_them_and_go_on_where_they_broke_off(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, tagger = gr.read_catalog(found / "items.csv"), found / "found" / "tagger"
    whole = gr.understand(items, tmp_path / "whole", tagger=tagger).entities
    monkeypatch.setattr(entities, "AT_ONCE", 2)
    with pytest.raises(KeyboardInterrupt):
        gr.understand(items, tmp_path / "shared", tagger=tagger, cluster=Broken(1))
    assert len(list((tmp_path / "shared" / "tagged").iterdir())) == 1
    told: list[tuple[int, int]] = []
    shared = gr.understand(items, tmp_path / "shared", tagger=tagger, cluster=Here(2),
                           progress=lambda what, done, total: told.append((done, total)))  # fmt: skip
    assert shared.entities.equals(whole) and len(whole)
    assert told[0] == (3, 9) and told[-1] == (9, 9)  # the block of one text was kept
    assert not (tmp_path / "shared" / "tagged").exists()


# ---- labels of a language model


def test_workers_ask_and_this_program_keeps_what_they_were_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("goodrate.bulk.asking.QUESTIONS", 4)
    pairs = tmp_path / "pairs.csv"
    pl.DataFrame({"query": ["lamp"] * 10, "item_text": [f"lamp {n}" for n in range(10)]}).write_csv(pairs)
    answer = json.dumps({"label": "3", "reason": "a lamp"})
    with chat_server(lambda body, number: "what?" if number == 0 else answer) as server:
        task = label_task(pairs, ItemSource(), "graded_0_3")
        asked = Endpoint(server.url, "big", concurrency=1, answers=tmp_path / "answers.sqlite")
        assert ask_on(Here(2), task, asked) == 10
        assert len(server.requests) == 11  # the first answer could not be read
        with opened_asker(asked) as asker:
            done = task.ask(asker)
        assert len(server.requests) == 11 and done.counts["3"] == 10
        assert ask_on(Here(2), task, asked) == 0
        capped = Endpoint(server.url, "big", max_tokens_total=7000, concurrency=1, answers=tmp_path / "other.sqlite")
        ask_on(Here(4), task, capped)  # in one process that is worker 1 of 4: a quarter of the tokens is its own
        assert len(server.requests) - 11 == 2


# ---- addresses


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("local", Place(None)), ("local:3", Place(None, 3)), ("auto", Place("auto")),
        ("head:6379", Place("head:6379")), ("ray://10.0.0.5:10001", Place("ray://10.0.0.5:10001")),
    ],
)  # fmt: skip
def test_places(text: str, place: Place) -> None:
    assert Place.of(text) == place


@pytest.mark.parametrize("text", ["", "local:", "local:0", "local:x", "head", "http://head:80", "head:port", "h:1/x"])
def test_what_is_no_place_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="expected local, local:N with N workers, auto for a cluster"):
        Place.of(text)


def test_nobody_at_the_address_and_no_ray(
    judge: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_file(tmp_path / "pairs.parquet")
    command = ("judge", pairs, "--model", judge, "--out", tmp_path / "verdicts.csv", "--ray")
    code, _, err = run(*command, "127.0.0.1:9")
    assert code == 2 and "--ray 127.0.0.1:9: no Ray cluster answers there (Connection refused)" in err
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    code, _, err = run(*command, "local:2")
    assert code == 2 and '--ray needs ray: pip install "goodrate[ray]"' in err
    assert run(*command[:4], "--calibrate", "--ray", "local")[0] == 2
    assert not (tmp_path / "verdicts.csv").exists()
