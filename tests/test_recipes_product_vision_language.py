"""The whole recipe on coloured squares with random models: what it learns, resumes, adapts, and describes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from calling import called
from goodrate.api.training import train
from goodrate.catalog.items import Catalog
from goodrate.examples.product_tasks import ProductQuestion
from goodrate.learning.token_examples import collate
from goodrate.models.vision_language.adapters import AdapterSettings
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.recipes.product_answers import fitted_temperature, majority, measured
from goodrate.recipes.product_vision_language import encode, open_describer
from tiny_models import causal_lm

COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
SIZE, ITEMS = 16, 48


def square(name: str, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-15, 16, (SIZE, SIZE, 3))
    return np.clip(np.asarray(COLORS[name]) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """items.csv, pictures, and a random language model: the colour stands in the picture; half of the texts say it."""
    folder = tmp_path_factory.mktemp("squares")
    names = list(COLORS)
    rows = []
    for n in range(ITEMS):
        Image.fromarray(square(names[n % 4], n)).save(folder / f"i{n}.png")
        kind = "rug" if n % 3 else "lamp"
        rows.append({"id": f"i{n}", "title": f"{kind} 40", "category": kind, "color": names[n % 4]})
    pl.DataFrame(rows).write_csv(folder / "items.csv")
    lm = causal_lm("qwen3")
    with torch.no_grad():
        lm.network.base_model.norm.weight *= 5  # random weights alone cannot be sure of any token
    lm.save(folder / "lm")
    return folder


def settings(shop: Path, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "products": {"catalog": str(shop / "items.csv"), "images": str(shop), "dev_share": 0.25},
        "model": str(shop / "lm"),
        "tiny": {"size": SIZE, "dimension": 16, "updates": 40, "batch_size": 16},
        "adapters": {"visual_tokens": 8, "bottleneck": 8},
        "tasks": {"shares": {"attribute": 1, "extract": 1}, "questions": 16, "wording": "house"},
        "learning_rate": 1e-2, "epochs": 8, "batch_size": 48, "fit": {"precision": "fp32", "warmup": 0.1},
    }  # fmt: skip
    return {**base, **more}


@pytest.fixture(scope="module")
def trained(shop: Path) -> Path:
    return Path(train("product_vision_language", out=shop / "run", **settings(shop)))


def test_a_sees_colours_and_without_pictures_it_does_not(trained: Path) -> None:
    """Four colours; of the questions half are open, a quarter a choice, a quarter yes or no: chance is 0.31."""
    table = json.loads((trained.parent / "dev.json").read_text())
    assert table["model"]["attribute"] > 0.55
    assert table["without pictures"]["attribute"] < 0.45
    assert table["model"]["f1"] > table["without pictures"]["f1"] + 0.15


def test_the_folder_is_small_and_names_what_it_stands_on(trained: Path, shop: Path) -> None:
    card = json.loads((trained / "vision_language.json").read_text())
    assert card["language_model"] == str(shop / "lm") and card["attributes"] == {"color": sorted(COLORS)}
    assert not list(trained.rglob("model.safetensors")) and (trained / "vision" / "vision.safetensors").is_file()


def test_the_describer_fills_in_what_the_picture_shows(trained: Path) -> None:
    names = list(COLORS) * 3
    items = Catalog(pl.DataFrame({"id": list("abcdefghijkl"), "title": ["rug 40"] * 12}))
    pictures = [square(name, 900 + n) for n, name in enumerate(names)]
    describer = open_describer(trained)
    guesses = describer.describe(items, pictures, {"color": list(COLORS)})
    said = [own[0].value if own else None for own in guesses]
    assert sum(a == b for a, b in zip(said, names, strict=True)) >= 6  # chance is 2.4
    assert all(g.attribute == "color" and 0.25 < g.confidence <= 1 for own in guesses for g in own)
    alone = [describer.describe(items[n : n + 1], pictures[n : n + 1], {"color": list(COLORS)})[0] for n in range(12)]
    for own, other in zip(guesses, alone, strict=True):
        assert [g.value for g in own] == [g.value for g in other]
        assert [g.confidence for g in own] == pytest.approx([g.confidence for g in other], abs=5e-3)  # bf16
    assert len(describer.describe(items, [None] * 12, {"color": list(COLORS), "taste": []})) == 12
    assert describer.attributes == {"color": sorted(COLORS)}
    assert open_describer(trained).fingerprint == describer.fingerprint and describer.name == "vision-language lm"
    with pytest.raises(ValueError, match="12 items and 1 images"):
        describer.describe(items, [None], {"color": ["red"]})
    with pytest.raises(ValueError, match="picture of item b"):
        describer.describe(items, [None, b"x", *[None] * 10], {"color": ["red"]})


def test_a_run_that_was_stopped_ends_with_the_same_weights(shop: Path, tmp_path: Path) -> None:
    short = settings(shop, tiny={"size": SIZE, "dimension": 16, "updates": 4, "batch_size": 8}, alignment_updates=2)
    short["tasks"] = {"questions": 2}
    whole = Path(train("product_vision_language", out=tmp_path / "whole", **{**short, "fit": {"updates": 6}}))

    class Stop(Exception):
        pass

    def stopping(record: dict[str, Any]) -> None:
        if record.get("update") == 3 and "cross_entropy" in record:
            seen.append(1)
            if len(seen) == 2:  # the first is the encoder's own training
                raise Stop

    seen: list[int] = []
    parts = {**short, "fit": {"updates": 6, "checkpoint_updates": 1}}
    with pytest.raises(Stop):
        train("product_vision_language", out=tmp_path / "parts", progress=stopping, **parts)
    resumed = Path(train("product_vision_language", out=tmp_path / "parts", **parts))
    for name in ("adapters.safetensors", "vision/vision.safetensors"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_adapting_to_a_category_trains_the_adapters_alone(trained: Path, shop: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    products = {**settings(shop)["products"], "only": ["lamp"]}
    more = settings(shop, products=products, start=str(trained), fit={"updates": 3, "precision": "fp32"})
    adapted = Path(train("product_vision_language", out=tmp_path / "lamps", **more))
    before, after = (load_file(folder / "adapters.safetensors") for folder in (trained, adapted))
    moved = [name for name in before if (before[name] != after[name]).any()]
    assert {name.rsplit(".", 1)[0] if name[-1].isdigit() else name for name in moved} == {
        "adapters.down",
        "adapters.up",
        "adapters.gates",
    }
    assert len(open_describer(adapted).describe(Catalog(pl.DataFrame({"id": ["a"], "title": ["x"]})), [None], {})) == 1


def test_open_domain_captions_are_a_quarter_of_the_questions(shop: Path, tmp_path: Path) -> None:
    more = settings(shop, open_domain={"shop": {"items": 20, "size": SIZE}}, fit={"updates": 1, "precision": "fp32"})
    more["tiny"] = {**more["tiny"], "updates": 1}
    from goodrate.recipes.product_data import product_set
    from goodrate.recipes.product_vision_language import Settings, set_up

    own = Settings.model_validate(more)
    setup = set_up(own, product_set(own.products)[0], tmp_path, lambda record: None)
    captions = [q for q in setup.train if q.task == "caption"]
    assert len(captions) / len(setup.train) == pytest.approx(0.25, abs=0.01)
    assert min(q.row for q in captions) >= ITEMS and len(setup.kept) == ITEMS + 20


def test_the_command_line_trains_on_a_drawn_shop(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "products.shop.items": 20, "products.shop.size": 16, "model": shop / "lm", "tiny.size": 16, "tiny.updates": 1,
        "fit.updates": 1, "dev_questions": 8, "tasks.questions": 2, "lora.rank": 2,
    }  # fmt: skip
    settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    out = tmp_path / "run"
    code, table, said = called(monkeypatch, capsys, "train", "product_vision_language", *settings, "--out", out)
    assert code == 0, said
    assert "most frequent answer" in table and f"model: {out / 'model'}" in said and "parameters train" in said
    assert (out / "model" / "lora" / "adapter_model.safetensors").is_file()
    code, _, said = called(monkeypatch, capsys, "train", "product_vision_language", "--out", tmp_path / "none")
    assert code == 2 and "products" in said
    bad = ("--set", "products.shop.items=20", "--set", f"vision={tmp_path}", "--set", f"model={shop / 'lm'}")
    code, _, said = called(monkeypatch, capsys, "train", "product_vision_language", *bad, "--out", tmp_path / "bad")
    assert code == 2 and "vision.json" in said


def test_the_loss_is_on_the_answer_and_its_end_alone() -> None:
    model = VisionLanguageModel(causal_lm("gemma3"), AdapterSettings(visual_tokens=2, bottleneck=2), 4, 3)
    question = ProductQuestion(0, 5, "attribute", "open", "color\nanswer:", "red lamp")
    example = encode(model, question)
    prompt, answer = model.prompt_ids(question.prompt), model.answer_ids(" red lamp")
    assert example.token_ids == (*prompt, *answer) and example.row == (5,)
    assert collate([example])["mask"].tolist() == [[False] * len(prompt) + [True] * len(answer)]
    assert answer[-1] == model.stop_id and model.lm.tokenizer.decode(answer[:-1]) == " red lamp"


def test_the_numbers_of_the_table() -> None:
    """Extraction: 1 of 2 said values right, 1 of 2 told ones found. Written words: 2 of 3 and 2 of 2 shared, F1 0.8."""

    def question(task: Any, answer: str, attribute: str = "") -> ProductQuestion:
        options = () if task == "caption" else ("red", "blue", "unknown")
        return ProductQuestion(0, 0, task, "open", "", answer, options, attribute)

    asked = [question("extract", a, "color") for a in ("red", "blue", "unknown")]
    asked.append(question("caption", "red wool rug"))
    numbers = measured(asked, ["red", "unknown", "red", "red rug"])
    assert numbers == pytest.approx({"extract": 1 / 3, "caption": 0.8, "precision": 0.5, "recall": 0.5, "f1": 0.5})
    assert majority([asked[1], asked[1], asked[0]], asked[:1]) == ["blue"]
    # Right half of the time: exp(3 / t) = 2 makes the first option as probable as the two others together.
    sharp = [torch.tensor([3.0, 0.0, 0.0]).numpy(), torch.tensor([3.0, 0.0, 0.0]).numpy()]
    assert fitted_temperature(sharp, [asked[0], asked[1]]) == pytest.approx(3 / math.log(2), rel=0.05)
    assert fitted_temperature([], []) == 1.0
