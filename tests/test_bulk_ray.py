"""Bulk work by Ray: the numbers of a run without it, with one, two and four workers, and when one of them is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import goodrate as gr
from calling import Run, called
from chat_server import chat_server
from goodrate.api.bulk import ray_cluster
from goodrate.api.judging import verdict_store
from goodrate.bulk import judging
from goodrate.bulk.cluster import Cluster, require_package

ray = pytest.importorskip("ray")
from goodrate.models.encoder import Encoder  # noqa: E402
from goodrate.relevance.constraint_judge import Card, write_constraint_judge  # noqa: E402
from tiny_models import tokenizer_file  # noqa: E402

PAIRS = 500


class Mortal(judging.JudgeWorker):
    """A judge whose process is killed at the second block that any has; it writes down each block that it begins."""

    def __init__(self, folder: str, reasons: bool) -> None:
        super().__init__(folder, reasons)
        self.log = Path(folder) / "begun"

    def __call__(self, block: Any) -> Any:
        with self.log.open("a") as log:
            log.write(block["key"][0].as_py() + "\n")
        if len(self.log.read_text().splitlines()) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(block)


class Refusing:
    def __call__(self, block: Any) -> Any:
        raise ValueError("no model on this worker")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")  # workers start with what is set here
        yield from started()


def started() -> Iterator[Cluster]:
    with ray_cluster("local:4") as opened:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
        yield opened


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge, pairs of which some are alike, and nothing judged."""
    folder = tmp_path_factory.mktemp("bulk")
    write_constraint_judge(folder / "judge", Card(scale="four_level", slope=2.0, cuts=(-1.0, 0.2, 0.9)))
    words = ["straw", "lid", "handle", "strap"]
    queries = [f"bottle {n // 40} without {words[n % 4]}" for n in range(PAIRS)]
    texts = [f"bottle with {words[n % 3]} {n % 450}" for n in range(PAIRS)]
    pl.DataFrame({"query": queries, "item_text": texts}).write_parquet(folder / "pairs.parquet")
    return folder


def judged(shop: Path, run: Run, name: str, *options: object) -> tuple[bytes, dict[str, int]]:
    """The file of verdicts, and how many are stored."""
    folder = shop / name
    out = folder / "verdicts.jsonl"
    code, _, err = run("judge", shop / "pairs.parquet", "--model", shop / "judge", "--out", out, *options)
    assert code == 0, err
    with verdict_store(folder / "verdicts.sqlite") as store:
        return out.read_bytes(), store.counts()


def test_one_two_and_four_workers_give_the_verdicts_of_a_run_without_ray_and_a_kill_costs_a_block(
    shop: Path, cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = judged(shop, run, "alone")
    for count in (1, 4):
        assert judged(shop, run, f"workers {count}", "--ray", f"local:{count}") == expected
    monkeypatch.setattr(judging, "JudgeWorker", Mortal)
    assert judged(shop, run, "killed", "--ray", "local:2") == expected
    begun = (shop / "judge" / "begun").read_text().splitlines()
    assert (len(begun), len(set(begun))) == (5, 4)  # four blocks; the one whose worker was killed was begun again


def test_one_and_two_workers_encode_an_index_to_the_vectors_of_a_run_without_ray(
    cluster: Cluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.retrieval.indexing.ENCODE_ROWS", 3)
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "encoder")
    pl.DataFrame({"id": [f"i{n}" for n in range(10)], "title": [f"red lamp {n}" for n in range(10)]}).write_csv(
        tmp_path / "items.csv"
    )

    def vectors(name: str, *options: str) -> tuple[list[str], list[list[float]]]:
        told = ("--out", tmp_path / name, "--encoder", tmp_path / "encoder", *options)
        code, _, err = run("index", tmp_path / "items.csv", *told)
        assert code == 0, err
        ids, found = gr.Index.open(tmp_path / name).store.vectors()
        return ids, found.tolist()

    expected = vectors("alone")
    assert len(expected[0]) == 10
    for count in (1, 2):
        assert vectors(f"by{count}", "--ray", f"local:{count}") == expected


def test_one_and_two_workers_find_the_entities_of_a_run_without_ray(
    cluster: Cluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.understanding.entities.AT_ONCE", 2)
    types = '[types.color]\nseeds = ["red", "blue"]\n[types.kind]\nseeds = ["lamp", "chair"]\n'
    (tmp_path / "types.toml").write_text(types, encoding="utf-8")
    titles = [f"The {kind} in {color}" for color in ("red", "blue", "green") for kind in ("lamp", "chair", "desk")]
    pl.DataFrame({"id": [f"i{n}" for n in range(9)], "title": titles}).write_csv(tmp_path / "items.csv")
    small = ["--set", "rounds=1", "--set", "tagger.updates=10", "--set", "kept=1.0"]
    code, _, err = run("understand", tmp_path / "items.csv", "--types", tmp_path / "types.toml", *small,
                       "--out", tmp_path / "found")  # fmt: skip
    assert code == 0, err

    def entities(name: str, *options: str) -> dict[str, bytes]:
        out = tmp_path / name
        told = ("--tagger", tmp_path / "found" / "tagger", "--out", out, *options)
        code, _, err = run("understand", tmp_path / "items.csv", *told)
        assert code == 0, err
        return {file.name: file.read_bytes() for file in sorted(out.iterdir()) if file.is_file()}

    expected = entities("alone")
    assert "catalog.parquet" in expected and len(pl.read_parquet(tmp_path / "alone" / "catalog.parquet")) == 9
    for count in (1, 2):
        assert entities(f"by{count}", "--ray", f"local:{count}") == expected


def test_one_and_two_workers_label_as_a_run_without_ray(
    cluster: Cluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.bulk.asking.QUESTIONS", 4)
    pairs = tmp_path / "pairs.csv"
    pl.DataFrame({"query": ["lamp"] * 10, "item_text": [f"lamp {n}" for n in range(10)]}).write_csv(pairs)

    def answer(body: Any, number: int) -> str:
        """A label that depends on the item's number alone."""
        asked = body["messages"][-1]["content"]
        return json.dumps({"label": str(sum(map(int, re.findall(r"lamp (\d)", asked))) % 4), "reason": "a lamp"})

    with chat_server(answer) as server:

        def labels(name: str, *options: str) -> list[tuple[Any, ...]]:
            out = tmp_path / name / "labels.csv"
            code, _, err = run("label", pairs, "--endpoint", server.url, "--model", "big", "--scale", "graded_0_3",
                               "--out", out, *options)  # fmt: skip
            assert code == 0, err
            return pl.read_csv(out).rows()

        expected = labels("alone")
        assert len(expected) == 10 and len({row[-1] for row in expected} | {str(row) for row in expected}) > 4
        asked = len(server.requests)
        for count in (1, 2):
            assert labels(f"by{count}", "--ray", f"local:{count}") == expected
        assert len(server.requests) == 3 * asked


def test_what_a_worker_raises_is_raised_here(cluster: Cluster) -> None:
    import pyarrow as pa

    with pytest.raises(ValueError, match="^no model on this worker$"):
        list(cluster.stream([pa.table({"x": [1]})], Refusing, ()))


def test_workers_without_the_package_or_with_another_version_are_refused(cluster: Cluster) -> None:
    here = metadata.version("goodrate")
    require_package("head:6379")
    with pytest.raises(ValueError, match=rf'head:6379: its workers have no goodrat; .*"goodrate\[ray\]=={here}"'):
        require_package("head:6379", "goodrat")
    with pytest.raises(ValueError, match=f"its workers have polars .*, this is {here}"):
        require_package("head:6379", "polars")
