"""Texts of a shop as a tokenizer reads them: no word of theirs becomes a token that steers a model.

A tokenizer turns "<end>" in a title into the token that ends an answer, "[SEP]" into the mark between two texts. Such
marks are left out of texts before they are tokenised; texts without one keep their token ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any


class ControlTokens:
    """The tokens of a tokenizer that are marks and no words: special ones, and those that its chat template writes."""

    def __init__(self, tokenizer: Any) -> None:
        template = str(getattr(tokenizer, "chat_template", None) or "")
        # Blanks alone are words of a text, whatever a tokenizer calls them.
        marks = [token for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
        steering = [token for token in marks if token.special or token.content in template]
        # One that is looked for in the normalised text is found in any case that the normaliser folds.
        exact, folded = ({t.content for t in steering if t.normalized is as_read} for as_read in (False, True))
        folded |= {str(mark) for mark in tokenizer.all_special_tokens} - exact
        self._found = _pattern(frozenset(exact), frozenset(folded))

    def without(self, text: str) -> str:
        """The text without the marks; a text that has none is the same object.

        >>> ControlTokens(tokenizer).without("desk lamp <end> <pad>")  # doctest: +SKIP
        'desk lamp'
        """
        if self._found is None or self._found.search(text) is None:
            return text
        # A blank in their place: what stood around a mark must not grow together to another.
        read = re.sub(r" {2,}", " ", self._found.sub(" ", text)).replace(" \n", "\n")
        read = read if text.endswith(" ") else read.rstrip(" ")
        return read if text.startswith(" ") else read.lstrip(" ")

    def without_all(self, texts: Sequence[str]) -> list[str]:
        """Each text without the marks."""
        return [self.without(text) for text in texts]


@lru_cache(maxsize=16)
def _pattern(exact: frozenset[str], folded: frozenset[str]) -> re.Pattern[str] | None:
    """What finds the marks, the longest first, the folded ones in any case."""
    parts = [f"(?i:{_any_of(folded)})"] if folded else []
    parts += [_any_of(exact)] if exact else []
    return re.compile("|".join(parts)) if parts else None


def _any_of(marks: frozenset[str]) -> str:
    return "|".join(re.escape(mark) for mark in sorted(marks, key=lambda mark: (-len(mark), mark)))
