"""goodrate export: an encoder, or a judge made of one, for a faster runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from goodrate.cli.options import Format, ScaleName, SkipBad
from goodrate.cli.terminal import console, parse_mapping, print_table, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate.api.exporting import ExportCheck

app = verb_app()

HELP = """Write a text encoder, or a judge of kind encoder or cross_encoder, for ONNX Runtime or OpenVINO.

Both are run on judged lists first, and nothing is written when the new one ranks worse. The new folder goes wherever
the old one went: --encoder, --model. Needs pip install "goodrate\\[onnx]", and "goodrate\\[openvino]" for that one.

Examples:

  goodrate export sentence-transformers/all-MiniLM-L6-v2 --check ratings.csv --catalog items.csv --out minilm-onnx

  goodrate export runs/judge/judge --int8 --check ratings.csv --catalog items.csv --out runs/judge-int8

  goodrate search shop-index "red oak" --encoder minilm-onnx
"""


@app.command(help=HELP)
def export(
    model: Annotated[str, typer.Argument(help="Folder or hub id of an encoder, or a judge's folder.")],
    check: Annotated[Path, typer.Option(help="Labels on which both are compared: query, item_id, label.")],
    catalog: Annotated[Path, typer.Option(help="The labels' items.")],
    out: Annotated[Path, typer.Option(help="The new folder.")],
    to: Annotated[str, typer.Option(help="onnx or openvino.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights as bytes: smaller, faster, a little off.")] = False,
    most_lost: Annotated[float, typer.Option(min=0, help="Of nDCG@10; more, and nothing is written.")] = 0.005,
    queries: Annotated[int, typer.Option(min=1, help="Of the labels that are used.")] = 200,
    scale: ScaleName = None,
    format: Format = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the catalogue's columns: id=sku,title=name.", show_default=False)
    ] = None,
    judgements_format: Annotated[str | None, typer.Option(help="Of the labels.", show_default=False)] = None,
    judgements_map: Annotated[
        str | None, typer.Option(help="Our names for the labels' columns: item_id=sku.", show_default=False)
    ] = None,
    skip_bad: SkipBad = 0,
) -> None:
    """See HELP."""
    require_folder("--out", out)
    mappings = parse_mapping(map), parse_mapping(judgements_map)
    from goodrate.api.exporting import export
    from goodrate.api.reading import read_catalog, read_judgements

    items = read_catalog(catalog, format=format, map=mappings[0], skip_bad=skip_bad)
    labels = read_judgements(check, scale, judgements_format, mappings[1], skip_bad)
    with console.status(f"exporting {escape(model)}"):
        done = export(model, out, labels, items, to=to, int8=int8, most_lost=most_lost, queries=queries)
    _report(done, out)


def _report(done: ExportCheck, out: Path) -> None:
    """Both beside each other on stdout, and what follows."""
    table = Table("", Column("before", justify="right"), Column("exported", justify="right"), box=None)
    table.add_row(f"nDCG@10, {done.queries:,} queries", *(f"{value:.4f}" for value in done.ndcg))
    table.add_row("ms for one pair", *(f"{value:.1f}" for value in done.one_ms))
    table.add_row("ms for 32 pairs", *(f"{value:.1f}" for value in done.many_ms))
    show = Console()
    print_table(table)
    gap, cosine = f"{done.largest_gap:.5f}", f"{done.least_cosine:.5f}"
    show.print(f"largest difference of a score {gap}; least cosine of a text's two vectors {cosine}", highlight=False)
    if not done.same:
        show.print("other vectors than before: an index needs to be made with it", highlight=False)
    if done.one_ms[1] >= done.one_ms[0] and done.many_ms[1] >= done.many_ms[0]:
        console.print("it is not faster on this machine", highlight=False)
    console.print(f"model: {escape(str(out))}", highlight=False, soft_wrap=True)


command = typer.main.get_command(app)
