"""The same thing in another picture: recall of items by a photo, on the embedded shop's renderings and on groceries.

python benchmarks/image_search.py run --vision EFFICIENTNET --grocery ../shared/data/grocery    what is missing
python benchmarks/image_search.py cost --vision EFFICIENTNET                             milliseconds a picture
python benchmarks/image_search.py table --write                                  benchmarks/results/image_search.md
python benchmarks/image_search.py sheet                                         docs/pictures/shop_pictures.png

EFFICIENTNET: folder of ../shared/tools/fixtures.py efficientnet. The shop: the catalogue's photo of every item (what
goodrate shop --pictures draws), asked for by a second photo of it under other light with other things around, and by a
third that is turned as well; right is the very item. Groceries: 10 training photos of each of 81 classes, asked for by
6 test photos of each; right is any photo of the same class. Beside the encoder: colours (a histogram of 8 x 8 x 8 bins)
and pixels (16 x 16, centred). Each set is a file in benchmarks/results/image_search: run it again and it goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
import typer
from PIL import Image

from goodrate.evaluation.significance import bootstrap_interval
from goodrate.models.precision import evaluating
from goodrate.models.vision.encoder import open_vision
from goodrate.models.vision.pixels import to_pixels
from goodrate.run_folder import write_atomic
from goodrate.shop.pictures import View, draw_item, photo_view, picture_share
from goodrate.shop.world import World, make_world
from lib.queue import RESULTS, ROOT
from lib.tables import add_table, markdown, shown
from lib.timing import between, machine, spread

NAME = "image_search"
FOLDER = RESULTS / NAME
SEEDS, ITEMS, SIZE = (0, 1, 2), 200, 128
KEPT, ASKED_OF_CLASS = 10, 6  # grocery photos of a class, drawn with seed 0
BATCH = 16
SHEET = ROOT / "docs" / "pictures" / "shop_pictures.png"
ARMS = {
    "mean": "EfficientNet-Lite0, mean of its tokens (the picture index)",
    "centred": "- minus the catalogue's mean vector", "gem": "- generalised mean of its tokens (power 3)",
    "colours": "colours alone", "pixels": "pixels alone",
}  # fmt: skip
ASKED = {"light": "other light and things around", "turned": "turned too"}
Picture = bytes | np.ndarray
app = typer.Typer(add_completion=False, help=__doc__)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def tokens(vision: Any, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    """Two poolings of the encoder's tokens, (N, D) each."""
    mean, gem = [], []
    for start in range(0, len(pictures), BATCH):
        pixels = np.stack([to_pixels(picture, vision.size) for picture in pictures[start : start + BATCH]])
        with evaluating(vision):
            made = vision.tokens(torch.from_numpy(pixels)).float()
        mean.append(made.mean(1).numpy())
        gem.append(made.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3).numpy())
    return {"mean": unit(np.concatenate(mean)), "gem": unit(np.concatenate(gem))}


