"""Seeds from an expert: phrases of which it says the same under two templates, and what it learns from the pool.

The consistency of two templates is the paper's (arXiv 2210.02768, abstract); the calibration, the thresholds and the
ranking are the house's. Ours, too: the taught expert is a head on the logits of the label words, no fine-tuned model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from goodrate.understanding.candidates import Spans, phrase_texts
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.expert import Cloze, Expert
from goodrate.understanding.words import Words

NOTHING_SAID = "N/A"  # the content-free input of the calibration
AROUND = 15  # words of the text that are shown on each side of a phrase
AT_ONCE = 128  # clozes between two reports of progress


@dataclass(frozen=True)
class SeedSettings:
    """agreement, probability: what a seed must reach. most: seeds a type. mentions: asked a phrase.

    consistent: both templates must agree; else the first decides alone. templates: how many are asked (an ablation).
    """

    agreement: float = 0.8
    probability: float = 0.5
    most: int = 10
    mentions: int = 5
    consistent: bool = True
    single: bool = False
    calibrated: bool = True


@dataclass(frozen=True)
class LabelWords:
    """The words that an expert can say: word (W,), token (W,), class (W,); the last class is "no entity".

    left_out: words that it has no single token for.
    """

    words: tuple[str, ...]
    tokens: tuple[int, ...]
    classes: np.ndarray
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What an expert said. phrase (M,), span (M,) of each mention; logits (M, 2, W), calibrated, of two templates."""

    phrase: np.ndarray
    span: np.ndarray
    logits: np.ndarray


def label_words(types: EntityTypes, expert: Expert, source: str) -> LabelWords:
    """The usable label words. ValueError naming the type of which the expert has no word as one token."""
    told = [(word, c, expert.token_of(word)) for word, c in types.label_words()]
    kept = [(word, c, token) for word, c, token in told if token is not None]
    have = {c for _, c, _ in kept}
    for c, name in enumerate([*types.names, "none"]):
        if c not in have:
            tried = ", ".join(word for word, k, _ in told if k == c)
            raise ValueError(f"{source}: type {name!r}: the expert has none of its label words as one token ({tried}); "
                             "add common words")  # fmt: skip
    return LabelWords(tuple(w for w, _, _ in kept), tuple(t for _, _, t in kept), np.array([c for _, c, _ in kept]),
                      tuple(word for word, _, token in told if token is None))  # fmt: skip


