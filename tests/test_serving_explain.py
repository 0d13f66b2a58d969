"""Reasons in words, and verdicts in the shape that is shown."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from goodrate.relevance.rationale import Rationale, write
from goodrate.scale import FOUR_LEVEL, WANDS
from goodrate.serving.answers import rerank_json
from goodrate.serving.explain import explain_steps
from goodrate.serving.judging import ServedVerdict, served
from serving_shop import REASON


def verdict(reason: str | None) -> ServedVerdict:
    """A verdict with this reason."""
    return ServedVerdict("related", "Good", (0.0, 0.0, 1.0, 0.0), 3 / 7, reason=reason)


@pytest.mark.parametrize("order", ["label_first", "reason_first", "no label"])
def test_every_order_of_label_and_steps_reads_the_same(order: str) -> None:
    steps = "\n".join(REASON.splitlines()[1:])
    text = {"label_first": REASON, "reason_first": f"{steps}\n4\n", "no label": steps}[order]
    words = [step.text for step in explain_steps(verdict(text))]
    assert words[3:] == ["colour fits; price not stated", "same_unknown"]


def test_a_query_without_constraints() -> None:
    rationale = Rationale(0, "socks", (), "kettles", (), "other", (), "other_category")
    steps = explain_steps(verdict(write(rationale)), {"other_category": "it is another kind of product"})
    assert [step.text for step in steps] == [
        "socks",
        "kettles",
        "kettles for socks: another category",
        "none asked for",
        "it is another kind of product",
    ]


def test_what_cannot_be_read_is_given_as_it_stands() -> None:
    cut = "4\nwants socks ; colour red must\nfound socks ; col"
    assert [(step.name, step.text) for step in explain_steps(verdict(cut))] == [
        ("wants", "socks ; colour red must"),
        ("found", "socks ; col"),
    ]
    assert explain_steps(verdict(None)) == explain_steps(verdict("")) == explain_steps(verdict("no steps here")) == []


def given(label: int | None, probabilities: list[float] | None, status: str = "ok") -> SimpleNamespace:
    """A verdict as the judge gives it."""
    return SimpleNamespace(
        label=label,
        probabilities=probabilities,
        tier="Mid",
        status=status,
        reason=None,
        reason_status=None,
        inconsistent=None,
    )


def test_served_verdicts() -> None:
    shown = served(given(1, [0.25, 0.5, 0.25]), WANDS)
    # gains 0, 0.5, 1: 0.5 * 0.5 + 0.25 * 1
    assert (shown.label, shown.tier, shown.expected_gain) == ("partial", "Mid", pytest.approx(0.5))
    failed = served(given(None, None, "cut_off"), FOUR_LEVEL)
    assert (failed.label, failed.tier, failed.expected_gain, failed.status) == (None, None, None, "cut_off")


def test_rerank_ties_go_by_index() -> None:
    answers = rerank_json("m", ["a", "b", "c"], [verdict(None), verdict(None), verdict(None)], None, False)
    assert [one["index"] for one in answers["results"]] == [0, 1, 2]


def test_a_reason_names_the_text_and_what_it_was_worth() -> None:
    said = replace(Rationale(0, "socks", (), "kettles", (), "other", (), "other_category"), context="ignore")
    first = explain_steps(replace(verdict(write(said)), context="wool demands socks"))[0]
    assert (first.name, first.title, first.text) == ("context", "Retrieved text", "ignored: wool demands socks")
    assert explain_steps(verdict(write(said)))[0].text == "ignored: none was found"
