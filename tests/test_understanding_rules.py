"""Rules: what fires where, which are taken; labels, the gate and what is kept of overlapping spans."""

from __future__ import annotations

import numpy as np
import pytest

from goodrate.understanding import gate
from goodrate.understanding.candidates import Spans, find_spans, phrases_of
from goodrate.understanding.distilling import LoopSettings, Problem, next_round, seeded
from goodrate.understanding.labels import (
    NOTHING,
    at_parents,
    majority,
    overlapping,
    soft_labels,
    strongest,
    without_overlaps,
)
from goodrate.understanding.rules import PATTERNS, Rule, RuleTable, best_rules, fired, rule_table, rule_text, rules_at
from goodrate.understanding.words import Words, split_words

TEXTS = ["lamp made of oak for desks", "chair made of pine for rooms", "stool made of teak for bars", "oak", "pine"]


@pytest.fixture(scope="module")
def corpus() -> tuple[Words, Spans, RuleTable]:
    words = split_words(TEXTS)
    spans = find_spans(words)
    return words, spans, rule_table(words, spans, more_than=1)


def span_of(corpus: tuple[Words, Spans, RuleTable], text: int, phrase: str) -> int:
    words, spans, _ = corpus
    number = phrases_of(words, spans, [phrase])[phrase]
    return int(np.flatnonzero((spans.text == text) & (spans.phrase == number))[0])


@pytest.mark.parametrize(
    ("pattern", "says", "matches"),
    [
        (("phrase", 0, 0), 'phrase "oak"', {"oak0", "oak3"}),
        (("before and after", 1, 1), 'before "of" and after "for"', {"oak0", "pine1", "teak2"}),
        (("before and after", 2, 1), 'before "made of" and after "for"', {"oak0", "pine1", "teak2"}),
        (("before and form", 2, 0), 'before "made of" and form of "oak"', {"oak0", "pine1", "teak2"}),
        (("after and form", 0, 1), 'after "for" and form of "oak"', {"oak0", "pine1", "teak2"}),
    ],
)
def test_each_kind_of_rule_fires_where_it_should(corpus: tuple[Words, Spans, RuleTable], pattern: tuple[str, int, int],
                                                 says: str, matches: set[str]) -> None:  # fmt: skip
    words, spans, table = corpus
    number = PATTERNS.index(pattern)
    rule = int(table.of[span_of(corpus, 0, "oak"), number])
    assert rule_text(words, spans, number, int(table.example[rule])) == says
    rows = np.flatnonzero(table.of[:, number] == rule)
    assert {words.vocabulary[int(words.word[spans.first[r]])] + str(spans.text[r]) for r in rows} == matches
    assert table.matches[rule] == len(matches)


def test_the_ends_of_a_text_are_words(corpus: tuple[Words, Spans, RuleTable]) -> None:
    words, spans, table = corpus
    number = PATTERNS.index(("before and after", 1, 1))
    rule = int(table.of[span_of(corpus, 3, "oak"), number])
    assert rule_text(words, spans, number, int(table.example[rule])) == 'before "[START]" and after "[END]"'
    assert table.matches[rule] == 2  # "oak" and "pine" alone
    assert table.of[span_of(corpus, 3, "oak"), PATTERNS.index(("before and after", 2, 1))] == -1  # nothing is before it


def test_candidates_match_more_than_the_threshold() -> None:
    words = split_words(["red", "red", "blue", "blue", "blue"])
    spans = find_spans(words)
    table = rule_table(words, spans, more_than=2)
    phrase = table.of[:, 0]
    assert phrase[:2].tolist() == [-1, -1] and table.matches[phrase[2]] == 3  # exactly 2 is not more than 2


def test_rules_go_to_other_texts(corpus: tuple[Words, Spans, RuleTable]) -> None:
    words, spans, table = corpus
    number = PATTERNS.index(("before and after", 2, 1))
    rule = int(table.of[span_of(corpus, 0, "oak"), number])
    learned = Rule(number, int(table.key[rule]), 0, "made of _ for", 3, 3, "1.1")
    other = split_words(["bag made of wool for you", "wool for you"])
    found = find_spans(other)
    of = rules_at(other, found, [learned])
    assert [(int(found.text[s]), p) for s, p in zip(*np.nonzero(of >= 0), strict=True)] == [(0, number)]


def ten_matches() -> RuleTable:
    """Three rules over 30 spans: rule 0 at spans 0-9, 1 at 10-19, 2 at 20-29."""
    return RuleTable(np.arange(30)[:, None] // 10, np.zeros(3, np.int64), np.zeros(3, np.uint64),
                     np.array([0, 10, 20]), np.full(3, 10))  # fmt: skip


def test_rules_below_the_precision_are_never_taken() -> None:
    truth = np.full(30, NOTHING)
    truth[:9] = 1  # 9 of 10: 0.9; the tenth is unlabelled and counts as wrong
    truth[10:18] = 1  # 8 of 10
    truth[20:30] = 0
    rules, kinds, labelled = best_rules(ten_matches(), truth, np.zeros(3, bool), 2, 20, 0.9)
    assert (rules.tolist(), kinds.tolist(), labelled.tolist()) == ([2, 0], [0, 1], [10, 9])
    assert best_rules(ten_matches(), truth, np.array([True, False, True]), 2, 20, 0.9)[0].size == 0  # used, imprecise


def test_the_best_by_rlogf_come_first_and_only_so_many() -> None:
    # RlogF: (9 / 10) log2 9 = 2.85 and (10 / 10) log2 10 = 3.32
    truth = np.full(30, NOTHING)
    truth[:9] = 0
    truth[20:] = 0
    assert best_rules(ten_matches(), truth, np.zeros(3, bool), 1, 1, 0.9)[0].tolist() == [2]


