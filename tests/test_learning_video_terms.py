"""Gran-DPO against its formulas: the acceptance tests of section 8 of the paper file, with numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor

from goodrate.learning import losses
from goodrate.learning.fit import accumulate
from goodrate.learning.records import Update
from goodrate.learning.reference import freeze_reference
from goodrate.learning.video_terms import (
    PairedErrors,
    VideoTermSettings,
    combined_reward,
    patch_errors,
    patch_preferences,
    video_terms,
)

PAIRS, GRID, SHAPE = 3, 2, (2, 4, 6, 6)  # C, T, H, W


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def deltas(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Errors of the policy less those of the reference, of winner and loser (3, 4)."""
    return drawn(PAIRS, 4, seed=seed), drawn(PAIRS, 4, seed=seed + 1)


class Cells(nn.Module):
    """A network with one weight a cell, a time and a caption: its prediction of a cell depends on that cell alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(drawn(*SHAPE, seed=5))
        self.caption = nn.Parameter(torch.zeros(()))

    def forward(self, noisy: Tensor, time: Tensor, lengths: Tensor) -> Tensor:
        bias = self.caption * lengths + time
        return self.scale * noisy + bias[:, None, None, None, None]


class Generator:
    """Flow matching around such a network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def conditions(self, captions: Sequence[str]) -> Tensor:
        return tensor([float(len(text)) for text in captions])

    def noised(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        at = time[:, None, None, None, None]
        return (1 - at) * latents + at * noise

    def target(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        return noise - latents

    def predict(self, noisy: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        return self.network(noisy, time, conditions)


def paired(network: nn.Module, reference: nn.Module | None = None) -> PairedErrors:
    return PairedErrors(Generator(network), Generator(freeze_reference(reference or network)), GRID)


def batch(count: int = PAIRS) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(3)
    return {
        "winner": torch.randn(count, *SHAPE, generator=draw), "loser": torch.randn(count, *SHAPE, generator=draw),
        "noise": torch.randn(count, *SHAPE, generator=draw), "time": torch.rand(count, generator=draw),
        "captions": ["a red lamp", "", "a blue chair"][:count], "pair": torch.ones(count, dtype=torch.bool),
        "sign": torch.randn(count, 4, generator=draw).sign(), "weight": torch.ones(count, 4),
    }  # fmt: skip


def test_patch_errors_are_means_of_their_cells_and_average_to_the_video() -> None:
    squared = drawn(2, *SHAPE).square()
    errors = patch_errors(squared, GRID)
    by_hand = [squared[:, :, :, r : r + 3, c : c + 3].mean(dim=(1, 2, 3, 4)) for r in (0, 3) for c in (0, 3)]
    torch.testing.assert_close(errors, torch.stack(by_hand, dim=1))
    for grid in (1, 2, 3):
        gap = patch_errors(squared, grid).mean(dim=1) - squared.mean(dim=(1, 2, 3, 4))
        assert float(gap.abs().max()) < 1e-6
    with pytest.raises(ValueError, match="4 x 4 does not divide 6 x 6"):
        patch_errors(squared, 4)


def test_patch_p_is_the_same_crop_in_pixels_and_in_latents() -> None:
    pixels = torch.zeros(1, 3, 4, 12, 12)
    pixels[..., :6, 6:] = 1.0  # the upper right quarter
    latents = torch.nn.functional.avg_pool3d(pixels, (1, 2, 2))
    assert patch_errors(pixels, GRID).tolist() == patch_errors(latents, GRID).tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_values_by_hand() -> None:
    winner, loser = tensor([[0.1, 0.0]]), tensor([[0.3, 0.1]])
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert float(losses.video_dpo(winner.mean(1), loser.mean(1), beta=2.0)) == pytest.approx(-math.log(sigma(0.15)))
    sign, weight = tensor([[1.0, -1.0]]), tensor([[1.0, 0.5]])
    by_hand = (-math.log(sigma(0.2)) - 0.5 * math.log(sigma(-0.1))) / 1.5
    assert float(losses.patch_dpo(winner, loser, sign, weight, beta=2.0)) == pytest.approx(by_hand)
    assert float(losses.dense_dpo(winner, loser, sign, beta=2.0)) == pytest.approx(-math.log(sigma(0.05)))
    # a sum of weights below 1 is not blown up
    few = losses.patch_dpo(winner, loser, sign, tensor([[0.25, 0.0]]), beta=2.0)
    assert float(few) == pytest.approx(-0.25 * math.log(sigma(0.2)))


def test_no_weight_is_no_loss_and_no_gradient() -> None:
    winner, loser = (value.requires_grad_() for value in deltas())
    loss = losses.patch_dpo(winner, loser, torch.ones(PAIRS, 4), torch.zeros(PAIRS, 4), beta=1000.0)
    gradients = torch.autograd.grad(loss.sum(), [winner, loser])
    assert loss.tolist() == [0.0] * PAIRS and all(not g.any() for g in gradients)


def test_the_order_of_a_pair_says_nothing_beside_its_signs() -> None:
    winner, loser = deltas()
    rewards = drawn(2, PAIRS, 4, seed=9)
    sign, weight = patch_preferences(rewards[0], rewards[1], margin=0.3)
    other_sign, other_weight = patch_preferences(rewards[1], rewards[0], margin=0.3)
    assert 0 < float(weight.mean()) < 1
    for loss in (
        lambda w, o, s, share: losses.patch_dpo(w, o, s, share, beta=2.0),
        lambda w, o, s, share: losses.dense_dpo(w, o, s * share, beta=2.0),
    ):
        torch.testing.assert_close(loss(winner, loser, sign, weight), loss(loser, winner, other_sign, other_weight))


def test_all_patches_for_the_winner_is_the_video_term_in_the_dense_form() -> None:
    winner, loser = deltas()
    dense = losses.dense_dpo(winner, loser, torch.ones(PAIRS, 4), beta=3.0)
    torch.testing.assert_close(dense, losses.video_dpo(winner.mean(1), loser.mean(1), beta=3.0))


def test_gradient_signs() -> None:
    """Less error of what is preferred, and more of what is not, lowers the loss; a better patch of the loser too."""
    winner, loser = (torch.zeros(1, 4, requires_grad=True) for _ in range(2))
    sign = tensor([[1.0, -1.0, 1.0, 1.0]])
    weight = tensor([[1.0, 1.0, 0.0, 1.0]])
    loss = losses.patch_dpo(winner, loser, sign, weight, beta=2.0).sum()
    of_winner, of_loser = torch.autograd.grad(loss, [winner, loser])
    assert of_winner.sign().tolist() == [[1.0, -1.0, 0.0, 1.0]] and of_loser.tolist() == (-of_winner).tolist()
    loss = losses.video_dpo(winner.mean(1), loser.mean(1), beta=2.0).sum()
    of_winner, of_loser = torch.autograd.grad(loss, [winner, loser])
    assert (of_winner > 0).all() and (of_loser < 0).all()


def test_margins_and_soft_weights() -> None:
    winner, loser = tensor([[3.0, 1.0, 2.0, 2.0]]), tensor([[1.0, 2.0, 2.0, 1.9]])
    sign, weight = patch_preferences(winner, loser, margin=0.2)
    assert (sign.tolist(), weight.tolist()) == ([[1.0, -1.0, 0.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]])
    _, soft = patch_preferences(winner, loser, margin=0.2, soft=1.6)
    assert soft[0].tolist() == pytest.approx([1.0, 1 / 1.6, 0.0, 0.0])


def test_a_combined_reward_is_a_number_a_clip() -> None:
    assert combined_reward(tensor([2.0]), tensor([[1.0, 4.0]]), 0.25).tolist() == [0.75 * 2 + 0.25 * 2.5]


@pytest.mark.parametrize("form", ["video", "patch", "dense", "both"])
def test_policy_as_reference_gives_log_two_for_every_part(form: str) -> None:
    network = Cells()
    model = paired(network)
    terms, others = video_terms(VideoTermSettings(form=form, patch_weight=0.5))  # type: ignore[arg-type]
    values = accumulate(model, Update([batch()], terms, diagnostics=others), lambda loss: loss.backward())
    weights = {term.name: term.weight for term in terms}
    assert {name: values[name] for name in weights} == pytest.approx({n: w * math.log(2) for n, w in weights.items()})
    assert values["error"] > 0 and all(p.grad is not None for p in network.parameters())


def test_a_patch_without_weight_moves_nothing_under_it() -> None:
    network = Cells()
    model = paired(network)
    given = batch()
    given["weight"] = tensor([[0.0, 1.0, 1.0, 1.0]]).repeat(PAIRS, 1)
    terms, _ = video_terms(VideoTermSettings(form="patch"))
    accumulate(model, Update([given], terms), lambda loss: loss.backward())
    gradient = network.scale.grad
    assert gradient is not None and not gradient[..., :3, :3].any() and gradient[..., 3:, :].abs().min() > 0


def gaps_after_steps(settings: VideoTermSettings) -> Tensor:
    """(P,) delta of the winner less that of the loser after 30 steps; the loser has the better lower right patch."""
    network = Cells()
    model = paired(network)
    given = batch(1)
    given["sign"] = tensor([[1.0, 1.0, 1.0, -1.0]])
    terms, _ = video_terms(settings)
    optimizer = torch.optim.SGD([network.scale], 0.5)
    for _ in range(30):
        optimizer.zero_grad()
        accumulate(model, Update([given], terms), lambda loss: loss.backward())
        optimizer.step()
    outputs = model(given)
    return (outputs["winner"] - outputs["loser"])[0]


def test_the_patch_term_repairs_what_the_video_term_takes_over() -> None:
    """A winner with one bad patch: the video term learns that patch too, both terms together unlearn it."""
    video = gaps_after_steps(VideoTermSettings(form="video", beta=10.0))
    both = gaps_after_steps(VideoTermSettings(beta=10.0, patch_weight=4.0))
    assert (video < 0).all()
    assert (both[:3] < 0).all() and both[3] > 0


def test_an_adapter_that_is_off_is_the_reference() -> None:
    """The same outputs as from a frozen copy, without one."""
    network, moved = Cells(), Cells()
    with torch.no_grad():
        moved.scale.mul_(1.1)

    @contextmanager
    def off() -> Iterator[None]:
        held = moved.scale.detach().clone()
        with torch.no_grad():
            moved.scale.copy_(network.scale)
        yield
        with torch.no_grad():
            moved.scale.copy_(held)

    alone = PairedErrors(Generator(moved), None, GRID, off)
    assert [name for name, _ in alone.named_parameters()] == ["policy.scale", "policy.caption"]
    expected = paired(moved, network)(batch())
    for name, value in alone(batch()).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("form", ["both", "dense", "sft"])
def test_a_split_into_micro_batches_changes_nothing(form: str) -> None:
    terms, _ = video_terms(VideoTermSettings(form=form, sft=0.1))  # type: ignore[arg-type]
    whole = batch()
    whole["weight"][0] = 0.0
    parts = [{name: value[rows] for name, value in whole.items()} for rows in (slice(0, 1), slice(1, 3))]
    found = []
    for micro_batches in ([whole], parts):
        network = Cells()
        model = paired(network, Cells())
        with torch.no_grad():
            network.scale.mul_(1.1)
            network.caption.fill_(0.1)
        accumulate(model, Update(micro_batches, terms), lambda loss: loss.backward())
        found.append(network.scale.grad)
    torch.testing.assert_close(*found)
