"""Reasons in words: a judge's lines read back, the query's words that an item has, and reasons over HTTP's shape."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goodrate.relevance.rationale import Rationale, parse, write
from goodrate.relevance.reason_words import reason_steps, steps_of_text, word_steps
from goodrate.relevance.verdicts import ReasonStep
from serving_shop import REASON

UNASKED = Rationale(0, "socks", (), "kettles", (), "other", (), "other_category")


@pytest.mark.parametrize("order", ["label_first", "reason_first", "no label"])
def test_every_order_of_label_and_steps_reads_the_same(order: str) -> None:
    steps = "\n".join(REASON.splitlines()[1:])
    text = {"label_first": REASON, "reason_first": f"{steps}\n4\n", "no label": steps}[order]
    words = [step.text for step in steps_of_text(text)]
    assert words[3:] == ["colour fits; price not stated", "same_unknown"]


def test_a_query_without_constraints() -> None:
    steps = steps_of_text(write(UNASKED), {"other_category": "it is another kind of product"})
    assert [step.text for step in steps] == [
        "socks",
        "kettles",
        "kettles for socks: another category",
        "none asked for",
        "it is another kind of product",
    ]


def test_what_cannot_be_read_is_given_as_it_stands() -> None:
    cut = "4\nwants socks ; colour red must\nfound socks ; col"
    assert [(step.name, step.text) for step in steps_of_text(cut)] == [
        ("wants", "socks ; colour red must"),
        ("found", "socks ; col"),
    ]
    assert steps_of_text("") == steps_of_text("no steps here") == ()


def test_a_reason_names_the_text_and_what_it_was_worth() -> None:
    written = write(replace(UNASKED, context="ignore"))
    first = steps_of_text(written, context="wool demands socks")[0]
    assert (first.name, first.title, first.text) == ("context", "Retrieved text", "ignored: wool demands socks")
    assert steps_of_text(written)[0].text == "ignored: none was found"
    assert reason_steps(parse(written), {}, "wool demands socks")[0] == first


def test_the_words_that_a_query_and_an_item_share() -> None:
    # words in any case, each once; "lamps" is not "lamp"
    assert word_steps("Red lamp red lamps", "LAMP, red-white") == (
        ReasonStep("shared", "Words in the item", "shared red lamp", "red, lamp"),
        ReasonStep("lacking", "Words not in the item", "lacking lamps", "lamps"),
    )
    assert [step.name for step in word_steps("red", "a red lamp")] == ["shared"]
    assert [step.name for step in word_steps("blue", "a red lamp")] == ["lacking"]
