"""goodrate film and goodrate train video_generator: a tiny generator, its clips of items, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import goodrate as gr
from calling import Run, called
from goodrate.content.clip_file import read_clip, write_clip
from goodrate.recipes.clip_data import ShopClips, catalog_clips, shop_clips, shop_items
from goodrate.recipes.video_generator import Settings
from goodrate.settings import load
from goodrate.shop.clips import caption, turntable

TINY = {
    "network": {"size": 8, "frames": 4, "width": 16, "layers": 1, "heads": 2},
    "shop": {"items": 12, "categories": ["kettle", "lamp"]},
    "batch_size": 4,
    "micro_clips": 4,
    "dev_share": 0.2,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("film")
    gr.train("video_generator", out=out / "run", fit={"updates": 3, "precision": "fp32"}, **TINY)
    return out / "run"


def test_training_leaves_a_generator_and_compares_it_with_plain_answers(folder: Path) -> None:
    rows = json.loads((folder / "dev.json").read_text())
    assert set(rows) == {"generator", "mean clip", "another item", "true clip"}
    assert rows["true clip"]["difference"] == 0 and rows["true clip"]["motion"] > 0
    assert 0 < rows["mean clip"]["difference"] < rows["generator"]["difference"]  # three updates teach nothing
    card = json.loads((folder / "generator" / "generator.json").read_text())
    assert card["attributes"] == ["color", "material", "pattern"] and card["trained"]["clips"] == 10


def test_a_run_that_was_stopped_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["update"] == 2:
            raise Stop

    settings = {**TINY, "fit": {"updates": 3, "precision": "fp32", "checkpoint_updates": 1}}
    with pytest.raises(Stop):
        gr.train("video_generator", out=tmp_path / "run", progress=stop, **settings)
    gr.train("video_generator", out=tmp_path / "run", **settings)
    whole, again = (gr.film("red kettle", at / "generator") for at in (folder, tmp_path / "run"))
    assert (whole == again).all()


def test_film_makes_the_same_clip_again_and_another_for_another_seed(folder: Path, tmp_path: Path, run: Run) -> None:
    items = pl.DataFrame({"id": ["k1"], "title": ["Kettle"], "brand": ["Zib"], "color": ["red"], "care": ["washable"]})
    items.write_csv(tmp_path / "items.csv")
    model = ("--model", str(folder / "generator"))
    out = tmp_path / "k1.webp"
    code, _, err = run("film", "k1", "--catalog", str(tmp_path / "items.csv"), *model, "--out", str(out))
    assert code == 0 and "4 frames of 8 x 8, of: red kettle by zib" in err  # of its attributes, those it learned from
    clip = read_clip(out, size=8)
    assert (clip == gr.film("red kettle by zib", folder / "generator")).all()
    assert read_clip(out).shape[1] >= 256  # large enough to be looked at
    code, _, err = run(
        "film", "--caption", "red kettle by zib", *model, "--seed", "1", "--out", str(tmp_path / "b.gif")
    )
    assert code == 0 and (gr.film("red kettle by zib", folder / "generator", seed=1) != clip).any()
    assert read_clip(tmp_path / "b.gif", size=8).shape == clip.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("k1",), "where is item 'k1'? give --catalog FILE or --index DIR"),
        ((), "expected ITEM, an id of --catalog or --index, or --caption TEXT"),
        (("--caption", "red", "--frames", "9"), "frames 9: this generator makes clips of 4 frames"),
        (("--caption", "red", "--out", "a.mp4"), "a.mp4: a clip ends in .webp or .gif"),
        (("--caption", "red", "--model", "nowhere"), "nowhere is no video generator"),
    ],
)
def test_what_cannot_be_filmed_is_said_in_one_line(
    folder: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], message: str
) -> None:
    given = ["--model", str(folder / "generator"), "--out", str(tmp_path / "a.webp"), *arguments]
    code, _, err = run("film", *given)
    assert code == 2 and message in err and not (tmp_path / "a.webp").exists()


def test_the_base_generators_settings_are_those_of_the_recipe() -> None:
    config = Path(__file__).parents[1] / "configs" / "film_base.toml"
    settings = load(Settings, config, [])
    assert settings.fit.updates == 1600 and settings.network.size == 16 and len(settings.shop.categories) == 8


def test_clips_of_the_shop_are_told_by_truth_and_by_listing() -> None:
    settings = ShopClips(items=6, categories=["kettle"], spread=0.0)
    world = settings.world()
    items = shop_items(settings, world)
    data = shop_clips(settings, 4, 8)
    assert len(data) == 6 and all("kettle" in told[0] for told in data.captions)
    assert (data.frames[2] == turntable(world, items[2], frames=4, size=8)).all()
    assert data.captions[2][0] == caption(world, items[2])
    assert data.captions[2][1].endswith(f"by {world.brands[world.brand[items[2]]]}")
    learned, held = data.split(0.34, 0)
    assert (len(learned), len(held)) == (4, 2) and not set(learned.captions) & set(held.captions)
    with pytest.raises(ValueError, match="'car' is none of"):
        shop_items(ShopClips(categories=["car"]), world)


def test_clips_of_a_catalogue_are_read_from_beside_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, 4, 8, 8, 3), dtype=np.uint8)
    for name, clip in zip("ab", clips, strict=True):
        write_clip(tmp_path / f"{name}.webp", clip)
    rows = [["a", "Lamp A", "a.webp"], ["b", "Lamp B", "b.webp"], ["c", "Lamp C", None]]
    frame = pl.DataFrame(rows, schema=["id", "title", "clip"], orient="row")
    frame.write_csv(tmp_path / "items.csv")
    data = catalog_clips(str(tmp_path / "items.csv"), [], 4, 8)
    assert (data.frames == clips).all() and data.captions == (("lamp a",), ("lamp b",))
    frame.with_columns(clip=pl.lit("gone.webp")).write_csv(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"gone\.csv: item 'a': its clip cannot be read"):
        catalog_clips(str(tmp_path / "gone.csv"), [], 4, 8)
    frame.drop("clip").write_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="0 items have a clip"):
        catalog_clips(str(tmp_path / "none.csv"), [], 4, 8)
