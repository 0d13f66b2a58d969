"""Intervals, tests and counts: tiny cases by hand, agreement with scipy, repeatability."""

from __future__ import annotations

import math

import numpy as np
import pytest

from goodrate.evaluation.side_by_side import side_by_side
from goodrate.evaluation.significance import (
    bootstrap_interval,
    bootstrap_over_groups,
    paired_bootstrap_difference,
    paired_randomisation,
)

NAN = float("nan")


def test_randomisation_by_hand() -> None:
    """[1, 1, 1] : 2 of 8 patterns reach 3. [3, 1] : |+-3 +- 1| >= 4 in 2 of 4. [3, -1] : >= 2 in all 4."""
    assert paired_randomisation([1, 1, 1], [0, 0, 0]) == 2 / 8
    assert paired_randomisation([3, 1], [0, 0]) == 2 / 4
    assert paired_randomisation([3, 0], [0, 1]) == 1.0
    assert paired_randomisation([0.3, 0.5, 0.1, NAN], [0.2, 0.4, 0.0, 1]) == 2 / 8  # a tie in exact numbers; NaN is out
    assert paired_randomisation([1, 2, 5], [1, 2, 4]) == 1.0  # one differing query: + and - are as large
    assert paired_randomisation([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert math.isnan(paired_randomisation([NAN], [1.0]))


def test_randomisation_agrees_with_scipy_and_is_symmetric() -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(3)
    a, b = rng.normal(0.2, 1, 10), rng.normal(0, 1, 10)
    exact = permutation_test((a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
                             vectorized=True, n_resamples=np.inf).pvalue  # fmt: skip
    assert paired_randomisation(a, b) == pytest.approx(exact, abs=1e-12)
    assert paired_randomisation(b, a) == paired_randomisation(a, b)
    drawn = paired_randomisation(a, b, flips=1000)  # 1,024 patterns: drawn instead of listed
    assert abs(drawn - exact) < 0.06 and drawn == paired_randomisation(a, b, flips=1000)


def test_a_drawn_p_is_never_zero() -> None:
    assert paired_randomisation(np.ones(50), np.zeros(50), flips=999) == 1 / 1000


def test_bootstrap_of_two_values_by_hand() -> None:
    """Resampled means of [0, 1] are 0 (1/4), 0.5 (1/2), 1 (1/4): the 95% interval is 0 to 1, the 40% one 0.5 to 0.5."""
    assert bootstrap_interval([0, 1]).as_dict() == {"value": 0.5, "low": 0.0, "high": 1.0, "units": 2}
    narrow = bootstrap_interval([0, 1], level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_bootstrap_is_near_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_interval(values, seed=5)
    half = 1.96 * values.std() / 20  # standard error: std / sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.015)
    assert found.high == pytest.approx(values.mean() + half, abs=0.015)
    assert found == bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_unknown_values_are_left_out_and_one_value_has_no_interval() -> None:
    found = bootstrap_interval([NAN, 0.25, NAN])
    assert (found.value, found.units) == (0.25, 1) and math.isnan(found.low)
    assert bootstrap_interval([]).as_dict() == {"value": None, "low": None, "high": None, "units": 0}


def test_a_constant_gain_has_a_sharp_difference_however_spread_the_queries_are() -> None:
    base = np.linspace(0, 0.9, 30)
    found = paired_bootstrap_difference(base + 0.125, base)
    assert (found.low, found.high) == (pytest.approx(0.125), pytest.approx(0.125))
    with pytest.raises(ValueError, match="equal length; got 2 and 1"):
        paired_bootstrap_difference([1, 2], [1])


def test_groups_are_resampled_whole() -> None:
    """Ten equal pairs of each of two queries: the mean is 0, 0.5 or 1, as with one pair each."""
    values = np.repeat([0.0, 1.0], 10)
    found = bootstrap_over_groups(lambda rows: values[rows].mean(), np.repeat(["a", "b"], 10))
    assert (found.value, found.low, found.high, found.units) == (0.5, 0.0, 1.0, 2)
    apart = bootstrap_over_groups(lambda rows: values[rows].mean(), range(20))
    assert apart.low > 0.2 and apart.high < 0.8


def test_groups_without_a_usable_resample() -> None:
    found = bootstrap_over_groups(lambda rows: NAN, ["a", "b"])
    assert math.isnan(found.value) and math.isnan(found.low)
    assert math.isnan(bootstrap_over_groups(lambda rows: 1.0, ["a", "a"]).low)


def test_side_by_side_counts() -> None:
    """Gaps 0.1, -0.1, 0, 0.05, unknown; 0.3 - 0.2 is a hair under 0.1 in floats and still no more than the margin."""
    new, old = [0.3, 0.2, 0.5, 0.35, NAN], [0.2, 0.3, 0.5, 0.3, 0.1]
    found = side_by_side(new, old)
    assert (found.good, found.same, found.bad, found.unknown) == (2, 1, 1, 1)
    assert found.advantage == pytest.approx(1 / 4)  # (2 - 1) / 4
    assert side_by_side(new, old, margin=0.1).same == 4
    assert side_by_side([1, 1, 1, 1], [0, 0, 0, 0]).p == pytest.approx(2 / 16)  # ++++ or ----
    nothing = side_by_side([NAN], [NAN])
    assert math.isnan(nothing.advantage) and nothing.p == 1.0
    with pytest.raises(ValueError, match="margin must not be negative; got -1"):
        side_by_side([1], [1], margin=-1)
