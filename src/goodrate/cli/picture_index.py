"""What goodrate index does about pictures, and goodrate search --image."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from goodrate.cli.terminal import console, item_progress, print_table
from goodrate.strict_json import dumps

TOLD = 20  # pictures that cannot be used, one line each
TAKEN = ("index", "k", "where", "image", "image_encoder", "as_json")  # parameters that mean something with --image


def remembered(out: Path) -> Path | None:
    """The folder of pictures that an index remembers, which is said; None where it has none."""
    from goodrate.api.image_search import remembered_images

    folder = remembered_images(out)
    if folder is not None:
        console.print(f"pictures from {escape(str(folder))}, as before; --images DIR names another", highlight=False)
    return folder


def encode_images(out: Path, encoder: str | None, wait: float) -> None:
    """Encode new and changed pictures of an index, where an encoder is named or remembered, and say what was done."""
    from goodrate.api.image_search import index_pictures
    from goodrate.api.index import Index

    index = Index.open(out, words_only=True)
    if encoder is None and index.store.manifest.image_encoder is None:
        return
    start = time.perf_counter()
    with index.held(wait), item_progress("encoding pictures") as report:
        done = index_pictures(index, encoder, report)
    for line in done.unusable[:TOLD]:
        console.print(f"  picture of {escape(line)}", highlight=False)
    unusable = f", {len(done.unusable):,} unusable" if done.unusable else ""
    console.print(
        f"pictures: {done.encoded:,} encoded, {done.unchanged:,} unchanged, {done.without:,} items without one"
        f"{unusable}; {time.perf_counter() - start:.1f} s", highlight=False,
    )  # fmt: skip


def refuse_others(context: typer.Context) -> None:
    """ValueError for an option that a search by a picture does not heed."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in TAKEN and source is not None and source.name == "COMMANDLINE":
            said = "a query" if name == "query" else f"--{name.replace('_', '-')}"
            raise ValueError(f"--image FILE is a search by a picture alone; it does not go with {said}")


def search_by_image(
    index: Path, image: Path, k: int, where: str | None, encoder: str | None, as_json: bool
) -> None:  # fmt: skip
    """Print the items whose pictures are most like this one."""
    from goodrate.api.image_search import picture_encoder, search_image
    from goodrate.api.index import Index

    if not image.is_file():
        raise FileNotFoundError(f"no such file: {image} (--image FILE is a picture)")
    with console.status("loading"):
        opened = Index.open(index, words_only=True)
        vision = picture_encoder(opened, encoder)
    start = time.perf_counter()
    hits = search_image(opened, image, k, where, vision)
    milliseconds = (time.perf_counter() - start) * 1000
    rows = [{"rank": hit.rank, "cosine": round(hit.cosine, 6), **hit.item} for hit in hits]
    if as_json:
        document = {"image": str(image), "where": where, "milliseconds": round(milliseconds, 1), "results": rows}
        sys.stdout.write(dumps(document, indent=2) + "\n")
    else:
        _print(image, rows, f"{len(rows)} of {len(opened):,} items in {milliseconds:.0f} ms")


def _print(image: Path, rows: list[dict[str, Any]], summary: str) -> None:
    table = Table(title=escape(image.name), title_style="bold", caption=summary, box=None)
    table.title_justify = table.caption_justify = "left"
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("title", min_width=24)
    table.add_column("brand", no_wrap=True, max_width=16)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("id", style="dim", no_wrap=True)
    table.add_column("cosine", justify="right", style="cyan", no_wrap=True)
    for row in rows:
        price = "" if row["price"] is None else f"{row['price']:,.2f} {row['currency']}".rstrip()
        texts = (escape(row["title"]), escape(row["brand"]), price, escape(row["id"]))
        table.add_row(str(row["rank"]), *texts, f"{row['cosine']:.3f}")
    print_table(table)
