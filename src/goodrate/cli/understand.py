"""goodrate understand: typed entities in a catalogue's texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from goodrate.cli.describe_options import (
    ActFrom,
    Attributes,
    DescribeIndex,
    DescribeModel,
    Precision,
    Same,
    Source,
    Vision,
    describe_items,
)  # fmt: skip
from goodrate.cli.options import ColumnMap, Config, Currency, Decimal, Format, Images, Overrides, RayAddress, SkipBad
from goodrate.cli.terminal import column_names, console, parse_mapping, print_table, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate.api.understanding import Understood

app = verb_app()

HELP = """Find out what items are: typed entities in their texts, or the attributes that they leave out.

With --types or --tagger: entities (product types, brands, materials, ...) without annotations. A language model says
what frequent phrases are; where two ways of asking agree, a phrase is a seed. From the seeds rules and a small tagger
are distilled, which find entities in all items (docs/understanding.md).

With --vision or --model: attributes that items do not state, from their pictures and texts, each with a confidence and
never over the shop's own (docs/filled_in_attributes.md). --vision learns them from the items that state them; --model
applies what was learned before, or a trained product_vision_language.

Examples:

  goodrate understand products.csv --types types.toml --encoder ./minilm --out found

  goodrate understand products.csv --types types.toml --expert ./gemma --encoder ./minilm --out found

  goodrate understand products.csv --types products --expert google/gemma-3-270m --queries queries.csv --out found

  goodrate understand new-products.csv --tagger found/tagger --out found-new

  goodrate understand new-products.csv --tagger found/tagger --out found-new --ray local:4

  goodrate index found/catalog.parquet --out index

  goodrate understand products.csv --images pictures/ --vision pixels --out filled

  goodrate understand products.csv --images pictures/ --model filled/describer --index index --act-from 0.9
"""


@app.command(help=HELP)
def understand(
    catalog: Annotated[Path, typer.Argument(help="csv, tsv, jsonl or parquet, also with .gz or .zst.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; an interrupted run in it goes on.", show_default=False)
    ] = None,
    types: Annotated[
        str | None, typer.Option(help="A TOML file with types and label words, or products.", show_default=False)
    ] = None,
    expert: Annotated[
        str | None,
        typer.Option(
            help="A causal or masked language model. Default: the seeds of --types alone.", show_default=False
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="A text encoder such as MiniLM that the tagger reads words with. Default: none.", show_default=False
        ),
    ] = None,
    tagger: Annotated[
        Path | None, typer.Option(help="Apply the tagger of this folder; nothing is learned.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A file with a column query: find entities in it, too.", show_default=False)
    ] = None,
    fields: Annotated[str, typer.Option(help="Which texts: title, or title,description.")] = "title",
    images: Images = None,
    vision: Vision = None,
    model: DescribeModel = None,
    index: DescribeIndex = None,
    source: Source = None,
    attributes: Attributes = None,
    precision: Precision = None,
    same: Same = None,
    act_from: ActFrom = None,
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
    reading = (format, parse_mapping(map), skip_bad, decimal, currency, images)
    if vision is not None or model is not None:
        entities = {"--types": types, "--expert": expert, "--encoder": encoder, "--tagger": tagger,
                    "--queries": queries, "--ray": ray}  # fmt: skip
        wrong = next((name for name, value in entities.items() if value is not None), None)
        if wrong:
            raise ValueError(f"{wrong} is for entities, --vision and --model are for attributes; give one of both")
        describe_items(catalog, reading, out, vision, model, index, source, attributes, precision, same, act_from)
    elif out is None:
        raise ValueError("entities are written into a folder; name it with --out")
    else:
        given = {"types": types, "expert": expert, "encoder": encoder, "tagger": tagger, "settings": config,
                 "overrides": overrides or ()}  # fmt: skip
        _find_entities(catalog, reading, out, queries, column_names(fields), given, ray)


def _find_entities(
    catalog: Path, reading: tuple[Any, ...], out: Path, queries: Path | None, fields: list[str],
    options: dict[str, Any], ray: str | None,
) -> None:  # fmt: skip
    """Entities of texts, and what came of it."""
    from goodrate.api import understanding as api
    from goodrate.api.bulk import workers
    from goodrate.api.reading import read_catalog

    require_folder("--out", out)
    with console.status(f"reading {catalog.name}"):
        items = read_catalog(catalog, *reading)
        asked = api.read_queries(queries) if queries else []
    with _progress() as progress, workers(ray) as cluster:
        found = api.understand(
            items, out, queries=asked, fields=fields, progress=progress, cluster=cluster, **options
        )
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
    print_table(table)
    for item in found.shown[:5]:
        line = Text()
        for part in item["parts"]:
            line.append(part["text"], style="bold" if part["type"] else "")
            line.append(f" [{part['type']}: {part['by']}]" if part["type"] else "", style="dim")
        screen.print(line)
    console.print(f"{len(found):,} entities in {items:,} items; catalogue, rules.txt and page.html in "
                  f"{escape(str(found.folder))}", highlight=False)  # fmt: skip


command = typer.main.get_command(app)
