"""The loop: seeds label phrases, a fresh tagger learns from them, rules are distilled from what it says, and again.

Section 2 of the house's notes on STREAM (TALLOR's loop, re-implemented from a description). How a tagger is trained
is handed in: this room never trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from goodrate.understanding import gate, labels
from goodrate.understanding.candidates import Spans
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.rules import Rule, RuleTable, best_rules, class_counts, fired, rule_text
from goodrate.understanding.words import Words

SEED = -2  # found by a seed
SURE = 0.7  # least probability of "no entity" of a phrase that then counts as none


@dataclass(frozen=True)
class LoopSettings:
    """TALLOR's numbers, but for the rounds, of which it has 33. gated: new labels pass the gate."""

    rounds: int = 10
    precision: float = 0.9
    first_rules: int = 20
    rules_more: int = 1
    most_rules: int = 80
    kept: float = 0.7
    converged: float = 0.01
    gated: bool = True

    def rules_in(self, number: int) -> int:
        """K of a round: 20, 21, 22, ... up to 80."""
        return min(self.first_rules + self.rules_more * number, self.most_rules)


@dataclass(frozen=True)
class Pool:
    """What is labelled so far. label (S,): class or NOTHING. found (S,): place in `rules`, SEED, or -1.

    waiting (S,): classes that the gate has not let in yet, with waiting_for (S,), the rules that gave them.
    said (S,): what the last round's taggers hold for likely: a class, `classes` where it is surely no entity, NOTHING.
    used (R,): rule candidates that were taken. rules: those, in order. number: rounds done. done: no more to come.
    """

    label: np.ndarray
    found: np.ndarray
    waiting: np.ndarray
    waiting_for: np.ndarray
    said: np.ndarray
    used: np.ndarray
    rules: tuple[Rule, ...] = ()
    number: int = 0
    done: bool = False


@dataclass(frozen=True)
class Problem:
    """What a loop works on. train: pool -> what fresh taggers say of all spans, (S, C + 1)."""

    words: Words
    spans: Spans
    table: RuleTable
    classes: int
    train: Callable[[Pool], np.ndarray]
    vectors: gate.Vectors
    settings: LoopSettings = field(default_factory=LoopSettings)
    seed: int = 0
    stage: str = "1"


def seeded(problem: Problem, seeds: dict[int, int]) -> Pool:
    """The pool of the seeds alone: phrase -> class. A linked phrase that holds a seed has its class."""
    size = len(problem.spans)
    kind_of = np.full(len(problem.spans.count) + 1, NOTHING)
    kind_of[list(seeds.keys())] = list(seeds.values())
    kinds = kind_of[problem.spans.phrase]
    votes = np.zeros((size, problem.classes), dtype=np.int32)
    rows = np.flatnonzero(kinds != NOTHING)
    votes[rows, kinds[rows]] = 1
    votes, _ = labels.at_parents(votes, np.full_like(votes, -1), problem.spans.parent)
    label = labels.majority(votes)
    none = np.full(size, NOTHING)
    return Pool(
        label, np.where(label != NOTHING, SEED, -1), none, none.copy(), none.copy(),
        np.zeros(len(problem.table.matches), bool),
    )  # fmt: skip


def distil(problem: Problem, pool: Pool) -> Iterator[Pool]:
    """The pool after each further round, until no rule passes, less than 1 % is new, or the rounds are over.

    A round is a function of problem and pool alone: a run that is killed goes on from the last pool as if it had not.
    """
    while not pool.done and pool.number < problem.settings.rounds:
        pool = next_round(problem, pool)
        yield pool


def next_round(problem: Problem, pool: Pool) -> Pool:
    """One round: train, believe the likeliest predictions, take the best rules, label, let through the gate."""
    settings = problem.settings
    probabilities = problem.train(pool)
    believed = labels.strongest(probabilities, settings.kept)
    truth = np.where(pool.label != NOTHING, pool.label, believed)
    rows, kinds, labelled = best_rules(
        problem.table,
        truth,
        pool.used | _nothing_new(problem, pool),
        problem.classes,
        settings.rules_in(pool.number),
        settings.precision,
    )
    pool = _with_rules(problem, pool, rows, kinds, labelled)
    label, found = _labelled(problem, pool, rows, kinds)
    free = pool.label == NOTHING
    label = np.where(free, np.where(label == NOTHING, pool.waiting, label), NOTHING)
    found = np.where(found >= 0, found, pool.waiting_for)
    enters = _let_in(problem, pool, label)
    before = int((pool.label != NOTHING).sum())
    new = int(enters.sum())
    return replace(
        pool,
        label=np.where(enters, label, pool.label), found=np.where(enters, found, pool.found),
        waiting=np.where(enters, NOTHING, label), waiting_for=np.where(enters, -1, found),
        said=labels.held_for(probabilities, SURE),
        number=pool.number + 1, done=not len(rows) or new < settings.converged * before,
    )  # fmt: skip


def _nothing_new(problem: Problem, pool: Pool) -> np.ndarray:
    """(R,) bool: rule candidates all of whose matches are labelled. They would take the places of others (ours)."""
    free = np.where(pool.label == NOTHING, 0, NOTHING)
    return class_counts(problem.table, free, 1)[:, 0] == 0


def _with_rules(problem: Problem, pool: Pool, rows: np.ndarray, kinds: np.ndarray, labelled: np.ndarray) -> Pool:
    """The pool with these rule candidates taken."""
    table = problem.table
    stage = f"{problem.stage}.{pool.number + 1}"
    taken = tuple(
        Rule(int(table.pattern[r]), int(table.key[r]), int(k),
             rule_text(problem.words, problem.spans, int(table.pattern[r]), int(table.example[r])),
             int(table.matches[r]), int(n), stage)
        for r, k, n in zip(rows, kinds, labelled, strict=True)
    )  # fmt: skip
    used = pool.used.copy()
    used[rows] = True
    return replace(pool, used=used, rules=pool.rules + taken)


def _labelled(problem: Problem, pool: Pool, rows: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class (S,) that the round's rules give, and the rule (place in pool.rules) that gave it."""
    size = len(problem.table.matches)
    kind_of, precision_of = np.full(size, NOTHING), np.zeros(size)
    place_of = np.full(size + 1, -1)
    kind_of[rows] = kinds
    first = len(pool.rules) - len(rows)
    place_of[rows] = np.arange(first, first + len(rows))
    precision_of[rows] = [rule.precision for rule in pool.rules[first:]]
    votes, best = fired(problem.table.of, kind_of, precision_of, problem.classes)
    votes, best = labels.at_parents(votes, best, problem.spans.parent)
    label = labels.majority(votes)
    chosen = np.where(label != NOTHING, np.take_along_axis(best, label.clip(min=0)[:, None], 1)[:, 0], -1)
    return label, place_of[chosen]


def _let_in(problem: Problem, pool: Pool, label: np.ndarray) -> np.ndarray:
    """(S,) bool: which new labels enter the pool."""
    if not problem.settings.gated:
        return label != NOTHING
    rng = np.random.default_rng([problem.seed, pool.number, 3])
    return gate.accepted(problem.spans.phrase, label, pool.label, problem.vectors, rng)
