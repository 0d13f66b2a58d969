"""Relevance scales: the only place where a label becomes a number."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from goodrate.text_file import read_text

_ZEROS = re.compile(r"(-?\d+)\.0+|(-?\d+\.\d*?[1-9])0+")  # 3.0 and 100.000 are whole, 0.50 is 0.5
Merge = Literal["median", "majority", "mean", "min"]  # how several labels of one pair become one (catalog.raters)
# Whose labels are read where a file has a model's beside people's (catalog.raters); any: a model's where no person
# labelled the pair.
LabelsBy = Literal["people", "model", "any"]
KEYS = ("name", "labels", "gains", "positive", "aliases", "edges", "range", "descriptions")


@dataclass(frozen=True)
class RelevanceScale:
    """Ordered relevance labels, worst first, with a gain each and the set that counts as good.

    labels: L names, worst first. gains: L non-negative gains for nDCG, non-decreasing. positive: the labels that people
    call good (Goodrate counts them). aliases: other spellings that readers accept, such as the grade "3" or "E".
    edges: for continuous grades L - 1 rising numbers; a grade has the label above the last edge that it reaches.
    limits: the lowest and the highest grade there, both included. descriptions: what a label means, in words, for those
    who give them.
    """

    name: str
    labels: tuple[str, ...]
    gains: tuple[float, ...]
    positive: frozenset[str]
    aliases: dict[str, str] = field(default_factory=dict, hash=False, compare=False)
    edges: tuple[float, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    descriptions: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.gains) >= 2
        assert list(self.gains) == sorted(self.gains) and self.positive < set(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: object) -> int:
        """The position of a label, 0 = worst. Accepts aliases, any case, and numbers with zeros such as 3.0.

        Raises ValueError with the accepted labels. Example:
        >>> FOUR_LEVEL.index("Excellent"), FOUR_LEVEL.index(1), ESCI.index("E"), GRADED_0_3.index("3.0")
        (3, 0, 3, 3)
        """
        text = spelling(label)
        place = self._places.get(text)
        place = self._bin(text) if place is None and self.edges else place
        if place is None:
            raise ValueError(f"label {label!r} is not on scale {self.name}; accepted: {self.accepted}")
        return place

    def __contains__(self, label: object) -> bool:
        text = spelling(label)
        return text in self._places or (bool(self.edges) and self._bin(text) is not None)

    @property
    def accepted(self) -> str:
        """All that index takes, for messages."""
        grades = [f"grades from {self.limits[0]:g} to {self.limits[1]:g}"] if self.edges else []
        return ", ".join([*self.labels, *self.aliases, *grades])

    @cached_property
    def _places(self) -> dict[str, int]:
        """Position by spelling; a label stands before an alias."""
        places = {spelling(label): place for place, label in enumerate(self.labels)}
        return {spelling(alias): places[spelling(label)] for alias, label in self.aliases.items()} | places

    def _bin(self, text: str) -> int | None:
        """The position of a grade by the edges; None for what is no number or outside the limits."""
        try:
            grade = float(text)
        except ValueError:
            return None
        inside = self.limits[0] <= grade <= self.limits[1]  # False for NaN
        return int(np.searchsorted(self.edges, grade, side="right")) if inside else None

    def indices(self, labels: Iterable[object]) -> np.ndarray:
        """Label positions as int64 (N,). Each distinct label is looked up once."""
        values = list(labels)
        known = {value: self.index(value) for value in set(values)}
        return np.fromiter((known[value] for value in values), dtype=np.int64, count=len(values))

    @property
    def gain_array(self) -> np.ndarray:
        """Gains by label position, float64 (L,)."""
        return np.asarray(self.gains, dtype=np.float64)

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each label position counts as good, bool (L,)."""
        return np.asarray([label in self.positive for label in self.labels])

    def expected_gain(self, probabilities: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """sum_l p_l * gain_l / max gain, in 0..1: the one scalar that orders results.

        probabilities: (..., L), calibrated, summing to 1. Returns (...).
        >>> FOUR_LEVEL.expected_gain([[0.0, 0.0, 0.5, 0.5]]).round(3).tolist()
        [0.714]
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape[-1] != len(self):
            raise ValueError(f"probabilities have {p.shape[-1]} columns; scale {self.name} has {len(self)} labels")
        return p @ self.gain_array / self.gains[-1]


FOUR_LEVEL = RelevanceScale(
    name="four_level",
    labels=("irrelevant", "mismatch", "related", "excellent"),
    gains=(0.0, 1.0, 3.0, 7.0),
    positive=frozenset({"related", "excellent"}),
    aliases={"1": "irrelevant", "2": "mismatch", "3": "related", "4": "excellent"},
    descriptions={
        "irrelevant": "another kind of product, or one that only goes with the wanted one",
        "mismatch": "the right or a neighbouring kind of product, but a requirement of the query fails",
        "related": "the right kind of product; not all that was asked for is certain, or a preference is missed",
        "excellent": "all that was asked for",
    },
)

# The gains of the ESCI paper (arXiv 2206.06588). The published evaluation script swaps S and C: see ESCI_SWAPPED.
ESCI = RelevanceScale(
    name="esci",
    labels=("irrelevant", "complement", "substitute", "exact"),
    gains=(0.0, 0.01, 0.1, 1.0),
    positive=frozenset({"exact", "substitute"}),
    aliases={
        "i": "irrelevant", "c": "complement", "s": "substitute", "e": "exact",
        "0": "irrelevant", "1": "complement", "10": "substitute", "100": "exact",  # the gains, in whole numbers
    },
    descriptions={  # after arXiv 2206.06588, section 3, in our words
        "irrelevant": "not what the query asks for, and of no use to its shopper",
        "complement": "not what the query asks for, but used together with it",
        "substitute": "fails some of the query's requirements, but could be used in place of what it asks for",
        "exact": "meets every requirement of the query",
    },
)  # fmt: skip
# What the published script computes: complement worth 0.1 and substitute worth 0.01. For comparison only.
ESCI_SWAPPED = RelevanceScale(
    name="esci_swapped",
    labels=("irrelevant", "substitute", "complement", "exact"),
    gains=(0.0, 0.01, 0.1, 1.0),
    positive=frozenset({"exact", "substitute"}),
    aliases=ESCI.aliases,
    descriptions=ESCI.descriptions,
)
WANDS = RelevanceScale(
    name="wands",
    labels=("irrelevant", "partial", "exact"),
    gains=(0.0, 0.5, 1.0),
    positive=frozenset({"exact"}),
    aliases={"i": "irrelevant", "p": "partial", "e": "exact"},
    descriptions={
        "irrelevant": "not what the query asks for",
        "partial": "meets some of the query's requirements, not all",
        "exact": "meets every requirement of the query",
    },
)
GRADED_0_3 = RelevanceScale(
    name="graded_0_3",
    labels=("0", "1", "2", "3"),
    gains=(0.0, 1.0, 3.0, 7.0),
    positive=frozenset({"2", "3"}),
    descriptions={
        "0": "wrong: another kind of product, or one that only goes with the wanted one",
        "1": "poor: related to what the query asks for, but most shoppers would not take it",
        "2": "fair: near to what the query asks for; some shoppers would take it",
        "3": "right: what the query asks for",
    },
)

BINARY = RelevanceScale(
    name="binary",
    labels=("irrelevant", "relevant"),
    gains=(0.0, 1.0),
    positive=frozenset({"relevant"}),
    aliases={"0": "irrelevant", "1": "relevant"},
    descriptions={"irrelevant": "not what the query asks for", "relevant": "what the query asks for"},
)

SCALES = {scale.name: scale for scale in (FOUR_LEVEL, ESCI, ESCI_SWAPPED, WANDS, GRADED_0_3, BINARY)}
TOLD = [scale for scale in SCALES.values() if scale != ESCI_SWAPPED]  # what labels alone can be on
NEARLY_ALL = 0.9


def spelling(label: object) -> str:
    """A label as it is looked up: small letters, blanks as one, no zeros after the last digit of a fraction.

    >>> spelling(" Sehr  gut"), spelling(100.0), spelling("100.000"), spelling("0.50"), spelling("10")
    ('sehr gut', '100', '100', '0.5', '10')
    """
    text = " ".join(str(label).lower().split())
    number = _ZEROS.fullmatch(text)
    return (number[1] or number[2]) if number else text


def get_scale(given: str | Mapping[str, Any] | RelevanceScale) -> RelevanceScale:
    """A scale by its name, from a TOML file of the user's (a name that ends in .toml), or from what such a file says.

    Raises ValueError with the known names, or with what is wrong in the file; OSError where it cannot be read.
    """
    if isinstance(given, RelevanceScale):
        return given
    if isinstance(given, Mapping):
        return own_scale(given, "scale")
    if given in SCALES:
        return SCALES[given]
    if isinstance(given, str) and given.endswith(".toml"):
        return read_scale(given)
    raise ValueError(f"unknown scale {given!r}; known: {', '.join(SCALES)}, or a file of your own such as stars.toml")


def scale_entry(scale: RelevanceScale) -> str | dict[str, Any]:
    """What get_scale makes the scale of again: the name of a known one, else all that its file says."""
    if SCALES.get(scale.name) == scale:
        return scale.name
    entry: dict[str, Any] = {
        "name": scale.name, "labels": list(scale.labels), "gains": list(scale.gains),
        "positive": [label for label in scale.labels if label in scale.positive],
    }  # fmt: skip
    binned = {"edges": list(scale.edges), "range": list(scale.limits)} if scale.edges else {}
    told = {"descriptions": dict(scale.descriptions)} if scale.descriptions else {}
    return entry | ({"aliases": dict(scale.aliases)} if scale.aliases else {}) | binned | told


def read_scale(path: str | Path) -> RelevanceScale:
    """The scale of a TOML file (docs/data.md). Raises OSError, and ValueError with file, key and what was expected."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}; known scales: {', '.join(SCALES)}")
    from goodrate.settings import parse_toml  # which loads pydantic

    return own_scale(parse_toml(read_text(path), str(path)), str(path))


