"""The one record of a verdict: from a row of probabilities to label, gain, tier, JSON, and the rerank shape."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from goodrate.relevance.verdicts import (
    Explanation,
    ReasonStep,
    Verdict,
    explanation_from_json,
    verdicts_of,
    with_tiers,
)
from goodrate.scale import ESCI, FOUR_LEVEL, WANDS
from goodrate.serving.answers import explain_json
from goodrate.serving.client_answers import rerank_json

NAN = float("nan")


def test_a_row_of_probabilities_by_hand() -> None:
    one, two, failed, told = verdicts_of(
        np.asarray([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7], [NAN] * 3, [NAN] * 3]),
        ["ok", "ok", "ok", "cut_off"],
        WANDS,
        0.5,
    )
    # gains 0, 0.5, 1: 0.5 * 0.5 + 0.25 and 0.5 * 0.2 + 0.7; p(exact) = 0.25 < 0.5 and p(irrelevant) = 0.25 <= 0.5
    assert one == Verdict("partial", (0.25, 0.5, 0.25), pytest.approx(0.5), "Mid")
    assert two == Verdict("exact", (0.1, 0.2, 0.7), pytest.approx(0.8), "Good")
    assert (failed, told) == (Verdict(status="no_probabilities"), Verdict(status="cut_off"))
    assert (told.label, told.tier, told.probabilities, told.expected_gain) == (None, None, (), None)
    assert verdicts_of(np.zeros((0, 3)), [], WANDS, 0.5) == []


def test_a_status_outweighs_probabilities() -> None:
    assert verdicts_of(np.asarray([[0.0, 0.0, 1.0]]), ["too_old"], WANDS, 0.5) == [Verdict(status="too_old")]


def test_the_gain_is_that_of_the_scale() -> None:
    # ESCI's gains 0, 0.01, 0.1, 1: 0.2 * 0.01 + 0.3 * 0.1 + 0.4
    assert verdicts_of(np.asarray([[0.1, 0.2, 0.3, 0.4]]), ["ok"], ESCI, 0.5)[0].expected_gain == pytest.approx(0.432)


def test_tiers_by_another_threshold() -> None:
    given = verdicts_of(
        np.asarray([[0.3, 0.1, 0.1, 0.5], [0.6, 0.4, 0.0, 0.0], [NAN] * 4]), ["ok"] * 3, FOUR_LEVEL, 0.5
    )
    assert [one.tier for one in given] == ["Good", "Bad", None]
    # 0.6 < 0.65 for Good and 0.3 <= 0.35: Mid; 0.6 > 0.35: still Bad. At 0.35: 0.6 <= 0.65, so Mid
    assert [one.tier for one in with_tiers(given, FOUR_LEVEL, 0.65)] == ["Mid", "Bad", None]
    assert [one.tier for one in with_tiers(given, FOUR_LEVEL, 0.35)] == ["Good", "Mid", None]
    assert with_tiers([], FOUR_LEVEL, 0.5) == []


def test_a_verdict_as_json_by_hand() -> None:
    steps = (ReasonStep("wants", "What the query asks for", "wants lamp", "lamp"),)
    why = Explanation("wants lamp", steps, "missing_found", None)
    verdict = Verdict("partial", (0.25, 0.5, 0.25), 0.5, "Mid", "ok", True, why, True, "a text")
    expected = {
        "label": "partial", "tier": "Mid", "probabilities": {"irrelevant": 0.25, "partial": 0.5, "exact": 0.25},
        "expected_gain": 0.5, "status": "ok", "item_cut": True, "reason": "wants lamp",
        "reason_status": "missing_found", "inconsistent": None, "cached": True, "context": "a text",
    }  # fmt: skip
    assert verdict.as_dict(WANDS) == expected
    step = {"name": "wants", "title": "What the query asks for", "line": "wants lamp", "text": "lamp"}
    assert explain_json("q", verdict, WANDS) == {"query": "q", "verdict": expected, "steps": [step]}
    assert explanation_from_json(json.loads(json.dumps(asdict(why)))) == why


def test_a_failure_as_json() -> None:
    shown = Verdict(status="no_label").as_dict(WANDS)
    assert (shown["label"], shown["probabilities"], shown["expected_gain"], shown["reason"]) == (None, {}, None, None)
    assert Verdict(status="no_label").steps_as_dicts() == []


def test_rerank_ties_go_by_index_and_failures_stand_last() -> None:
    same = Verdict("related", (0.0, 0.0, 1.0, 0.0), 3 / 7)
    bad = Verdict("irrelevant", (1.0, 0.0, 0.0, 0.0), 0.0)
    answers = rerank_json("m", ["a", "b", "c"], [same, same, same], None, False)
    assert [one["index"] for one in answers["results"]] == [0, 1, 2]
    answers = rerank_json("m", ["a", "b", "c"], [Verdict(status="no_label"), bad, same], None, False)
    assert [one["index"] for one in answers["results"]] == [2, 1, 0] and answers["goodrate"]["failed"] == 1
