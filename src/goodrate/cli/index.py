"""goodrate index: put a catalogue into a search index, or take items out of one."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from goodrate.cli.options import SkipBad
from goodrate.cli.terminal import console, item_progress, parse_mapping, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate import Catalog
    from goodrate.api.index import Index

app = verb_app()

HELP = """Put a catalogue into a search index: items, full text and, with an encoder, vectors.

Run it again after the catalogue has changed: only new and changed items are encoded. An interrupted run has kept what
it wrote; the same command goes on from there. Two runs on one index take turns: the second waits (--wait). Searches
and servers never wait, and see what is written. A facts.jsonl and a contexts.jsonl beside the catalogue go
into the index with it.

Examples:

  goodrate index products.csv --out shop-index

  goodrate index feed.jsonl.gz --out shop-index --map id=sku,title=name --encoder ./my-encoder

  goodrate index products.csv --out shop-index --encoder ./my-encoder --encode title,description

  goodrate index product.csv --format wands --out wands-index --skip-bad 10

  goodrate index --out shop-index --remove sku-17,sku-18
"""


@app.command(help=HELP)
def index(
    out: Annotated[Path, typer.Option(help="The folder of the index; made when it is not there.")],
    catalog: Annotated[
        Path | None, typer.Argument(help="csv, tsv, jsonl or parquet, also with .gz or .zst.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="A sentence-transformers folder or hub id. Without it: full text only.", show_default=False),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="esci, wands or chorus; esci:us takes one locale.", show_default=False)
    ] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for their columns: id=docid,title=name.", show_default=False)
    ] = None,
    skip_bad: SkipBad = 0,
    encode: Annotated[
        str | None,
        typer.Option(help="What the encoder reads: title,description unless trained on other.", show_default=False),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(min=1, help="Keep only so many floats of a vector (Matryoshka encoders).", show_default=False),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Of texts and queries: de, fr, ja, ..., none. English unless said.", show_default=False),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="A query log (columns query and count) for suggestions.", show_default=False),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="Ids to take out: a,b,c, or @FILE with one a line.", show_default=False)
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait while another process writes into the index.")
    ] = 600.0,
) -> None:
    """See HELP."""
    if catalog is None and remove is None:
        raise ValueError("give a CATALOG to index, or --remove IDS")
    require_folder("--out", out)
    if remove is not None:
        _remove(out, remove, wait)
    if catalog is not None:
        fields = None if encode is None else [name.strip() for name in encode.split(",") if name.strip()]
        made = {"encoder": encoder, "fields": fields, "dimensions": dimensions, "language": language}
        _index(out, catalog, _read(catalog, format, map, skip_bad), wait, made, queries)


def _told(line: str) -> None:
    """Say a line that is no result: who is waited for, what was mended."""
    console.print(escape(line), highlight=False)


def _remove(out: Path, remove: str, wait: float) -> None:
    """Take items out of an existing index."""
    from goodrate.api.index import Index

    named = _lines(remove[1:]) if remove.startswith("@") else remove.split(",")
    ids = [item.strip() for item in named if item.strip()]
    if not ids:
        file = f" (file {remove[1:]})" if remove.startswith("@") else ""
        raise ValueError(f"--remove names no id{file}; write --remove a,b,c or --remove @FILE with one id a line")
    with Index.open(out, words_only=True).held(wait, _told) as index:
        removed = index.remove(ids)
        left = f"{len(index):,} items left in {escape(str(out))}"
    console.print(f"removed {removed:,} of {len(set(ids)):,} ids; {left}", highlight=False)


def _lines(path: str) -> list[str]:
    """The lines of a file of ids."""
    from goodrate.text_file import read_text

    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path} (--remove @FILE reads one id a line)")
    return read_text(path).splitlines()


def _read(path: Path, format: str | None, map: str | None, skip_bad: int) -> Catalog:
    """The catalogue, with the rows that were left out listed."""
    from goodrate.api.reading import bad_row_lines, read_catalog

    with console.status(f"reading {path.name}"):
        items = read_catalog(path, format=format, map=parse_mapping(map), skip_bad=skip_bad)
    rows = len({problem.row for problem in items.skipped})
    left_out = f", {rows:,} bad rows left out" if rows else ""
    console.print(f"read {len(items):,} items from {escape(str(path))}{left_out}", highlight=False)
    for line in bad_row_lines(path, items):
        console.print(f"  {escape(line)}", highlight=False)
    return items


def _index(out: Path, path: Path, items: Catalog, wait: float, made: dict[str, Any], queries: Path | None) -> None:
    """Encode and write what is new, and take the notes beside the catalogue along, in one turn."""
    from goodrate.api.index import NOTES, Index, notes_beside, take_notes
    from goodrate.api.synonyms import read_query_log

    notes = notes_beside(path)
    log = None if queries is None else read_query_log(queries)
    with contextlib.ExitStack() as turn:
        with console.status("loading the encoder"):
            writing = Index.writing(out, **made, wait_s=wait, told=_told)
            index = turn.enter_context(writing)
        _add(index, items, log)
        take_notes(index, notes)
    for name in notes:
        console.print(f"{NOTES[name]}: {escape(str(path.parent / name))}", highlight=False)


def _add(index: Index, items: Catalog, log: list[tuple[str, float]] | None) -> None:
    """Encode and write what is new, with a progress bar, and say what was done."""
    start = time.perf_counter()
    try:
        with item_progress("encoding and writing" if index.encoder else "writing") as report:
            done = index.add(items, report, log)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{len(index):,} items can be searched; the same command goes on") from stop
    seconds = time.perf_counter() - start
    rate = f" ({done.encoded / seconds:,.0f} items/s)" if done.encoded else ""
    console.print(
        f"{done.added:,} added, {done.changed:,} changed, {done.unchanged:,} unchanged; {done.encoded:,} encoded in "
        f"{seconds:.1f} s{rate}; {len(index):,} items in {escape(str(index.store.path))}", highlight=False,
    )  # fmt: skip


command = typer.main.get_command(app)
