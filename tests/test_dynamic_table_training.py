"""Dynamic tables inside the loop: killed at any update = never killed, several ranks = one, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from goodrate.learning.fit import Diverged, FitSettings, fit
from goodrate.models.dynamic_table import (
    Adagrad,
    EmbeddingEngine,
    EmbeddingSpec,
    IdleSteps,
    SparseAdam,
    load_tables,
    save_tables,
)
from goodrate.ragged import Ragged
from goodrate.run_folder import RunFolder
from ranks import launch
from sparse_dense import SPECS, Clicks, Days, losses, micro_batch, rows_by_id, train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clicks]:
    folder = tmp_path_factory.mktemp("tables") / "straight"
    return folder, train(folder)


def same(first: Clicks, second: Clicks) -> bool:
    dense = zip(first.dense.parameters(), second.dense.parameters(), strict=True)
    return rows_by_id(first.embeddings) == rows_by_id(second.embeddings) and all(torch.equal(a, b) for a, b in dense)


@pytest.mark.parametrize("killed_at", [1, 4, 5, 7])
def test_killed_at_any_update_is_never_killed(killed_at: int, straight: tuple[Path, Clicks], tmp_path: Path) -> None:
    train(tmp_path, kill_at=killed_at)
    resumed = train(tmp_path)
    assert same(straight[1], resumed)
    assert losses(tmp_path) == losses(straight[0])
    (kept,) = tmp_path.glob("spread-*")
    assert kept.name.startswith("spread-8-") and (kept / "embeddings" / "tables.json").is_file()


def test_the_run_learns_its_sparse_half(straight: tuple[Path, Clicks]) -> None:
    metrics = RunFolder(straight[0]).metrics()
    assert all(record["sparse_gradient_norm"] > 0 for record in metrics)
    engine = straight[1].embeddings
    assert engine.updates == 8 and len(engine.tables["user"]) > 50
    assert len(engine.tables["word"]) <= 40 + 2 * 36  # evicted to 40 after 6 updates, two since
    fresh = EmbeddingEngine({"user": SPECS["user"]}, seed=5)
    ids = engine.tables["user"].ids()
    assert not torch.equal(fresh({"user": Ragged.single(ids)})["user"], engine.tables["user"].slot(ids))


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_several_ranks_are_one(world: int, straight: tuple[Path, Clicks], tmp_path: Path) -> None:
    alone = train(tmp_path / "row_wise1", optimizer="row_wise")
    save_tables(alone.embeddings, tmp_path / "tables1")
    torch.save(rows_by_id(alone.embeddings), tmp_path / "rows1.pt")
    train(tmp_path / f"resumed_in{world}", kill_at=5)
    launch("sparse_dense", f"in_ranks({str(tmp_path)!r})", world)

    def close(folder: Path, expected: list[float]) -> None:
        assert len(expected) == 8
        assert losses(folder) == pytest.approx(expected, rel=1e-6, abs=1e-6)

    close(tmp_path / f"straight{world}", losses(straight[0]))
    close(tmp_path / f"row_wise{world}", losses(tmp_path / "row_wise1"))
    close(tmp_path / f"resumed_in{world}", losses(straight[0]))
    resumed = train(tmp_path / f"killed{world}")  # by one process
    close(tmp_path / f"killed{world}", losses(straight[0]))
    ours, expected = rows_by_id(resumed.embeddings), rows_by_id(straight[1].embeddings)
    assert ours.keys() == expected.keys()
    torch.testing.assert_close(
        *(torch.tensor([part[k][:4] for k in expected if k[0] != "word"]) for part in (ours, expected))
    )
    back = EmbeddingEngine(SPECS, seed=5)
    loaded = load_tables(back, tmp_path / f"tables{world}")
    assert rows_by_id(back) == rows_by_id(alone.embeddings) and loaded.rows == sum(map(len, back.tables.values()))


class Only(nn.Module):
    """A model without a dense parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = EmbeddingEngine({"user": EmbeddingSpec(1)})

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {"logit": self.rows({"user": batch["features"]["user"]})["user"][:, 0]}


def test_a_model_without_dense_parameters_trains_and_clipping_leaves_rows_alone(tmp_path: Path) -> None:
    ends = []
    for clip in (1e-9, float("inf")):
        model = Only()
        settings = FitSettings(updates=3, precision="fp32", clip_norm=clip)
        fit(model, Days(), [SparseAdam(model.rows, lr=0.1)], settings)
        ends.append(rows_by_id(model.rows))
    assert ends[0] == ends[1] and len(ends[0]) > 10


@pytest.mark.parametrize("where", ["loss", "rows"])
def test_what_is_not_finite_diverges(where: str, tmp_path: Path) -> None:
    class Broken(Days):
        def next(self, step: int) -> Any:
            update = super().next(step)
            if step == 3 and where == "rows":
                model.embeddings.storages[0].weight[0] = float("nan")
            return update

    class Infinite(Clicks):
        def forward(self, batch: Any) -> dict[str, torch.Tensor]:
            rows = self.embeddings(batch["features"])["user"]
            # The loss is finite and so are the gradients of dense weights; those of the rows are infinite.
            root = (rows - rows.detach()).abs().sum(1).add(0.0).pow(0.5) if self.embeddings.updates == 3 else 0.0
            return {"logit": super().forward(batch)["logit"] + root}

    model = Infinite() if where == "loss" else Clicks()
    settings = FitSettings(updates=6, precision="fp32", checkpoint_updates=1)
    optimizers = [torch.optim.SGD(model.dense.parameters(), 0.1), SparseAdam(model.embeddings)]
    source = Days() if where == "loss" else Broken()
    with pytest.raises(Diverged, match="update 3: the sparse gradient" if where == "loss" else "not finite"):
        fit(model, source, optimizers, settings, folder=RunFolder(tmp_path))
    resumed = Clicks()
    loaded = load_tables(resumed.embeddings, next(tmp_path.glob("spread-*")) / "embeddings")
    assert resumed.embeddings.finite() and loaded.rows > 0 and resumed.embeddings.updates == 3


