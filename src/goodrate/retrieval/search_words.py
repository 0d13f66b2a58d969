"""What an index knows of words beside its full text: spelling, suggestions, synonyms; three files in its folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goodrate import strict_json
from goodrate.retrieval.rewriting.spelling import SPELLING_FILE, Correction, SpellingIndex
from goodrate.retrieval.rewriting.suggestions import SUGGESTIONS_FILE, Suggestion, SuggestionIndex
from goodrate.retrieval.rewriting.synonyms import SYNONYMS_FILE, Alternative, Synonyms
from goodrate.retrieval.rewriting.words import whole_words
from goodrate.retrieval.store import Store
from goodrate.run_folder import write_atomic

OUTDATED_SHARE = 0.01  # of the items: so many changes are waited for before the words are counted anew
WORD_FILES = (SPELLING_FILE, SUGGESTIONS_FILE, SYNONYMS_FILE)
_WORD = re.compile(r"\w+")
LONGER_PART = 4  # letters: any string is made of shorter words
COUNT_FILE, LOG_FILE = "search_words.json", "query_log.json"


@dataclass(frozen=True)
class SearchWords:
    """What is there of the three; an index without such files corrects, suggests and expands nothing."""

    spelling: SpellingIndex | None = None
    suggestions: SuggestionIndex | None = None
    synonyms: Synonyms = field(default_factory=lambda: Synonyms({}))

    @classmethod
    def load(cls, folder: Path) -> SearchWords:
        """Those of an index folder. Raises ValueError for a damaged file."""
        spelling, suggestions, synonyms = (folder / name for name in WORD_FILES)
        return cls(
            SpellingIndex.load(spelling) if spelling.is_file() else None,
            SuggestionIndex.load(suggestions) if suggestions.is_file() else None,
            Synonyms.read(synonyms) if synonyms.is_file() else Synonyms({}),
        )

    def correct(self, query: str) -> Correction | None:
        """The query as it was probably meant; None when nothing is wrong with it."""
        return self.spelling.correct(query) if self.spelling else None

    def knows(self, query: str) -> bool:
        """Whether at least half the letters of a query are in words of the catalogue or of its encoder's vocabulary.

        Two such words written as one are known, too. True when there is nothing to know words by.
        """
        if self.spelling is None:
            return True
        words = _WORD.findall(query)
        known = sum(len(word) for word in words if self._is_known(word))
        return bool(words) and 2 * known >= sum(map(len, words))

    def is_strange(self, query: str) -> bool:
        """Whether no word of a query is one of the catalogue's, nor made of two of them, nor may be meant as one.

        False when there is nothing to know words by.
        """
        if self.spelling is None:
            return False
        sold = self.spelling.in_catalogue
        return not any(_is_made_of(word, sold) for word in _WORD.findall(query)) and self.correct(query) is None

    def _is_known(self, word: str) -> bool:
        """Whether a word is one of the catalogue's or the encoder's, or two of them."""
        assert self.spelling is not None
        return _is_made_of(word, self.spelling.__contains__)

    def expand(self, query: str) -> list[Alternative]:
        """Other ways to ask it: by the synonym file, and with two words as the one that titles have."""
        return [*self.synonyms.expand(query), *(self.spelling.joined(query) if self.spelling else ())]

    def suggest(self, typed: str, k: int) -> list[Suggestion]:
        """What somebody who has typed so far may want to type, at most k."""
        if self.suggestions is None:
            return []
        return self.suggestions.suggest(typed, k, self.spelling.vocabulary if self.spelling else None)


def _is_made_of(word: str, has: Callable[[str], bool]) -> bool:
    """Whether a word is there, or two words of which it is made ("ecloth", "cellphone")."""
    cuts = [at for at in range(1, len(word)) if max(at, len(word) - at) >= LONGER_PART]
    return has(word) or any(has(word[:at]) and has(word[at:]) for at in cuts)


def count_words(
    store: Store, changed: int, encoder: Any = None, queries: Iterable[tuple[str, float]] | None = None
) -> bool:
    """Write spelling and suggestions of an index anew, where that is due; returns whether it was.

    changed: items that were added, changed or removed; they add up until they are more than OUTDATED_SHARE of all.
    encoder: one with a tokenizer, whose words count as right. queries: (query, count) of a log, which the folder keeps;
    None takes the one that it has. The folder must be held for writing.
    """
    path = store.path / COUNT_FILE
    waiting = changed + (_waiting(path) if path.is_file() else len(store))
    there = all((store.path / name).is_file() for name in (SPELLING_FILE, SUGGESTIONS_FILE))
    if there and queries is None and waiting <= OUTDATED_SHARE * len(store):
        if changed:
            write_atomic(path, strict_json.dumps({"changed": waiting}) + "\n")
        return False
    if queries is not None:
        write_atomic(store.path / LOG_FILE, strict_json.dumps({"queries": list(queries)}) + "\n")
    items = store.all_items().frame
    SpellingIndex.build(items, _dictionary(encoder)).save(store.path / SPELLING_FILE)
    SuggestionIndex.build(items, _log(store.path / LOG_FILE)).save(store.path / SUGGESTIONS_FILE)
    write_atomic(path, strict_json.dumps({"changed": 0}) + "\n")
    return True


def _waiting(path: Path) -> int:
    """How many changes the files do not know; a damaged count is as many as there can be."""
    try:
        return int(strict_json.read_object(path)["changed"])
    except (ValueError, KeyError, TypeError):
        return 2**62


def _log(path: Path) -> list[tuple[str, float]]:
    """The query log that the folder keeps."""
    kept = strict_json.read_object(path)["queries"] if path.is_file() else []
    return [(str(query), float(count)) for query, count in kept]


def _dictionary(encoder: Any) -> Sequence[str]:
    """Whole words of an encoder's tokenizer; none where it has none."""
    tokenizer: Any = getattr(encoder, "tokenizer", None)
    return whole_words(tokenizer.get_vocab()) if hasattr(tokenizer, "get_vocab") else ()
