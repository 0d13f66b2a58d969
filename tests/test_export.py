"""goodrate export: the same vectors and scores from another runtime, and nothing written that ranks worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from calling import Run, called
from goodrate.api.exporting import CHECK_FILE, export
from goodrate.api.index import Index
from goodrate.api.reading import read_catalog, read_judgements
from goodrate.models.encoder import Encoder
from goodrate.models.encoder_folder import EncoderRules, write_rules
from goodrate.models.exported import EXPORT_FILE, FILES
from goodrate.relevance import cross_encoder_judge, encoder_judge
from goodrate.relevance.encoder_judge import write_encoder_judge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import Pair, text_item
from test_models_cross_encoder import bert_folder, cross_encoder

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)

torch.set_num_threads(1)
COLOURS, THINGS = ("red", "blue", "oak", "steel"), ("lamp", "desk", "chair", "cable")
TEXTS = ["red lamp", "a", "blue desk for a chair without a cable " * 3, "oak"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder with prompts, a judge of each kind over it, 16 items and labels for them."""
    path = tmp_path_factory.mktemp("export")
    bert_folder(path / "encoder")
    write_rules(path / "encoder", EncoderRules("mean", 32, "a ", "for a "), 32)
    fingerprint = Encoder.load(path / "encoder").fingerprint
    odds = {"slope": 4.0, "cuts": (0.5, 1.0, 2.0)}
    card = encoder_judge.Card(scale="four_level", encoder="encoder", fingerprint=fingerprint, **odds)  # type: ignore[arg-type]
    write_encoder_judge(path / "cosine", card)
    bert_folder(path / "cosine" / "encoder")
    write_rules(path / "cosine" / "encoder", EncoderRules("mean", 32, "a ", "for a "), 32)
    model = cross_encoder(path / "pairs")
    cross_encoder_judge.write_cross_encoder_judge(
        path / "pairs", cross_encoder_judge.Card(scale="four_level", max_tokens=24), model
    )
    cosine: Any = open_judge(path / "cosine").inner
    cross_encoder_judge.write_cross_encoder_judge(
        path / "started", cross_encoder_judge.Card(scale="four_level", max_tokens=24), cross_encoder(path / "other"),
        cosine,
    )  # fmt: skip
    titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    pl.DataFrame({"id": [f"i{n}" for n in range(16)], "title": titles}).write_csv(path / "items.csv")
    rows = [
        (f"{own} {thing}", f"i{4 * c + THINGS.index(thing)}", "excellent" if colour == own else "mismatch")
        for own in COLOURS for thing in THINGS for c, colour in enumerate(COLOURS)
    ]  # fmt: skip
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(path / "labels.csv")
    return path


