"""Logical rules over candidate phrases: what fires where, which rules are good, and what they say in words.

After TALLOR (ACL 2021), re-implemented from a description. A rule reads the whole phrase (TokenString), or two of: the
1-3 words before it, the 1-3 words after it, its form. Ours: the form stands for the part-of-speech sequence, and there
are no dependency rules, because no parser is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from goodrate.understanding.candidates import Spans, span_keys
from goodrate.understanding.hashing import mixed
from goodrate.understanding.words import Words, stable_hashes

GRAMS = (1, 2, 3)
PATTERNS: tuple[tuple[str, int, int], ...] = (
    ("phrase", 0, 0),
    *(("before and after", left, right) for left in GRAMS for right in GRAMS),
    *(("before and form", left, 0) for left in GRAMS),
    *(("after and form", 0, right) for right in GRAMS),
)
START, END = "[START]", "[END]"
_START, _END = np.uint64(0x5354415254), np.uint64(0x454E44)


@dataclass(frozen=True)
class Rule:
    """One rule that was learned. pattern: place in PATTERNS. key: of what it asks for. kind: the class it gives.

    matches: spans it fires on, labelled or not. labelled: of them, those that the tagger or the pool gives the class.
    precision = labelled / matches; score = precision * log2(labelled) (RlogF). stage: "pass.round".
    """

    pattern: int
    key: int
    kind: int
    says: str
    matches: int
    labelled: int
    stage: str

    @property
    def precision(self) -> float:
        """Share of its matches; conservative, because matches without a label count as wrong."""
        return self.labelled / self.matches


@dataclass(frozen=True)
class RuleTable:
    """R rule candidates over S spans. of (S, M): the rule of each of the M patterns at a span, -1 none.

    pattern, key, example (a span), matches: (R,).
    """

    of: np.ndarray
    pattern: np.ndarray
    key: np.ndarray
    example: np.ndarray
    matches: np.ndarray


def word_forms(words: Words) -> np.ndarray:
    """(T,) uint64, the form of each word: number, letters with digits, capitals, title case, or lower case with the
    last three letters of longer words; a sign is its own form."""
    spelled = words.surface.unique().sort()
    s = pl.col("surface")
    lower = pl.when(s.str.len_chars() >= 6).then(pl.lit("~") + s.str.slice(-3)).otherwise(pl.lit("a"))
    form = (
        pl.when(~s.str.contains(r"[\p{L}\p{N}]")).then(s)
        .when(~s.str.contains(r"\p{L}")).then(pl.lit("9"))
        .when(s.str.contains(r"\p{N}")).then(pl.lit("a9"))
        .when((s.str.to_uppercase() == s) & (s.str.len_chars() > 1)).then(pl.lit("AA"))
        .when(s.str.contains(r"^\p{Lu}")).then(pl.lit("Aa"))
        .otherwise(lower)
    )  # fmt: skip
    table = pl.DataFrame({"surface": spelled}).with_columns(form=form)
    forms = table["form"].unique().sort()
    numbered = pl.DataFrame({"form": forms, "hash": stable_hashes(forms)})
    hashes = table.join(numbered, on="form", how="left", maintain_order="left")
    joined = words.surface.to_frame("surface").join(hashes, on="surface", how="left", maintain_order="left")
    return joined["hash"].to_numpy()


def pattern_keys(words: Words, spans: Spans) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(pattern, keys (S,) uint64, known (S,) bool) of every pattern; not known where the text ends before the words."""
    before = {k: _context(words, spans.first, -1, k) for k in GRAMS}
    after = {k: _context(words, spans.last, 1, k) for k in GRAMS}
    width = spans.at.shape[1]
    form = _sequence(word_forms(words), spans, width)
    every = np.ones(len(spans), dtype=bool)
    for number, (name, left, right) in enumerate(PATTERNS):
        if name == "phrase":
            yield number, mixed(span_keys(words, spans.first, spans.last, width), np.uint64(number)), every
            continue
        parts = [before[left]] if left else []
        parts += [after[right]] if right else []
        parts += [(form, every)] if "form" in name else []
        keys = np.full(len(spans), number, dtype=np.uint64)
        known = every
        for part, sound in parts:
            keys, known = mixed(keys, part), known & sound
        yield number, keys, known


def rule_table(words: Words, spans: Spans, more_than: int = 2) -> RuleTable:
    """All rules that fire on more than so many spans."""
    of = np.full((len(spans), len(PATTERNS)), -1, dtype=np.int32)
    pattern, key, example, matches, size = [], [], [], [], 0
    for number, keys, known in pattern_keys(words, spans):
        rows = np.flatnonzero(known)
        unique, first, inverse, counts = np.unique(
            keys[rows], return_index=True, return_inverse=True, return_counts=True
        )
        kept = counts > more_than
        place = np.where(kept, np.cumsum(kept) - 1 + size, -1)
        of[rows, number] = place[inverse]
        pattern.append(np.full(int(kept.sum()), number))
        key.append(unique[kept])
        example.append(rows[first[kept]])
        matches.append(counts[kept])
        size += int(kept.sum())
    return RuleTable(of, *(np.concatenate(part) for part in (pattern, key, example, matches)))


