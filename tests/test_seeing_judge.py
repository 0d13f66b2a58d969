"""A judge that sees: the picture behind the query, the query read once, training that needs the picture, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import goodrate as gr
from goodrate.api.index import Index
from goodrate.api.training import train
from goodrate.catalog.images import Pictures
from goodrate.learning.fit import FitSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.vision.tiny import TinyVision
from goodrate.models.vision_language import seeing
from goodrate.models.vision_language.adapters import AdapterSettings
from goodrate.models.vision_language.folder import save
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.models.vision_language.seeing import SeeingLabeller, collate_seen, seen_logits
from goodrate.recipes import judge_seeing
from goodrate.recipes.judge_folder import judge_card
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.relevance.seeing_judge import Card, SeeingJudge, pictures_in, write_seeing_judge
from goodrate.scale import get_scale
from tiny_models import causal_lm

PAINT = {"red": (220, 20, 20), "blue": (20, 20, 220)}
SCALE = get_scale("binary")


def seeing_model(injection: str = "A", seed: int = 0) -> tuple[VisionLanguageModel, TinyVision]:
    torch.manual_seed(seed)
    encoder = TinyVision(16, 16).eval()
    settings = AdapterSettings.model_validate({"injection": injection, "visual_tokens": 2, "bottleneck": 8})
    model = VisionLanguageModel(causal_lm(), settings, encoder.dimension, encoder.count, seed)
    if injection == "A":  # gates at 0 would hide a wrong place
        with torch.no_grad():
            model.adapters.gates.fill_(0.7)
            for up in model.adapters.up:
                up.normal_(std=0.05)
    return model.eval(), encoder


@pytest.mark.parametrize("injection", ["A", "C"])
def test_behind_a_shared_query_the_logits_are_those_of_whole_prompts(
    injection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = seeing_model(injection)
    pairs = [((5, 6, 7), (8, 9)), ((5, 6, 7), (9, 4, 3, 8)), ((4, 3), (8, 9)), ((5, 6, 7), (3,))]
    features = torch.randn(4, encoder.count, encoder.dimension)
    read: list[int] = []
    plain = seeing.prefill
    monkeypatch.setattr(seeing, "prefill", lambda n, p, d: (read.append(len(p)), plain(n, p, d))[1])
    shared = seen_logits(model, pairs, features, (3, 4), chunk=2)
    assert sum(read) == 2  # two queries, four items
    labeller = SeeingLabeller(model, (3, 4)).eval()
    with torch.no_grad():
        whole = labeller(collate_seen(pairs, features, 0))["logits"]
        alone = torch.cat([labeller(collate_seen([p], features[n : n + 1], 0))["logits"] for n, p in enumerate(pairs)])
    torch.testing.assert_close(shared, whole, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(alone, whole, atol=2e-4, rtol=1e-3)
    other = seen_logits(model, pairs, features.flip(0), (3, 4))
    assert float((other - shared).abs().max()) > 1e-3  # it looks at the picture


def test_injection_b_is_refused() -> None:
    with pytest.raises(ValueError, match="no place behind the query; use A or C"):
        SeeingLabeller(seeing_model("B")[0], (3, 4))


@pytest.fixture
def shop(tmp_path: Path) -> tuple[list[dict[str, str]], list[JudgedPair]]:
    """Items whose colour their picture alone tells; queries for a colour."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(24):
        colour = list(PAINT)[n % 2]
        pixels = np.clip(np.asarray(PAINT[colour]) + rng.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        rows.append({"id": str(n), "title": "lamp", "image": f"{n}.png", "colour": colour})
    pairs = [JudgedPair(query, row, label=int(row["colour"] == query)) for row in rows for query in PAINT]
    return rows, pairs


def judge_of(folder: Path, model: VisionLanguageModel, encoder: TinyVision) -> SeeingJudge:
    form = JudgeFormat(scale="binary", template="nano", max_new_tokens=4)
    card = Card(**vars(judge_card(model.lm, form)), images=str(folder))
    return SeeingJudge(model, encoder, card, pictures_in(Pictures(folder)))


def test_training_learns_what_only_pictures_tell(
    tmp_path: Path, shop: tuple[list[dict[str, str]], list[JudgedPair]]
) -> None:
    _, pairs = shop
    model, encoder = seeing_model()
    judge = judge_of(tmp_path, model, encoder)
    settings = judge_seeing.Settings(
        start="unused",
        images=tmp_path,
        learning_rate=3e-3,
        batch_size=16,
        epochs=100,
        fit=FitSettings(updates=60, seed=0),
    )
    judge_seeing.train(settings, judge, pairs, tmp_path / "run", lambda record: None)
    gold = np.asarray([pair.label for pair in pairs])
    assert (judge.assess(pairs).probabilities.argmax(1) == gold).mean() > 0.95
    blind = judge.with_pictures(lambda item: None)
    assert abs((blind.assess(pairs).probabilities.argmax(1) == gold).mean() - 0.5) < 0.1


def test_a_folder_gives_the_same_verdicts_and_a_picture_is_part_of_what_is_read(
    tmp_path: Path, shop: tuple[list[dict[str, str]], list[JudgedPair]]
) -> None:
    rows, pairs = shop
    model, encoder = seeing_model()
    judge = judge_of(tmp_path, model, encoder)
    (tmp_path / "judge").mkdir()
    assert isinstance(judge.card, Card)
    write_seeing_judge(tmp_path / "judge", judge.card, model, encoder, "")
    opened = open_judge(tmp_path / "judge")
    opened.inner.model.precision = "fp32"
    np.testing.assert_allclose(
        opened.inner.assess(pairs[:6]).probabilities, judge.assess(pairs[:6]).probabilities, atol=1e-5
    )
    assert opened.inner.identity["model"]
    one, other = judge.reads([rows[0], {**rows[0], "image": "1.png"}])
    assert one != other and one.startswith("lamp [picture ")
    gone = {**rows[0], "image": "gone.png"}
    assert judge.reads([gone]) == ["lamp"] and judge.assess([Pair("red", gone)]).status == ("ok",)
    told = judge.explain(pairs[:1], [1])[0]
    assert told.steps[0].name == "seeing" and "of 1" in told.steps[0].text
    elsewhere = opened.with_pictures(Pictures(tmp_path / "nowhere"))
    assert elsewhere.inner.reads([rows[0]]) == ["lamp"]


def test_a_judge_goes_on_from_a_trained_vision_language_model(
    tmp_path: Path, shop: tuple[list[dict[str, str]], list[JudgedPair]]
) -> None:
    model, encoder = seeing_model()
    model.lm.save(tmp_path / "lm")
    (tmp_path / "model").mkdir()
    save(model, encoder, tmp_path / "model", language_model=str(tmp_path / "lm"), vision="", more={})
    settings = judge_seeing.Settings(
        start=str(tmp_path / "model"), images=tmp_path, format=JudgeFormat(template="nano")
    )
    judge, vision = judge_seeing.start_judge(settings, SCALE, pictures_in(Pictures(tmp_path)))
    assert vision == "" and judge.scale.name == "binary" and judge.card.max_new_tokens >= 3
    assert judge.assess(shop[1][:3]).probabilities.shape == (3, 2)
    assert isinstance(judge.model, CausalLM)


def files(folder: Path) -> dict[str, str]:
    """Items whose pictures are called like their ids, and labels; what the recipe is told."""
    (folder / "photos").mkdir()
    rows, labels = ["id,title"], ["query_id,query,item_id,label"]
    for n in range(12):
        Image.new("RGB", (16, 16), PAINT[list(PAINT)[n % 2]]).save(folder / "photos" / f"i{n}.png")
        rows.append(f"i{n},lamp {n}")
    for q, word in enumerate(("red", "oak", "tall", "small", "round", "old", "green", "cheap")):
        labels += [f"q{q},{word} lamp,i{n},{(n + q) % 2}" for n in range(12)]
    (folder / "items.csv").write_text("\n".join(rows) + "\n")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    model, encoder = seeing_model()
    model.lm.save(folder / "lm")
    (folder / "model").mkdir()
    save(model, encoder, folder / "model", language_model=str(folder / "lm"), vision="", more={})
    return {"start": str(folder / "model"), "images": str(folder / "photos")}


def test_the_recipe_finds_pictures_by_id_and_so_does_its_judge(tmp_path: Path) -> None:
    told = files(tmp_path)
    labels = gr.read_judgements(tmp_path / "labels.csv", scale="binary")
    items = gr.read_catalog(tmp_path / "items.csv")
    fast = {"updates": 1, "precision": "fp32"}
    small: dict[str, Any] = {"fit": fast, "batch_size": 4, "format": {"template": "nano"}}
    with pytest.warns(UserWarning, match="nobody knows whether this judge is better"):
        train("judge_seeing", labels, items, out=tmp_path / "run", **told, **small)
    judge = open_judge(tmp_path / "run" / "judge")
    (read,) = judge.inner.reads([{"id": "i3", "title": "lamp 3"}])
    assert read.startswith("lamp 3 [picture ")
    assert judge.inner.reads([{"id": "i99", "title": "lamp 99"}]) == ["lamp 99"]
    index = Index.create(tmp_path / "index", gr.read_catalog(tmp_path / "items.csv", images=tmp_path / "photos"))
    found = index.rerank(judge).search("lamp 3", 3).results
    assert len(found) == 3 and all(one.verdict is not None and one.verdict.status == "ok" for one in found)
    (tmp_path / "empty").mkdir()
    small["start"] = told["start"]
    with pytest.raises(ValueError, match="none of 12 items has a picture there; expected paths"):
        train("judge_seeing", labels, items, out=tmp_path / "no", images=tmp_path / "empty", **small)
    with pytest.raises(FileNotFoundError, match="gone: there is no such folder"):
        train("judge_seeing", labels, items, out=tmp_path / "no", images=tmp_path / "gone", **small)
