"""Judged items, behaviour and knowledge chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.relevance.rulebook import load_rulebook
from goodrate.shop.behaviour import PAGE, simulate_sessions, utility
from goodrate.shop.gates import unknown_rates
from goodrate.shop.judged import choose_judged
from goodrate.shop.knowledge import draw_chunk
from goodrate.shop.queries import Query, make_standards
from goodrate.shop.shop import Shop, ShopSettings, generate
from goodrate.shop.taxonomy import SAME, load_taxonomy
from goodrate.shop.truth import PairTruth, judge_truth
from goodrate.shop.world import make_world

T = load_taxonomy()
BOOK = load_rulebook()
WORLD = make_world(2, 500)
NONE_ASKED = Query("lamp", "head", T.categories.index("lamp"))


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(items=3000, queries=400))


# ---- judged items


def test_every_query_has_the_asked_number_of_distinct_items(shop: Shop) -> None:
    assert shop.judged_items.shape == (400, 40)
    assert (np.diff(shop.judged_items, axis=1) > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 120), st.integers(0, 10_000))
def test_any_number_of_judged_items_is_met(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = judge_truth(WORLD, BOOK, NONE_ASKED)
    chosen = choose_judged(truth, rng, count)
    assert len(chosen) == len(set(chosen.tolist())) == count


def test_labels_are_mixed(shop: Shop) -> None:
    labels = shop.labels[np.arange(400)[:, None], shop.judged_items]
    shares = np.bincount(labels.reshape(-1), minlength=4) / labels.size
    # The quota of 40 is 10, 9, 9, 8 and 4 at random; what a query has no items for goes to random ones, mostly
    # irrelevant. No label below a tenth, none above half.
    assert shares.min() > 0.1 and shares.max() < 0.5
    # Near misses: a query has items of three labels or more unless it asks for nothing but a kind or a brand.
    constrained = [q for q, query in enumerate(shop.queries) if query.family != "head"]
    distinct = [len(np.unique(labels[q])) for q in constrained]
    assert np.mean([d >= 3 for d in distinct]) > 0.95


def test_irrelevant_items_look_like_wanted_ones_but_for_their_kind(shop: Shop) -> None:
    """Checks met in full occur outside the wanted category too: attributes alone tell no label."""
    full_outside = 0
    for q, query in enumerate(shop.queries):
        truth = shop.truth(q, shop.judged_items[q])
        if query.constraints:
            full_outside += int(((truth.relation != SAME) & (truth.checks == 0).all(axis=1)).sum())
    assert full_outside > 400  # one a query at least, on average


def test_unknown_rates_are_near_equal_over_relations(shop: Shop) -> None:
    rates = unknown_rates(shop)
    # Measured on default shops: 0.36 to 0.44. Equal to a few points, where 0.3 is the rate of random items.
    assert max(rates.values()) - min(rates.values()) < 0.12
    assert min(rates.values()) > 0.25


def test_more_judged_items_than_the_shop_has_are_all_of_them() -> None:
    truth = judge_truth(WORLD, BOOK, NONE_ASKED)
    assert choose_judged(truth, np.random.default_rng(0), 800).tolist() == list(range(500))


# ---- behaviour


def constant_truth(label: int) -> PairTruth:
    """Every item has the same label, so that position is all that differs."""
    count = len(WORLD)
    return PairTruth(
        np.zeros(count, np.int64), np.zeros((count, 0), np.int64), np.zeros(count, np.int64), np.full(count, label)
    )


def test_utility_of_two_items() -> None:
    world = make_world(2, 200)
    world.quality[:2], world.price[:2] = (1.0, 0.0), (world.price.min(), world.price.max())
    label = np.asarray([3] + [0] * 199)
    truth = PairTruth(np.zeros(200, np.int64), np.zeros((200, 0), np.int64), np.zeros(200, np.int64), label)
    worth = utility(world, truth)
    assert worth[0] == pytest.approx(0.8)  # 0.8 * (0.6 + 0.4 * 1) * (1 - 0.2 * 0)
    assert worth[1] == pytest.approx(0.0048)  # 0.01 * 0.6 * (1 - 0.2 * 1)


def test_clicks_fall_with_position_at_equal_label() -> None:
    rows = simulate_sessions(WORLD, constant_truth(3), np.random.default_rng(0), 2000)
    rate = np.asarray([rows["clicked"][rows["position"] == p].mean() for p in range(1, PAGE + 1)])
    # A position is looked at with p ** -0.7: 1, 0.616, 0.379 (4th), 0.123 (20th) of the first. 2000 sessions: +- 0.03.
    assert rate / rate[0] == pytest.approx(np.arange(1, PAGE + 1) ** -0.7, abs=0.06)
    # Top position: mean of 0.8 * (0.6 + 0.4 quality) * (1 - 0.2 price), the page drawn evenly.
    assert rate[0] == pytest.approx(utility(WORLD, constant_truth(3)).mean(), abs=0.04)


def test_better_labels_are_clicked_more_at_the_same_position() -> None:
    rates = []
    for label in range(4):
        rows = simulate_sessions(WORLD, constant_truth(label), np.random.default_rng(1), 400)
        rates.append(rows["clicked"][rows["position"] <= 3].mean())
    assert rates == sorted(rates) and rates[3] > 5 * rates[1]


def test_sessions_are_of_training_queries_only_and_whole_pages(shop: Shop) -> None:
    s = shop.sessions
    assert set(s["query"].tolist()) == set(shop.queries_of("train").tolist())
    assert len(s["item"]) == len(shop.queries_of("train")) * shop.settings.sessions * PAGE
    assert s["clicked"].any() and not (s["bought"] & ~s["clicked"]).any()
    first = slice(0, PAGE)
    assert s["position"][first].tolist() == list(range(1, PAGE + 1)) and len(set(s["item"][first].tolist())) == PAGE


def test_a_shop_without_sessions() -> None:
    empty = generate(ShopSettings(items=200, queries=30, sessions=0)).sessions
    assert {name: len(values) for name, values in empty.items()} == dict.fromkeys(
        ("query", "session", "item", "position", "time", "clicked", "bought"), 0
    )


# ---- knowledge chunks


def test_kinds_come_in_their_shares(shop: Shop) -> None:
    kinds = [chunk.kind for chunk in shop.chunks]
    # 400 draws of 0.5, 0.3, 0.2: standard errors 0.025, 0.023, 0.02.
    shares = [kinds.count(kind) / 400 for kind in ("helpful", "irrelevant", "misleading")]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.08)


def test_a_chunk_on_a_standard_is_of_the_kind_it_says(shop: Shop) -> None:
    standards = {s.term: s for s in make_standards(shop.world)}
    seen = set()
    for query, chunk in zip(shop.queries, shop.chunks, strict=True):
        words = chunk.text.split()
        if not query.term:
            continue
        seen.add(chunk.kind)
        true = standards[words[0]]
        is_true = words[2:] == [T.attributes[true.attribute], T.values[true.attribute][true.value]]
        assert words[1] == "demands"
        assert (words[0] == query.term) == (chunk.kind != "irrelevant")
        assert is_true == (chunk.kind != "misleading")
    assert seen == {"helpful", "irrelevant", "misleading"}


def meanings() -> dict[str, str]:
    """What each surface and each usage truly means, as a chunk words it."""
    true = {s: kind[0] for kind in T.category_surfaces for s in kind}
    for name, values in zip(T.attributes, T.value_surfaces, strict=True):
        true |= {s: f"{name} {value[0]}" for value in values for s in value}
    return true | {phrase: f"{T.attributes[a]} {T.values[a][v]}" for phrase, a, v in T.usages}


def test_a_glossary_chunk_is_true_when_helpful_and_wrong_when_misleading(shop: Shop) -> None:
    true = meanings()
    for query, chunk in zip(shop.queries, shop.chunks, strict=True):
        if query.term or chunk.kind == "irrelevant":
            continue
        word, meaning = chunk.text.split(" means ")
        assert (true[word] == meaning) == (chunk.kind == "helpful"), chunk
        assert f" {word} " in f" {query.text} " or word == T.categories[query.category]


def test_training_chunks_tell_no_rare_word(shop: Shop) -> None:
    groups = [*T.category_surfaces, *(s for a in T.value_surfaces for s in a)]
    rare = {surfaces[-1] for surfaces in groups}
    told = [shop.chunks[q].text.split(" means ")[0] for q in shop.queries_of("train")]
    assert not rare & set(told)


def test_the_word_that_was_typed_is_explained() -> None:
    a = T.attributes.index("feature")
    from goodrate.shop.queries import Constraint

    query = Query("jacket for wet floors", "question", 4, (Constraint(a, T.values[a].index("antislip"), "must"),))
    chunks = {draw_chunk(WORLD, query, make_standards(WORLD), np.random.default_rng(s)) for s in range(30)}
    assert {c.text for c in chunks if c.kind == "helpful"} == {"wet floors means feature antislip"}