def plain(pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    """What needs no network: a histogram of colours (N, 512), and centred pixels (N, 768)."""
    small = np.stack([to_pixels(picture, 64) for picture in pictures])
    bins = (small // 32).astype(np.int64) @ np.asarray((64, 8, 1))
    histograms = np.stack([np.bincount(one.reshape(-1), minlength=512) for one in bins])
    pixels = np.stack([to_pixels(picture, 16).reshape(-1) for picture in pictures]).astype(np.float64)
    return {"colours": unit(np.sqrt(histograms)), "pixels": unit(pixels - pixels.mean(axis=1, keepdims=True))}


def features(vision: Any, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    """Vectors (N, D) by arm, those that are centred left out."""
    return {**tokens(vision, pictures), **plain(pictures)}


def recalls(index: dict[str, np.ndarray], asked: dict[str, np.ndarray], right: Callable[..., np.ndarray]) -> Any:
    """Arm -> for each query whether something right is first, and among the first ten.

    right(places): which of the found places (Q, 10) are right, (Q, 10) bool.
    """
    middle = index["mean"].mean(axis=0)
    index = {**index, "centred": unit(index["mean"] - middle)}
    asked = {**asked, "centred": unit(asked["mean"] - middle)}
    out = {}
    for arm in ARMS:
        found = np.argsort(-(asked[arm] @ index[arm].T), axis=1, kind="stable")[:, :10]
        good = right(found)
        out[arm] = {"at_1": good[:, 0].astype(int).tolist(), "at_10": good.any(axis=1).astype(int).tolist()}
    return out


def other_light(world: World, item: int) -> View:
    """The catalogue's view of an item under the light and among the things of its second photo."""
    first, second = photo_view(world, item), photo_view(world, item, 1)
    return View(first.angle, second.light, second.clutter, second.seed)


def shop_set(vision: Any, seed: int) -> dict[str, Any]:
    """One shop: the recalls of both kinds of queries."""
    world = make_world(seed, num_items=ITEMS)
    told = picture_share(world, 0)

    def photos(view: Callable[[World, int], View]) -> list[np.ndarray]:
        return [draw_item(world, i, size=SIZE, view=view(world, i), shown=told[i]) for i in range(ITEMS)]

    index = features(vision, photos(photo_view))
    views = {"light": other_light, "turned": lambda w, i: photo_view(w, i, 2)}
    own = np.arange(ITEMS)[:, None]
    results = {name: recalls(index, features(vision, photos(view)), lambda f: f == own) for name, view in views.items()}
    return {"items": ITEMS, "recalls": results}


def grocery_set(vision: Any, folder: Path) -> dict[str, Any]:
    """Groceries: recalls of the test photos, and which of them show packages."""
    sampled = {"train": KEPT, "test": ASKED_OF_CLASS}
    index, asked = (_some_of_each(pl.read_parquet(folder / f"{part}.parquet"), n) for part, n in sampled.items())
    kinds = {one["label"]: one["kind"] for one in map(json.loads, (folder / "classes.jsonl").read_text().splitlines())}
    label, wanted = index["label"].to_numpy(), asked["label"].to_numpy()
    made = [features(vision, frame["image"].to_list()) for frame in (index, asked)]
    return {
        "items": len(index), "queries": len(asked), "kinds": [kinds[one] for one in wanted.tolist()],
        "recalls": {"photo": recalls(*made, lambda found: label[found] == wanted[:, None])},
    }  # fmt: skip


def _some_of_each(photos: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most `count` random photos of every class, in the order of the file."""
    drawn = np.random.default_rng(0).random(len(photos))
    ranked = photos.with_row_index("place").with_columns(drawn=pl.Series(drawn))
    return ranked.filter(pl.col("drawn").rank("ordinal").over("label") <= count).sort("place")


@app.command("run")
def run(
    vision: Annotated[Path, typer.Option(help="The folder of EfficientNet-Lite0's weights.")],
    grocery: Annotated[Path | None, typer.Option(help="The folder of grocery photos.")] = None,
) -> None:
    """Measure what is missing."""
    network = open_vision(vision)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        f"shop-{seed}": lambda seed=seed: shop_set(network, seed) for seed in SEEDS
    }
    if grocery is not None:
        jobs["grocery"] = lambda: grocery_set(network, grocery)
    for name, measure in jobs.items():
        place = FOLDER / f"{name}.json"
        if place.is_file():
            continue
        start = time.perf_counter()
        made = {**measure(), "encoder": network.fingerprint, "machine": machine()}
        write_atomic(place, json.dumps({**made, "seconds": time.perf_counter() - start}) + "\n")
        typer.echo(f"{name}: {time.perf_counter() - start:.0f} s")


@app.command("cost")
def cost(vision: Annotated[Path, typer.Option(help="The folder of EfficientNet-Lite0's weights.")]) -> None:
    """Processor time of drawing and encoding one picture, in one thread."""
    torch.set_num_threads(1)
    world, network = make_world(0, num_items=ITEMS), open_vision(vision)

    def spent(work: Callable[[int], object], times: int) -> dict[str, float]:
        work(0)
        took = []
        for item in range(times):
            start = time.process_time()
            work(item)
            took.append((time.process_time() - start) * 1000)
        return spread(took, 3)

    photo = draw_item(world, 0, size=SIZE)
    ms = {
        f"drawn, {size} x {size}": spent(lambda i, s=size: draw_item(world, i, size=s, view=photo_view(world, i)), 96)
        for size in (32, 64, SIZE)
    }
    ms["encoded by EfficientNet-Lite0, 224 x 224"] = spent(lambda _: tokens(network, [photo]), 12)
    write_atomic(FOLDER / "cost.json", json.dumps({"ms": ms, "machine": machine(1)}) + "\n")


def cell(hits: Sequence[int]) -> str:
    """A share with its bootstrap interval over queries."""
    return shown(bootstrap_interval(np.asarray(hits, dtype=float)))


def tables() -> str:
    """Both tables, of the sets that are there."""
    shops = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("shop-*.json"))]
    parts = []
    for name, said in ASKED.items() if shops else ():
        rows = [[f"shop, {said}", "recall@1", "recall@10"]]
        for arm, title in ARMS.items():
            of = [[hit for shop in shops for hit in shop["recalls"][name][arm][at]] for at in ("at_1", "at_10")]
            rows.append([title, *map(cell, of)])
        parts.append(markdown(rows))
    if shops:
        parts.append(
            f"{len(shops)} shops (seeds), {shops[0]['items']} items and as many queries of each kind in each; "
            f"intervals: bootstrap over all queries. Chance: {1 / shops[0]['items']:.4f} at 1."
        )
    if (FOLDER / "grocery.json").is_file():
        parts.append(grocery_table(json.loads((FOLDER / "grocery.json").read_text())))
    if (FOLDER / "cost.json").is_file():
        cost = json.loads((FOLDER / "cost.json").read_text())
        rows = [["processor milliseconds a picture", "median (smallest to largest)"]]
        parts.append(markdown(rows + [[what, between(values)] for what, values in cost["ms"].items()]))
    return "\n\n".join(parts)


def grocery_table(made: dict[str, Any]) -> str:
    """All groceries, and packages alone."""
    packages = [place for place, kind in enumerate(made["kinds"]) if kind == "Packages"]
    rows = [["groceries", "recall@1", "recall@10", "packages, recall@1", "packages, recall@10"]]
    for arm, title in ARMS.items():
        hits = [made["recalls"]["photo"][arm][at] for at in ("at_1", "at_10")]
        rows.append([title, *(cell(h) for h in hits), *(cell([h[place] for place in packages]) for h in hits)])
    counts = f"{made['items']:,} photos, {made['queries']:,} queries ({len(packages):,} of packages)."
    return f"{markdown(rows)}\n\n{counts}"


@app.command("sheet")
def sheet() -> None:
    """Draw a contact sheet of our own shop: categories, values of attributes, what is not told, a turntable."""
    world = make_world(0, num_items=600)
    told = picture_share(world, 0)
    chosen = [int(np.flatnonzero(world.category == c)[0]) for c in range(len(world.taxonomy.categories))]
    rows = [[draw_item(world, i, size=96, view=photo_view(world, i), shown=told[i]) for i in chosen[start : start + 8]]
            for start in (0, 8, 16)]  # fmt: skip
    turned = chosen[world.taxonomy.categories.index("backpack")]
    rows.append([draw_item(world, turned, size=96, view=View(angle=45.0 * step)) for step in range(8)])
    image = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    SHEET.parent.mkdir(exist_ok=True)
    image.save(SHEET, optimize=True)
    typer.echo(f"{SHEET} {hashlib.sha256(SHEET.read_bytes()).hexdigest()[:12]}")


add_table(app, NAME, tables, "All tables, as Markdown.")

if __name__ == "__main__":
    app()
