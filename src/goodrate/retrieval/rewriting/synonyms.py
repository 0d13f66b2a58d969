"""Synonyms that a shop keeps in a text file, and the alternatives of a query that follow from them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodrate.catalog.normal_form import composed_text
from goodrate.retrieval.rewriting.words import WORD, comparable, fold, without_plural
from goodrate.text_file import read_text

SYNONYMS_FILE = "synonyms.txt"  # its usual name inside an index folder
MAX_WORDS = 6  # of a phrase
MOST_ALTERNATIVES = 8
LOOKED_AT = 16  # ways looked at for each that is wanted, which bounds the time
_COMMENT = re.compile(r"(^|\s)#.*")
_EXAMPLE = "'laptop, notebook' (both ways) or 'tv => television' (one way)"

Phrase = tuple[str, ...]  # folded words without plural endings


@dataclass(frozen=True)
class Alternative:
    """Another way to ask a query. replaced: (what was typed, what stands there instead), in the order of the query."""

    text: str
    replaced: tuple[tuple[str, str], ...]


class Synonyms:
    """Phrase -> what else to ask for. Phrases are compared without case, accents and plural endings.

    others: from comparable(phrase) to the phrases to try instead, as they are written, in the order of the file.
    """

    def __init__(self, others: dict[Phrase, list[str]]) -> None:
        self.others = others
        self._longest = max(map(len, others), default=0)

    @classmethod
    def read(cls, path: str | Path) -> Synonyms:
        """The synonyms of a UTF-8 text file; Solr's format, but that the query itself is always asked, too.

            # a comment
            laptop, notebook, portable computer      # each finds the others
            tv => television, flat screen            # tv finds television, not the other way round

        Raises FileNotFoundError, or ValueError with file and line: a line that is no rule, an empty or too long phrase,
        a phrase twice in a rule.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}; expected a text file with lines such as {_EXAMPLE}")
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> Synonyms:
        """The synonyms of a text, see read. name: of the file, for errors."""
        others: dict[Phrase, dict[Phrase, str]] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            rule = _COMMENT.sub("", line).strip()
            if not rule:
                continue
            try:
                pairs = list(_pairs(rule))
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: {error}") from None
            for phrase, other in pairs:
                others.setdefault(phrase, {}).setdefault(comparable(other), other)
        return cls({phrase: list(found.values()) for phrase, found in others.items()})

    def __len__(self) -> int:
        return len(self.others)

    def expand(self, query: str, most: int = MOST_ALTERNATIVES) -> list[Alternative]:
        """At most so many other ways to ask a query, those with the fewest replacements first; never the query itself.

        Phrases are found from the left, the longest first. What was put in is not replaced again.
        """
        query = composed_text(query)
        seen: set[Phrase] = {comparable(query)}
        found: list[Alternative] = []
        for alternative in itertools.islice(self._alternatives(query), LOOKED_AT * most):
            if len(found) >= most:
                break
            key = comparable(alternative.text)
            if key not in seen:
                seen.add(key)
                found.append(alternative)
        return found

    def _alternatives(self, query: str) -> Iterator[Alternative]:
        """Every way to ask a query, one replacement first, then two, and so on."""
        matches = list(self._matches(query))
        for count in range(1, len(matches) + 1):
            for chosen in itertools.combinations(matches, count):
                for words in itertools.product(*(others for _, _, others in chosen)):
                    yield _replaced(query, [(start, end) for start, end, _ in chosen], words)

    def _matches(self, query: str) -> Iterator[tuple[int, int, list[str]]]:
        """(start, end, what else to ask for) of the phrases of a query that have synonyms; they do not overlap."""
        tokens = list(WORD.finditer(query))
        words = [without_plural(fold(token.group())) for token in tokens]
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                others = self.others.get(tuple(words[place : place + length]))
                if others:
                    yield tokens[place].start(), tokens[place + length - 1].end(), others
                    place += length - 1
                    break
            place += 1


def _replaced(query: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> Alternative:
    """The query with other words in some places."""
    text, at, replaced = "", 0, []
    for (start, end), other in zip(spans, words, strict=True):
        text += query[at:start] + other
        replaced.append((query[start:end], other))
        at = end
    return Alternative(text + query[at:], tuple(replaced))


def _pairs(rule: str) -> Iterator[tuple[Phrase, str]]:
    """(phrase, other) of a rule. Raises ValueError that says what is wrong with it."""
    sides = rule.split("=>")
    if len(sides) > 2:
        raise ValueError(f"'=>' stands there {len(sides) - 1} times; expected {_EXAMPLE}")
    if len(sides) == 2:
        left, right = (_phrases(side, f"{where} of '=>'") for side, where in zip(sides, ("left", "right"), strict=True))
        _distinct([*left, *right])
        yield from ((comparable(phrase), other) for phrase in left for other in right)
        return
    phrases = _phrases(rule, "the line")
    if len(phrases) < 2:
        raise ValueError(f"expected {_EXAMPLE}, found {rule!r}")
    _distinct(phrases)
    yield from ((comparable(phrase), other) for phrase, other in itertools.permutations(phrases, 2))


def _phrases(side: str, where: str) -> list[str]:
    """The phrases of a list with commas."""
    phrases = [" ".join(part.split()) for part in side.split(",")]
    for phrase in phrases:
        words = comparable(phrase)
        if not words:
            what = f"{phrase!r} has no word" if phrase else "an empty phrase"
            raise ValueError(f"{what} on {where}; expected {_EXAMPLE}")
        if len(words) > MAX_WORDS:
            raise ValueError(f"{phrase!r} has {len(words)} words; a phrase has at most {MAX_WORDS}")
    return phrases


def _distinct(phrases: Sequence[str]) -> None:
    """Raise ValueError for two phrases that are compared as one."""
    seen: dict[Phrase, str] = {}
    for phrase in phrases:
        other = seen.setdefault(comparable(phrase), phrase)
        if other is not phrase:
            raise ValueError(f"{other!r} and {phrase!r} are one phrase (case, accents and plurals do not count)")
