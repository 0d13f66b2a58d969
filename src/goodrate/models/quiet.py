"""Transformers and peft without their own progress bars, load reports and warnings about what is no fault of anyone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"  # what transformers calls that warning


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


@contextmanager
def no_old_names() -> Iterator[None]:
    """No FutureWarning inside the block that peft asks a network for something by a name that transformers has changed.

    Nobody who reads it can do anything about it. What we ourselves call by an old name still warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def no_length_warning(tokenizer: Any) -> None:
    """The tokenizer says nothing of texts longer than its model takes: they are cut or refused by whoever asks it."""
    tokenizer.deprecation_warnings[TOO_LONG] = True  # its own mark that it has said so once
