"""goodrate index: put a catalogue into a search index, or take items out of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.outputs import require_folder

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.retrieval.store import Store

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)
FACTS, CONTEXTS = "facts.jsonl", "contexts.jsonl"

HELP = """Put a catalogue into a search index: items, full text and, with an encoder, vectors.

Run it again after the catalogue has changed: only new and changed items are encoded. An interrupted run has kept what
it wrote; the same command goes on from there. A facts.jsonl and a contexts.jsonl beside the catalogue go
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
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")] = 0,
    encode: Annotated[
        str | None,
        typer.Option(help="What the encoder reads: title,description. All fields unless said.", show_default=False),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(min=1, help="Keep only so many floats of a vector (Matryoshka encoders).", show_default=False),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="Ids to take out: a,b,c, or @FILE with one a line.", show_default=False)
    ] = None,
) -> None:
    """See HELP."""
    if catalog is None and remove is None:
        raise ValueError("give a CATALOG to index, or --remove IDS")
    require_folder("--out", out)
    if remove is not None:
        _remove(out, remove)
    if catalog is not None:
        items, beside = _read(catalog, format, map, skip_bad), _beside(catalog)
        _index(out, items, encoder, parse_fields(encode), dimensions)
        _take(beside, catalog, out)


def _remove(out: Path, remove: str) -> None:
    """Take items out of an existing index."""
    from goodrate.retrieval.store import Store

    named = _lines(remove[1:]) if remove.startswith("@") else remove.split(",")
    ids = [item.strip() for item in named if item.strip()]
    if not ids:
        raise ValueError("--remove names no id; write --remove a,b,c or --remove @FILE")
    store = Store.open(out)
    removed = store.remove(ids)
    left = f"{len(store):,} items left in {escape(str(out))}"
    console.print(f"removed {removed:,} of {len(set(ids)):,} ids; {left}", highlight=False)


def _lines(path: str) -> list[str]:
    """The lines of a file of ids."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path} (--remove @FILE reads one id a line)")
    return Path(path).read_text(encoding="utf-8-sig").splitlines()


def parse_mapping(text: str | None) -> dict[str, str] | None:
    """--map as a dictionary: our name -> their column.

    >>> parse_mapping("id=docid, title=product name")
    {'id': 'docid', 'title': 'product name'}
    """
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    for ours, equals, theirs in pairs:
        if not (ours.strip() and equals and theirs.strip()):
            raise ValueError(f"--map expects OURS=THEIRS,OURS=THEIRS, such as id=docid,title=name; got {text!r}")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _read(path: Path, format: str | None, map: str | None, skip_bad: int) -> Catalog:
    """The catalogue, with the rows that were left out listed."""
    from goodrate.catalog.problems import describe
    from goodrate.catalog.readers import read_catalog

    with console.status(f"reading {path.name}"):
        items = read_catalog(path, format=format, mapping=parse_mapping(map), skip_bad=skip_bad)
    rows = len({problem.row for problem in items.skipped})
    left_out = f", {rows:,} bad rows left out" if rows else ""
    console.print(f"read {len(items):,} items from {escape(str(path))}{left_out}", highlight=False)
    for line in describe(path, items.skipped):
        console.print(f"  {escape(line)}", highlight=False)
    return items


def parse_fields(text: str | None) -> list[str] | None:
    """--encode as a list of fields, None when it was not given.

    >>> parse_fields("title, description")
    ['title', 'description']
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _index(
    out: Path,
    items: Catalog,
    encoder_path: str | None,
    fields: list[str] | None = None,
    dimensions: int | None = None,
) -> None:
    """Encode and write what is new, with a progress bar, and say what was done."""
    from goodrate.retrieval.indexing import index_catalog

    store, encoder = _open(out, encoder_path, fields, dimensions)
    start = time.perf_counter()
    try:
        with _progress("encoding and writing" if encoder else "writing") as report:
            done = index_catalog(store, items, encoder, report)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{len(store):,} items can be searched; the same command goes on") from stop
    seconds = time.perf_counter() - start
    rate = f" ({done.encoded / seconds:,.0f} items/s)" if done.encoded else ""
    console.print(
        f"{done.added:,} added, {done.changed:,} changed, {done.unchanged:,} unchanged; {done.encoded:,} encoded in "
        f"{seconds:.1f} s{rate}; {len(store):,} items in {escape(str(out))}", highlight=False,
    )  # fmt: skip


