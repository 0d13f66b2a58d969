"""How an exclusion acts on items: whether a text has what a query excludes, says that it has not, or is silent."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from goodrate.retrieval.rewriting.constraint_rules import Word, alternatives, load_rules, words_in

Evidence = Literal["present", "absent"]
REACH = 5  # words between a negation and what it negates
NEAR = 2  # words that may stand between the words of an exclusion
HEADING = re.compile(r"\n| ; ")  # ends the title in an item's text


@dataclass(frozen=True)
class Exclusion:
    """What a query does not want. term: in lower case, words joined by spaces. text, start, end: its part of the query.

    stays: its words are in the positive text too ("sugar-free"). named: so is the thing itself ("pencil case without
    pencils"), and naming it in a title says nothing then.
    """

    term: str
    stays: bool
    named: bool
    text: str
    start: int
    end: int
    language: str = "en"

    @property
    def id(self) -> str:
        """Names this part of its query."""
        return f"not-{self.start}"


def violates(exclusion: Exclusion, text: str) -> bool:
    """Whether an item's text says that it has what is excluded.

    "Raisin free", "no raisins", "cordless" and "lamp not included" are the contrary; see `evidence`.

    >>> raisin = Exclusion("raisin", False, False, "without raisin", 0, 14)
    >>> [violates(raisin, text) for text in ("Raisin muesli", "Muesli, no raisins", "Nut muesli")]
    [True, False, False]
    """
    return evidence(exclusion, text) == "present"


def violations(exclusions: Sequence[Exclusion], texts: Iterable[str | None]) -> list[bool]:
    """Per text (a list or a polars column), whether it violates any of the exclusions; None and "" violate none."""
    return [any(violates(exclusion, text or "") for exclusion in exclusions) for text in texts]


def evidence(exclusion: Exclusion, text: str) -> Evidence | None:
    """What a text says of the excluded thing; None = it does not speak of it.

    The title (up to the first line break or " ; ") is heard first: what it says holds. Within a part, one statement
    that the thing is not there outweighs any mention of it.
    """
    reader = _reader(exclusion.term, exclusion.named, exclusion.language)
    if not reader.named_at_all.search(text):
        return None
    title = HEADING.split(text, maxsplit=1)
    for part in title:
        said = reader.read(part)
        if said:
            return said
    return None


@functools.lru_cache(maxsize=4096)
def forms(word: str, language: str = "en") -> tuple[str, ...]:
    """A word as texts may write it: singular, plural, and as a participle (lid, lids, lidded)."""
    return tuple(sorted(_german(word) if language == "de" else _english(word)))


def _english(word: str) -> set[str]:
    base = _singular(word)
    stem = base[:-1] if base.endswith("e") else base
    found = {word, base, base + "s", stem + "ed"}
    if base.endswith(("s", "x", "z", "ch", "sh")):
        found.add(base + "es")
    if base.endswith("y"):
        found.add(base[:-1] + "ies")
    if base.endswith(("f", "fe")):
        found.add(base.removesuffix("e")[:-1] + "ves")
    if re.search(r"[^aeiou][aeiou][^aeiouwxy]$", base):
        found.add(base + base[-1] + "ed")
    return found


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith("ves"):
        return word[:-3] + ("fe" if word[-4] in "i" else "f")
    if len(word) > 4 and word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _german(word: str) -> set[str]:
    stem = word[:-1] if word.endswith(("e", "n", "s")) and len(word) > 4 else word
    stem = stem[:-1] if stem.endswith("e") and len(stem) > 4 else stem
    return {word, *(stem + ending for ending in ("", "e", "n", "en", "er", "ern", "s", "es", "em"))}


class _Reader:
    """Reads texts for one excluded term."""

    def __init__(self, term: str, named: bool, language: str) -> None:
        self.rules = load_rules(language).exclusion
        self.named = named
        self.words = [self._word(word, language) for word in term.split()]
        self.named_at_all = re.compile(alternatives(forms(term.split()[-1], language)), re.IGNORECASE)

    def _word(self, word: str, language: str) -> re.Pattern[str]:
        """A pattern for one word of a text, with what says "none" inside it: un- in front, -less behind."""
        inner = alternatives(forms(word, language))
        none = alternatives(self.rules["fused"])
        prefix = alternatives(self.rules["negative_prefixes"])
        if self.rules.get("compounds") and len(word) >= 5:
            other = rf"(?!.*{alternatives(self.rules['compound_exceptions'])}[ens]{{0,2}}$)"
            return re.compile(
                rf"{other}(?:(?P<un>{prefix})|[^\W_]*?){inner}(?:(?P<none>{none})|[^\W_]*)$", re.IGNORECASE
            )
        return re.compile(rf"(?P<un>{prefix})?{inner}(?P<none>{none})?$", re.IGNORECASE)

    def read(self, text: str) -> Evidence | None:
        """The evidence of one part."""
        words = words_in(text)
        present = False
        for at in range(len(words)):
            said = self._mention(words, at)
            if said == "absent":
                return "absent"
            present = present or said == "present"
        return "present" if present else None

    def _mention(self, words: Sequence[Word], at: int) -> Evidence | None:
        """What is said where the first excluded word stands."""
        match = self.words[0].match(words[at].text)
        if not match:
            return None
        last = self._last(words, at)
        if last is None:
            return None
        if match["none"] or match["un"] or self._negated(words, at, last):
            return "absent"
        if self._of_another(words, at) or (self.named and not self._included(words, at, last)):
            return None
        return "present"

    def _last(self, words: Sequence[Word], at: int) -> int | None:
        """The place of the last word of the term, all its words near each other in any order; None = not here."""
        if len(self.words) == 1:
            return at
        reach = len(self.words) + NEAR
        last = at
        for pattern in self.words[1:]:
            near = range(max(0, at - reach), min(len(words), at + reach))
            places = [place for place in near if pattern.match(words[place].text)]
            if not places:
                return None
            last = max(last, min(places, key=lambda place: abs(place - at)))
        return last

    def _negated(self, words: Sequence[Word], at: int, last: int) -> bool:
        """Whether the words around a mention say that the thing is not there."""
        return self._negated_before(words, at) or self._negated_behind(words, last)

    def _negated_before(self, words: Sequence[Word], at: int) -> bool:
        for place in range(at - 1, max(-1, at - 1 - REACH), -1):
            if _sentence_ends(words[place + 1].gap):
                return False
            text = words[place].text
            if text in self.rules["prefixes"]:  # of the next word only: "non-ticking, with a battery"
                return place == at - 1
            if text in self.rules["negators"]:
                needed = self.rules["negator_needs"].get(text)
                follower = words[place + 1].text
                return follower not in self.rules["not_negating"] and (needed is None or follower in needed)
            if text in self.rules["blockers"]:
                return False
        return False

    def _negated_behind(self, words: Sequence[Word], last: int) -> bool:
        behind = last + 1
        if behind < len(words) and words[behind].text in self.rules["fused"] and words[behind].gap in (" ", "-"):
            follower = words[behind + 1].text if behind + 1 < len(words) else ""
            if words[behind].hyphen or follower not in self.rules["free_not"]:
                return True
        for place in range(behind, min(len(words), behind + REACH)):
            if re.search(r"[.!?;\n|)]", words[place].gap):
                return False
            if self.rules["absent_after"].at(words, place):
                return True
        return False

    def _of_another(self, words: Sequence[Word], at: int) -> bool:
        """Whether the mention is of another thing that the item goes with: "fits a mattress"."""
        return any(words[place].text in self.rules["other_thing"] for place in range(max(0, at - 3), at))

    def _included(self, words: Sequence[Word], at: int, last: int) -> bool:
        """Whether a text says that the thing comes along: only that tells, where the product is named after it."""
        if any(words[place].text in self.rules["including"] for place in range(max(0, at - 2), at)):
            return True
        behind = words[last + 1].text if last + 1 < len(words) else ""
        return behind in self.rules["included_after"]


def _sentence_ends(gap: str) -> bool:
    return bool(re.search(r"[.!?;:\n|()]|\s[-–—]\s", gap))


@functools.lru_cache(maxsize=1024)
def _reader(term: str, named: bool, language: str) -> _Reader:
    return _Reader(term, named, language)
