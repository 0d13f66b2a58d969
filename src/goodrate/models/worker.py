"""A model's turns: what many threads ask of it is done one after the other, the urgent first.

A model takes all cores for one call, and fast tokenizers refuse to be used by two threads at once ("Already borrowed").
Whoever waits does the work that is due; once the worker is started, a thread of its own does, so that a server does not
keep torch's threads for each of its own.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, TypeVar

from goodrate.models.asker import AskerGone, telling

T = TypeVar("T")
ENCODING, JUDGING, EXPLAINING = range(3)  # urgency: the smaller goes first


class _Task(NamedTuple):
    urgency: int
    order: int
    future: Future[Any]
    work: Callable[[], Any]


class ModelWorker:
    """The turns of one model. Safe from many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Task] = []  # a heap
        self._order = itertools.count()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def started(self) -> bool:
        """Whether a thread of its own does the work."""
        return self._thread is not None

    def start(self) -> None:
        """Do the work in a thread of its own from here on, with one torch thread fewer than the caller's.

        The core that is left is for all that runs beside it. Torch's threads wait for each other after every step, and
        one that has no core holds up all.
        """
        torch = sys.modules.get("torch")
        threads = max(1, torch.get_num_threads() - 1) if torch is not None else None
        with self._changed:
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(target=self._serve, args=(threads,), name="model", daemon=True)
                self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End the thread after what it does now, which is told to stop at its next step; wait so long for it."""
        with self._changed:
            thread, self._stopping = self._thread, self.started
            self._changed.notify_all()
        if thread is not None:
            thread.join(seconds)

    def call(self, work: Callable[[], T], urgency: int) -> T:
        """What `work` gives, when its turn has come. Raises what it raises, and AskerGone."""
        return self.wait(self.submit(work, urgency))

    def submit(self, work: Callable[[], T], urgency: int) -> Future[T]:
        """Put work into the queue."""
        future: Future[T] = Future()
        with self._changed:
            heapq.heappush(self._waiting, _Task(urgency, next(self._order), future, work))
            self._changed.notify_all()
        return future

    def wait(self, future: Future[T], seconds: float | None = None) -> T:
        """The result of something that this worker's turns bring about; who asked may leave, and it is dropped then.

        seconds: raise TimeoutError after so long, where a thread of its own does the work. Raises AskerGone.
        """
        with telling(lambda: self.drop(future)):
            try:
                if not self.started:
                    self._drive(future)
                return future.result(seconds)
            except CancelledError:
                raise AskerGone from None
            except KeyboardInterrupt:
                future.cancel()
                raise

    def drop(self, future: Future[Any]) -> None:
        """Nobody waits for this: it is not begun any more."""
        if future.cancel():
            with self._changed:
                self._changed.notify_all()

    def between(self, urgency: int) -> None:
        """For long work, between two of its steps: do one thing that is more urgent. Raises AskerGone at the end."""
        if self._stopping:
            raise AskerGone
        with self._changed:
            due = bool(self._waiting) and self._waiting[0].urgency < urgency
            task = heapq.heappop(self._waiting) if due else None
        if task is not None:
            _run(task)

    def _drive(self, future: Future[Any]) -> None:
        """Do what is due until the future has a result, or let another thread that waits do it."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: future.done() or (self._waiting and not self._busy))
                if future.done():
                    return
                self._busy, task = True, heapq.heappop(self._waiting)
            try:
                _run(task)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _serve(self, threads: int | None) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and threads is not None:
            torch.set_num_threads(threads)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or (self._waiting and not self._busy))
                if self._stopping:
                    self._thread, self._stopping = None, False
                    left, self._waiting = self._waiting, []
                    break
                task = heapq.heappop(self._waiting)
            _run(task)
            del task  # nothing is kept of a request until the next one comes
        for dropped in left:
            dropped.future.cancel()


def _run(task: _Task) -> None:
    """Do one thing, unless it was dropped. Whatever it raises is its asker's, a panic of a library (BaseException) too;
    Ctrl-C goes on to whoever does the work.
    """
    if not task.future.set_running_or_notify_cancel():
        return
    try:
        task.future.set_result(task.work())
    except BaseException as error:
        task.future.set_exception(error)
        if isinstance(error, KeyboardInterrupt):
            raise
