"""goodrate index: put a catalogue into a search index, or take items out of one."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from goodrate.cli.options import (
    ColumnMap,
    Currency,
    Decimal,
    DryRun,
    Format,
    ImageEncoder,
    Images,
    RayAddress,
    SkipBad,
    Sync,
    SyncLimit,
    index_place,
)  # fmt: skip
from goodrate.cli.picture_index import encode_images, remembered
from goodrate.cli.terminal import console, item_progress, parse_mapping, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate import Catalog
    from goodrate.api.index import Index

app = verb_app()

Out = Annotated[
    Path,
    typer.Option(help="The folder of the index, or s3://BUCKET/PATH; made when it is not there.", callback=index_place),
]
Ann = Annotated[
    str | None,
    typer.Option(
        help="How vectors of 100,000 items and more are searched: ivf_sq, ivf_pq, ivf_hnsw_sq or exact. The index "
        "remembers it; ivf_sq unless said.",
        show_default=False,
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="One result for all variants: parent_id, title, brand, category, attributes.NAME; none. The index "
        "remembers it.",
        show_default=False,
    ),
]

Encode = Annotated[
    str | None,
    typer.Option(help="What the encoder reads. Default: as trained, or title,description.", show_default=False),
]
Dimensions = Annotated[
    int | None,
    typer.Option(min=1, help="Keep only so many floats of a vector (Matryoshka encoders).", show_default=False),
]
Language = Annotated[
    str | None,
    typer.Option(help="Of texts and queries: de, fr, ja, ..., none. English unless said.", show_default=False),
]
Queries = Annotated[
    Path | None,
    typer.Option(help="A query log (columns query and count) for suggestions.", show_default=False),
]

HELP = """Put a catalogue into a search index: items, full text and, with an encoder, vectors.

Run it again after the catalogue has changed: only new and changed items are encoded, and --sync removes those that the
file lacks; --dry-run says what would happen. An interrupted run has kept what it wrote; the same command goes on from
there. Two runs on one index take turns: the second waits (--wait). Searches and servers never wait, and see what is
written. A facts.jsonl, contexts.jsonl, synonyms.txt and ranking_rules.toml beside the catalogue go into the index with
it.

Examples:

  goodrate index products.csv --out shop-index

  goodrate index feed.jsonl.gz --out shop-index --map id=sku,title=name --encoder ./my-encoder

  goodrate index products.csv --out shop-index --encoder ./my-encoder --encode title,description

  goodrate index product.csv --format wands --out wands-index --skip-bad 10

  goodrate index products_export.csv --format shopify --out shop-index --sync --dry-run

  goodrate index artikel.csv --out shop-index --decimal comma --currency EUR

  goodrate index products.csv --out shop-index --group-by parent_id

  goodrate index products.parquet --out shop-index --encoder ./my-encoder --ray local:4

  goodrate index products.csv --out s3://bucket/shop-index

  goodrate index products.parquet --out shop-index --ann ivf_pq

  goodrate index products.csv --out shop-index --images pictures/ --image-encoder ./vision-model

  goodrate index --out shop-index --remove sku-17,sku-18
"""


@app.command(help=HELP)
def index(
    out: Out,
    catalog: Annotated[
        Path | None, typer.Argument(help="csv, tsv, json, jsonl, parquet, xlsx, xml; .gz, .zst.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="A sentence-transformers folder or hub id. Without it: full text only.", show_default=False),
    ] = None,
    format: Format = None,
    map: ColumnMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    skip_bad: SkipBad = 0,
    encode: Encode = None,
    dimensions: Dimensions = None,
    language: Language = None,
    queries: Queries = None,
    group_by: GroupBy = None,
    ann: Ann = None,
    remove: Annotated[
        str | None, typer.Option(help="Ids to take out: a,b,c, or @FILE with one a line.", show_default=False)
    ] = None,
    images: Images = None,
    image_encoder: ImageEncoder = None,
    sync: Sync = False,
    sync_limit: SyncLimit = None,
    dry_run: DryRun = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait while another process writes into the index.")
    ] = 600.0,
    ray: RayAddress = None,
) -> None:
    """See HELP."""
    from goodrate.api.index_place import require_kind

    _require_work(catalog, remove, group_by or ann, sync, dry_run)
    require_kind(ann)
    require_folder("--out", out)
    if remove is not None:
        _remove(out, remove, wait)
    if catalog is not None:
        reading = {"format": format, "map": parse_mapping(map), "skip_bad": skip_bad, "decimal": decimal,
                   "currency": currency, "images": images or remembered(out)}  # fmt: skip
        made = {"encoder": encoder, "fields": _names(encode), "dimensions": dimensions, "language": language}
        removal = {"sync": sync} | ({} if sync_limit is None else {"sync_limit": sync_limit})
        write = partial(_preview, out) if dry_run else partial(_index, out, catalog, wait, made, queries, ray)
        write(_read(catalog, reading), removal)
        if not dry_run:
            encode_images(out, image_encoder, wait)
    if group_by is not None:
        _group(out, group_by, wait)
    if ann is not None:
        _choose(out, ann, wait)


def _require_work(catalog: Path | None, remove: str | None, group_by: str | None, sync: bool, dry_run: bool) -> None:
    """ValueError when there is nothing to do, or when options contradict one another."""
    if catalog is None and remove is None and group_by is None:
        raise ValueError("give a CATALOG to index, or --remove IDS, or --group-by NAME, or --ann KIND")
    if (sync or dry_run) and (catalog is None or remove is not None):
        raise ValueError("--sync and --dry-run are about a CATALOG, and not with --remove")
    if dry_run and group_by is not None:
        raise ValueError("--dry-run writes nothing, and --group-by and --ann are written into the index; give one")


def _names(text: str | None) -> list[str] | None:
    """The names between commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _group(out: Path, group_by: str, wait: float) -> None:
    """Remember how results are grouped."""
    from goodrate.api.index import Index

    with Index.open(out, words_only=True).held(wait, _told) as index:
        index.remember_grouping(group_by)
    said = "results are not grouped" if group_by == "none" else f"results are grouped by {escape(group_by)}"
    console.print(f"{said} unless a search says otherwise", highlight=False)


