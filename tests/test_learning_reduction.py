"""The only division: exact values, and no dependence on how an update is split."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, tensor

from goodrate.learning import losses
from goodrate.learning.fit import accumulate
from goodrate.learning.records import Term, Update
from goodrate.learning.reduction import denominators

MASK = tensor([[True, True, True], [True, False, False]])
VALUES = tensor([[1.0, 2.0, 3.0], [8.0, 100.0, 100.0]])
STEPS = tensor([[0, 0, 1], [0, -1, -1]])


class Echo(nn.Module):
    """Returns its parameter's product with the batch's values, so that values and gradients are known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(tensor(1.0, dtype=torch.float64))

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"values": batch["values"].double() * self.scale}


def term(reduction: str, **more: Any) -> Term:
    return Term("t", lambda outputs, batch: outputs["values"], mask="mask", reduction=reduction, steps="steps", **more)


def value(term: Term, rows: list[list[int]]) -> float:
    batches = [{"values": VALUES[part], "mask": MASK[part], "steps": STEPS[part]} for part in rows]
    return accumulate(Echo(), Update(batches, [term]), lambda loss: loss.backward())["loss"]


@pytest.mark.parametrize("rows", [[[0, 1]], [[0], [1]], [[1], [0]]])
@pytest.mark.parametrize(
    ("reduction", "more", "expected"),
    [
        ("token_mean", {}, 3.5),  # (1 + 2 + 3 + 8) / 4; the mean of the rows' means would be 5
        ("mean", {}, 3.5),
        ("sequence_mean", {}, 5.0),  # (6 / 3 + 8 / 1) / 2
        ("step_mean", {}, 5.125),  # (((1 + 2) / 2 + 3) / 2 + 8) / 2 = (2.25 + 8) / 2
        ("fixed_length", {"length": 10}, 0.7),  # 14 / (2 * 10)
        ("token_mean", {"weight": 0.5}, 1.75),
    ],
)
def test_reductions(reduction: str, more: dict, expected: float, rows: list[list[int]]) -> None:
    assert value(term(reduction, **more), rows) == pytest.approx(expected)


def test_masked_tokens_stay_out_even_when_they_are_nan() -> None:
    batch = {"values": tensor([[2.0, float("nan")]]), "mask": tensor([[True, False]])}
    assert accumulate(Echo(), Update([batch], [term("token_mean")]), lambda loss: None)["loss"] == 2.0


def test_union_and_arm_denominators() -> None:
    batch = {
        "values": tensor([[4.0], [8.0], [6.0]]),
        "plain": tensor([[True], [True], [False]]),
        "guided": tensor([[False], [False], [True]]),
    }

    def terms(denominator: str) -> list[Term]:
        read = lambda outputs, batch: outputs["values"]  # noqa: E731
        return [Term(name, read, mask=name, denominator=denominator) for name in ("plain", "guided")]

    union, arm = (Update([batch], terms(kind)) for kind in ("union", "arm"))
    assert denominators(union) == {"plain": 3, "guided": 3} and denominators(arm) == {"plain": 2, "guided": 1}
    # union: (4 + 8 + 6) / 3; arm: 12 / 2 + 6 / 1
    assert accumulate(Echo(), union, lambda loss: None) == {"plain": 4.0, "guided": 2.0, "loss": 6.0}
    assert accumulate(Echo(), arm, lambda loss: None) == {"plain": 6.0, "guided": 6.0, "loss": 12.0}


def test_a_term_that_selects_nothing_is_zero() -> None:
    batch = {"values": VALUES, "mask": torch.zeros_like(MASK), "steps": STEPS}
    for reduction in ("token_mean", "sequence_mean", "step_mean"):
        assert accumulate(Echo(), Update([batch], [term(reduction)]), lambda loss: None)["loss"] == 0.0


