"""The corpus of the shop: what texts are worth, and that a share of the labels hangs on them alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from goodrate.relevance.context import ContextFinder, ContextText
from goodrate.relevance.listing import listing
from goodrate.relevance.rulebook import DEFAULT_RULES
from goodrate.shop.knowledge import HEARSAY, KnowledgeText, kind_of, make_corpus, use_of
from goodrate.shop.queries import Constraint, Query, make_standards
from goodrate.shop.shop import Shop, ShopSettings, generate, standards_of
from goodrate.shop.taxonomy import load_taxonomy
from goodrate.shop.truth import judge_truth

T = load_taxonomy()


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(items=1000, queries=300, knowledge_share=0.4))


def test_texts_say_what_is_true_or_not_and_hearsay_marks_wrong_standards(shop: Shop) -> None:
    standards = {s.term: (s.attribute, s.value) for s in standards_of(shop.settings, shop.world)}
    told = [text for text in shop.corpus if text.subject]
    for text in told:
        assert text.meaning is not None
        meaning = f"{T.attributes[text.meaning[0]]} {T.values[text.meaning[0]][text.meaning[1]]}"
        assert text.text.endswith(f" {meaning}") == text.right
        if text.subject in standards:
            assert text.meaning == standards[text.subject]
            assert text.text.startswith(HEARSAY) == (not text.right)
            attribute = T.attributes[text.meaning[0]]
            assert text.right == (f"demands {attribute} " in text.text)  # a wrong one names another attribute
    assert len({text.subject for text in told}) == len(told)  # never two texts on one word
    on_standards = [text.right for text in told if text.subject in standards]
    assert 0.6 < len(on_standards) / len(standards) < 0.8 and 0.6 < np.mean(on_standards) < 0.82
    assert len([text for text in shop.corpus if not text.subject]) == sum(len(s) for s in T.category_surfaces)
    assert make_corpus(shop.world, standards_of(shop.settings, shop.world)) == shop.corpus


def test_what_a_text_is_worth_for_a_query() -> None:
    red = Constraint(T.attributes.index("color"), T.values[T.attributes.index("color")].index("red"), "must")
    cotton = Constraint(
        T.attributes.index("material"), T.values[T.attributes.index("material")].index("cotton"), "must"
    )
    query = Query("red cotton lamp", "attribute", T.categories.index("lamp"), (red, cotton))
    right = KnowledgeText("a", "red means color red", "red", (red.attribute, red.value))
    assert (kind_of(query, right), use_of(query, "helpful")) == ("helpful", "partly")
    assert kind_of(query, replace(right, right=False)) == "misleading" and use_of(query, "misleading") == "ignore"
    assert kind_of(query, replace(right, subject="crimson")) == "irrelevant"  # the query does not type it
    assert kind_of(query, replace(right, meaning=(red.attribute, red.value + 1))) == "irrelevant"  # nor want it
    assert kind_of(query, KnowledgeText("b", "best deal : lamp color red")) == "irrelevant"
    one = Query("mopix certified lamp", "knowledge", T.categories.index("lamp"), (red,), term="mopix")
    assert use_of(one, kind_of(one, replace(right, subject="mopix"))) == "use"


def test_labels_of_knowledge_queries_hang_on_what_nothing_but_a_text_tells(shop: Shop) -> None:
    """Who knows all but the standard guesses the best label for the category's relation, and is often wrong."""
    told = [q for q, query in enumerate(shop.queries) if query.family == "knowledge"]
    assert len(told) == pytest.approx(0.4 * len(shop.queries), abs=3)
    rules, counts = DEFAULT_RULES.read_text(encoding="utf-8"), np.zeros((4, 4))
    for q in told:
        query, items = shop.queries[q], shop.judged_items[q]
        (standard,) = query.constraints
        value = T.values[standard.attribute][standard.value]
        assert query.term not in rules and query.facts == ""
        assert f" {value} " not in f" {query.text} " or value in T.category_surfaces[query.category]
        truth = shop.truth(q, items)
        np.add.at(counts, (truth.relation, truth.label), 1)
        assert (
            judge_truth(shop.world, shop.book, replace(query, text="-"), items).label.tolist() == truth.label.tolist()
        )
    assert not any(
        query.term in listing(record) for query in shop.queries if query.term for record in shop.records[:50]
    )
    assert counts.max(axis=1).sum() / counts.sum() < 0.76, counts  # 0.66 at the default size


def test_dev_and_test_name_standards_that_no_training_query_names(shop: Shop) -> None:
    terms = {split: {shop.queries[q].term for q in shop.queries_of(split)} - {""} for split in ("train", "dev", "test")}
    assert terms["train"] and terms["test"] and not terms["train"] & (terms["dev"] | terms["test"])
    assert len(standards_of(shop.settings, shop.world)) == 240


def test_the_default_shop_has_a_tenth_and_shares_its_standards() -> None:
    shop = generate(ShopSettings(items=400, queries=60))
    assert [query.family for query in shop.queries].count("knowledge") == pytest.approx(6, abs=2)
    assert standards_of(shop.settings, shop.world) == make_standards(shop.world)
    assert "knowledge_share" not in shop.settings.model_dump(exclude_none=True)


def test_retrieval_brings_texts_of_every_kind(shop: Shop) -> None:
    by_id = {text.id: text for text in shop.corpus}
    finder = ContextFinder([ContextText(text.id, text.text) for text in shop.corpus])
    queries = [query for query in shop.queries if query.family == "knowledge"][:25]
    found = [(query, finder.find(query.text)) for query in queries]
    kinds = [kind_of(query, by_id[texts[0].id]) for query, texts in found if texts]
    shares = [kinds.count(kind) / len(kinds) for kind in ("helpful", "irrelevant", "misleading")]
    assert 0.2 < shares[0] < 0.65 and 0.2 < shares[1] < 0.7 and 0.03 < shares[2] < 0.3, shares


def test_shares_of_texts_change_the_corpus_alone(shop: Shop) -> None:
    noisy = generate(shop.settings.model_copy(update={"text_shares": (0.1, 0.8)}))
    explained = [text for text in noisy.corpus if text.subject]
    assert sum(text.right for text in explained) / len(explained) == pytest.approx(1 / 9, abs=0.06)
    assert noisy.queries == shop.queries and (noisy.labels == shop.labels).all()
    silent = generate(ShopSettings(items=300, queries=60, text_shares=(0, 0)))
    assert not any(text.subject for text in silent.corpus)
    with pytest.raises(ValueError, match="two shares of a whole"):
        ShopSettings(text_shares=(0.5, 0.6))
    with pytest.raises(ValueError, match="two shares of a whole"):
        ShopSettings(text_shares=(float("nan"), 0.5))
