"""Transformers without its own progress bars: they write over ours, and one per loaded model tells nobody anything."""

from __future__ import annotations


def no_bars() -> None:
    """Switch them off for this process. Warnings stay."""
    from transformers.utils import logging

    logging.disable_progress_bar()
