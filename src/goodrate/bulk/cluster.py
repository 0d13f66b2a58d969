"""A Ray cluster, or workers on this machine, and a stream of blocks through models that are actors on it.

The program that asks is the only writer: workers get blocks of rows and send results back, which are stored as they
come. Ray restarts a worker that died and gives it its block again; what had come back stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from goodrate.extras import MissingExtra, require

if TYPE_CHECKING:
    import pyarrow as pa

LOCAL, RUNNING = "local", "auto"
PACKAGE, REFUSED = "goodrate", "refused"
ANSWER_S = 5.0  # for a cluster's port
OBJECTS = 512 * 2**20  # bytes of memory for blocks on the way to and from local workers
# Ray asks nobody outside about its use, and its engine's notes are no part of a command's output.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
LOCAL_SETTINGS = {"RAY_worker_niceness": "0"}  # local workers are the command itself, not work behind it


@dataclass(frozen=True)
class Place:
    """Where work is done. address: None = workers on this machine. workers: how many at most, None = one a CPU."""

    address: str | None
    workers: int | None = None

    @classmethod
    def of(cls, text: str) -> Place:
        """Read local, local:N, auto, HOST:PORT or ray://HOST:PORT. Raises ValueError.

        >>> Place.of("local:4"), Place.of("ray://head:10001")
        (Place(address=None, workers=4), Place(address='ray://head:10001', workers=None))
        """
        name, _, count = text.partition(":")
        if name == LOCAL and (not count or count.isdecimal()) and count.lstrip("0") == count:
            if text != f"{LOCAL}:":
                return cls(None, int(count) if count else None)
        elif text == RUNNING or _host_and_port(text) is not None:
            return cls(text)
        raise ValueError(
            f"--ray {text!r}: expected local, local:N with N workers, auto for a cluster that runs on this machine, or "
            "a cluster's address as HOST:PORT or ray://HOST:PORT"
        )


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Of an address, None for what is none."""
    try:
        parts = urlsplit(address if "://" in address else f"gcs://{address}")
        known = parts.scheme in ("gcs", "ray") and parts.hostname and parts.port and not parts.path
    except ValueError:  # a port that is none
        return None
    return (str(parts.hostname), int(parts.port or 0)) if known else None


@dataclass(frozen=True)
class Cluster:
    """A running Ray with so many workers for goodrate."""

    workers: int

    def stream(self, blocks: list[pa.Table], worker: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[Any]:
        """What worker(*arguments)(block) gives for each block, as it comes, in any order: tables.

        worker: a class whose objects are made once a process. A block whose process dies is worked on again. Raises
        ValueError with what a worker refused with.
        """
        import ray
        from ray.data import ActorPoolStrategy

        if not blocks:
            return
        pool = ActorPoolStrategy(size=min(self.workers, len(blocks)), max_tasks_in_flight_per_actor=2)
        # from_arrow would start a process to look at each block first
        data = ray.data.from_blocks(blocks).map_batches(
            Guarded, fn_constructor_args=(worker, arguments), batch_size=None, batch_format="pyarrow", compute=pool,
            num_cpus=1,
        )  # fmt: skip
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if table.column_names == [REFUSED]:
                raise ValueError(table[REFUSED][0].as_py())
            yield table


def whole_path(folder: str | Path) -> str:
    """A folder by its whole path, for workers that stand elsewhere; what is no folder is a hub id and stays."""
    return str(Path(folder).resolve()) if Path(folder).exists() else str(folder)


@contextlib.contextmanager
def cluster(place: Place) -> Iterator[Cluster]:
    """A cluster to work on until the block ends; one that this process has joined already is taken as it is.

    Raises MissingExtra without Ray, ValueError where no cluster answers, or its workers lack this very goodrate.
    """
    if place.address is not None:
        _require_answer(place.address)
    for name, value in {**QUIET, **(LOCAL_SETTINGS if place.address is None else {})}.items():
        os.environ.setdefault(name, value)
    require("ray", "--ray")
    import ray

    own = not ray.is_initialized()
    if own:
        _join(place)
    try:
        _quiet()
        if place.address is not None:
            require_package(place.address)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        yield Cluster(min(place.workers or cpus, cpus))
    finally:
        if own:
            ray.shutdown()


def _join(place: Place) -> None:
    """Start local workers, or join a cluster. ValueError where that fails."""
    import ray

    told: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if place.address is None:
        cpus = place.workers or os.cpu_count() or 1
        ray.init(LOCAL, num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECTS, **told)
        return
    try:
        ray.init(place.address, **told)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(place.address, str(error).split("\n")[0]) from error


def _require_answer(address: str) -> None:
    """ValueError at once where nobody listens at an address: Ray would try for minutes."""
    where = _host_and_port(address)
    if where is None:  # auto: Ray knows what runs here
        return
    try:
        socket.create_connection(where, ANSWER_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, reason: str) -> ValueError:
    return ValueError(
        f"--ray {address}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or work with "
        f"--ray {LOCAL}"
    )


def require_package(address: str, package: str = PACKAGE) -> None:
    """ValueError unless the workers of a cluster have this package in this process's version.

    A function of the standard library is asked, which a worker without the package has too.
    """
    import ray

    here = metadata.version(PACKAGE)
    way_out = f'install it on every node: pip install "goodrate[ray]=={here}"'
    try:
        there = ray.get(ray.remote(metadata.version).remote(package))
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, metadata.PackageNotFoundError):
            raise
        raise ValueError(f"--ray {address}: its workers have no {package}; {way_out}") from None
    if there != here:
        raise ValueError(f"--ray {address}: its workers have {package} {there}, this is {here}; {way_out}")


def _quiet() -> None:
    """No progress bars and notes of Ray Data: a verb has its own."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Guarded:
    """A worker whose refusals come back as a table, in words; Ray would wrap them in its own errors."""

    def __init__(self, worker: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._worker, self._arguments, self._made = worker, arguments, False

    def __call__(self, block: pa.Table) -> pa.Table:
        """What the worker gives for a block, or why it refused to."""
        import pyarrow as pa

        try:
            if not self._made:  # here, so that what is wrong with a model is told once and not tried again
                self._worker, self._made = self._worker(*self._arguments), True
            return self._worker(block)
        except (ValueError, OSError, MissingExtra) as error:
            return pa.table({REFUSED: [str(error)]})
