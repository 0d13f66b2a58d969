"""Dynamic tables: any int64 is an id, pooling and optimizers equal torch's on a static table, evaluation reads only."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goodrate.extras import MissingExtra
from goodrate.models.dynamic_table import (
    SGD,
    Adagrad,
    EmbeddingEngine,
    EmbeddingSpec,
    MaxRows,
    RowWiseAdagrad,
    SparseAdam,
)
from goodrate.models.dynamic_table.hashing import mixed
from goodrate.models.dynamic_table.kernels import kernels_of
from goodrate.models.dynamic_table.lookup import distinct
from goodrate.ragged import Ragged

torch.set_num_threads(1)


@pytest.fixture(autouse=True, params=["torch", "numba"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test with either code."""
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr("goodrate.models.dynamic_table.engine.kernels_of", lambda _: kernels_of(request.param))
    return request.param


EXTREMES = [0, -1, -2, 1, 2**52, 2**52 + 1, 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1, 65535, 65536, -65536]


def bags(num: int, high: int, seed: int, longest: int = 4) -> Ragged:
    """N bags of up to `longest` ids below `high`; some are empty."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (num,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Ragged(torch.randint(0, high, (int(lengths.sum()),), generator=generator), offsets)


def static(engine: EmbeddingEngine, table: str, high: int) -> nn.EmbeddingBag:
    """An EmbeddingBag of ids below `high` that starts as the table's ids do."""
    dim = engine.tables[table].storage.dim
    twin = EmbeddingEngine({table: EmbeddingSpec(dim)}, seed=engine.seed)
    rows = twin({table: Ragged.single(torch.arange(high))})[table].detach()
    return nn.EmbeddingBag(high, dim, mode="sum", sparse=True, include_last_offset=True, _weight=rows.clone())


def test_every_int64_is_an_id_of_its_own() -> None:
    engine = EmbeddingEngine({"id": EmbeddingSpec(8)})
    ids = Ragged.single(torch.tensor(EXTREMES * 2))
    first = engine({"id": ids})["id"]
    assert len(engine.tables["id"]) == len(EXTREMES)
    assert len({tuple(row) for row in first.tolist()}) == len(EXTREMES)
    assert torch.equal(first[: len(EXTREMES)], first[len(EXTREMES) :])
    assert sorted(engine.tables["id"].ids().tolist()) == sorted(EXTREMES)
    assert first.abs().max() <= 0.05 and 0.02 < first.std() < 0.04  # uniform in [-0.05, 0.05): 0.0289


def test_equal_ids_of_different_tables_are_independent() -> None:
    engine = EmbeddingEngine({"a": EmbeddingSpec(4), "b": EmbeddingSpec(4), "c": EmbeddingSpec(4, table="a")})
    ids = Ragged.single(torch.tensor([5, 6]))
    out = engine({"a": ids, "b": ids, "c": ids})
    assert len(engine.storages) == 1 and len(engine.tables["a"]) == len(engine.tables["b"]) == 2
    assert torch.equal(out["a"], out["c"]) and not torch.equal(out["a"], out["b"])
    before = out["b"].detach().clone()
    out["a"].sum().backward()
    SGD(engine, lr=1.0).step()
    again = engine({"a": ids, "b": ids, "c": ids})
    torch.testing.assert_close(again["a"], out["a"] - 1)
    torch.testing.assert_close(again["c"], out["a"] - 1)
    assert torch.equal(again["b"], before)


def test_two_keys_of_one_hash_are_two_rows() -> None:
    engine = EmbeddingEngine({"a": EmbeddingSpec(2), "b": EmbeddingSpec(2)})
    first, second = engine.storages[0].salts.tolist()
    ids = torch.tensor([7, 7 ^ first ^ second] * 3)
    tags = torch.tensor([0, 1] * 3)
    hashes = engine.storages[0].hashed(ids, tags)
    assert len(set(hashes.tolist())) == 1
    found = distinct(ids, tags, hashes, engine.storages[0].kernels)
    assert found.keys.tags.tolist() == [0, 1] and found.spread(torch.tensor([10, 20])).tolist() == [10, 20] * 3
    a, b = Ragged.single(ids[:1]), Ragged.single(ids[1:2])
    engine({"a": a, "b": b})
    assert len(engine.tables["a"]) == len(engine.tables["b"]) == 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pooling", ["sum", "mean", "none"])