def exported(made: Path, name: str, out: Path, **options: object):
    labels = read_judgements(made / "labels.csv", "four_level")
    return export(made / name, out, labels, read_catalog(made / "items.csv"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", sorted(FILES))
def test_an_encoder_has_the_same_vectors_and_fingerprint(made: Path, tmp_path: Path, runtime: str) -> None:
    check = exported(made, "encoder", tmp_path / "out", to=runtime)
    source, other = Encoder.load(made / "encoder"), Encoder.load(tmp_path / "out")
    for texts in (TEXTS, TEXTS[:1]):
        np.testing.assert_allclose(other.encode_items(texts), source.encode_items(texts), atol=1e-5)
        np.testing.assert_allclose(other.encode_queries(texts), source.encode_queries(texts), atol=1e-5)
    assert check.same and check.ndcg[0] == pytest.approx(check.ndcg[1]) and check.largest_gap < 1e-4
    assert check.least_cosine > 0.9999 and (check.queries, check.pairs) == (16, 64)
    assert json.loads((tmp_path / "out" / CHECK_FILE).read_text())["same"]
    assert not list((tmp_path / "out").glob("*.safetensors")) and other.rules == source.rules
    assert other.fingerprint == source.fingerprint
    with pytest.raises(ValueError, match="cannot be trained"):
        other.network.train()


def test_an_index_of_the_torch_encoder_is_searched_with_the_exported_one(made: Path, tmp_path: Path) -> None:
    exported(made, "encoder", tmp_path / "out")
    Index.create(tmp_path / "index", read_catalog(made / "items.csv"), made / "encoder")
    answers = [
        Index.open(tmp_path / "index", encoder).search("steel cable", k=5, mode="dense")
        for encoder in (made / "encoder", tmp_path / "out")
    ]
    assert [r.item["id"] for r in answers[0]] == [r.item["id"] for r in answers[1]] and len(answers[0]) == 5


def test_other_rules_or_another_file_are_another_encoder(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(made, "encoder", out)
    own = Encoder.load(out).fingerprint
    write_rules(out, EncoderRules("cls", 32, "a ", "for a "), 32)
    assert Encoder.load(out).fingerprint != own
    with (out / FILES["onnx"]).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=f"model.onnx is not the file that .*{EXPORT_FILE} describes"):
        Encoder.load(out)


def test_bytes_are_other_vectors_with_a_fingerprint_of_their_own(made: Path, tmp_path: Path) -> None:
    check = exported(made, "encoder", tmp_path / "out", int8=True, most_lost=1.0)
    source, other = Encoder.load(made / "encoder"), Encoder.load(tmp_path / "out")
    cosines = (source.encode_items(TEXTS) * other.encode_items(TEXTS)).sum(1)
    assert 0.9 < cosines.min() < 1 and check.least_cosine == pytest.approx(cosines.min(), abs=0.1)
    assert check.same == (check.least_cosine >= 0.9999) == (other.fingerprint == source.fingerprint)


def test_what_ranks_worse_is_not_written(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Encoder.encode_items

    def broken(self: Encoder, texts: list[str], batch_size: int = 32) -> np.ndarray:
        vectors = encode(self, texts, batch_size)
        return vectors[::-1] if hasattr(self.network, "card") else vectors

    monkeypatch.setattr(Encoder, "encode_items", broken)
    with pytest.raises(ValueError, match=r"loses 0\.\d{4} of nDCG@10 .* more than 0.005; nothing is written"):
        exported(made, "encoder", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cosine", "pairs", "started"])
def test_a_judge_gives_the_same_verdicts(made: Path, tmp_path: Path, name: str) -> None:
    exported(made, name, tmp_path / "out")
    source, other = open_judge(made / name), open_judge(tmp_path / "out")
    pairs = [Pair("red lamp", text_item(text)) for text in TEXTS]
    np.testing.assert_allclose(other.pair_probabilities(pairs), source.pair_probabilities(pairs), atol=0.02)
    assert other.scale == source.scale
    assert dict(other.identity) != dict(source.identity) or name == "cosine"
    starts = [getattr(one.inner, "start", None) for one in (source, other)]
    assert [one is not None for one in starts] == [name == "started"] * 2


def test_a_network_without_token_types_is_exported_too(made: Path, tmp_path: Path) -> None:
    bert_folder(tmp_path / "mpnet", "mpnet")
    labels = read_judgements(made / "labels.csv", "four_level")
    check = export(tmp_path / "mpnet", tmp_path / "out", labels, read_catalog(made / "items.csv"), queries=3)
    assert check.same and check.queries == 3


def test_what_cannot_be_exported_is_said(made: Path, tmp_path: Path) -> None:
    exported(made, "encoder", tmp_path / "out")
    labels, items = read_judgements(made / "labels.csv", "four_level"), read_catalog(made / "items.csv")
    for model, options, said in [
        (tmp_path / "out", {}, "is exported already"),
        (made / "encoder", {"to": "tensorrt"}, "'tensorrt' is not one of onnx, openvino"),
        (made / "encoder", {"to": "openvino", "int8": True}, "--int8 is for onnx"),
    ]:
        with pytest.raises(ValueError, match=said):
            export(model, tmp_path / "new", labels, items, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is there; choose another --out"):
        export(made / "encoder", tmp_path / "out", labels, items)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_command_says_what_it_costs(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run: Run = lambda *arguments: called(monkeypatch, capsys, *arguments)  # noqa: E731
    check, items = made / "labels.csv", made / "items.csv"
    code, out, _ = run(
        "export", made / "encoder", "--check", check, "--catalog", items, "--scale", "four_level", "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert code == 0 and "nDCG@10, 16 queries" in out and "least cosine of a text's two vectors 1.0" in out
    assert (tmp_path / "out" / "model.onnx").is_file()