def class_counts(table: RuleTable, truth: np.ndarray, classes: int) -> np.ndarray:
    """(R, C): matches of each rule that have each class. truth (S,): class, or -1 where nothing is said."""
    told = np.flatnonzero(truth >= 0)
    rules = table.of[told]
    flat = (rules * classes + truth[told][:, None])[rules >= 0]
    return np.bincount(flat, minlength=len(table.matches) * classes).reshape(-1, classes)


def best_rules(
    table: RuleTable, truth: np.ndarray, used: np.ndarray, classes: int, most: int, precision: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rules, their classes, how many of their matches have it): per class the `most` best by RlogF.

    A rule counts when it is not used, its precision F / N is at least `precision` and its score above 0.
    """
    counts = class_counts(table, truth, classes)
    kind = counts.argmax(axis=1)
    labelled = counts.max(axis=1, initial=0)
    share = labelled / table.matches
    score = share * np.log2(np.maximum(labelled, 1))
    sound = (share >= precision) & (score > 0) & ~used
    chosen = []
    for c in range(classes):
        rows = np.flatnonzero(sound & (kind == c))
        chosen.append(rows[np.lexsort((rows, -score[rows]))][:most])
    rules = np.concatenate([np.zeros(0, dtype=np.int64), *chosen])
    return rules, kind[rules], labelled[rules]


def fired(of: np.ndarray, kind_of: np.ndarray, precision_of: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Votes (S, C) of rules at each span, and the most precise rule of each class there (S, C), -1 none.

    of: (S, M) rules at each span, -1 none. kind_of, precision_of: (R,), class -1 for rules that do not vote.
    """
    kinds = np.append(kind_of, -1)[of]
    strength = np.append(precision_of, 0.0)[of]
    votes = np.zeros((len(of), classes), dtype=np.int32)
    best = np.full((len(of), classes), -1, dtype=np.int64)
    for c in range(classes):
        mine = kinds == c
        votes[:, c] = mine.sum(axis=1)
        place = np.where(mine, strength, -1.0).argmax(axis=1)
        best[:, c] = np.where(votes[:, c] > 0, of[np.arange(len(of)), place], -1)
    return votes, best


def rules_at(words: Words, spans: Spans, rules: Sequence[Rule]) -> np.ndarray:
    """(S, M) which of the rules is met by each pattern at each span, -1 none: rules on other texts."""
    of = np.full((len(spans), len(PATTERNS)), -1, dtype=np.int64)
    owner = np.array([rule.pattern for rule in rules], dtype=np.int64)
    wanted = np.array([rule.key for rule in rules], dtype=np.uint64)
    for number, keys, known in pattern_keys(words, spans):
        mine = np.flatnonzero(owner == number)
        if len(mine) and len(keys):
            order = mine[np.argsort(wanted[mine], kind="stable")]
            place = np.searchsorted(wanted[order], keys).clip(max=len(order) - 1)
            met = known & (wanted[order][place] == keys)
            of[met, number] = order[place[met]]
    return of


def rule_text(words: Words, spans: Spans, pattern: int, example: int) -> str:
    """A rule in words, such as: before "made of" and after "[END]"."""
    name, left, right = PATTERNS[pattern]
    first, last, text = int(spans.first[example]), int(spans.last[example]), int(spans.text[example])
    begin, end = int(words.begin[text]), int(words.begin[text + 1])
    spelled = words.vocabulary

    def shown(low: int, high: int) -> str:
        middle = [spelled[int(words.word[t])] for t in range(max(low, begin), min(high, end))]
        return " ".join([START] * (low < begin) + middle + [END] * (high > end))

    said = [f'phrase "{shown(first, last + 1)}"'] if name == "phrase" else []
    said += [f'before "{shown(first - left, first)}"'] if left else []
    said += [f'after "{shown(last + 1, last + 1 + right)}"'] if right else []
    said += [f'form of "{shown(first, last + 1)}"'] if "form" in name else []
    return " and ".join(said)


def _context(words: Words, edge: np.ndarray, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (S,) of `count` words from the edge outwards, and where there are as many; the text's end is one word."""
    keys = np.full(len(edge), 29, dtype=np.uint64)
    known = np.ones(len(edge), dtype=bool)
    text = words.text[edge]
    hashes = words.hashes[words.word]
    low, high = words.begin[text] - 1, words.begin[text + 1]  # where [START] and [END] stand
    for distance in range(1, count + 1):
        place = edge + step * distance
        known &= (place >= low) & (place <= high)
        inside = (place > low) & (place < high)
        sign = np.full(len(edge), _START if step < 0 else _END)
        sign[inside] = hashes[place[inside]]
        keys = mixed(keys, sign)
    return keys, known


def _sequence(values: np.ndarray, spans: Spans, max_width: int) -> np.ndarray:
    """(S,) uint64 key of the values of each span's words."""
    keys = np.full(len(spans), 43, dtype=np.uint64)
    for offset in range(max_width):
        inside = spans.first + offset <= spans.last
        keys[inside] = mixed(keys[inside], values[spans.first[inside] + offset])
    return keys
