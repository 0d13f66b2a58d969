"""Bulk work by Ray: the numbers of a run without it, with one, two and four workers, and when one of them is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from calling import Run, called
from goodrate.api.bulk import ray_cluster
from goodrate.api.judging import verdict_store
from goodrate.bulk import judging
from goodrate.bulk.cluster import Cluster, require_package

ray = pytest.importorskip("ray")
from goodrate.relevance.constraint_judge import Card, write_constraint_judge  # noqa: E402

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
