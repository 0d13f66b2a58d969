"""Run folders: atomic files, resume, stage markers, cut-off metrics."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from goodrate import run_folder
from goodrate.learning.fit import FitSettings
from goodrate.run_folder import RunFolder, new_folder, run_lock, write_atomic
from goodrate.settings import load, settings_hash


class Run(BaseModel):
    seed: int = 1
    note: str | None = None


def test_begin_writes_settings_and_versions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    folder.begin(Run(seed=9), seed=9, threads=2)
    assert load(Run, folder.path / "settings.toml") == Run(seed=9)
    about = json.loads((folder.path / "versions.json").read_text())
    assert (about["seed"], about["threads"], about["settings_hash"]) == (9, 2, settings_hash(Run(seed=9)))
    assert about["versions"]["polars"] and "commit" in about


def test_the_same_run_resumes_and_another_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(Run(seed=1), seed=1)
    folder.mark_done("base", {"updates": 5})
    again = RunFolder(tmp_path)
    again.begin(Run(seed=1), seed=1)
    assert again.stage_done("base") and again.stage_payload("base") == {"updates": 5}
    with pytest.raises(ValueError, match=r"holds another run \(note 'null' -> 'x', seed 1 -> 2\)"):
        again.begin(Run(seed=2, note="x"), seed=2)


@pytest.mark.parametrize(("name", "what"), list(run_folder.OTHER_FOLDERS.items()))
def test_a_run_does_not_begin_among_the_files_of_something_else(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"is {what}, for its {name}; choose another --out"):
        RunFolder(tmp_path).begin(Run(), seed=1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_asking_whether_a_folder_is_this_run_writes_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new")
    folder.require_same(Run(seed=1))
    assert not [*folder.path.iterdir()]
    folder.begin(Run(seed=1), seed=1)
    with pytest.raises(ValueError, match="holds another run"):
        folder.require_same(Run(seed=2))


def test_what_is_no_number_is_null_on_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"update": 1, "label_margin": math.nan, "kl": 0.5})
    folder.keep_metrics(lambda record: True)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"update": 1, "label_margin": None, "kl": 0.5}
    (record,) = folder.metrics()
    assert math.isnan(record["label_margin"]) and record["kl"] == 0.5


class Section(BaseModel):
    samples: int = 4


class Newer(Run):
    rate: float = 0.5
    part: Section | None = Section()


def test_a_folder_from_before_a_setting_came_resumes_where_it_has_its_default(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin(Run(seed=1), seed=1)
    with pytest.raises(ValueError, match=r"holds another run \(part.samples None -> 5, rate None -> 0.6\)"):
        RunFolder(tmp_path).begin(Newer(seed=1, rate=0.6, part=Section(samples=5)), seed=1)
    RunFolder(tmp_path).begin(Newer(seed=1), seed=1)
    with pytest.raises(ValueError, match=r"holds another run \(part.samples 4 -> None\)"):
        RunFolder(tmp_path).begin(Newer(seed=1, part=None), seed=1)


def test_a_section_that_the_folder_holds_as_null_is_not_newer(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin(Newer(seed=1, part=None), seed=1)
    with pytest.raises(ValueError, match=r"holds another run \(part.samples None -> 4\)"):
        RunFolder(tmp_path).begin(Newer(seed=1), seed=1)


class Paced(Run):
    micro_tokens: int = 64
    fit: FitSettings = FitSettings(updates=3)


def test_settings_of_memory_and_speed_may_be_others_on_resume(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin(Paced(), seed=1)
    other = Paced(micro_tokens=8, fit=FitSettings(updates=3, log_every=1, checkpoint_seconds=5.0, tensorboard=True))
    RunFolder(tmp_path).begin(other, seed=1)
    assert load(Paced, tmp_path / "settings.toml") == other
    for field, value in {"precision": "fp32", "updates": 4, "seed": 9}.items():  # these change the result
        with pytest.raises(ValueError, match=rf"holds another run \(fit.{field} "):
            RunFolder(tmp_path).begin(Paced(fit=FitSettings(**{"updates": 3, field: value})), seed=1)


def in_another_process(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Asks for the lock of a run's folder."""
    code = "import sys; from goodrate.run_folder import run_lock\nwith run_lock(sys.argv[1]): print('held')"
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})


