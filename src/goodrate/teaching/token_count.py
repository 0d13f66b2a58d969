"""Tokens of a prompt by the model's own tokenizer, where the user has it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from goodrate.teaching.chat_endpoint import Message

FRAME = 8  # tokens that a chat template puts around a message, rather too many


@cache
def _tokenizer(path: Path) -> Any:
    """Raises ValueError naming a file that is no tokenizer."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise ValueError(f"{path} is not a tokenizer: {error}") from error


def counted_tokens(path: Path, messages: Sequence[Message]) -> int:
    """Tokens of some messages. path: a tokenizer.json."""
    return sum(_counted(path, message["content"]) + FRAME for message in messages)


@lru_cache(maxsize=256)
def _counted(path: Path, text: str) -> int:
    return len(_tokenizer(path).encode(text, add_special_tokens=False).ids)