def saved(folder: Path) -> EmbeddingEngine:
    engine = EmbeddingEngine({"a": EmbeddingSpec(3), "b/ä": EmbeddingSpec(3)}, seed=1)
    optimizer = SparseAdam(engine)
    out = engine({"a": Ragged.of([[1, 2], [-5]]), "b/ä": Ragged.of([[1], []])})
    sum(part.sum() for part in out.values()).backward()
    optimizer.step()
    save_tables(engine, folder)
    return engine


def test_weights_alone_are_loaded_for_reading(tmp_path: Path) -> None:
    engine = saved(tmp_path / "t")
    reader = EmbeddingEngine(engine.specs, seed=1)
    loaded = load_tables(reader, tmp_path / "t", weights_only=True)
    assert loaded.rows == 4 and set(reader.storages[0].slots) == {"weight"}
    ids = torch.tensor([1, 2, -5, 9])
    assert torch.equal(reader.tables["a"].slot(ids), engine.tables["a"].slot(ids))
    whole = EmbeddingEngine(engine.specs, seed=1)
    load_tables(whole, tmp_path / "t")
    SparseAdam(whole)  # made after loading: it finds its moments
    assert torch.equal(whole.tables["b/ä"].slot(ids, "exp_avg"), engine.tables["b/ä"].slot(ids, "exp_avg"))
    assert whole.tables["b/ä"].slot(ids, "exp_avg").any()


def test_weights_alone_keep_what_evictions_read(tmp_path: Path) -> None:
    spec = {"a": EmbeddingSpec(2, eviction=IdleSteps(5, every=1))}
    engine, reader = EmbeddingEngine(spec), EmbeddingEngine(spec)
    for low in range(8):
        engine({"a": Ragged.of([[low]])})["a"].sum().backward()
        if low == 0:
            optimizer = SparseAdam(engine)
        optimizer.step()
    save_tables(engine, tmp_path / "t")
    assert load_tables(reader, tmp_path / "t", weights_only=True).rows == 5
    SparseAdam(reader).step()
    assert sorted(reader.tables["a"].ids().tolist()) == [4, 5, 6, 7]


def test_tables_that_do_not_fit_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    engine = saved(tmp_path / "t")
    specs = dict(engine.specs)
    cases = [
        ({"a": EmbeddingSpec(3)}, 1, SparseAdam, r"missing \[\], not asked for \['b/ä'\]"),
        ({**specs, "c": EmbeddingSpec(3)}, 1, SparseAdam, r"missing \['c'\]"),
        (specs, 2, SparseAdam, "made with seed 1, this engine has 2"),
        ({**specs, "a": EmbeddingSpec(4)}, 1, SparseAdam, "table 'a' has dim 3, this engine has 4"),
        (specs, 1, Adagrad, r"table 'a' has no \['sum'\]: saved with another optimizer"),
    ]
    for other, seed, optimizer, message in cases:
        target = EmbeddingEngine(other, seed=seed)
        optimizer(target)
        target({name: Ragged.of([[3]]) for name in other})
        before = rows_by_id(target)
        with pytest.raises(ValueError, match=message):
            load_tables(target, tmp_path / "t")
        assert rows_by_id(target) == before
    file = next((tmp_path / "t").glob("a-*.safetensors"))
    whole = file.read_bytes()
    before = rows_by_id(engine)
    for broken in (whole[: len(whole) // 2], b"", None):
        file.unlink() if broken is None else file.write_bytes(broken)
        with pytest.raises(ValueError, match=f"{file.name}: missing, cut off or no safetensors"):
            load_tables(engine, tmp_path / "t")
        assert rows_by_id(engine) == before
    with pytest.raises(FileNotFoundError):
        load_tables(engine, tmp_path / "nowhere")


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = saved(tmp_path / "t")
    before = {file.name: file.read_bytes() for file in (tmp_path / "t").iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("goodrate.models.dynamic_table.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_tables(engine, tmp_path / "t")
    assert {file.name: file.read_bytes() for file in (tmp_path / "t").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_gradients_accumulate_over_backward_passes() -> None:
    whole, parts = Clicks(), Clicks()
    batches = [micro_batch(0, part) for part in range(3)]
    optimizers = [SparseAdam(model.embeddings) for model in (whole, parts)]
    torch.stack([whole(batch)["logit"].square().sum() for batch in batches]).sum().backward()
    for batch in batches:
        parts(batch)["logit"].square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    first, second = rows_by_id(whole.embeddings), rows_by_id(parts.embeddings)
    assert first.keys() == second.keys()
    for key, row in first.items():
        assert second[key] == pytest.approx(row, abs=1e-6)
