"""Weights that follow a drift: learners on toy problems, and the channels of hybrid search in the embedded shop.

python benchmarks/online_weights.py drift                        five seeds, toy problems
python benchmarks/online_weights.py shop --encoder MINILM        five seeds, the shop with clicks under drifting tastes
python benchmarks/online_weights.py plot                         docs/pictures/online_{drift,shop}.png
python benchmarks/online_weights.py table --write                benchmarks/results/online_weights.md

MINILM is the folder of a sentence encoder (../shared/tools/fixtures.py minilm).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from goodrate.run_folder import code_versions, write_atomic
from lib import click_shop, drift, online_pictures
from lib.queue import RESULTS, ROOT
from lib.tables import add_table

NAME = "online_weights"
PICTURES = ROOT / "docs" / "pictures"
Seeds = Annotated[str, typer.Option(help="Seeds, each a file of results; one that is there is not computed again.")]
app = typer.Typer(add_completion=False, help=__doc__)


def results(kind: str) -> list[dict[str, Any]]:
    """All files of one kind, by seed."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob(f"{kind}-seed*.json"))]


def kept(kind: str, seed: int, measure: Any) -> None:
    """Measure unless the file is there."""
    path = RESULTS / NAME / f"{kind}-seed{seed}.json"
    if path.is_file():
        return
    start = time.perf_counter()
    result = measure()
    minutes = round((time.perf_counter() - start) / 60, 2)
    write_atomic(path, json.dumps({**result, **code_versions(), "minutes": minutes}) + "\n")
    print(path)


@app.command("drift")
def run_drift(seeds: Seeds = "0,1,2,3,4") -> None:
    """Toy problems."""
    for seed in map(int, seeds.split(",")):
        kept("drift", seed, lambda seed=seed: drift.measured(seed))


@app.command("shop")
def run_shop(
    encoder: Annotated[Path, typer.Option(help="A sentence-transformers folder.")],
    seeds: Seeds = "0,1,2,3,4",
) -> None:
    """The embedded shop."""
    for seed in map(int, seeds.split(",")):
        kept("shop", seed, lambda seed=seed: click_shop.measured(seed, encoder))


@app.command("plot")
def plot() -> None:
    """The pictures of docs/online_weights.md."""
    if found := results("drift"):
        online_pictures.draw_drift(found, PICTURES / "online_drift.png")
    if found := results("shop"):
        online_pictures.draw_shop(found, PICTURES / "online_shop.png")


def render() -> str:
    """All tables."""
    return "\n\n".join([*online_pictures.drift_tables(results("drift")), *online_pictures.shop_tables(results("shop"))])


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