def test_what_an_update_refuses() -> None:
    batch = {"values": VALUES, "mask": MASK}
    with pytest.raises(ValueError, match="must see the whole update"):
        Update([batch, batch], [term("mean", unit="update")])
    with pytest.raises(ValueError, match="distinct names"):
        Update([batch], [term("mean"), term("mean")])
    with pytest.raises(ValueError, match="mask"):
        accumulate(Echo(), Update([{"values": VALUES[:1], "mask": MASK}], [term("mean")]), lambda loss: None)


class Table(nn.Module):
    """A policy whose log probabilities are a table: rows of the batch pick rows of it."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(rows, columns, generator=generator, dtype=torch.float64))

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"logprobs": torch.log_softmax(self.logits[batch["row"]], dim=1), "scores": self.logits[batch["row"]]}


def token_losses(outputs: Any, batch: Any) -> Tensor:
    """All token losses at once, so that one split test covers them."""
    lp, old, a = outputs["logprobs"], batch["old"], batch["advantages"]
    return (
        losses.cross_entropy(lp)
        + losses.policy_gradient(lp, old, a, clip_low=0.2, clip_high=0.3)
        + losses.off_policy_shaped(lp, old, a)
        + losses.probability_weighted(lp, a)
        + losses.kl_k3(lp, old)
        + losses.binary(outputs["scores"], torch.sigmoid(a))
    )


def group_losses(outputs: Any, batch: Any) -> Tensor:
    target = torch.softmax(batch["advantages"], dim=1)
    everyone = torch.ones_like(target, dtype=torch.bool)
    return losses.kl_categorical(outputs["logprobs"], batch["old"]) + losses.listwise(
        outputs["scores"], target, everyone
    )


def gradient_of(cuts: list[int], loss: Any, mask: Tensor, reduction: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    old = torch.log_softmax(torch.randn(6, 4, generator=generator), 1)
    advantages = torch.randn(6, 4, generator=generator)
    edges = [0, *cuts, 6]
    batches = [
        {"row": torch.arange(a, b), "old": old[a:b], "advantages": advantages[a:b], "mask": mask[a:b],
         "steps": torch.tensor([[0, 0, 1, 2]] * (b - a))}
        for a, b in zip(edges, edges[1:], strict=False)
    ]  # fmt: skip
    model = Table(6, 4)
    accumulate(model, Update(batches, [Term("t", loss, "mask", reduction, steps="steps")]), lambda x: x.backward())
    return model.logits.grad


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 5)), st.sampled_from(["token_mean", "sequence_mean", "step_mean"]))
def test_token_losses_do_not_depend_on_the_split(cuts: set[int], reduction: str) -> None:
    mask = torch.arange(4)[None, :] < tensor([4, 1, 2, 3, 0, 4])[:, None]
    whole = gradient_of([], token_losses, mask, reduction)
    torch.testing.assert_close(gradient_of(sorted(cuts), token_losses, mask, reduction), whole)


def pair_loss(outputs: Any, batch: Any) -> Tensor:
    """One pair per row: the first two columns against the last two."""
    lp, old = outputs["logprobs"], batch["old"]
    return losses.dpo(lp[:, :2].sum(1), lp[:, 2:].sum(1), old[:, :2].sum(1), old[:, 2:].sum(1), beta=0.5)


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(1, 5)), st.sampled_from([group_losses, pair_loss]))
def test_pair_and_group_losses_do_not_depend_on_the_split(cuts: set[int], loss: Any) -> None:
    mask = tensor([True, True, False, True, True, True])
    torch.testing.assert_close(gradient_of(sorted(cuts), loss, mask, "mean"), gradient_of([], loss, mask, "mean"))


def test_an_update_loss_does_depend_on_the_split() -> None:
    # Two queries with equal scores: against two candidates log 2 each, alone 0. So the unit is the whole update.
    scores, allowed = torch.zeros(2, 2), torch.ones(2, 2).bool()
    whole = losses.info_nce(scores, tensor([0, 1]), allowed, temperature=1.0)
    part = losses.info_nce(scores[:1, :1], tensor([0]), allowed[:1, :1], temperature=1.0)
    assert whole.tolist() == pytest.approx([0.6931472] * 2) and part.tolist() == [0.0]
