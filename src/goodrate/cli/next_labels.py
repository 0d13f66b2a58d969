"""goodrate next-labels: pick the pairs whose labels would teach a judge most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from goodrate.api.next_labels import DEPTH, WAY
from goodrate.cli.options import CatalogFile, CatalogFormat, CatalogMap, Currency, Decimal, Encoder, index_place
from goodrate.cli.terminal import (
    console,
    item_progress,
    parse_mapping,
    report_warnings,
    require_file_name,
    tell_judgements,
    uncollected,
    verb_app,
)

app = verb_app()
Way = Literal["random", "unsure", "diverse", "unsure_diverse"]
IndexFolder = Annotated[
    Path | None,
    typer.Option(
        help="Where queries are searched for, in place of --catalog.", show_default=False, callback=index_place
    ),
]
QueryMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of --queries: query=q,count=n.", show_default=False)
]
Labelled = Annotated[
    Path | None, typer.Option(help="Labels that you have; their pairs are left out.", show_default=False)
]
PerQuery = Annotated[
    int | None,
    typer.Option(min=1, help="Pairs of one query at most. Default: twice the even share.", show_default=False),
]

HELP = """Pick the pairs of queries and items whose labels would teach a judge most.

The queries of FILE (a column query and, if you have it, count) are searched for, and pairs are picked among what is
found, near-identical ones once. OUT is a table for a person with a spreadsheet, or for goodrate label: query, item_id,
title, an empty label, what the judge says, and why the pair was picked. Rows whose label stays empty count as not
rated; add the others to your labels and fit the judge anew. The most telling pairs come first.

Examples:

  goodrate next-labels runs/judge/judge --catalog items.csv --queries queries.csv -n 200 --out to_label.csv

  goodrate next-labels runs/judge/judge --index shop-index --queries log.csv --judgements labels.csv --out to_label.csv

  goodrate next-labels runs/judge/judge --index shop-index --queries log.csv --way random --out to_label.csv
"""


@app.command(help=HELP)
def next_labels(
    judge: Annotated[Path, typer.Argument(help="The judge's folder (it holds a judge.json).")],
    queries: Annotated[Path, typer.Option(help="What shoppers search for.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Where the pairs go: .csv, .jsonl or .parquet.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many pairs.")] = 200,
    catalog: CatalogFile = None,
    format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    index: IndexFolder = None,
    encoder: Encoder = None,
    judgements: Labelled = None,
    map: QueryMap = None,
    depth: Annotated[int, typer.Option(min=1, help="Results of each query among which pairs are picked.")] = DEPTH,
    per_query: PerQuery = None,
    way: Annotated[Way, typer.Option(help="How pairs are picked.")] = WAY,  # type: ignore[assignment]
    seed: Annotated[int, typer.Option(help="Of what is drawn; the same seed picks the same pairs.")] = 0,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="Where verdicts are stored. Default: verdicts.sqlite beside --out.", show_default=False),
    ] = None,
) -> None:
    """See HELP."""
    from goodrate.api.index import Index
    from goodrate.api.judging import open_judge
    from goodrate.api.next_labels import next_labels
    from goodrate.api.reading import read_catalog, read_judgements
    from goodrate.api.synonyms import read_query_log

    require_file_name("--out", out, (".csv", ".jsonl", ".parquet"))
    if (catalog is None) == (index is None):
        raise ValueError("give --catalog FILE or --index DIR, and not both")
    asked = read_query_log(queries, map=parse_mapping(map))
    known = None if judgements is None else read_judgements(judgements)
    if judgements is not None and known is not None:
        tell_judgements(judgements, known)
    mapping = parse_mapping(catalog_map, "--catalog-map")
    items = None if catalog is None else read_catalog(catalog, format, mapping, decimal=decimal, currency=currency)
    with uncollected(), console.status("loading"):
        opened = None if index is None else Index.open(index, encoder)
        loaded = open_judge(judge)
    report_warnings(loaded)
    with item_progress("pairs judged") as progress:
        found = next_labels(
            loaded, asked, items, index=opened, count=count, judgements=known, depth=depth, per_query=per_query,
            way=way, seed=seed, verdicts=verdicts or out.parent / "verdicts.sqlite", progress=progress,
        )  # fmt: skip
    found.write(out)
    console.print(escape(f"{found}; written to {out}"), highlight=False)
    if len(found) < count:
        told = f"fewer than the {count:,} asked for: more --queries, --depth or --per-query give more"
        console.print(told, highlight=False)


command = typer.main.get_command(app)
