"""Item texts cut to so many tokens, in training as in judging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.models.language_model import LanguageModel


def cut_texts(model: LanguageModel, texts: Sequence[str], most: int) -> list[tuple[str, bool]]:
    """Each text's beginning of at most `most` tokens, and whether it lost its end. most: 0 = no text is cut.

    A text that stands there many times is cut once.
    """
    if not most:
        return [(text, False) for text in texts]
    cut = {text: _beginning(model, text, most) for text in dict.fromkeys(texts)}
    return [(cut[text], len(cut[text]) < len(text)) for text in texts]


def _beginning(model: LanguageModel, text: str, most: int) -> str:
    """Shortened in proportion until it fits: two or three countings, and not always the longest that would fit."""
    characters = len(text)
    while (tokens := len(model.encode(text[:characters]))) > most:
        characters = characters * most // tokens
    return text[:characters]
