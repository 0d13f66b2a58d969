"""goodrate understand: typed entities in a catalogue's texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from goodrate.cli.options import ColumnMap, Config, Currency, Decimal, Format, Overrides, RayAddress, SkipBad
from goodrate.cli.terminal import column_names, console, parse_mapping, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate.api.understanding import Understood

app = verb_app()

HELP = """Find typed entities (product types, brands, materials, ...) in a catalogue's texts, without annotations.

A language model says what frequent phrases are; where two ways of asking agree, a phrase is a seed. From the seeds
rules and a small tagger are distilled, which find entities in all items (docs/understanding.md).

Examples:

  goodrate understand products.csv --types types.toml --expert ./gemma --out found

  goodrate understand products.csv --types products --expert google/gemma-3-270m --queries queries.csv --out found

  goodrate understand new-products.csv --tagger found/tagger --out found-new

  goodrate understand new-products.csv --tagger found/tagger --out found-new --ray local:4

  goodrate index found/catalog.parquet --out index
"""


@app.command(help=HELP)
def understand(
    catalog: Annotated[Path, typer.Argument(help="csv, tsv, jsonl or parquet, also with .gz or .zst.")],
    out: Annotated[Path, typer.Option(help="The folder to write; an interrupted run in it goes on.")],
    types: Annotated[
        str | None, typer.Option(help="A TOML file with types and label words, or products.", show_default=False)
    ] = None,
    expert: Annotated[
        str | None,
        typer.Option(
            help="A causal or masked language model. Default: the seeds of --types alone.", show_default=False
        ),
    ] = None,
    tagger: Annotated[
        Path | None, typer.Option(help="Apply the tagger of this folder; nothing is learned.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A file with a column query: find entities in it, too.", show_default=False)
    ] = None,
    fields: Annotated[str, typer.Option(help="Which texts: title, or title,description.")] = "title",
    config: Config = None,
    overrides: Overrides = None,
    format: Format = None,
    map: ColumnMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    skip_bad: SkipBad = 0,
    ray: RayAddress = None,
) -> None:
    """See HELP."""
    from goodrate.api import understanding as api
    from goodrate.api.bulk import workers
    from goodrate.api.reading import read_catalog

    require_folder("--out", out)
    with console.status(f"reading {catalog.name}"):
        items = read_catalog(catalog, format, parse_mapping(map), skip_bad, decimal, currency)
        asked = api.read_queries(queries) if queries else []
    with _progress() as progress, workers(ray) as cluster:
        found = api.understand(
            items, out, types=types, expert=expert, tagger=tagger, queries=asked, fields=column_names(fields),
            settings=config, overrides=overrides or (), progress=progress, cluster=cluster,
        )  # fmt: skip
    _report(found, len(items))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """What is being done, in one line at a terminal; in a log file a line for every stage."""
    said: set[str] = set()
    with console.status("reading texts") as status:

        def report(what: str, done: int, total: int) -> None:
            status.update(f"{what}: {done:,} of {total:,}")
            if not console.is_terminal and what not in said:
                said.add(what)
                console.print(f"{what}: {total:,}", highlight=False)

        yield report


def _report(found: Understood, items: int) -> None:
    """Counts by type, a few texts with their entities, and where the files are."""
    screen = Console()
    if found.left_out:
        console.print(f"label words that the expert has no single token for: {escape(', '.join(found.left_out))}")
    rows = {name: found.entities["type"].eq(name) for name in found.tagger.card.types}
    table = Table(
        "type", *(Column(name, justify="right") for name in ("entities", "items", "seeds", "rules")), box=None
    )
    for place, (name, mine) in enumerate(rows.items()):
        own = found.entities.filter(mine)
        seeds = sum(kind == name for kind in found.tagger.card.seeds.values())
        rules = sum(rule.kind == place for rule in found.tagger.card.rules)
        table.add_row(name, f"{len(own):,}", f"{own['id'].n_unique():,}", f"{seeds:,}", f"{rules:,}")
    screen.print(table)
    for item in found.shown[:5]:
        line = Text()
        for part in item["parts"]:
            line.append(part["text"], style="bold" if part["type"] else "")
            line.append(f" [{part['type']}: {part['by']}]" if part["type"] else "", style="dim")
        screen.print(line)
    console.print(f"{len(found):,} entities in {items:,} items; catalogue, rules.txt and page.html in "
                  f"{escape(str(found.folder))}", highlight=False)  # fmt: skip


command = typer.main.get_command(app)
