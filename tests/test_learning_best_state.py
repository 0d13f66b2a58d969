"""What a training keeps: the best state on held-out queries, the start included, and when it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from goodrate.learning.best_state import CHECKS, PATIENCE, BestState, fit_watched
from goodrate.learning.fit import FitSettings
from goodrate.learning.records import Term, Update
from goodrate.recipes.held_out import ITEMS, LEAST, held_out, query_losses, told
from goodrate.relevance.pairs import JudgedPair


class Weight(nn.Module):
    """One weight, at 0 at first; the loss moves it to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.fixed = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"off": (self.w - 1).expand(1)}


class Same:
    """The same update again and again."""

    def next(self, step: int) -> Update:
        return Update(
            [{"mask": torch.ones(1, dtype=torch.bool)}], [Term("off", lambda o, b: o["off"] ** 2, mask="mask")]
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def trained(target: float, spread: float = 0.0, updates: int = 100) -> tuple[Weight, BestState, int]:
    """Held-out queries want the weight at `target`, each a little elsewhere; how many updates there were."""
    model, off = Weight(), np.linspace(-spread, spread, 9)
    best = BestState(model, lambda: (float(model.w) - target - off) ** 2)
    settings = FitSettings(updates=updates, schedule="constant", precision="fp32", warmup=0)
    optimizer = torch.optim.SGD([model.w], lr=0.01)
    done = fit_watched(model, Same(), [optimizer], settings, best)  # type: ignore[arg-type]
    best.restore()
    return model, best, done.updates


def test_the_best_state_is_kept_and_the_training_ends_soon_behind_it() -> None:
    model, best, updates = trained(0.4)
    assert float(model.w) == pytest.approx(0.4, abs=0.1) and best.helped
    assert updates == best.update + PATIENCE * (100 // CHECKS) < 100
    assert trained(1.0)[1:] and trained(1.0)[2] == 100
    assert "which are kept" in told(best, "the start")


def test_where_all_states_are_worse_the_start_is_the_best() -> None:
    model, best, updates = trained(-0.5)
    assert float(model.w) == 0 and not best.helped and best.gain == (0.0, 0.0) and updates == 30
    assert told(best, "the start").startswith("training added nothing") and told(best, "the start").endswith(
        "the start"
    )


def test_a_gain_within_chance_is_none() -> None:
    assert trained(0.1, spread=0.01)[1].helped
    _, best, _ = trained(0.1, spread=5.0)
    mean, error = best.gain
    assert best.update > 0 and 0 < mean < error and not best.helped


def test_it_goes_on_from_its_state() -> None:
    model, best, _ = trained(0.4)
    other = BestState(Weight(), lambda: np.ones(9))
    other.load_state_dict(best.state_dict())
    assert (other.update, other.tired) == (best.update, True) and (other.best == best.best).all()


def test_held_out_queries_and_their_losses() -> None:
    names = [f"{a}{b}q" for a in "abcde" for b in "fghij"]
    pairs = [JudgedPair(name, {"id": str(n)}, label=n % 2) for name in names for n in range(20)]
    training, checked = held_out(pairs, 0.4, seed=0)
    held = {pair.query for pair in checked}
    assert len(held) == 10 and not held & {pair.query for pair in training}
    assert len(training) == 15 * 20 and len(checked) == 10 * ITEMS
    assert held_out(pairs[: 20 * LEAST], 0.4, seed=0) == (pairs[: 20 * LEAST], [])
    two = [JudgedPair("b", {"id": "x"}, label=1), JudgedPair("a", {"id": "x"}, label=0), JudgedPair("a", {}, label=0)]
    losses = query_losses(np.array([[0.5, 0.5], [0.25, 0.75], [np.nan, np.nan]]), two)
    np.testing.assert_allclose(losses, -np.log([0.25, 0.5]))
