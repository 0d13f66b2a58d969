"""Log probabilities without all logits: values and gradients of the long way, whatever the tiles and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from goodrate.models import token_logprobs as module
from goodrate.models.head import head_logits
from goodrate.models.token_logprobs import token_logprobs

torch.set_num_threads(1)
ROWS, WORDS, WIDTH = 20, 60, 8
WEIGHTS = torch.linspace(-1, 2, ROWS)


class Network(nn.Module):
    """A head over invented states; tied or not makes no difference to it."""

    def __init__(self, dtype: torch.dtype, bias: bool, **config: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.config = nn.Linear(WIDTH, WORDS, bias, dtype=dtype), SimpleNamespace(**config)

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


def states(dtype: torch.dtype = torch.float32, width: int = WIDTH) -> Tensor:
    drawn = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn.to(dtype).requires_grad_()


IDS = torch.arange(ROWS) * 3 % WORDS  # from all tiles


def naive(network: Any, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    every = torch.log_softmax(head_logits(network, x) / temperature, -1)
    return every.gather(1, IDS[:, None])[:, 0], -(every.exp() * every).sum(-1).detach()


def gradients(values: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((values * WEIGHTS).sum(), of)


@pytest.fixture(params=["one tile", "tiles kept", "some kept", "none kept"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tiles of 7 words (the last has 4); kept: all, three of nine, or none."""
    if request.param != "one tile":
        monkeypatch.setattr(module, "NARROWEST", 7)
        monkeypatch.setattr(module, "TILE", {"cpu": 0})
        room = {"tiles kept": 2**20, "some kept": 3 * 7 * ROWS * 8, "none kept": 0}[request.param]
        monkeypatch.setattr(module, "KEPT", room)
    return str(request.param)


SCALED = {"logit_scale": 0.5, "final_logit_softcapping": 1.5}


@pytest.mark.parametrize(
    "config", [{}, {"final_logit_softcapping": 2.0}, {"logit_scale": 0.25}, {"logits_scaling": 3.0}, SCALED]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.usefixtures("tiles")
def test_values_and_gradients_are_those_of_all_logits(config: dict[str, float], bias: bool) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        network, x = Network(dtype, bias, **config), states(dtype)
        expected, uncertain = naive(network, x, 0.7)
        found, entropy = token_logprobs(network, x, IDS, 0.7)
        of = [x, *network.parameters()]
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(entropy, uncertain, atol=tolerance, rtol=tolerance)
        for given, wanted in zip(gradients(found, of), gradients(expected, of), strict=True):
            torch.testing.assert_close(given, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma2", "bert"])
@pytest.mark.usefixtures("tiles")
def test_heads_of_real_families(family: str) -> None:
    network, x = tiny_models.network(family, WORDS), states(width=32)
    expected, _ = naive(network, x, 1.0)
    found, entropy = token_logprobs(network, x, IDS, 1.0)
    of = [x, network.get_output_embeddings().weight]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert not entropy.requires_grad
    for given, wanted in zip(gradients(found, of), gradients(expected, of), strict=True):
        torch.testing.assert_close(given, wanted, atol=2e-6, rtol=1e-4)


def test_a_frozen_head_has_no_gradient_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor | None, ...]] = []
    own = module._gradients
    monkeypatch.setattr(module, "_gradients", lambda *given: seen.append(own(*given)) or seen[-1])
    network, x = Network(torch.float32, True).requires_grad_(False), states()
    (given,) = gradients(token_logprobs(network, x, IDS, 1.0)[0], [x])
    torch.testing.assert_close(given, gradients(naive(network, x, 1.0)[0], [x])[0], atol=2e-6, rtol=1e-5)
    assert seen[0][0] is not None and seen[0][1:] == (None, None)


def test_nothing_is_kept_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    own = module._ChosenLogprobs.forward

    def forward(ctx: Any, *given: Any) -> Any:
        result = own(ctx, *given)
        saved.append(len(ctx.to_save))
        return result

    monkeypatch.setattr(module._ChosenLogprobs, "forward", staticmethod(forward))
    network = Network(torch.float32, False)
    token_logprobs(network, states(), IDS, 1.0)
    token_logprobs(network.requires_grad_(False), states().detach(), IDS, 1.0)
    assert saved == [8, 7]  # one tile of probabilities beside states, head, values and sums


@pytest.mark.usefixtures("tiles")
def test_a_sure_token_keeps_its_gradient_in_bf16() -> None:
    network, x = Network(torch.float32, False), states()
    x = (30 * torch.nn.functional.one_hot(IDS % WIDTH, WIDTH) + x).detach().requires_grad_()
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(WORDS, WIDTH) / 3)  # p of the words under WIDTH: about 1 - 60 / e^10
    ids = IDS % WIDTH
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, _ = token_logprobs(network, x, ids, 1.0)
    assert 0.99 < float(values.detach().exp().min()) < 1  # in bf16 the next number under 1 is 0.996
    exact = torch.log_softmax(network.head(x), -1).gather(1, ids[:, None])[:, 0]
    for given, wanted in zip(gradients(values, [x]), gradients(exact, [x]), strict=True):
        assert float((given - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.usefixtures("tiles")
def test_under_autocast_values_stay_exact_and_gradients_are_bf16() -> None:
    network, x = Network(torch.float32, False), states()
    exact, _ = token_logprobs(network, x, IDS, 1.0)
    of = [x, network.head.weight]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = token_logprobs(network, x, IDS, 1.0)
        rough, _ = token_logprobs(network, x, IDS, 1.0, exact=False)
        given = gradients(found, of)  # inside autocast, as a careless loop calls it
    torch.testing.assert_close(found, exact, atol=0, rtol=0)
    assert 0 < float((rough - exact).abs().max()) < 0.02
    for mine, wanted in zip(given, gradients(exact, of), strict=True):
        assert 0 < float((mine - wanted).norm() / wanted.norm()) < 0.02


def test_a_head_that_is_no_plain_matrix_takes_the_long_way() -> None:
    class Scaled(nn.Linear):
        pass

    network, x = Network(torch.float32, True), states()
    expected, _ = token_logprobs(network, x, IDS, 0.5)
    network.head.__class__ = Scaled
    assert module.tiled_head(network) is None
    torch.testing.assert_close(token_logprobs(network, x, IDS, 0.5)[0], expected, atol=1e-6, rtol=1e-5)