def own_scale(content: Mapping[str, Any], source: str) -> RelevanceScale:
    """A scale from the keys of its file. source: what a message begins with. Raises ValueError naming the key."""
    unknown = [key for key in content if key not in KEYS]
    missing = [key for key in ("name", "labels", "gains", "positive") if key not in content]
    if unknown or missing:
        what = f"unknown key {unknown[0]!r}" if unknown else f"no key {missing[0]!r}"
        raise ValueError(
            f"{source}: {what}; a scale has name, labels, gains, positive and may have {', '.join(KEYS[4:])}"
        )
    labels = _texts(content, "labels", source)
    positive = _texts(content, "positive", source)
    known = {spelling(label): label for label in labels}
    _refuse(len(known) < len(labels) or len(labels) < 2, source, "labels", "two or more that differ", labels)
    good = frozenset(known.get(spelling(label), label) for label in positive)
    _refuse(not good or not good < set(labels), source, "positive", "some of the labels, not all", positive)
    gains = _numbers(content, "gains", source)
    rising = list(gains) == sorted(gains) and gains[0] >= 0 < gains[-1] if gains else False
    _refuse(not rising or len(gains) != len(labels), source, "gains", f"{len(labels)} rising numbers from 0 on", gains)
    name = content["name"]
    _refuse(not isinstance(name, str) or not name.strip() or name in SCALES, source, "name",
            f"a name that is not one of {', '.join(SCALES)}", name)  # fmt: skip
    aliases = _aliases(content, known, source)
    edges, limits = _edges(content, [*known, *map(spelling, aliases)], len(labels), source)
    return RelevanceScale(name, labels, gains, good, aliases, edges, limits, _descriptions(content, known, source))