def test_pooling_equals_embedding_bag(pooling: Any, weighted: bool) -> None:
    plain = bags(50, 30, 1)
    weights = torch.rand(len(plain.values), generator=torch.Generator().manual_seed(2)) if weighted else None
    ragged = Ragged(plain.values, plain.offsets, weights)
    assert 0 in plain.lengths()
    engine = EmbeddingEngine({"x": EmbeddingSpec(6, pooling=pooling)}, seed=3)
    bag = static(engine, "x", 30)
    rows = bag.weight[plain.values] if weights is None else bag.weight[plain.values] * weights[:, None]
    if pooling == "none":
        expected = rows
    else:
        example = torch.repeat_interleave(plain.lengths())
        expected = torch.zeros(50, 6).index_add(0, example, rows)
        if pooling == "mean":
            ones = torch.ones(len(plain.values)) if weights is None else weights
            expected = expected / torch.zeros(50).index_add(0, example, ones).clamp(min=1e-20)[:, None]
        elif weights is None:
            torch.testing.assert_close(expected, bag(plain.values, plain.offsets))
    out = engine({"x": ragged})["x"]
    torch.testing.assert_close(out, expected)
    goal = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    (dense,) = torch.autograd.grad((expected * goal).sum(), bag.weight)
    (out * goal).sum().backward()
    found, gradients = engine.storages[0].gradients()
    ids = engine.storages[0].keys().ids[found]
    torch.testing.assert_close(gradients, dense.to_dense()[ids])


OPTIMIZERS = {
    "adam": (lambda e: SparseAdam(e, 0.05), lambda p: torch.optim.SparseAdam(p, 0.05)),
    "adam_betas": (
        lambda e: SparseAdam(e, 0.05, (0.5, 0.7), 1e-3),
        lambda p: torch.optim.SparseAdam(p, 0.05, (0.5, 0.7), 1e-3),
    ),
    "adagrad": (lambda e: Adagrad(e, 0.1), lambda p: torch.optim.Adagrad(p, 0.1)),
    "adagrad_options": (
        lambda e: Adagrad(e, 0.1, 0.1, 0.3, 1e-2),
        lambda p: torch.optim.Adagrad(p, 0.1, 0.1, 0, 0.3, 1e-2),
    ),
    "sgd": (lambda e: SGD(e, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
}


@pytest.mark.parametrize("passes", [1, 3])  # backward passes a step: gradients accumulate
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_equal_torch_on_a_static_table(name: str, passes: int) -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(5), "other": EmbeddingSpec(5)}, seed=1)
    bag = static(engine, "x", 40)
    ours, theirs = OPTIMIZERS[name]
    mine, torchs = ours(engine), theirs(list(bag.parameters()))
    unseen = bag.weight.detach().clone()
    for step in range(6):
        for part in range(passes):
            ragged = bags(20, 30, 10 * step + part)
            goal = torch.randn(20, 5, generator=torch.Generator().manual_seed(step))
            out = engine({"x": ragged, "other": ragged})
            ((out["x"] - goal).square().sum() + out["other"].sum()).backward()
            (bag(ragged.values, ragged.offsets) - goal).square().sum().backward()
        for optimizer in (mine, torchs):
            optimizer.step()
            optimizer.zero_grad()
    engine.eval()
    rows = engine({"x": Ragged.single(torch.arange(40)), "other": Ragged.single(torch.arange(0))})["x"]
    torch.testing.assert_close(rows[:30], bag.weight[:30], rtol=1e-5, atol=1e-6)
    assert not rows[30:].any() and torch.equal(bag.weight[30:], unseen[30:])


