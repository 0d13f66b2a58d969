"""goodrate overrule: say against an entity judge what an editor knows, after seeing what that changes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from goodrate.cli.options import CatalogFile, CatalogFormat, CatalogMap, LabelFormat, LabelMap, SkipBad
from goodrate.cli.terminal import console, parse_mapping, verb_app
from goodrate.strict_json import dumps

app = verb_app()

HELP = """Overrule verdicts of a judge of entities: "without X" conflicts with X, brand A is not brand B.

FILE is a TOML file of [[override]] tables: query or pattern (a regular expression), entity, contains or type, and
verdict (support, conflict or neutral). It replaces what the judge had. The judge's stored verdicts change with it. With
--judgements and --catalog it is counted first how many judged pairs get better and worse; with --preview nothing else
is done.

Examples:

  goodrate overrule runs/entities/judge negations.toml --judgements labels.csv --catalog items.csv --preview

  goodrate overrule runs/entities/judge negations.toml --judgements labels.csv --catalog items.csv --by Ada
"""


@app.command(help=HELP)
def overrule(
    judge: Annotated[Path, typer.Argument(help="Folder of a judge of kind entity.")],
    file: Annotated[Path, typer.Argument(help="The overrides (TOML).")],
    judgements: Annotated[Path | None, typer.Option(help="Labels to count the effect on.", show_default=False)] = None,
    catalog: CatalogFile = None,
    scale: Annotated[str, typer.Option(help="Of the labels; the judge's own unless said.", show_default=False)] = "",
    format: LabelFormat = None,
    map: LabelMap = None,
    catalog_format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
    skip_bad: SkipBad = 0,
    preview: Annotated[bool, typer.Option("--preview", help="Count the effect; save nothing.")] = False,
    by: Annotated[
        str | None, typer.Option(help="Whose change it is, for the log; who is logged in unless said.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api import overruling
    from goodrate.api.reading import read_catalog, read_judgements

    if (judgements is None) != (catalog is None):
        raise ValueError("give --judgements and --catalog together: labels are counted on the items of the catalogue")
    if preview and judgements is None:
        raise ValueError("--preview counts the effect on labels: give --judgements and --catalog")
    items = labels = None
    if judgements is not None:
        items = read_catalog(catalog, catalog_format, parse_mapping(catalog_map, "--catalog-map"), skip_bad=skip_bad)
        named = scale or overruling.scale_of(judge)
        labels = read_judgements(judgements, scale=named, format=format, map=parse_mapping(map), skip_bad=skip_bad)
    told = overruling.overrule(judge, file, labels, items, preview, by)
    if as_json:
        sys.stdout.write(dumps(asdict(told) if told else {}, indent=2) + "\n")
    else:
        for line in told.lines() if told else []:
            Console().print(line, highlight=False)
    console.print("nothing is saved" if preview else f"saved in {judge}", highlight=False)


command = typer.main.get_command(app)
