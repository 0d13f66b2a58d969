"""Run folders: what a run was, what it measured, which stages are done. Nothing in them is ever half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from goodrate.folder_lock import is_lock_file, one_writer
from goodrate.settings import NULL, decides_result, read_toml, sections, settings_hash, to_toml
from goodrate.strict_json import dumps, read_object

RECORDED_PACKAGES = (
    "goodrate", "torch", "transformers", "tokenizers", "accelerate", "peft", "sentence-transformers", "lancedb",
    "polars", "numpy", "ir-measures", "scikit-learn",
)  # fmt: skip
OTHER_FOLDERS = {  # a file that tells what else a folder is
    "store.json": "a search index",
    "judge.json": "a judge",
    "ranker.json": "a click ranker",
    "modules.json": "a text encoder",
    "workbench.sqlite": "a workbench",
}
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # of torchrun and MPIs, as in accelerate


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a whole file beside `path` and rename it there: a reader sees the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())  # mkstemp makes files that only the owner can read
        os.replace(beside, path)
    except OSError as error:
        raise _named(error, path) from None
    finally:
        Path(beside).unlink(missing_ok=True)


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Which file lies at a path: another after every write_atomic; None for none. One stat call."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _named(error: OSError, path: Path) -> OSError:
    """The error with the file or folder that could not be written: a full disk does not say whose."""
    if error.strerror and not error.filename:
        error.filename = str(path)
    return error


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, put in the place of `path` when the block ends without an error.

    A folder that was at `path` stays until the new one is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield beside
        _open_up(beside)
        _swap_in(beside, path)
    except OSError as error:
        raise _named(error, path) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Give a folder, and the files that a library (safetensors) made readable to the owner alone, the umask's modes."""
    mask = _umask()
    os.chmod(folder, 0o777 & ~mask)
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o777 == 0o600:
            os.chmod(file, 0o666 & ~mask)


def _swap_in(new: Path, path: Path) -> None:
    """Rename `new` to `path`, moving an old folder aside first because a rename cannot replace a filled one.

    Processes of one run that end together put the same folder there one after the other.
    """
    old = path.with_name(f"{new.name}.old")
    while True:
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, old)
        try:
            os.replace(new, path)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold a run's folder for writing until the block ends; see one_writer. Raises FolderBusy where another run has it.

    Of a run of several processes the first one holds it for all: the others take nothing. A folder that was made for
    the lock is removed when the block ends in an error before anything was written.
    """
    folder = Path(folder)
    if not _is_first_process():
        yield
        return
    new = not folder.exists()
    with one_writer(folder):
        try:
            yield
        except BaseException:
            if new:
                _remove_unwritten(folder)
            raise


def _remove_unwritten(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock."""
    entries = list(folder.iterdir())
    if all(map(is_lock_file, entries)):
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            for entry in entries:
                entry.unlink(missing_ok=True)
            folder.rmdir()


def _is_first_process() -> bool:
    """Whether this is the only process of a run, or its first; by the names that launchers tell the rank in."""
    told = (os.environ[name] for name in RANKS if os.environ.get(name, "").isdigit())
    return int(next(told, "0")) == 0


