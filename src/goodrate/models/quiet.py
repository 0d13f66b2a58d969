"""Transformers without its own progress bars and load reports: they write over ours, and read like faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def no_bars() -> None:
    """Switch progress bars off for this process. Warnings stay."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def no_load_report() -> Iterator[None]:
    """No report on weights inside the block, for a caller that asks itself which weights are missing."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
