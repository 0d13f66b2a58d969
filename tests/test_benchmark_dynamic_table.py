"""The dynamic table's benchmark: arms that do the same work, tables that say what the records say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from lib import sparse_arms, sparse_tables  # noqa: E402
from lib.sparse_arms import Setting  # noqa: E402


def test_draws_are_those_of_the_setting() -> None:
    for draw, most in (("uniform", 40), ("1.2", 150)):
        first, second = Setting(4, draw, 2000).batches(2, seed=0)
        assert first.shape == (26, 2048) and first.dtype == torch.int64 and not torch.equal(first, second)
        assert int(first.min()) >= 0 and int(first.max()) < 2000
        counts = torch.bincount(first.flatten(), minlength=2000)
        # 53,248 draws of 2,000 ids: 26.6 each; by Zipf's law with exponent 1.2 the first id has a fifth or more
        assert (int(counts.max()) < 3 * most) if draw == "uniform" else (int(counts[0]) > 53_248 // 6)
    assert Setting(16, "1.05", 5).name == "D 16, Zipf 1.05"


def test_all_arms_learn_from_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One SGD step of the goal's gradient moves a row by lr times the sum over the examples that have its id."""
    setting = Setting(2, "uniform", 30)
    ids = next(setting.batches(1, seed=3))
    made: list[object] = []
    engine_class = sparse_arms.EmbeddingEngine
    monkeypatch.setattr(sparse_arms, "EmbeddingEngine", lambda *a, **k: made.append(engine_class(*a, **k)) or made[-1])
    step = sparse_arms.dynamic(setting, "torch", "SGD")
    engine = made[0]
    assert isinstance(engine, engine_class)
    before = engine.tables["f3"].slot(torch.arange(30))
    step(ids)
    gradient = sparse_arms.goal(setting)[:, 6:8]
    expected = before.index_add(0, ids[3], gradient, alpha=-sparse_arms.LR)
    torch.testing.assert_close(engine.tables["f3"].slot(torch.arange(30)), expected)


def test_the_speed_table_gives_rates_and_ratios() -> None:
    def record(arm: str, rate: int, start: str = "warm") -> dict[str, object]:
        return {"setting": "D 16, uniform", "arm": arm, "start": start, "ms": [1.0], "ids_per_second": rate}

    table = sparse_tables.speed_table(
        [
            record("ours, numba, adam", 3_000_000),
            record("ours, numba, adam", 900_000, "cold"),
            record("26 EmbeddingBag(sparse) + SparseAdam", 1_500_000),
            record("ours, numba, SGD", 2_000_000),
            record("FBGEMM, SGD", 5_000_000),
        ]
    )
    assert "| ours, numba, adam | 3.00 (2.00x) |" in table
    assert "| ours, numba, adam, all ids new | 0.90 (0.60x) |" in table
    assert "| FBGEMM over ours (numba), SGD | 2.50x |" in table
    assert "| FBGEMM over ours (numba), Adagrad | - |" in table
