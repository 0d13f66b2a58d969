"""How much of what a query says an item's text has: the share of the query's words, rare ones counting for more, 0..1.

BM25 grows with the number of a query's words, with how often a text repeats one and with how short the text is. The
share does none of that, so one weight adds it to cosines for every query. The weights of words are BM25's inverse
document frequencies (Robertson and Zaragoza 2009): the sum is theirs for texts in which a word is there or is not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import polars as pl

from goodrate.catalog.rendering import lexical_form
from goodrate.retrieval.fusion import Instead
from goodrate.retrieval.rewriting.vocabulary import Vocabulary
from goodrate.retrieval.rewriting.words import WORD, fold, folded_words, plain, same_stem, without_plural

LANGUAGES = ("en",)  # whose endings without_plural knows: elsewhere a text's form of a word would count as lacking


def asked_words(query: str, vocabulary: Vocabulary, items: int) -> dict[str, float]:
    """The words of a query, without plural endings -> how rare they are among so many items; above 0.

    ln(1 + (N - n + 1/2) / (n + 1/2)), n the items with the word in any form as the vocabulary counts them: those that
    have it in the description alone count a tenth. An unknown word is the rarest.
    """
    words = folded_words(lexical_form(pl.Series([query]))[0])
    return {without_plural(word): _rarity(word, vocabulary, items) for word in words}


def _rarity(word: str, vocabulary: Vocabulary, items: int) -> float:
    rows = {vocabulary.row_of.get(form) for form in same_stem(word)} - {None}
    held = min(float(sum(vocabulary.frequency[row] for row in rows)), float(items))
    return math.log(1.0 + (items - held + 0.5) / (held + 0.5))


def covered(asked: Mapping[str, float], others: Sequence[Mapping[str, float]], texts: Mapping[str, str]) -> Instead:
    """Of each text, by id: the share of the asked words, and what the best of other ways to ask adds to it.

    As scores of the channels "lexical" and "synonym". asked, others: words and their rarity (asked_words).
    >>> covered({"red": 1.0, "lamp": 3.0}, [{"red": 1.0, "light": 3.0}], {"a": "Lamps", "b": "red light"})
    {'lexical': {'a': 0.75, 'b': 0.25}, 'synonym': {'a': 0.0, 'b': 0.75}}
    """
    words = {item: _words(text) for item, text in texts.items()}
    own = {item: _share(asked, held) for item, held in words.items()}
    best = {item: max((_share(other, held) for other in others), default=0.0) for item, held in words.items()}
    return {"lexical": own, "synonym": {item: max(0.0, best[item] - own[item]) for item in own}}


def _words(text: str) -> frozenset[str]:
    """The words of a text as asked ones are compared with them."""
    return frozenset(map(_key, set(WORD.findall(plain(text)))))


@functools.lru_cache(maxsize=65_536)
def _key(word: str) -> str:
    return without_plural(fold(word))


def _share(asked: Mapping[str, float], words: frozenset[str]) -> float:
    """The part of all rarity that the words cover; 0 where nothing is asked."""
    return sum(rarity for word, rarity in asked.items() if word in words) / (sum(asked.values()) or 1.0)