def _aliases(content: Mapping[str, Any], known: Mapping[str, str], source: str) -> dict[str, str]:
    """Other spelling -> label."""
    given = content.get("aliases", {})
    _refuse(not isinstance(given, Mapping), source, "aliases", 'a table such as {"5" = "excellent"}', given)
    for alias, label in given.items():
        _refuse(spelling(label) not in known, source, f"aliases.{alias}", f"one of {', '.join(known.values())}", label)
        clash = known.get(spelling(alias), label)
        _refuse(spelling(clash) != spelling(label), source, f"aliases.{alias}", "a spelling that is no label", alias)
    return {str(alias): known[spelling(label)] for alias, label in given.items()}


def _descriptions(content: Mapping[str, Any], known: Mapping[str, str], source: str) -> dict[str, str]:
    """What labels mean, by label."""
    given = content.get("descriptions", {})
    _refuse(not isinstance(given, Mapping), source, "descriptions", 'a table such as {exact = "all of it"}', given)
    for label, text in given.items():
        where = f"descriptions.{label}"
        _refuse(spelling(label) not in known, source, where, f"one of {', '.join(known.values())}", label)
        _refuse(not isinstance(text, str) or not text.strip(), source, where, "a text", text)
    return {known[spelling(label)]: " ".join(text.split()) for label, text in given.items()}