def test_row_wise_adagrad_by_hand() -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(2, init_scale=0.0)})
    optimizer = RowWiseAdagrad(engine, lr=0.5, eps=0.0)
    goal = torch.tensor([[3.0, 4.0]])
    (engine({"x": Ragged.of([[9]])})["x"] * goal).sum().backward()
    optimizer.step()
    # s = (9 + 16) / 2 = 12.5; w = -0.5 * (3, 4) / sqrt(12.5)
    torch.testing.assert_close(engine.tables["x"].slot(torch.tensor([9])), -0.5 * goal / 12.5**0.5)
    torch.testing.assert_close(engine.tables["x"].slot(torch.tensor([9]), "row_sum"), torch.tensor([[12.5]]))


def test_rows_that_a_step_did_not_see_stay_to_the_bit() -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(4)})
    optimizer = SparseAdam(engine, lr=0.1)
    for ids in ([1, 2, 3], [3]):
        before = copy.deepcopy(engine.storages[0].slots)
        engine({"x": Ragged.of([ids])})["x"].sum().backward()
        optimizer.step()
    rows = engine.tables["x"].find(torch.tensor([1, 2]))
    assert all(torch.equal(before[name][rows], slot[rows]) for name, slot in engine.storages[0].slots.items())


def test_evaluation_changes_nothing_and_unknown_ids_are_zeros() -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(3, pooling="mean")})
    known = engine({"x": Ragged.of([[1], [2]])})["x"].detach()
    engine.eval()
    out = engine({"x": Ragged.of([[1, 77], [77], [], [2]])})["x"]
    torch.testing.assert_close(out, torch.stack([known[0] / 2, *torch.zeros(2, 3), known[1]]))
    assert len(engine.tables["x"]) == 2
    out.sum().backward()  # of a frozen id nothing is kept
    assert len(engine.storages[0].gradients()[0]) == 2


def test_initial_values_do_not_depend_on_the_order_and_do_on_seed_table_id_and_column() -> None:
    ids = torch.arange(-5000, 5000)

    def start(ids: Tensor, seed: int = 0, table: str = "x") -> Tensor:
        return EmbeddingEngine({table: EmbeddingSpec(8)}, seed)({table: Ragged.single(ids)})[table].detach()

    first = start(ids)
    assert torch.equal(start(ids.flip(0)).flip(0), first)
    for other in (start(ids, seed=1), start(ids, table="y"), first.roll(1, 0), first.roll(1, 1)):
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 0.02  # 80,000 pairs: 5.6 standard errors
    assert (first.mean(0).abs() < 0.0015).all() and (first.std(0) - 0.05 / 3**0.5).abs().max() < 0.0005


