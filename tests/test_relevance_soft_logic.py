"""The soft logic: Boolean on crisp verdicts, probabilities that sum to 1, monotone, and where gradients go."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.relevance.soft_logic import (
    AGGREGATIONS,
    GOEDEL,
    LUKASIEWICZ,
    MEAN,
    PADDING,
    PRODUCT,
    TNORMS,
    Evidence,
    Logic,
    conjunction,
    disjunction,
    judged,
    label_probabilities,
    truth,
)

GROUPS = np.array([[0, 0, 1, 2, PADDING]])  # two entities say what it is, one each of two types
UNIT = st.floats(0, 1)


def evidence(support: list[float], conflict: list[float], demand: list[float] = [1.0, 1.0]) -> Evidence:  # noqa: B006
    return Evidence(np.array([[*support, 1.0]]), np.array([[*conflict, 1.0]]), GROUPS, np.array([demand]))


@pytest.mark.parametrize("tnorm", TNORMS)
def test_crisp_verdicts_are_boolean_logic(tnorm: str) -> None:
    logic = Logic(tnorm, temperature=2.0)
    bits = list(itertools.product([0.0, 1.0], repeat=4))
    for support, conflict, demand in itertools.product(bits, bits[:8], itertools.product([0.0, 1.0], repeat=2)):
        kind = bool(support[0] or support[1])
        clean = not any(conflict)
        wanted = all(not asked or met for asked, met in zip(demand, support[2:], strict=True))
        rows = judged(evidence(list(support), list(conflict), list(demand)), logic, 4)[0]
        label = 0 if not kind else 1 if not clean else 2 if not wanted else 3
        assert rows.tolist() == [float(place == label) for place in range(4)]


@pytest.mark.parametrize("tnorm", AGGREGATIONS)
@pytest.mark.parametrize("labels", [2, 3, 4])
@settings(max_examples=30, deadline=None)
@given(support=st.lists(UNIT, min_size=4, max_size=4), conflict=st.lists(UNIT, min_size=4, max_size=4),
       demand=st.lists(UNIT, min_size=2, max_size=2))  # fmt: skip
def test_probabilities_sum_to_one(
    tnorm: str, labels: int, support: list[float], conflict: list[float], demand: list[float]
) -> None:
    rows = judged(evidence(support, conflict, demand), Logic(tnorm), labels)
    assert rows.shape == (1, labels) and rows.sum() == pytest.approx(1) and rows.min() >= -1e-12 and rows.max() <= 1


@pytest.mark.parametrize("tnorm", AGGREGATIONS)
@pytest.mark.parametrize("all_conflict", [True, False])
@settings(max_examples=30, deadline=None)
@given(support=st.lists(UNIT, min_size=4, max_size=4), conflict=st.lists(UNIT, min_size=4, max_size=4),
       demand=st.lists(UNIT, min_size=2, max_size=2), place=st.integers(0, 3), more=UNIT)  # fmt: skip
def test_the_best_label_rises_with_support_and_falls_with_conflict(
    tnorm: str, all_conflict: bool, support: list[float], conflict: list[float], demand: list[float], place: int,
    more: float,
) -> None:  # fmt: skip
    def best(m: list[float], c: list[float]) -> float:
        return float(judged(evidence(m, c, demand), Logic(tnorm, constraints_conflict=all_conflict), 4)[0, -1])

    raised = [max(value, more) if at == place else value for at, value in enumerate(support)]
    assert best(raised, conflict) >= best(support, conflict) - 1e-12
    worse = [max(value, more) if at == place else value for at, value in enumerate(conflict)]
    assert best(support, worse) <= best(support, conflict) + 1e-12


@pytest.mark.parametrize("tnorm", TNORMS)
def test_a_neutral_entity_changes_nothing(tnorm: str) -> None:
    rng = np.random.default_rng(0)
    one = Evidence(rng.random((6, 4)), rng.random((6, 4)), np.tile([0, 1, 1, 2], (6, 1)), rng.random((6, 2)))
    zeros = np.zeros((6, 1))
    for group in (0, 1, PADDING):
        more = Evidence(
            np.hstack([one.support, zeros]), np.hstack([one.conflict, zeros]),
            np.hstack([one.group, zeros.astype(int) + group]), one.demand,
        )  # fmt: skip
        np.testing.assert_allclose(judged(more, Logic(tnorm), 4), judged(one, Logic(tnorm), 4), atol=1e-12)


def test_product_in_log_space_is_the_direct_product() -> None:
    rng = np.random.default_rng(1)
    values = rng.random((50, 20))
    assert conjunction(values, Logic()) == pytest.approx(values.prod(axis=1), rel=1e-9, abs=1e-15)
    assert disjunction(values, Logic()) == pytest.approx(1 - (1 - values).prod(axis=1))


def test_the_four_labels_by_hand() -> None:
    # M = 1 - 0.5 * 0.8 = 0.6; N = 0.9 * 0.5 = 0.45; W = (1 - 0.5 * 0.7) * (1 - 1 * 0.4) = 0.39
    one = evidence([0.5, 0.2, 0.3, 0.6], [0.1, 0.0, 0.5, 0.0], [0.5, 1.0])
    rows = judged(one, Logic(), 4)[0]
    assert rows == pytest.approx([0.4, 0.6 * 0.55, 0.6 * 0.45 * 0.61, 0.6 * 0.45 * 0.39])
    assert judged(one, Logic(), 3)[0] == pytest.approx([0.4, 0.6 * (1 - 0.45 * 0.39), 0.6 * 0.45 * 0.39])
    assert judged(one, Logic(), 2)[0, 1] == pytest.approx(0.6 * 0.45 * 0.39)
    with pytest.raises(ValueError, match="2, 3 or 4 labels, not 5; bin them"):
        judged(one, Logic(), 5)


def test_an_unknown_type_costs_what_is_stated() -> None:
    silent = Evidence(np.array([[1.0]]), np.array([[0.0]]), np.array([[0]]), np.array([[0.8]]))
    for unknown, met in ((0.0, 1.0), (0.5, 0.6), (1.0, 0.2)):
        assert judged(silent, Logic(unknown=unknown), 4)[0, 3] == pytest.approx(met)
    nothing = Evidence(np.zeros((1, 1)), np.zeros((1, 1)), np.array([[PADDING]]), np.array([[0.0]]))
    assert truth(nothing, Logic()).kind[0] == 0.5 and truth(nothing, Logic()).clean[0] == 1


def test_a_constraint_in_conflict_is_unmet_where_that_is_asked_for() -> None:
    # the kind's conflict alone makes the second label: N = 0.9; W = (1 - 0.5 * 0.7) * 0.5 * (1 - 0.4)
    one = evidence([0.5, 0.2, 0.3, 0.6], [0.1, 0.0, 0.5, 0.0], [0.5, 1.0])
    rows = judged(one, Logic(constraints_conflict=False), 4)[0]
    assert rows == pytest.approx([0.4, 0.6 * 0.1, 0.6 * 0.9 * (1 - 0.195), 0.6 * 0.9 * 0.195])
    crisp = evidence([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0])
    for tnorm in TNORMS:
        assert judged(crisp, Logic(tnorm), 4)[0].tolist() == [0, 1, 0, 0]
        assert judged(crisp, Logic(tnorm, constraints_conflict=False), 4)[0].tolist() == [0, 0, 1, 0]


def test_temperature_keeps_long_products_up() -> None:
    values = np.full(20, 0.95)
    assert conjunction(values, Logic()) == pytest.approx(0.95**20)
    assert conjunction(values, Logic(temperature=4.0)) == pytest.approx(0.95**5)


@pytest.mark.parametrize(("tnorm", "reached"), [(PRODUCT, 5), (GOEDEL, 1), (LUKASIEWICZ, 0), (MEAN, 5)])
def test_where_gradients_go(tnorm: str, reached: int) -> None:
    """All entities of a conjunction with the product, one with Goedel, none with Lukasiewicz once the sum is at 0."""
    conflict = torch.tensor([[0.3, 0.4, 0.5, 0.35, 0.45]], requires_grad=True)
    one = Evidence(torch.full((1, 5), 0.9), conflict, torch.tensor([[0, 0, 1, 1, 2]]), torch.ones(1, 2))
    truth(one, Logic(tnorm)).clean.sum().backward()
    assert conflict.grad is not None
    assert int((conflict.grad != 0).sum()) == reached and bool(torch.isfinite(conflict.grad).all())


@pytest.mark.parametrize("tnorm", AGGREGATIONS)
def test_torch_and_numpy_agree(tnorm: str) -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(-1, 4, (9, 7))
    arrays = rng.random((9, 7)), rng.random((9, 7)), groups, rng.random((9, 3))
    ours = judged(Evidence(*arrays), Logic(tnorm), 4)
    theirs = judged(Evidence(*map(torch.from_numpy, arrays)), Logic(tnorm), 4)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)


def test_no_type_at_all_and_wrong_settings() -> None:
    bare = Evidence(np.array([[0.7]]), np.array([[0.0]]), np.array([[0]]), np.zeros((1, 0)))
    assert label_probabilities(truth(bare, Logic()), 4, Logic())[0] == pytest.approx([0.3, 0, 0, 0.7])
    for wrong in ({"tnorm": "min"}, {"unknown": 1.5}, {"temperature": 0.5}):
        with pytest.raises(ValueError, match="expected|not one of"):
            Logic(**wrong)