def test_more_rules_with_every_round() -> None:
    assert [LoopSettings().rules_in(n) for n in (0, 1, 2, 60, 90)] == [20, 21, 22, 80, 80]


def test_votes_are_counted_and_ties_abstain() -> None:
    of = np.array([[0, 1, 2], [0, 2, -1], [-1, -1, -1]])
    votes, best = fired(of, np.array([0, 0, 1]), np.array([0.9, 1.0, 0.95]), 2)
    assert votes.tolist() == [[2, 1], [1, 1], [0, 0]]
    assert best.tolist() == [[1, 2], [0, 2], [-1, -1]]  # the most precise rule of each class
    assert majority(votes).tolist() == [0, NOTHING, NOTHING]


def test_a_rule_on_a_part_labels_the_linked_phrase() -> None:
    votes, best = at_parents(np.array([[1], [0], [1]]), np.array([[7], [-1], [4]]), np.array([1, 1, 2]))
    assert votes.tolist() == [[0], [1], [1]] and best[1:].tolist() == [[7], [4]]


def test_overlapping_labels_divide_the_whole_vector() -> None:
    first, last = np.array([0, 1, 1, 4, 6]), np.array([1, 1, 2, 4, 6])
    label = np.array([0, NOTHING, 2, 1, NOTHING])
    soft, used = soft_labels(first, last, label, 3)
    # spans 0 and 2 share word 1: each is 1/2, also for the third class; span 1 lies in both and is "no entity"
    assert soft.tolist() == [[0.5, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert used.tolist() == [True, True, True, True, False]
    assert overlapping(first, last, label != NOTHING).tolist() == [2, 2, 2, 1, 0]


def test_the_best_of_nested_and_overlapping_spans_is_kept() -> None:
    first, last = np.array([0, 0, 1, 2, 5]), np.array([0, 1, 2, 3, 5])
    # 0.9 takes words 0-1; 0.8 shares word 1 with it; 0.7 shares none with 0.9 and is kept; 0 never
    assert without_overlaps(first, last, np.array([0.5, 0.9, 0.8, 0.7, 0.0]), 6).tolist() == [False, True, False, True,
                                                                                            False]  # fmt: skip
    # equal scores: the longer
    assert without_overlaps(first[:2], last[:2], np.array([0.5, 0.5]), 6).tolist() == [False, True]


def test_the_likeliest_share_of_each_class_is_believed() -> None:
    p = np.array([[0.9, 0.0, 0.1], [0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]])
    # class 0 has three predictions, of which ceil(0.6 * 3) = 2 are kept; the last is "no entity"
    assert strongest(p, 0.6).tolist() == [0, 0, NOTHING, 1, NOTHING]


def test_no_member_is_its_own_neighbour_in_the_gate() -> None:
    # three orthogonal members: against the others every cosine is 0, against itself 1
    assert gate.threshold(np.eye(3), np.random.default_rng(0)) == pytest.approx(0.0)
    assert gate.threshold(np.eye(3)[:1], np.random.default_rng(0)) == -np.inf
    # local is 1; the mean of 3 draws of (1, 0) is (1, 0), so global is 1
    scores = gate.scores(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[2.0, 0.0]]), np.random.default_rng(0))
    assert scores.tolist() == pytest.approx([1.0, -1.0])


def test_the_gate_lets_in_what_is_near_and_all_where_nothing_is() -> None:
    vectors = np.array([[1, 0.1], [1, -0.1], [1, 0.0], [0, 1.0]])
    pool, new = np.array([0, 0, NOTHING, NOTHING]), np.array([NOTHING, NOTHING, 0, 0])
    phrase = np.arange(4)
    take = lambda rows: vectors[rows]  # noqa: E731
    assert gate.accepted(phrase, new, pool, take, np.random.default_rng(0)).tolist() == [False, False, True, False]
    far = np.array([NOTHING, NOTHING, NOTHING, 0])
    assert gate.accepted(phrase, far, pool, take, np.random.default_rng(0)).tolist() == [False, False, False, True]


def test_a_round_takes_rules_labels_and_waits(corpus: tuple[Words, Spans, RuleTable]) -> None:
    words, spans, table = corpus
    seeds = {phrases_of(words, spans, ["oak"])["oak"]: 0}
    believed = np.zeros((len(spans), 2))
    believed[:, 1] = 1.0
    for text, phrase in ((1, "pine"), (2, "teak"), (4, "pine")):
        believed[span_of(corpus, text, phrase)] = (0.9, 0.1)  # the tagger says of pine and teak what the seed is
    problem = Problem(words, spans, table, 1, lambda pool: believed, gate_of(words), LoopSettings(kept=1.0))
    pool = seeded(problem, seeds)
    assert sorted(np.flatnonzero(pool.label == 0)) == sorted((span_of(corpus, 0, "oak"), span_of(corpus, 3, "oak")))
    after = next_round(problem, pool)
    assert {f"{r.says} {r.precision:.0f}" for r in after.rules} >= {
        'phrase "pine" 1',
        'before "made of" and after "for" 1',
    }
    assert 'phrase "oak"' not in {r.says for r in after.rules}  # every match of it is labelled
    for text, phrase in ((1, "pine"), (2, "teak"), (4, "pine")):
        assert after.label[span_of(corpus, text, phrase)] == 0
    assert (after.label != NOTHING).sum() == 5 and after.number == 1 and not after.done
    assert after.rules[after.found[span_of(corpus, 2, "teak")]].kind == 0
    assert next_round(problem, after).done  # nothing is left to label


def gate_of(words: Words) -> gate.Vectors:
    """Vectors under which every phrase is near."""
    return lambda rows: np.ones((len(rows), 2))