def test_many_ids_in_many_batches_are_all_found() -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(1), "y": EmbeddingSpec(1)})
    generator, high = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        ids = torch.randint(-(2**62), 2**62, (3000,), generator=generator)
        engine({"x": Ragged.single(ids), "y": Ragged.single(ids >> 50)})
        high |= set((ids >> 50).tolist())
    assert len(engine.storages[0]) == 60_000 + len(high) and set(engine.tables["y"].ids().tolist()) == high
    found = engine.tables["x"].find(engine.tables["x"].ids())
    assert found.min() >= 0 and len(found.unique()) == 60_000


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        ([1.0], [0, 1], "ragged values: expected one axis of int64, got torch.float32"),
        ([1], [0, 2], "ragged offsets: expected to rise from 0 to 1, got 0 to 2"),
        ([1, 2], [0, 2, 1, 2], "expected to rise from 0 to 2"),
        ([1], [], "ragged offsets: expected one axis of int64, got torch.float32"),
    ],
)
def test_ragged_refuses_what_is_none(values: list[Any], offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Ragged(torch.tensor(values), torch.tensor(offsets))


def test_features_and_specs_must_agree() -> None:
    engine = EmbeddingEngine({"x": EmbeddingSpec(3)})
    with pytest.raises(ValueError, match=r"missing \['x'\], without a spec \['y'\]"):
        engine({"y": Ragged.of([[1]])})
    with pytest.raises(ValueError, match="feature 'b': table 'a' has another dim"):
        EmbeddingEngine({"a": EmbeddingSpec(3), "b": EmbeddingSpec(4, table="a")})
    for bad in ({"dim": 0}, {"dim": 3, "pooling": "max"}, {"dim": 3, "init_scale": -1.0}):
        with pytest.raises(ValueError):
            EmbeddingSpec(**bad)


def test_hash_is_one_to_one_on_a_table_and_one_in_either_code() -> None:
    storage = EmbeddingEngine({"x": EmbeddingSpec(1), "y": EmbeddingSpec(1)}).storages[0]
    extremes, tags = torch.tensor(EXTREMES), torch.arange(len(EXTREMES)) % 2
    assert torch.equal(storage.hashed(extremes, tags), mixed(extremes, storage.salts[tags]))
    ids = torch.cat([torch.arange(-200_000, 200_000), torch.arange(0, 2**62, 2**44)])
    assert len(mixed(ids, 5).unique()) == len(ids.unique())


@pytest.mark.parametrize("optimizer", [SGD, SparseAdam, Adagrad, RowWiseAdagrad])
def test_numba_and_torch_are_equal(optimizer: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.undo()
    pytest.importorskip("numba")
    specs = {"x": EmbeddingSpec(5, pooling="mean", eviction=MaxRows(60, every=2)), "y": EmbeddingSpec(5)}
    ends: list[Any] = []
    for index in ("torch", "numba"):
        engine = EmbeddingEngine(specs, seed=1, index=index)  # type: ignore[arg-type]
        assert (engine.storages[0].kernels is None) == (index == "torch")
        rule = optimizer(engine, lr=0.1)
        for step in range(6):
            out = engine({"x": bags(30, 90, step), "y": bags(30, 90, 50 + step)})
            (out["x"].square() + out["y"].sin()).sum().backward()
            rule.step()
        ids = torch.arange(90)
        ends.append({(t, s): v.slot(ids, s) for t, v in engine.tables.items() for s in v.storage.slots})
        ends[-1] |= {t: sorted(v.ids().tolist()) for t, v in engine.tables.items()}
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-5, atol=1e-6)


def test_numba_that_is_not_there(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert EmbeddingEngine({"x": EmbeddingSpec(2)}).storages[0].kernels is None
    with pytest.raises(MissingExtra, match=r'pip install "goodrate\[numba\]"'):
        EmbeddingEngine({"x": EmbeddingSpec(2)}, index="numba")
    with pytest.raises(ValueError, match="index 'cuda' is not one of auto, torch, numba"):
        EmbeddingEngine({"x": EmbeddingSpec(2)}, index="cuda")  # type: ignore[arg-type]


def test_a_keyed_jagged_tensor_is_taken_apart() -> None:
    class Part:
        """As torchrec's JaggedTensor."""

        def __init__(self, values: list[int], offsets: list[int]) -> None:
            self._values, self._offsets = torch.tensor(values), torch.tensor(offsets, dtype=torch.int32)

        def values(self) -> Tensor:
            return self._values

        def offsets(self) -> Tensor:
            return self._offsets

        def weights_or_none(self) -> None:
            return None

    class Keyed:
        def to_dict(self) -> dict[str, Part]:
            return {"x": Part([1, 2, 3], [0, 2, 3])}

    engine = EmbeddingEngine({"x": EmbeddingSpec(3)})
    torch.testing.assert_close(engine(Keyed())["x"], engine({"x": Ragged.of([[1, 2], [3]])})["x"])
    with pytest.raises(ValueError, match="expected Ragged columns by name, got list"):
        engine([1])
