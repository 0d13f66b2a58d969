"""An index folder on S3: the table lies there, the small files beside it are mirrored in a folder of this process.

Every part of goodrate sees the mirror, a folder like any other; its name tells the address. What the engine commits is
one conditional put of S3 each, so a reader sees a commit or does not. Small files (store.json, what spelling and
suggestions know, rules) are fetched when an index is opened and when a writer's turn begins, and put back when it ends.
Credentials and endpoint come from the usual AWS_* variables.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goodrate.run_folder import write_atomic

SCHEME = "s3:"
FOLLOW_S = 2.0  # seconds between two looks of a reader at the small files
LAST = "store.json"  # put last and fetched last: a place without it is no index
_ADDRESS = re.compile(rf"^{SCHEME}/+(?P<place>[^/]+/.*?[^/]|[^/]+)/*$")
_LOCAL = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lance")
_mirrors = threading.Lock()
_seen: dict[Path, tuple[dict[str, tuple[int, int]], float]] = {}  # what lay at the address of a mirror, and when
writing: set[Path] = set()  # mirrors that this process holds for writing


def located(path: str | Path) -> Path:
    """The folder of an index: the path itself, or a mirror of s3://BUCKET/PATH with its small files.

    Raises OSError naming the address where it cannot be read, ValueError for an address without a path.
    """
    match = _ADDRESS.match(str(path))
    if match is None:
        return Path(path)
    if "/" not in match["place"]:
        raise ValueError(f"{SCHEME}//{match['place']}: expected a bucket and a path, as in s3://bucket/shop-index")
    with _mirrors:
        folder = _root() / SCHEME / match["place"]
        if not folder.is_dir():
            folder.mkdir(parents=True)
            pull(folder)
    return folder


def address(folder: str | Path) -> str | None:
    """s3://BUCKET/PATH of a mirror, None for a folder that is none."""
    _, marked, place = str(folder).partition(f"{os.sep}{SCHEME}{os.sep}")
    return f"{SCHEME}//{place}" if marked else None


def storage_options() -> dict[str, str]:
    """What the table's engine is told beside the AWS_* variables that it reads itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    plain = {"allow_http": "true"} if endpoint.startswith("http://") else {}
    return {"region": _region(), **({"endpoint": endpoint} if endpoint else {}), **plain}


def pull(folder: Path) -> None:
    """Fetch the small files of a mirror as they are there now; files that are gone there go."""
    there = _listed(folder)
    with _named(folder):
        for name in sorted(there, key=lambda name: name == LAST):
            with _files().open_input_file(f"{_place(folder)}/{name}") as file:
                content = bytes(file.read())
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                write_atomic(folder / name, content)
    for name in _own(folder).keys() - there.keys():
        (folder / name).unlink(missing_ok=True)
    _seen[folder] = there, time.monotonic()


def push(folder: Path, before: dict[str, str]) -> None:
    """Put the small files of a mirror back that are others than before (see hashes); remove those that are gone."""
    now = hashes(folder)
    with _named(folder):
        files, place = _files(), _place(folder)
        for name in sorted(now, key=lambda name: name == LAST):
            if before.get(name) != now[name]:
                with files.open_output_stream(f"{place}/{name}") as file:
                    file.write((folder / name).read_bytes())
        for name in before.keys() - now.keys():
            files.delete_file(f"{place}/{name}")


def hashes(folder: Path) -> dict[str, str]:
    """Name and content hash of each small file of a mirror."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _own(folder).items()}


def follow(folder: Path) -> None:
    """Fetch the small files of a mirror anew where others are at the address; looks there every FOLLOW_S seconds.

    Not while this process writes: its own are newer.
    """
    if address(folder) is None or folder in writing:
        return
    seen, when = _seen.get(folder, ({}, 0.0))
    if time.monotonic() < when + FOLLOW_S:
        return
    _seen[folder] = seen, time.monotonic()  # before the request: other threads go on with what is here
    if _listed(folder) != seen:
        pull(folder)


def _own(folder: Path) -> dict[str, Path]:
    """The small files of a mirror that belong to the index: no locks, databases and parts of files."""
    return {path.name: path for path in folder.iterdir() if path.is_file() and _is_own(path.name)}


def _is_own(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(_LOCAL)


def _listed(folder: Path) -> dict[str, tuple[int, int]]:
    """(size, time in ns) of each small file at the address by name. ValueError where files are and no index."""
    from pyarrow.fs import FileSelector, FileType

    with _named(folder):
        infos = _files().get_file_info(FileSelector(_place(folder), allow_not_found=True))
    files = [info for info in infos if info.type == FileType.File and info.base_name]
    own = {info.base_name: (info.size, info.mtime_ns) for info in files if _is_own(info.base_name)}
    if own and LAST not in own:
        raise ValueError(f"{address(folder)} is not empty and holds no index; choose another place")
    return own


def _place(folder: Path) -> str:
    """BUCKET/PATH of a mirror."""
    return str(address(folder)).removeprefix(f"{SCHEME}//")


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _files() -> Any:
    return _file_system(os.environ.get("AWS_ENDPOINT_URL", ""), _region())


@functools.lru_cache(maxsize=4)
def _file_system(endpoint: str, region: str) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    scheme, _, host = endpoint.partition("://")
    where = {"endpoint_override": host, "scheme": scheme} if host else {}
    patience = {"connect_timeout": 5.0, "request_timeout": 60.0}
    return S3FileSystem(region=region, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3), **where, **patience)


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """An OSError with the address and what to look at."""
    try:
        yield
    except OSError as error:
        said = str(error).split("\n")[0]
        hint = "credentials, region and endpoint are read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION "
        raise OSError(f"{address(folder)}: {said} ({hint}and AWS_ENDPOINT_URL)") from error


@functools.lru_cache(maxsize=1)
def _root() -> Path:
    """Where the mirrors of this process are; removed when it ends."""
    root = Path(tempfile.mkdtemp(prefix="goodrate-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