def mentions(spans: Spans, phrases: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Spans of the phrases, at most so many of each, drawn at random; in the order of the phrases."""
    wanted = np.full(len(spans.count), -1)
    wanted[phrases] = np.arange(len(phrases))
    rows = rng.permutation(np.flatnonzero(wanted[spans.phrase] >= 0))
    frame = pl.DataFrame({"row": rows, "place": wanted[spans.phrase[rows]]})
    return frame.group_by("place", maintain_order=True).head(most).sort("place", maintain_order=True)["row"].to_numpy()


def ask(
    expert: Expert, types: EntityTypes, words: Words, spans: Spans, phrases: np.ndarray, told: LabelWords,
    settings: SeedSettings, rng: np.random.Generator, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Asked:  # fmt: skip
    """Ask an expert about phrases (P,). A template without {text} is asked once a phrase, not once a mention."""
    rows = mentions(spans, phrases, settings.mentions, rng)
    names = phrase_texts(words, spans, spans.phrase[rows])
    shown = _surroundings(words, spans, rows)
    # one list of distinct clozes: a phrase's context-free cloze is the same for all of its mentions
    wanted = [[cloze(t, text, name) for text, name in zip(shown, names, strict=True)] for t in types.templates]
    distinct = list(dict.fromkeys(c for column in wanted for c in column))
    place = {c: n for n, c in enumerate(distinct)}
    found = np.zeros((len(distinct), len(told.tokens)), dtype=np.float32)
    for start in range(0, len(distinct), AT_ONCE):
        found[start : start + AT_ONCE] = expert.logits(distinct[start : start + AT_ONCE], told.tokens)
        progress(min(start + AT_ONCE, len(distinct)), len(distinct))
    logits = np.stack([found[[place[c] for c in column]] for column in wanted], axis=1)
    if settings.calibrated:
        logits = logits - expert.logits([cloze(t, NOTHING_SAID, NOTHING_SAID) for t in types.templates], told.tokens)
    return Asked(spans.phrase[rows], rows, logits)


def cloze(template: str, text: str, phrase: str) -> Cloze:
    """A template filled in; what comes before the phrase is shared by all phrases of a text."""
    before, after = template.split("{word}")
    head, rest = before.split("{phrase}")
    return Cloze(head.replace("{text}", text).rstrip(), (" " if head.strip() else "") + phrase + rest, after)


def class_probabilities(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(..., C + 1): softmax over classes of the mean logit of a class's words; logits (..., W), classes (W,)."""
    member = np.eye(int(classes.max()) + 1, dtype=np.float64)[classes]
    means = logits @ (member / member.sum(axis=0))
    powers = np.exp(means - means.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def consistent_seeds(
    asked: Asked, told: LabelWords, count: np.ndarray, settings: SeedSettings
) -> tuple[dict[int, int], np.ndarray]:
    """(phrase -> class, best first; phrases of which both templates say "no entity").

    A phrase e is a seed of c when the likeliest class of its mean probabilities is c under both templates, when both
    say c of `agreement` of its mentions, and when the smaller mean probability is `probability` at least. Ranked by
    that probability times log2(count). count (P,): how often each phrase is there.
    """
    p = class_probabilities(asked.logits, told.classes)
    if settings.single:
        p = p[:, :1]
    phrases, row = np.unique(asked.phrase, return_inverse=True)
    size = np.bincount(row)[:, None, None]
    mean = np.zeros((len(phrases), *p.shape[1:]))
    np.add.at(mean, row, p)
    mean /= size
    votes = mean.argmax(axis=-1)
    kind = votes[:, 0]
    both = (votes == kind[:, None]).all(axis=1) if settings.consistent else np.ones(len(phrases), dtype=bool)
    said = (
        (p.argmax(axis=-1) == kind[row][:, None]).all(axis=1)
        if settings.consistent
        else p[:, 0].argmax(-1) == kind[row]
    )
    agreed = np.bincount(row, weights=said) / size[:, 0, 0] >= settings.agreement
    own = np.take_along_axis(mean, kind[:, None, None], axis=2)[..., 0]
    least = own.min(axis=1) if settings.consistent else own[:, 0]
    sound = both & agreed & (least >= settings.probability)
    nothing = int(told.classes.max())
    rank = least * np.log2(np.maximum(count[phrases], 2))
    return _best(phrases, kind, rank, sound, nothing, settings.most), phrases[sound & (kind == nothing)]


def taught_seeds(
    asked: Asked, told: LabelWords, label: np.ndarray, none: np.ndarray, count: np.ndarray, seed: int,
    probability: float = 0.9, share: float = 0.8, most: int = 100,
) -> dict[int, int]:  # fmt: skip
    """Seeds of an expert that was taught on the pool: a linear head on its calibrated logits under both templates.

    label (M,): the pool's class of each mention, or -1. none: phrases of which it said "no entity"; of those and, where
    they are too few, of unlabelled ones the head gets three times as many mentions as there are positives. Each phrase
    is judged by a head that did not see it (five folds by phrase). A seed has a mean probability of 0.9 at least and is
    called so at 80 % of its mentions. Empty where fewer than two classes or five phrases are labelled.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    nothing = int(told.classes.max())
    rng = np.random.default_rng([seed, 5])
    target = np.where(label >= 0, label, -1)
    free = rng.permutation(np.flatnonzero(label < 0))
    free = free[np.argsort(~np.isin(asked.phrase[free], none), kind="stable")]
    target[free[: 3 * int((label >= 0).sum())]] = nothing
    flat = asked.logits.reshape(len(label), -1)
    inputs = flat - flat.mean(axis=1, keepdims=True)
    if len(np.unique(target[target >= 0])) < 2 or len(np.unique(asked.phrase[target >= 0])) < 5:
        return {}
    p = np.zeros((len(label), nothing + 1))
    folds = GroupKFold(5, shuffle=True, random_state=seed).split(inputs, groups=asked.phrase)
    for train, test in folds:
        used = train[target[train] >= 0]
        if len(np.unique(target[used])) > 1:
            head = LogisticRegression(C=0.1, max_iter=300).fit(inputs[used], target[used])
            p[test[:, None], head.classes_[None, :]] = head.predict_proba(inputs[test])
    return _sure(asked, p, count, probability, share, most)


def _sure(
    asked: Asked, p: np.ndarray, count: np.ndarray, probability: float, share: float, most: int
) -> dict[int, int]:
    """Phrases whose mean probability and share of mentions are high enough; p (M, C + 1)."""
    phrases, row = np.unique(asked.phrase, return_inverse=True)
    size = np.bincount(row)
    mean = np.zeros((len(phrases), p.shape[1]))
    np.add.at(mean, row, p)
    mean /= size[:, None]
    kind = mean.argmax(axis=1)
    said = np.bincount(row, weights=p.argmax(axis=1) == kind[row]) / size
    least = mean.max(axis=1)
    rank = least * np.log2(np.maximum(count[phrases], 2))
    return _best(phrases, kind, rank, (least >= probability) & (said >= share), p.shape[1] - 1, most)


def _best(
    phrases: np.ndarray, kind: np.ndarray, rank: np.ndarray, sound: np.ndarray, nothing: int, most: int
) -> dict[int, int]:
    """phrase -> class of the `most` best of each class but "no entity"."""
    chosen: dict[int, int] = {}
    for c in range(nothing):
        rows = np.flatnonzero(sound & (kind == c))
        for r in rows[np.lexsort((phrases[rows], -rank[rows]))][:most]:
            chosen[int(phrases[r])] = c
    return chosen


def _surroundings(words: Words, spans: Spans, rows: np.ndarray) -> Sequence[str]:
    """The text of each span, cut to AROUND words on each side."""
    text = spans.text[rows]
    first = np.maximum(spans.first[rows] - AROUND, words.begin[text])
    last = np.minimum(spans.last[rows] + AROUND, words.begin[text + 1] - 1)
    frame = pl.DataFrame({"text": words.texts.gather(text), "start": words.start[first], "end": words.end[last]})
    return (
        frame.select(pl.col("text").str.slice(pl.col("start"), pl.col("end") - pl.col("start"))).to_series().to_list()
    )
