"""Losses of clicks and what is told of places: hand-computed values, and what they are right about on average."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from goodrate.learning.click_terms import LOSSES
from goodrate.ranking.propensities import (
    ClickLog,
    check_propensities,
    estimated,
    from_randomised,
    of_positions,
)


def values(name: str, logit: float, clicked: float, **more: float) -> float:
    outputs = {key: torch.tensor([value]) for key, value in {"logits": logit, **more}.items() if key != "weight"}
    batch = {"clicked": torch.tensor([clicked]), "weight": torch.tensor([more.get("weight", 1.0)])}
    return float(LOSSES[name](outputs, batch)[0])


def test_losses_by_hand() -> None:
    # s(0) = 1/2: log 2 either way; with a click of weight 4 at logit 1: log(1 + e) - 4
    assert values("naive", 0.0, 1.0) == values("naive", 0.0, 0.0) == pytest.approx(math.log(2))
    assert values("ipw", 1.0, 1.0, weight=4.0) == pytest.approx(math.log(1 + math.e) - 4.0)
    assert values("ipw", 1.0, 0.0, weight=4.0) == pytest.approx(math.log(1 + math.e))
    # logit 1 with a tower of -1: s(0)
    assert values("position_tower", 1.0, 1.0, tower=-1.0) == pytest.approx(math.log(2))
    # s(0) seen with chance 1/2: clicked with 1/4
    seen = {"examination": math.log(0.5)}
    assert values("examination", 0.0, 1.0, **seen) == pytest.approx(-math.log(0.25))
    assert values("examination", 0.0, 0.0, **seen) == pytest.approx(-math.log(0.75))
    assert math.isfinite(values("examination", 40.0, 0.0, examination=0.0))


@pytest.mark.parametrize("seen", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("wanted", [0.1, 0.6])
def test_what_minimises_the_expected_loss(seen: float, wanted: float) -> None:
    """With the right propensity ipw and examination find the relevance; naive finds the click rate."""
    logits = torch.linspace(-6, 6, 4801)
    clicked = seen * wanted

    def best(name: str, **outputs: float) -> float:
        given = {"logits": logits, **{key: torch.full_like(logits, value) for key, value in outputs.items()}}
        batches = [{"clicked": torch.full_like(logits, c), "weight": torch.full_like(logits, 1 / seen)} for c in (1, 0)]
        one, zero = (LOSSES[name](given, batch) for batch in batches)
        return float(torch.sigmoid(logits[(clicked * one + (1 - clicked) * zero).argmin()]))

    assert best("ipw") == pytest.approx(wanted, abs=2e-3)
    assert best("examination", examination=math.log(seen)) == pytest.approx(wanted, abs=2e-3)
    assert best("naive") == pytest.approx(clicked, abs=2e-3)


def simulated(pairs: int, shown: int, seen: np.ndarray, seed: int) -> ClickLog:
    rng = np.random.default_rng(seed)
    pair = np.repeat(np.arange(pairs), shown)
    position = rng.integers(1, len(seen) + 1, len(pair))
    attraction = rng.beta(1, 4, pairs)
    clicked = rng.random(len(pair)) < seen[position - 1] * attraction[pair]
    return ClickLog(pair, position, clicked)


def test_propensities_are_found_from_clicks() -> None:
    truth = np.asarray([1.0, 0.6, 0.4, 0.2])
    log = simulated(400, 400, truth, 3)
    np.testing.assert_allclose(estimated(log, rounds=300), truth, rtol=0.06)
    np.testing.assert_allclose(from_randomised(log.position, log.clicked), truth, rtol=0.06)


def test_propensities_of_a_randomised_log_are_ratios_of_click_rates() -> None:
    position, clicked = np.asarray([1, 1, 2, 2, 2, 2]), np.asarray([1, 0, 1, 0, 0, 0])
    assert from_randomised(position, clicked).tolist() == [1.0, 0.5]  # 1/2 and 1/4
    with pytest.raises(ValueError, match="no click at position 1"):
        from_randomised(position, 1 - clicked * 0 - 1)
    with pytest.raises(ValueError, match="no impression at position 2"):
        from_randomised(np.asarray([1, 3]), np.asarray([1, 0]))


def test_bad_impressions_and_propensities_are_refused() -> None:
    with pytest.raises(ValueError, match="impression 2: position is 0; expected a whole number from 1"):
        ClickLog(np.asarray([0, 0]), np.asarray([1, 0]), np.asarray([0, 1]))
    with pytest.raises(ValueError, match="impression 1: clicked is 2; expected 0 or 1"):
        ClickLog(np.asarray([0]), np.asarray([1]), np.asarray([2]))
    for wrong in ([], [1.0, 0.0], [1.2], [float("nan")]):
        with pytest.raises(ValueError, match="expected a number above 0 and at most 1 for each place"):
            check_propensities(wrong)
    assert of_positions(np.asarray([1.0, 0.5]), np.asarray([1, 2, 9])).tolist() == [1.0, 0.5, 0.5]
