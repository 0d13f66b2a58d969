"""goodrate film: make a clip of an item."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from goodrate.cli.options import CatalogFile, CatalogFormat, CatalogMap, IndexFolder
from goodrate.cli.terminal import console, parse_mapping, verb_app

app = verb_app()

HELP = """Make a clip of an item: an animated .webp or .gif.

The item is one of a catalogue or an index, by its id, or what --caption says. The model is a folder that goodrate train
video_generator wrote, or that of a diffusers text-to-video pipeline (pip install "goodrate[video]"). The same command
makes the same clip; another --seed makes another one.

Examples:

  goodrate film p000012 --catalog my-shop/catalog.parquet --model runs/film/generator --out p000012.webp

  goodrate film SKU-7 --index shop-index --model ./Wan2.1-T2V-1.3B-Diffusers --frames 33 --steps 30 --out SKU-7.webp

  goodrate film --caption "red wool striped kettle by zibo" --model runs/film/generator --seed 3 --out kettle.gif
"""


@app.command(help=HELP)
def film(
    model: Annotated[Path, typer.Option(help="The video generator's folder.")],
    out: Annotated[Path, typer.Option(help="The clip: a file that ends in .webp or .gif.")],
    item: Annotated[str | None, typer.Argument(help="Id of an item of --catalog or --index.")] = None,
    catalog: CatalogFile = None,
    index: IndexFolder = None,
    caption: Annotated[str | None, typer.Option(help="In place of ITEM: what to show.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise that the clip is made from.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="Default: the model's own.", show_default=False)] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of sampling. Default: the model's own.", show_default=False)
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(min=0, help="How strongly the caption counts; 1: plainly. Default: the model's own."),
    ] = None,
    catalog_format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
) -> None:
    """See HELP."""
    if (item is None) == (caption is None):
        raise ValueError("expected ITEM, an id of --catalog or --index, or --caption TEXT, and not both")
    from goodrate.api.filming import check_out, film, item_caption, item_row, open_generator

    check_out(out)
    row = None if item is None else item_row(item, catalog, index, catalog_format, parse_mapping(catalog_map))
    with console.status("loading"):
        generator = open_generator(model)
    told = caption or item_caption(row or {}, generator)
    with console.status("filming"):
        clip = film(told, generator, out=out, seed=seed, frames=frames, steps=steps, guidance=guidance)
    console.print(f"{out}: {len(clip)} frames of {clip.shape[2]} x {clip.shape[1]}, of: {escape(told)}", soft_wrap=True)


command = typer.main.get_command(app)
