"""goodrate synonyms: propose synonyms from a catalogue, for a person to accept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from goodrate.cli.options import ColumnMap, Currency, Decimal, Format, SkipBad
from goodrate.cli.terminal import console, parse_mapping, require_file_name, verb_app

app = verb_app()

HELP = """Propose synonyms from a catalogue and, where there is one, a query log, for a person to accept.

The file that is written has every proposal commented out, with the reasons above it. Take the "# " away from those that
are right; a shop's synonym file has the same format (docs/spelling_and_synonyms.md).

Examples:

  goodrate synonyms propose products.csv --encoder ./my-encoder --out synonyms.txt

  goodrate synonyms propose products.csv --encoder ./my-encoder --query-log queries.csv --out synonyms.txt
"""


@app.command(help=HELP)
def synonyms(
    action: Annotated[Literal["propose"], typer.Argument(help="propose is all that there is.")],
    catalog: Annotated[Path, typer.Argument(help="csv, tsv, jsonl or parquet, also with .gz or .zst.")],
    encoder: Annotated[str, typer.Option(help="A sentence-transformers folder or hub id.")],
    out: Annotated[Path, typer.Option(help="The file to write, .txt; it must not be there.")],
    query_log: Annotated[
        Path | None, typer.Option(help="A file with the columns query and count.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="How many proposals at most.")] = 200,
    format: Format = None,
    map: ColumnMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    skip_bad: SkipBad = 0,
) -> None:
    """See HELP."""
    from goodrate.api import synonyms as api
    from goodrate.api.reading import read_catalog

    api.require_new(require_file_name("--out", out, (".txt",)))
    with console.status(f"reading {catalog.name}"):
        items = read_catalog(catalog, format, parse_mapping(map), skip_bad, decimal, currency)
        log = api.read_query_log(query_log) if query_log else []
    with console.status("encoding and comparing phrases"):
        proposals = api.propose_synonyms(items, encoder, log, most)
    api.write_proposals(out, proposals, catalog.name)
    console.print(
        f"{len(proposals):,} proposals from {len(items):,} items in {escape(str(out))}; none counts until its "
        '"# " is taken away', highlight=False,
    )  # fmt: skip


command = typer.main.get_command(app)
