"""The rationale: written and read back, every named failure, and steps that contradict the label."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.relevance.rationale import (
    CHECKS,
    ORDERS,
    RELATIONS,
    STEPS,
    STRENGTHS,
    Rationale,
    Want,
    contradicts,
    label_text,
    parse,
    write,
)

JACKET = Rationale(
    label=1,
    category="jacket",
    wants=(Want("color", "red", "must"), Want("price", "40", "below")),
    found_category="phone case",
    found=("blue", None),
    relation="other",
    checks=("conflict", "unknown"),
    rule="other_category",
)
LINES = [
    "wants jacket ; color red must ; price 40 below",
    "found phone case ; color blue ; price none",
    "category jacket : phone case other",
    "checks color conflict ; price unknown",
    "verdict other_category",
]
RULE_LABELS = {"other_category": 0, "all_met": 3}

word = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8).filter(lambda w: w != "none")
phrase = st.lists(word, min_size=1, max_size=3).map(" ".join)


@st.composite
def rationales(draw: st.DrawFn) -> Rationale:
    count = draw(st.integers(0, 4))
    wants = [Want(draw(word), draw(phrase), draw(st.sampled_from(STRENGTHS))) for _ in range(count)]
    return Rationale(
        label=draw(st.integers(0, 3)),
        category=draw(phrase),
        wants=tuple(wants),
        found_category=draw(phrase),
        found=tuple(draw(st.none() | phrase) for _ in range(count)),
        relation=draw(st.sampled_from(RELATIONS)),
        checks=tuple(draw(st.sampled_from(CHECKS)) for _ in range(count)),
        rule=draw(word),
    )


@given(rationales(), st.sampled_from(ORDERS))
def test_what_was_written_is_read_back(rationale: Rationale, order: str) -> None:
    parsed = parse(write(rationale, order), order)
    assert (parsed.status, parsed.label, parsed.rationale) == ("ok", rationale.label, rationale)
    assert tuple(parsed.steps) == STEPS


@given(st.text(max_size=200), st.sampled_from(ORDERS))
def test_no_text_breaks_the_parser(text: str, order: str) -> None:
    parsed = parse(text, order)
    assert parsed.label is None or parsed.label >= 0
    assert (parsed.rationale is not None) == (parsed.status in ("ok", "trailing_text"))


def test_the_exact_text_of_both_orders() -> None:
    assert write(JACKET) == "\n".join(["2", *LINES]) + "\n"
    assert write(JACKET, "reason_first") == "\n".join([*LINES, "2"]) + "\n"
    assert [label_text(label) for label in range(4)] == ["1", "2", "3", "4"]


def test_no_wants_are_written_as_none() -> None:
    bare = replace(JACKET, wants=(), found=(), checks=())
    assert "checks none\n" in write(bare) and parse(write(bare)).rationale == bare


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        (" \n \n", "empty"),
        ("good\n" + "\n".join(LINES), "no_label"),
        ("\n".join(LINES), "no_label"),
        ("²\n" + "\n".join(LINES), "no_label"),  # a digit to str.isdigit, not to int()
        ("1" * 5000, "no_label"),
        ("0\n" + "\n".join(LINES), "label_out_of_range"),
        ("5\n" + "\n".join(LINES), "label_out_of_range"),
        ("\n".join(["2", *LINES, LINES[-1]]), "trailing_text"),
        ("\n".join(["2", *LINES, "and so on"]), "trailing_text"),
    ],
)
def test_failures_of_the_whole(text: str, status: str) -> None:
    assert parse(text).status == status


@pytest.mark.parametrize("missing", range(5))
def test_a_missing_step_is_named_and_the_label_kept(missing: int) -> None:
    parsed = parse("\n".join(["2", *LINES[:missing], *LINES[missing + 1 :]]))
    assert (parsed.status, parsed.label, parsed.rationale) == (f"missing_{STEPS[missing]}", 1, None)
    assert STEPS[missing] not in parsed.steps and len(parsed.steps) == 4


@pytest.mark.parametrize(
    ("position", "line", "status"),
    [
        (0, "wants", "bad_wants"),
        (0, "wants jacket ; color red", "bad_wants"),  # no strength
        (0, "wants jacket ; color must ; price 40 below", "bad_wants"),  # no value
        (1, "found phone case ; color blue", "bad_found"),  # one want without its value
        (1, "found phone case ; price 9 ; color blue", "bad_found"),  # another order
        (1, "found ; color blue ; price none", "bad_found"),
        (2, "category jacket : phone case cousin", "bad_category"),
        (2, "category other", "bad_category"),
        (3, "checks color conflict", "bad_checks"),
        (3, "checks color conflict ; price maybe", "bad_checks"),
        (3, "checks none", "bad_checks"),
        (4, "verdict", "bad_verdict"),
        (4, "verdict it is other", "bad_verdict"),
    ],
)
def test_a_bad_step_is_named(position: int, line: str, status: str) -> None:
    lines = [*LINES[:position], line, *LINES[position + 1 :]]
    parsed = parse("\n".join(["2", *lines]))
    assert (parsed.status, parsed.label, parsed.rationale) == (status, 1, None)


def test_a_cut_off_reason_first_completion_has_no_label() -> None:
    parsed = parse("\n".join(LINES[:3]), "reason_first")
    assert (parsed.status, parsed.label) == ("no_label", None)
    assert tuple(parsed.steps) == STEPS[:3]


def test_a_longer_scale_takes_more_labels() -> None:
    text = "\n".join(["7", *LINES])
    assert parse(text).status == "label_out_of_range"
    assert parse(text, num_labels=7).label == 6


def test_contradicts_compares_the_rule_with_the_label() -> None:
    # The rule other_category stands for label 0 ("1"); JACKET says label 1 ("2").
    assert contradicts(parse(write(JACKET)), RULE_LABELS) is True
    assert contradicts(parse(write(replace(JACKET, label=0))), RULE_LABELS) is False
    assert contradicts(parse("2\nwants"), RULE_LABELS) is None
    assert contradicts(parse(write(replace(JACKET, rule="invented"))), RULE_LABELS) is None


def test_an_unknown_order_is_refused() -> None:
    for call in (lambda: write(JACKET, "verdict_first"), lambda: parse("1", "verdict_first")):
        with pytest.raises(ValueError, match="'verdict_first' is not one of label_first, reason_first"):
            call()


def test_what_a_text_was_worth_stands_before_the_steps_and_without_one_nothing_changes() -> None:
    told = replace(JACKET, context="partly")
    assert write(told) == "\n".join(["2", "context partly", *LINES]) + "\n"
    for order in ORDERS:
        parsed = parse(write(told, order), order)
        assert (parsed.status, parsed.rationale, parsed.steps["context"]) == ("ok", told, "context partly")
        assert parse(write(JACKET, order), order).rationale == JACKET and JACKET.context is None
    assert parse("\n".join(["2", "context maybe", *LINES])).status == "bad_context"
    assert parse("\n".join(["2", "context use", *LINES, "context use"])).status == "trailing_text"