def test_the_first_process_holds_a_run_for_all_of_its_processes(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        assert f"is being written by process {os.getpid()} on" in in_another_process(tmp_path).stderr
        assert in_another_process(tmp_path, RANK="0").returncode == 1
        assert in_another_process(tmp_path, RANK="1").stdout == "held\n"  # of this very run
        assert in_another_process(tmp_path, OMPI_COMM_WORLD_RANK="3").stdout == "held\n"
    assert in_another_process(tmp_path).stdout == "held\n"


def test_a_run_that_fails_before_it_writes_leaves_no_folder(tmp_path: Path) -> None:
    for written in (False, True):
        with pytest.raises(KeyError), run_lock(tmp_path / "a" / "run"):
            if written:
                RunFolder(tmp_path / "a" / "run").begin(Run(), seed=1)
            raise KeyError
        assert (tmp_path / "a" / "run").exists() == written
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyError), run_lock(tmp_path / "mine"):
        raise KeyError
    assert (tmp_path / "mine").is_dir()


def test_stages(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.stage_done("judge")
    with pytest.raises(FileNotFoundError, match="stage 'judge'"):
        folder.stage_payload("judge")
    for name in ("../judge", "", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="stage name"):
            folder.stage_done(name)


def test_metrics_survive_a_cut_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.metrics() == []
    folder.log({"update": 1, "loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 2, "lo')  # killed while writing
    assert [record["update"] for record in folder.metrics()] == [1]
    folder.log({"update": 2, "loss": 0.25})
    folder.log({"update": 3, "loss": 0.125})
    assert [record["update"] for record in folder.metrics()] == [1, 2, 3]
    folder.keep_metrics(lambda record: record["update"] <= 2)
    assert [record["update"] for record in folder.metrics()] == [1, 2]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*report\.json'"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.json"]
    with pytest.raises(OSError, match=r"No space left on device: '.*folder'"), new_folder(tmp_path / "folder"):
        fail()
    assert os.listdir(tmp_path) == ["report.json"]


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"\x00\x01")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644  # 666 less the mask 022
    assert (tmp_path / "file").read_bytes() == b"\x00\x01"


def test_files_of_a_new_folder_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with new_folder(tmp_path / "model") as folder:
            (folder / "inner").mkdir()
            for name, mode in (("model.safetensors", 0o600), ("inner/private", 0o600), ("run.sh", 0o755)):
                (folder / name).touch()
                (folder / name).chmod(mode)
    finally:
        os.umask(old)
    names = ("", "inner", "model.safetensors", "inner/private", "run.sh")
    modes = {name: (tmp_path / "model" / name).stat().st_mode & 0o777 for name in names}
    # 777 and 666 less the mask 027; a mode that somebody chose stays
    assert modes == {"": 0o750, "inner": 0o750, "model.safetensors": 0o640, "inner/private": 0o640, "run.sh": 0o755}


def test_new_folder_replaces_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "judge"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "b").write_text("2")
        raise RuntimeError
    assert os.listdir(target) == ["a"]
    with new_folder(target) as folder:
        (folder / "c").write_text("3")
    assert os.listdir(target) == ["c"] and os.listdir(tmp_path) == ["judge"]


def test_processes_that_end_together_put_one_folder_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename, others = tmp_path / "judge", os.replace, iter(range(2))

    def replace(source: Path, to: Path) -> None:
        if Path(to) == target and next(others, None) is not None:  # another process was first, twice
            target.mkdir()
            (target / "weights").write_text("the same")
        rename(source, to)

    monkeypatch.setattr(os, "replace", replace)
    with new_folder(target) as folder:
        (folder / "weights").write_text("the same")
    assert (target / "weights").read_text() == "the same" and os.listdir(tmp_path) == ["judge"]


def test_commit_names_this_repository_or_nothing() -> None:
    commit = run_folder._commit()
    assert commit is None or len(commit.removesuffix("+changes")) == 40