class RunFolder:
    """One run on disk.

    settings.toml   the resolved settings        versions.json   seed, commit, python and package versions
    metrics.jsonl   one JSON object per record   stages/         one marker per finished stage, with its payload
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._metrics = self.path / "metrics.jsonl"

    def begin(self, settings: BaseModel, seed: int, **facts: Any) -> None:
        """Write what the run is, or check that the folder already holds this very run (then it resumes).

        facts: further values for versions.json (precision, threads, device). Raises ValueError with the settings
        that differ when another run lives here.
        """
        self.require_same(settings)
        versions = {"seed": seed, "settings_hash": settings_hash(settings), **code_versions(), **facts}
        write_atomic(self.path / "settings.toml", to_toml(settings))
        write_atomic(self.path / "versions.json", dumps(versions, indent=2, sort_keys=True) + "\n")

    def _require_no_other(self) -> None:
        """ValueError for a folder that is something else: a run would lie among its files."""
        for name, what in OTHER_FOLDERS.items():
            if (self.path / name).exists():
                raise ValueError(f"{self.path} is {what}, for its {name}; choose another --out for the run")

    def require_same(self, settings: BaseModel) -> None:
        """ValueError naming the settings that differ from those the folder was made with; nothing is written.

        Asked first, so that `begin` can wait until nothing else can fail. A setting that the folder does not know,
        because it is newer, must have its default: by contract that changes nothing. One inside a section that the
        folder holds as null is not newer. Settings of MEMORY_AND_SPEED may differ.
        """
        resolved = self.path / "settings.toml"
        if not resolved.is_file():
            self._require_no_other()
            return
        held = _flat(read_toml(resolved))
        asked = _flat(json.loads(settings.model_dump_json()))
        explicit = _flat(json.loads(settings.model_dump_json(exclude_defaults=True)))
        newer = {key for key in asked.keys() - held.keys() - explicit.keys() if not sections(key) & held.keys()}
        every = filter(decides_result, (held.keys() | asked.keys()) - newer)
        differing = sorted(key for key in every if held.get(key, NULL) != asked.get(key, NULL))
        if differing:
            changes = ", ".join(f"{key} {held.get(key)!r} -> {asked.get(key)!r}" for key in differing[:5])
            raise ValueError(f"{self.path} holds another run ({changes}); choose another --out or remove the folder")

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the run atomically and return its path."""
        write_atomic(self.path / name, content)
        return self.path / name

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record to metrics.jsonl as one line; what is no number (NaN) is null there."""
        line = (dumps(record) + "\n").encode()
        with self._metrics.open("ab+") as file:
            if file.tell() and not _ends_in_newline(file):
                line = b"\n" + line  # a kill cut the last line; it stays unreadable, the new one does not
            file.write(line)

    def metrics(self) -> list[dict[str, Any]]:
        """All whole records of metrics.jsonl, in order, null as NaN; a line cut off by a kill is left out."""
        if not self._metrics.is_file():
            return []
        text = self._metrics.read_text(encoding="utf-8", errors="replace")  # of a line that is not whole, or not ours
        records = (_record(line) for line in text.split("\n"))
        return [record for record in records if record is not None]

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite metrics.jsonl with the records to keep: a run resumed at update u drops what came after u."""
        lines = [dumps(record) for record in self.metrics() if keep(record)]
        write_atomic(self._metrics, "".join(f"{line}\n" for line in lines))

    def stage_done(self, name: str) -> bool:
        """Whether the stage was marked done."""
        return self._marker(name).is_file()

    def mark_done(self, name: str, payload: Mapping[str, Any] | None = None) -> None:
        """Mark a stage as finished, with what later stages need to know of it (JSON)."""
        write_atomic(self._marker(name), dumps(dict(payload or {}), indent=2) + "\n")

    def stage_payload(self, name: str) -> dict[str, Any]:
        """What mark_done wrote. FileNotFoundError when the stage is not done."""
        if not self.stage_done(name):
            raise FileNotFoundError(f"stage {name!r} of {self.path} is not done")
        return read_object(self._marker(name))

    def _marker(self, name: str) -> Path:
        """The stage's file. Names are plain words, so that none can leave the folder."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError(f"stage name {name!r}: expected letters, digits, and _ . - only")
        return self.path / "stages" / f"{name}.json"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, with None written as the word null as in settings.toml."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = NULL if value is None else value
    return flat


def _ends_in_newline(file: Any) -> bool:
    """Whether the last byte of a non-empty binary file is a newline; leaves the position at the end."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _record(line: str) -> dict[str, Any] | None:
    """The JSON object on a line, None when the line is cut off, blank, or nothing that a run logs."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return {k: math.nan if v is None else v for k, v in record.items()} if isinstance(record, dict) else None


def code_versions() -> dict[str, Any]:
    """Commit of this source tree (None when installed without git), python, platform and package versions."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _installed(name) for name in RECORDED_PACKAGES},
    }


def _installed(name: str) -> str | None:
    """The installed version, None when the package is absent. Imports nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """HEAD, with "+changes" when tracked files differ from it; None where this very file is not under git."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # site-packages inside somebody else's repository is not ours
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
