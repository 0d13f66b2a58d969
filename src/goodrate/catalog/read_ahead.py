"""Reading ahead: a thread takes from an iterator while its user is busy with what it took before."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
END = object()
POLL = 0.1  # seconds between looks at whether the user has gone


class ReadAhead(Generic[T]):
    """The items of an iterable in their order, at most `depth` of them waiting. An exception comes where it arose.

    The thread ends with the iterable, with `close`, and when nobody holds this object any more.
    """

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._gone = threading.Event()
        weakref.finalize(self, self._gone.set)
        threading.Thread(target=_fill, args=(items, self._queue, self._gone), daemon=True, name="read ahead").start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._queue.get()
        if item is END or isinstance(item, _Raised):
            self._queue.put(item)  # it is the same for whoever asks again
            if isinstance(item, _Raised):
                raise item.error
            raise StopIteration
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread; what it read is dropped."""
        self._gone.set()


class _Raised:
    """An exception on its way to the user."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _fill(items: Iterable[object], waiting: queue.Queue[object], gone: threading.Event) -> None:
    """The thread. It holds no reference to its ReadAhead."""
    last: object = END
    try:
        for item in items:
            if not _put(waiting, item, gone):
                return
    except BaseException as error:
        last = _Raised(error)
    _put(waiting, last, gone)


def _put(waiting: queue.Queue[object], item: object, gone: threading.Event) -> bool:
    """Whether the item was taken on; false once the user has gone."""
    while not gone.is_set():
        try:
            waiting.put(item, timeout=POLL)
            return True
        except queue.Full:
            continue
    return False