def _beside(catalog: Path) -> dict[str, bytes]:
    """The facts.jsonl and contexts.jsonl beside a catalogue. Raises ValueError naming file and row of a broken one."""
    from goodrate.relevance.context import read_contexts
    from goodrate.relevance.facts import FactBook

    paths = {name: catalog.parent / name for name in (FACTS, CONTEXTS)}
    there = {name: path for name, path in paths.items() if path.is_file()}
    for name, path in there.items():  # said here, before anything is written, and not when the shop is open
        _ = FactBook.load(path) if name == FACTS else read_contexts(path)
    return {name: path.read_bytes() for name, path in there.items()}


def _take(beside: dict[str, bytes], catalog: Path, out: Path) -> None:
    """Put facts and texts into the index, where search servers and judges look for them."""
    from goodrate.run_folder import write_atomic

    told = {FACTS: "facts on names in queries", CONTEXTS: "texts for judges that read some"}
    for name, content in beside.items():
        write_atomic(out / name, content)
        console.print(f"{told[name]}: {escape(str(catalog.parent / name))}", highlight=False)


def _open(out: Path, encoder_path: str | None, fields: list[str] | None, dimensions: int | None) -> tuple[Store, Any]:
    """The index, made when it is not there, and its encoder: the given one, or the one it remembers.

    dimensions: where its vectors are cut; an index that is there keeps its own.
    """
    from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
    from goodrate.retrieval.store import Store

    check_fields(fields if fields is not None else RENDERED_FIELDS)

    exists = (out / "store.json").is_file()
    if not exists and out.is_dir() and any(entry.name != "items.lance" for entry in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no index; choose another --out")
    if exists:
        store = Store.open(out)
        if fields is not None and fields != store.encoded_fields:
            raise ValueError(f"{out} encodes {','.join(store.encoded_fields)}; for other fields make another index")
        if dimensions not in (None, store.dimension):
            raise ValueError(f"{out} has vectors of {store.dimension} floats; for {dimensions} make another index")
        encoder = load_encoder(encoder_path or store.about["encoder"], longest=store.dimension)
        store.require_encoder(encoder.fingerprint if encoder else None)
        return store, encoder
    if dimensions is not None and encoder_path is None:
        raise ValueError("--dimensions cuts the vectors of an encoder; give one with --encoder")
    encoder = load_encoder(encoder_path)
    encoder = encoder if dimensions is None else encoder.cut(dimensions)
    remembered = str(Path(encoder_path).resolve()) if encoder_path and Path(encoder_path).exists() else encoder_path
    if encoder is None:
        return Store.create(out, None, None), None
    made = Store.create(out, encoder.fingerprint, encoder.dimension, remembered, fields or RENDERED_FIELDS)
    return made, encoder


def load_encoder(path: str | None, threads: int | None = None, longest: int | None = None) -> Any:
    """The encoder of a folder or hub id, None for none. Torch is imported here and not before.

    longest: floats of the index's vectors, where the encoder's may be longer.
    threads: how many torch may use; for a single query one is best (12 ms; four took 600 ms on a busy machine).
    """
    if path is None:
        return None
    with console.status("loading the encoder"):
        import torch
        from transformers.utils import logging

        from goodrate.models.encoder import Encoder

        if threads is not None:
            torch.set_num_threads(threads)
        logging.set_verbosity_error()  # its report on unused pooler weights reads like a fault
        return Encoder.load(path, precision="auto", longest=longest)


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr that is fed with (done, total); in a log file, a line for every tenth."""
    if not console.is_terminal:
        yield _logged(label)
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _logged(label: str) -> Callable[[int, int], None]:
    """Progress as plain lines."""
    tenths = {0}

    def report(done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth not in tenths:
            tenths.add(tenth)
            console.print(f"{label}: {done:,} of {total:,}", highlight=False)

    return report


command = typer.main.get_command(app)
