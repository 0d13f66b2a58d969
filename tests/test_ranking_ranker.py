"""The click ranker's parts: ids, mapped tables, features, the folder, and the two forms of its network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from goodrate.models.click_network import Examination, PositionTower
from goodrate.models.deepfm import DeepFM
from goodrate.ranking.feature_ids import crossed, text_ids
from goodrate.ranking.mapped_table import open_table, write_table
from goodrate.ranking.ranker import CARD, NETWORK, Ranker, forward, scales, standardised
from goodrate.ranking.ranker_features import (
    FeatureSet,
    item_features,
    pair_features,
    query_ids,
    sparse_features,
    unknown_items,
)
from goodrate.relevance.verdicts import Verdict
from small_rankers import small_ranker

ITEMS = [
    {"id": "a", "brand": "Zorvo", "category": "Lamps", "price": 10.0, "rating": 4.0, "attributes": '{"reviews":7}'},
    {"id": "b", "brand": "ZORVO", "category": "", "price": None, "rating": None, "attributes": "{}"},
]
SMALL = FeatureSet(channels=("lexical",), labels=("bad", "good"), rating_count="attributes.reviews")


def test_ids_of_texts_are_the_same_everywhere() -> None:
    assert text_ids(["lamp", "", "lamp"]).tolist() == [text_ids(["lamp"])[0], text_ids([""])[0], text_ids(["lamp"])[0]]
    assert len(set(text_ids([f"{n}" for n in range(10_000)]).tolist())) == 10_000
    left, right = text_ids(["a", "b", "a"]), text_ids(["b", "a", "c"])
    assert len(set(crossed(left, right).tolist())) == 3  # (a, b), (b, a) and (a, c)
    assert (crossed(left, right) == crossed(left, right)).all()


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 1025])
def test_a_mapped_table_gives_every_row_back_and_zeros_for_others(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    extreme = [0, -1, -2, np.iinfo(np.int64).min, np.iinfo(np.int64).max]
    drawn = np.unique(rng.integers(-(2**62), 2**62, 2 * count))
    ids = np.concatenate([np.asarray(extreme, dtype=np.int64), rng.permutation(drawn)])[:count]
    weight = rng.normal(size=(count, 3)).astype(np.float32)
    table = open_table(tmp_path, write_table(tmp_path, ids, weight))
    assert (table.vectors(ids) == weight).all()
    others = np.setdiff1d(rng.integers(-(2**62), 2**62, 500), ids)
    assert (table.rows(others) == -1).all() and not table.vectors(others).any()


def test_a_cut_table_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    told = write_table(tmp_path, np.arange(100), np.ones((100, 4), dtype=np.float32))
    whole = (tmp_path / "weight.npy").read_bytes()
    (tmp_path / "weight.npy").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="weight.npy: cut off"):
        open_table(tmp_path, told)
    (tmp_path / "weight.npy").unlink()
    with pytest.raises(FileNotFoundError, match="weight.npy"):
        open_table(tmp_path, told)
    np.save(tmp_path / "weight.npy", np.ones((99, 4), dtype=np.float32))
    with pytest.raises(ValueError, match=r"holds float32 \(99, 4\), the ranker's card says float32 \(100, 4\)"):
        open_table(tmp_path, told)


def test_a_table_of_other_numbers_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    ids, rows = np.arange(100), np.ones((100, 4), dtype=np.float32)
    told = write_table(tmp_path, ids, rows)
    for name, array in (("ids", ids.astype(np.float64)), ("weight", rows.astype(np.float64))):
        whole = (tmp_path / f"{name}.npy").read_bytes()
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match=f"{name}.npy: holds float64"):
            open_table(tmp_path, told)
        (tmp_path / f"{name}.npy").write_bytes(whole)
    np.save(tmp_path / "offsets.npy", np.full(129, 10**9))
    with pytest.raises(ValueError, match="offsets.npy: does not end at the last of 100 rows"):
        open_table(tmp_path, told)
    with pytest.raises(ValueError, match="a weight is not finite; train the ranker again"):
        write_table(tmp_path / "run_away", ids, np.where(ids[:, None] == 3, np.nan, rows))


def test_a_weight_that_is_no_number_never_orders_results(tmp_path: Path) -> None:
    folder = small_ranker(tmp_path / "ranker", features=SMALL)
    path = folder / "tables" / "item" / "weight.npy"
    np.save(path, np.full_like(np.load(path), np.nan))
    with pytest.raises(ValueError, match="a weight is not finite"):
        Ranker.open(folder).utilities("lamp", ITEMS, [hit(1, lexical=2.0), hit(2, lexical=1.0)], [None, None])


def test_features_of_rows() -> None:
    items = item_features(ITEMS, SMALL)
    assert items.ids["brand"][0] == items.ids["brand"][1] == text_ids(["zorvo"])[0]  # in normal form
    assert items.known["category"].tolist() == [True, False]
    assert items.dense[0].tolist() == pytest.approx([np.log(10.0), 4.0, np.log(8.0)]) and np.isnan(items.dense[1]).all()
    assert query_ids(["Desk  LAMP"]).tolist() == query_ids(["desk lamp"]).tolist()
    ids, known = sparse_features(query_ids(["lamp", "lamp"]), items, np.asarray([1, 0]), SMALL)
    assert ids.shape == (2, 6) and known.tolist() == [[True, True, True, False, True, False], [True] * 6]
    assert ids[0, 4] == ids[1, 4] and ids[0, 1] == text_ids(["b"])[0]
    unknown = unknown_items(["z"], SMALL)
    assert (
        np.isnan(unknown.dense).all() and unknown.ids["item"][0] == text_ids(["z"])[0] and not unknown.known["brand"][0]
    )


def test_a_frame_and_rows_have_the_same_features() -> None:
    odd = [
        {"id": "c", "brand": "\uff3a\uff4f\uff52  x", "category": "A > B", "price": 0.0, "rating": float("nan"),
         "attributes": '{"reviews":"12"}'},
        {"id": "d", "brand": "", "category": "", "price": 1e6, "rating": 5.0, "attributes": '{"reviews":"many"}'},
    ]  # fmt: skip
    rows = [*ITEMS, *odd]
    of_rows, of_frame = item_features(rows, SMALL), item_features(pl.DataFrame(rows), SMALL)
    np.testing.assert_array_equal(of_rows.dense, of_frame.dense)
    assert of_rows.dense[2:, 2].tolist()[0] == pytest.approx(np.log(13.0)) and np.isnan(of_rows.dense[3, 2])
    for name in ("item", "brand", "category"):
        assert (of_rows.ids[name] == of_frame.ids[name]).all() and (of_rows.known[name] == of_frame.known[name]).all()


def hit(rank: int, **scores: float) -> SimpleNamespace:
    parts = {name: SimpleNamespace(rank=rank, score=score, share=1.0) for name, score in scores.items()}
    return SimpleNamespace(item_id="a", score=1.0, rank=rank, channels=parts, excluded=False)


def test_features_of_pairs_are_missing_where_nothing_is_told() -> None:
    assert SMALL.dense == ("lexical_score", "log_rank", "gain", "p_bad", "log_price", "rating", "log_rating_count")
    verdicts = [Verdict("good", (0.25, 0.75), 0.75), Verdict(status="failed"), None]
    rows = pair_features([hit(1, lexical=3.0), hit(2, dense=0.5), None], verdicts, SMALL)
    told = [[3.0, 0.0, 0.75, 0.25], [np.nan, np.log(2), np.nan, np.nan], [np.nan] * 4]
    np.testing.assert_array_equal(rows, told)
    assert np.isnan(pair_features([None], [], SMALL)).all()
    bare = FeatureSet(channels=(), labels=())
    assert pair_features([hit(1, lexical=3.0)], [], bare).shape == (1, 0)


def test_numbers_are_scaled_and_infinite_ones_refused() -> None:
    bare = FeatureSet(sparse=("item",), channels=(), items=("log_price", "rating"))
    dense = np.asarray([[1.0, np.nan], [3.0, 4.0]])
    mean, spread = scales(dense)
    assert (mean, spread) == ((2.0, 4.0), (1.0, 1.0))
    np.testing.assert_array_equal(standardised(dense, mean, spread, bare), [[-1.0, np.nan], [1.0, 0.0]])
    assert standardised(np.asarray([[99.0, 4.0]]), mean, spread, bare)[0, 0] == 5.0
    with pytest.raises(ValueError, match="feature rating of row 2 is inf"):
        standardised(np.asarray([[1.0, 4.0], [1.0, np.inf]]), mean, spread, bare)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_the_served_network_is_the_trained_one(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    embedded, numbers = torch.randn(20, 3, 5), torch.randn(20, 6)
    numbers[::4, 2] = float("nan")

    class Given(torch.nn.Module):
        def forward(self, ids: object) -> dict[str, torch.Tensor]:
            return {name: embedded[:, place] for place, name in enumerate("abc")}

    network = DeepFM(Given(), "abc", 4, 6, hidden).eval()
    weights = {name: weight.detach().numpy() for name, weight in network.state_dict().items()}
    ours = forward(weights, embedded.numpy(), numbers.numpy())
    theirs = network({"ids": {}, "numbers": numbers})["logits"]
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_tower_is_zero_at_the_top_and_level_below_its_last_place() -> None:
    tower = PositionTower(3)
    with torch.no_grad():
        tower.below.copy_(torch.tensor([-1.0, -2.0]))
    assert tower(torch.tensor([1, 2, 3, 50])).tolist() == [0.0, -1.0, -2.0, -2.0]
    given = Examination(3, [1.0, 0.5, 0.25])
    assert given(torch.tensor([1, 2, 9])).exp().tolist() == pytest.approx([1.0, 0.5, 0.25])
    assert not list(given.parameters()) and Examination(3)(torch.tensor([1, 3])).exp().tolist() == [1.0, 0.5]


def test_a_folder_opens_as_what_was_written(tmp_path: Path) -> None:
    ranker = Ranker.open(small_ranker(tmp_path / "ranker", features=SMALL))
    hits, verdicts = [hit(1, lexical=2.0), hit(2, lexical=1.0)], [None, None]
    assert ranker.utilities("lamp", ITEMS, hits, verdicts).tolist() == pytest.approx([1 / (1 + np.exp(-1)), 0.5])
    assert ranker.card.judge == "fake" and ranker.features == SMALL and len(ranker.utilities("lamp", [], [], [])) == 0
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == [NETWORK, CARD, "tables"]


def test_a_folder_of_other_features_or_cut_files_is_refused(tmp_path: Path) -> None:
    folder = small_ranker(tmp_path / "ranker", features=SMALL)
    card = json.loads((folder / CARD).read_text())
    with pytest.raises(FileNotFoundError, match="goodrate train click_ranker"):
        Ranker.open(tmp_path)
    for changed, told in (
        ({"features": {**card["features"], "items": ["rating"]}}, "its features are others"),
        ({"features": {**card["features"], "more": 1}}, "not what goodrate train click_ranker writes"),
        ({"format": 7}, "expected kind 'click_ranker', format 1; found kind 'click_ranker', format 7"),
        ({"hidden": [5]}, "weights of another network"),
        ({"hidden": ["3"]}, "expected a size, found '3'"),
        ({"mean": ["x"] * len(card["mean"])}, "mean and spread: expected numbers, found 'x'"),
        ({"spread": [0.0] * len(card["mean"])}, "spread: expected a number above 0 for each"),
        ({"spread": card["spread"][1:]}, "spread: expected a number above 0 for each"),
        ({"tables": {name: {**own, "buckets": "x"} for name, own in card["tables"].items()}}, "found 'x'"),
        ({"tables": [1]}, "its features are others|not what goodrate train click_ranker writes"),
    ):
        (folder / CARD).write_text(json.dumps({**card, **changed}))
        with pytest.raises(ValueError, match=told):
            Ranker.open(folder)
    (folder / CARD).write_text(json.dumps(card))
    whole = (folder / NETWORK).read_bytes()
    (folder / NETWORK).write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=f"{NETWORK}: cut off"):
        Ranker.open(folder)


def test_fingerprints_differ_where_features_do() -> None:
    prints = {SMALL.fingerprint, FeatureSet().fingerprint, dataclasses.replace(SMALL, labels=()).fingerprint}
    assert len(prints) == 3 and SMALL.fingerprint == dataclasses.replace(SMALL).fingerprint