def _choose(out: Path, kind: str, wait: float) -> None:
    """Remember how vectors are searched, and make that index where the items are many enough."""
    from goodrate.api.index import Index
    from goodrate.api.index_place import choose_vector_index

    with Index.open(out, words_only=True).held(wait, _told) as index, console.status("making the vector index"):
        made = choose_vector_index(index, kind)
    console.print(f"vectors are searched by {kind}{'' if made else ' once the items are many enough'}", highlight=False)


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


def _read(path: Path, reading: dict[str, Any]) -> Catalog:
    """The catalogue; says how it was read and lists the rows that were left out. reading: see read_catalog."""
    from goodrate.api.reading import bad_row_lines, read_catalog

    with console.status(f"reading {path.name}"):
        items = read_catalog(path, **reading)
    rows = len({problem.row for problem in items.skipped})
    left_out = f", {rows:,} bad rows left out" if rows else ""
    console.print(f"read {len(items):,} items from {escape(str(path))}{left_out}", highlight=False)
    for line in (*items.notes, *bad_row_lines(path, items)):
        console.print(f"  {escape(line)}", highlight=False)
    return items


def _preview(out: Path, items: Catalog, removal: dict[str, Any]) -> None:
    """Say what a run would do. ValueError where it would be refused."""
    from goodrate.api.index import SYNC_LIMIT, Index

    plan = Index.plan(out, items)
    _told(f"--dry-run writes nothing: {plan}")
    if removal["sync"]:
        plan.missing.check(out, removal.get("sync_limit", SYNC_LIMIT))
        _told(plan.missing.removal() or "--sync removes nothing")
    elif plan.missing.ids:
        _told("items that are not in the catalogue stay; --sync removes them")


def _index(
    out: Path, path: Path, wait: float, made: dict[str, Any], queries: Path | None, ray: str | None, items: Catalog,
    removal: dict[str, Any],
) -> None:  # fmt: skip
    """Encode and write what is new, and take the notes beside the catalogue along, in one turn.

    removal: what Index.add is told of items that the catalogue lacks.
    """
    from goodrate.api.bulk import encoding_on, workers
    from goodrate.api.index import Index
    from goodrate.api.notes import NOTES, RULES, notes_beside, take_notes
    from goodrate.api.ranking import unknown_ids_warning
    from goodrate.api.synonyms import read_query_log

    notes = notes_beside(path)
    log = None if queries is None else read_query_log(queries)
    with contextlib.ExitStack() as turn:
        with console.status("loading the encoder"):
            writing = Index.writing(out, **made, wait_s=wait, told=_told)
            index = turn.enter_context(writing)
        _add(encoding_on(index, turn.enter_context(workers(ray))), path, items, log, removal)
        take_notes(index, notes)
    for name in notes:
        console.print(f"{NOTES[name]}: {escape(str(path.parent / name))}", highlight=False)
    if RULES in notes and (warning := unknown_ids_warning(index)):
        console.print(escape(warning), highlight=False)


def _add(
    index: Index, path: Path, items: Catalog, log: list[tuple[str, float]] | None, removal: dict[str, Any]
) -> None:
    """Encode and write what is new, with a progress bar, and say what was done."""
    start = time.perf_counter()
    try:
        with item_progress("encoding and writing" if index.encoder else "writing") as report:
            done = index.add(items, report, log, told=_told, **removal)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{len(index):,} items can be searched; the same command goes on") from stop
    seconds = time.perf_counter() - start
    rate = f" ({done.encoded / seconds:,.0f} items/s)" if done.encoded else ""
    removed = f", {done.removed:,} removed" if removal["sync"] else ""
    _told(
        f"{done.added:,} added, {done.changed:,} changed, {done.unchanged:,} unchanged{removed}; {done.encoded:,} "
        f"encoded in {seconds:.1f} s{rate}; {len(index):,} items in {index.store.path}"
    )
    if done.missing and not removal["sync"]:
        _told(f"{done.missing:,} items of the index are not in {path.name} and stay; --sync removes them")


command = typer.main.get_command(app)
