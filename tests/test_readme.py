"""The README's block "On your own data", line by line, on a catalogue of our own making with foreign column names."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import goodrate as gr
from chat_server import chat_server

ROOT = Path(__file__).parents[1]
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LM_ID = "google/gemma-3-270m"
ENDPOINT = "http://localhost:8000/v1"
GRADES = {"irrelevant": "0", "mismatch": "1", "related": "2", "excellent": "3"}
# Budgets of a test: the lines are the README's, the updates are not.
SHORT = {
    "judge_sft": ["--set", "fit.updates=80", "--set", "batch_size=8", "--set", "data.take=400"],
    "judge_grpo": ["--set", "fit.updates=1", "--set", "rollouts.prompts=4", "--set", "rollouts.group_size=4"],
}
# The lines one after another without starting Python for each, which takes longer than most of them.
ONE_PROCESS = """
import json, sys
from goodrate.cli import main
for words in json.load(sys.stdin):
    sys.argv = ["goodrate", *words]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            print("failed:", *words, file=sys.stderr)
            raise
    print("line done", flush=True)
"""


def block(language: str) -> list[str]:
    """The lines of the first such code block after the heading."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## On your own data", 1)[1]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found
    return found.group(1).strip().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """catalog.csv, ratings.csv, pairs.csv and log.csv of a small generated shop, an encoder, and the configs."""
    from goodrate.models.encoder import Encoder
    from goodrate.models.nano import nano_folder

    folder = tmp_path_factory.mktemp("own")
    shop = gr.generate_shop(items=250, queries=60, seed=11)
    names = {"id": "docid", "title": "name"}
    shop.catalog.frame.rename(names).write_csv(folder / "catalog.csv")
    ratings = shop.judgement_frame().rename({"item_id": "docid", "label": "rating"}).drop("query_id")
    ratings = ratings.with_columns(pl.col("rating").replace_strict(GRADES))
    ratings.write_csv(folder / "ratings.csv")
    ratings.select("query", "docid").head(12).write_csv(folder / "pairs.csv")
    ratings.select("query").unique(maintain_order=True).head(5).write_csv(folder / "log.csv")
    Encoder.create(nano_folder() / "tokenizer.json", 32, 1).save(folder / "encoder")
    shutil.copytree(ROOT / "configs", folder / "configs")
    return folder


def words_of(line: str, endpoint: str = "") -> list[str]:
    """A line as arguments, models local ones (no hub is reached in tests) and budgets short."""
    local = {HUB_ID: "encoder", LM_ID: "nano", ENDPOINT: endpoint}
    words = [local.get(word, word) for word in shlex.split(line, comments=True)]
    return [*words[1:], *(SHORT.get(words[2], []) if words[1] == "train" else [])]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}


@pytest.mark.slow
def test_the_block_runs_line_by_line(folder: Path) -> None:
    lines = block("")
    assert all(line.startswith("goodrate ") for line in lines) and lines[-1].startswith("goodrate serve ")
    with chat_server(lambda body, number: '{"label": "2", "reason": "it is what was asked for"}') as server:
        done = subprocess.run(
            [sys.executable, "-c", ONE_PROCESS], input=json.dumps([words_of(line, server.url) for line in lines[:-1]]),
            cwd=folder, env=environment(), capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.stdout.count("line done") == len(lines) - 1
    labels = pl.read_csv(folder / "labels.csv")
    assert set(labels["rater"]) == {"model:NAME"} and len(labels) == len(pl.read_csv(folder / "to_label.csv"))
    verdicts = pl.read_csv(folder / "verdicts.csv")
    assert len(verdicts) == 12 and set(verdicts["status"]) == {"ok"} and verdicts["reason"].null_count() < 12
    assert (folder / "curves.png").is_file() and (folder / "runs/grpo/judge/judge.json").is_file()
    with Server(folder, words_of(lines[-1])) as address, urllib.request.urlopen(f"{address}/healthz") as answer:
        assert answer.status == 200 and b'"items":250' in answer.read()


class Server:
    """`goodrate serve` on a free port while the block lasts."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        code = "from goodrate.cli import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *words, "--port", "0"],
            cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> str:
        assert self._process.stderr is not None
        for line in self._lines():
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                return found.group(0)
        raise AssertionError("the server did not say where it listens")

    def _lines(self) -> Iterator[str]:
        end = time.monotonic() + 300
        assert self._process.stderr is not None
        while time.monotonic() < end and (line := self._process.stderr.readline()):
            yield line

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def test_the_python_block_is_the_library_s(folder: Path) -> None:
    """The names and arguments of the block exist; the quickstart notebook runs the same calls whole."""
    code = "\n".join(block("python")).replace(f'"{HUB_ID}"', '"encoder"').replace('"idx"', '"idx2"')
    code = code.replace('out="runs/sft"', 'out="runs/py", batch_size=4, fit={"updates": 2}')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "hybrid + judge" in done.stdout
