"""Ctrl-C: exit code 130, one line, no traceback, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from goodrate.models.encoder import Encoder
from goodrate.retrieval.store import Store
from goodrate.run_folder import RunFolder
from tiny_models import causal_lm, tokenizer_file

MAIN = "from goodrate.cli import main; main()"
# The model of either command, standing still while it is loaded.
SLOW_LOADING = (
    "import sys, time, goodrate.models.encoder as e, goodrate.models.causal_lm as c\n"
    "def load(*_, **__): print('LOADING', flush=True); time.sleep(600)\n"
    "e.Encoder.load = c.CausalLM.load = load\n"
)
# A training that stands still after three records until there is a file "go".
WAITING = (
    "import pathlib, time, goodrate.run_folder as r\n"
    "log = r.RunFolder.log\n"
    "def waiting(self, record):\n"
    "    log(self, record)\n"
    "    while record['update'] == 3 and not (self.path.parent / 'go').exists(): time.sleep(0.05)\n"
    "r.RunFolder.log = waiting\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 1,600 items, labels, a slow encoder and a tiny base."""
    path = tmp_path_factory.mktemp("interrupt")
    ids = [f"i{n}" for n in range(1600)]
    pl.DataFrame({"id": ids, "title": [f"red steel lamp for a desk {n}" for n in range(1600)]}).write_csv(
        path / "items.csv"
    )
    nouns = ("lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock")
    rows = [(f"{noun} of {other}", f"i{n}", n + 1) for noun in nouns for other in nouns[:2] for n in range(4)]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(path / "labels.csv")
    Encoder.create(tokenizer_file(path), hidden=128, layers=6, heads=2).save(path / "encoder")
    causal_lm().save(path / "base")
    return path


def commands(folder: Path, out: Path) -> dict[str, list[str]]:
    """The arguments of either command."""
    train = ["train", "judge_sft", "--out", str(out / "run"), "--set", f"model={folder / 'base'}"]
    settings = {"data.catalog": folder / "items.csv", "data.judgements": folder / "labels.csv"}
    settings |= {"batch_size": 8, "fit.updates": 150, "fit.checkpoint_updates": 20, "fit.log_every": 1}
    settings |= {"format.max_new_tokens": 8, "fit.precision": "fp32", "epochs": 100}
    return {
        "index": ["index", str(folder / "items.csv"), "--out", str(out / "ix"), "--encoder", str(folder / "encoder")],
        "train": train + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")],
    }


def interrupt(code: str, arguments: list[str], when: Callable[[subprocess.Popen[str]], bool]) -> tuple[int, str]:
    """Start a command, press Ctrl-C when the time has come; its exit code and what it said."""
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 600
        while not when(process):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said
    finally:
        process.kill()
        process.wait()


def says(text: str) -> Callable[[subprocess.Popen[str]], bool]:
    """Waits for a line with this text."""

    def wait(process: subprocess.Popen[str]) -> bool:
        assert process.stdout is not None
        return text in process.stdout.readline()

    return wait


@pytest.mark.parametrize("verb", ["index", "train"])
def test_while_a_model_loads(folder: Path, tmp_path: Path, verb: str) -> None:
    code, said = interrupt(SLOW_LOADING + MAIN, commands(folder, tmp_path)[verb], says("LOADING"))
    lines = [line for line in said.splitlines() if line.strip()]
    assert code == 130 and [line.split(";")[0] for line in lines] == ["interrupted"], said


def test_index_keeps_what_it_wrote_and_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = commands(folder, tmp_path)["index"]
    code, said = interrupt(MAIN, arguments, says("encoding and writing: 512"))
    assert code == 130 and said.count("interrupted; ") == 1 and "Traceback" not in said
    kept = len(Store.open(tmp_path / "ix"))
    assert 512 <= kept < 1600 and f"interrupted; {kept:,} items can be searched" in said
    again = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and f"{1600 - kept:,} added" in again.stderr
    assert len(Store.open(tmp_path / "ix")) == 1600


def test_train_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path) -> None:
    arguments = commands(folder, tmp_path)["train"]
    records = tmp_path / "run" / "metrics.jsonl"

    def ten_updates(process: subprocess.Popen[str]) -> bool:
        time.sleep(0.01)
        return records.is_file() and len(records.read_bytes().splitlines()) >= 10

    code, said = interrupt(MAIN, arguments, ten_updates)
    assert code == 130 and said.count("interrupted; the same command goes on") == 1 and "Traceback" not in said
    assert not (tmp_path / "run" / "judge").exists()
    again = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    updates = [record["update"] for record in RunFolder(tmp_path / "run").metrics() if "update" in record]
    assert updates == list(range(1, 151)) and (tmp_path / "run" / "judge").is_dir()


def test_a_second_training_on_a_folder_is_refused_and_the_first_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = commands(folder, tmp_path)["train"]
    records = tmp_path / "run" / "metrics.jsonl"
    first = subprocess.Popen([sys.executable, "-c", WAITING + MAIN, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 600
        while not (records.is_file() and len(records.read_bytes().splitlines()) >= 3):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        second = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, text=True, timeout=600)
        told = f"goodrate: {tmp_path / 'run'} is being written by process {first.pid} on "
        assert (second.returncode, second.stdout) == (2, "") and second.stderr.strip().startswith(told)
        assert len(second.stderr.strip().splitlines()) == 1
        (tmp_path / "go").touch()
        said = first.communicate(timeout=600)[1]
        assert first.returncode == 0, said
    finally:
        first.kill()
        first.wait()
    updates = [record["update"] for record in RunFolder(tmp_path / "run").metrics()]
    assert updates == list(range(1, 151)) and (tmp_path / "run" / "judge").is_dir()