def _edges(
    content: Mapping[str, Any], spellings: Sequence[str], labels: int, source: str
) -> tuple[tuple[float, ...], tuple[float, float]]:
    """The edges and limits of continuous grades; none where the file has none."""
    if "edges" not in content and "range" not in content:
        return (), (-math.inf, math.inf)
    limits, edges = (_numbers(content, key, source) for key in ("range", "edges"))
    ordered = len(limits) == 2 and limits[0] < limits[1]
    _refuse(not ordered, source, "range", "the lowest and the highest grade, such as [0.0, 1.0]", limits)
    inside = all(limits[0] < edge <= limits[1] for edge in edges) and list(edges) == sorted(set(edges))
    expected = f"{labels - 1} rising numbers in the range, one less than labels"
    _refuse(not inside or len(edges) != labels - 1, source, "edges", expected, edges)
    numbers = [text for text in spellings if _is_number(text)]
    _refuse(bool(numbers), source, "edges", "labels and aliases that are words, since a number is a grade", numbers)
    return edges, (limits[0], limits[1])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _texts(content: Mapping[str, Any], key: str, source: str) -> tuple[str, ...]:
    """A list of texts or numbers, as texts."""
    given = content[key]
    usable = isinstance(given, list) and all(type(value) in (str, int, float) and str(value).strip() for value in given)
    _refuse(not usable, source, key, "a list of texts or numbers", given)
    return tuple(" ".join(str(value).split()) for value in given)


def _numbers(content: Mapping[str, Any], key: str, source: str) -> tuple[float, ...]:
    """A list of finite numbers."""
    given = content.get(key)
    usable = isinstance(given, list) and all(type(value) in (int, float) and math.isfinite(value) for value in given)
    _refuse(not usable, source, key, "a list of numbers", given)
    assert given is not None
    return tuple(float(value) for value in given)


def _refuse(wrong: bool, source: str, key: str, expected: str, found: object) -> None:
    if wrong:
        shown = list(found) if isinstance(found, tuple) else found
        raise ValueError(f"{source}, {key}: expected {expected}, found {shown!r}")


def tell_scale(counts: Mapping[str, int], source: str) -> RelevanceScale:
    """The one known scale that labels are on. counts: label -> how often it occurs. source: the file, for messages.

    A scale that has all of them, or, when none has, the one that knows most and NEARLY_ALL of the rows, so that the
    others are told apart as wrong. Raises ValueError naming the candidates when there are several, or when none is.
    """
    shown = ", ".join(repr(label) for label in sorted(counts)[:12])
    fits = [scale for scale in TOLD if all(label in scale for label in counts)]
    if not fits:
        rows = {scale.name: sum(n for label, n in counts.items() if label in scale) for scale in TOLD}
        most = max(rows.values())
        fits = [SCALES[name] for name, n in rows.items() if n == most and n >= NEARLY_ALL * sum(counts.values())]
    if len(fits) == 1:
        return fits[0]
    options = "--scale NAME, in training data.scale, in Python scale="
    if not fits:
        raise ValueError(
            f"{source}: the labels {shown} are on none of the known scales ({', '.join(s.name for s in TOLD)}); "
            f"describe yours in a TOML file and name it ({options})"
        )
    read = "; ".join(f"{scale.name} reads them as {_readings(counts, scale)}" for scale in fits)
    raise ValueError(f"{source}: the labels {shown} fit several scales: {read}; say which ({options})")


def _readings(counts: Mapping[str, int], scale: RelevanceScale) -> str:
    """What each label is on a scale, worst first."""
    known = sorted((label for label in counts if label in scale), key=scale.index)
    return ", ".join(scale.labels[scale.index(label)] for label in known[:12])
