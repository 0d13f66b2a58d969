"""CumPT: the paper's walk, any number of labels, monotone in its one threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.relevance.tiers import choose_beta, cumpt, tiers_of_labels
from goodrate.scale import ESCI, FOUR_LEVEL, WANDS, RelevanceScale

SCALES = [FOUR_LEVEL, ESCI, WANDS]


def distributions(scale: RelevanceScale) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0.001, 1), min_size=len(scale), max_size=len(scale)).map(
        lambda w: [x / sum(w) for x in w]
    )


def test_by_hand() -> None:
    rows = [
        [0.0, 0.5, 0.2, 0.3],  # 0.3 + 0.2 = 0.5 >= 0.5: Good, on the edge
        [0.3, 0.21, 0.2, 0.29],  # 0.49 < 0.5 and 0.3 <= 0.5: Mid
        [0.5, 0.1, 0.2, 0.2],  # p(worst) = 0.5 is not > 0.5: Mid, on the edge
        [0.51, 0.09, 0.2, 0.2],  # Bad
        [np.nan] * 4,  # the judge failed: unknown, not Bad
    ]
    assert cumpt(rows, FOUR_LEVEL).tolist() == [2, 1, 1, 0, -1]
    assert cumpt([[0.5, 0.1, 0.4]], WANDS, 0.4).tolist() == [2]  # only "exact" is positive
    assert cumpt(np.zeros((0, 4)), FOUR_LEVEL).tolist() == []


@given(st.data(), st.sampled_from(SCALES), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_raising_the_threshold_only_lowers_tiers(
    data: st.DataObject, scale: RelevanceScale, a: float, b: float
) -> None:
    p = [data.draw(distributions(scale)) for _ in range(3)]
    low, high = sorted((a, b))
    assert (cumpt(p, scale, high) <= cumpt(p, scale, low)).all()


@given(distributions(FOUR_LEVEL), st.floats(0.05, 0.95))
def test_equals_the_papers_walk_from_the_top(p: list[float], beta: float) -> None:
    # P(4) >= b or P(4)+P(3) >= b: Good; else P(4)+P(3)+P(2) >= b: Mid; else Bad. Sums within 1e-6 of b are left out.
    sums = [p[3], p[3] + p[2], p[3] + p[2] + p[1]]
    if min(abs(s - beta) for s in sums) > 1e-6:
        expected = 2 if sums[0] >= beta or sums[1] >= beta else 1 if sums[2] >= beta else 0
        assert cumpt([p], FOUR_LEVEL, beta).tolist() == [expected]


@given(st.data(), st.sampled_from(SCALES), st.floats(0.05, 0.95), st.integers(0, 2), st.floats(0, 1))
def test_moving_mass_upwards_never_lowers_a_tier(
    data: st.DataObject, scale: RelevanceScale, beta: float, place: int, share: float
) -> None:
    p = np.asarray(data.draw(distributions(scale)))
    place = min(place, len(scale) - 2)
    better = p.copy()
    better[place + 1] += share * p[place]
    better[place] -= share * p[place]
    assert cumpt([better], scale, beta)[0] >= cumpt([p], scale, beta)[0]


def test_scores_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 columns; scale four_level has 4"):
        cumpt([[0.2, 0.3, 0.5]], FOUR_LEVEL)
    with pytest.raises(ValueError, match="not probabilities"):
        cumpt([[2.0, -1.0, 0.5, 0.1]], FOUR_LEVEL)
    with pytest.raises(ValueError, match=r"beta_cum 1\.0"):
        cumpt([[0.25] * 4], FOUR_LEVEL, 1.0)


def test_gold_tiers() -> None:
    assert tiers_of_labels([0, 1, 2, 3], FOUR_LEVEL).tolist() == [0, 1, 2, 2]
    assert tiers_of_labels([0, 1, 2], WANDS).tolist() == [0, 1, 2]


def test_choosing_the_threshold() -> None:
    # Good items have 0.45 of positive mass, Mid items 0.38: a threshold between 0.38 and 0.45 separates them.
    p = np.asarray([[0.05, 0.5, 0.2, 0.25], [0.05, 0.57, 0.18, 0.2], [0.95, 0.03, 0.01, 0.01]])
    choice = choose_beta(p, [3, 1, 0], FOUR_LEVEL)
    assert choice.beta_cum == 0.45 and choice.macro_f1 == 1.0  # of all that separate, the nearest to 0.5
    assert {b: f for b, f, _ in choice.tried}[0.5] == pytest.approx((0 + 2 / 3 + 1) / 3)  # Good never, Mid 2 of 1
    with_failure = choose_beta(np.vstack([p, [np.nan] * 4]), [3, 1, 0, 3], FOUR_LEVEL)
    assert with_failure == choice
    with pytest.raises(ValueError, match="no row"):
        choose_beta(np.full((1, 4), np.nan), [0], FOUR_LEVEL)
