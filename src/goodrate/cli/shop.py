"""goodrate shop: write the embedded shop to a folder, or show examples of it with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from goodrate.cli.terminal import console, print_table, verb_app

app = verb_app()
COLOURS = ("red", "yellow", "cyan", "green")  # worst label first

HELP = """Generate the embedded shop: a catalogue, queries, judgements and behaviour whose truth is known.

Examples:

  goodrate shop --show 2

  goodrate shop --out my-shop --set seed=3 --set items=1000 --set queries=400

  goodrate shop --out my-shop --set items=500 --pictures

The folder holds catalog.parquet, queries.csv, judgements.csv, sessions.parquet, rationales.jsonl, facts.jsonl,
contexts.jsonl and shop.json with the settings that make the same shop again. docs/shop.md says what is in it.
"""


@app.command(help=HELP)
def shop(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; an older shop there is replaced.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, such as seed=1 or items=1000.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as a TOML file.", show_default=False)] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Draw a picture of every item, too; see docs/images.md.")
    ] = False,
    picture_size: Annotated[int, typer.Option(min=8, max=1024, help="Of --pictures, pixels a side.")] = 128,
    show: Annotated[int, typer.Option(min=0, help="Print N example pairs of each query family, with their truth.")] = 0,
) -> None:
    """See HELP."""
    if out is None and not show:
        raise ValueError("nothing to do: give --out DIR to write the shop, or --show N to see examples")
    from goodrate.api.shops import example_pairs, generate_shop, shop_settings, write_shop
    from goodrate.settings import load

    settings = load(shop_settings(), config, set_ or [])
    with console.status("generating the shop"):
        generated = generate_shop(**settings.model_dump())
    if show:
        Console().print(Group(*_examples(example_pairs(generated, show))))
    if out is None:
        return
    with console.status(f"writing {out}"):
        sizes = write_shop(generated, out, picture_size if pictures else None)
    columns = Column("file", no_wrap=True), Column("bytes", justify="right")
    table = Table(*columns, title=f"{out}", title_justify="left", box=None)
    for name, size in sizes.items():
        table.add_row(name, f"{size:,}")
    print_table(table)
    pairs = generated.judged_items.size
    counts = f"{len(generated.world):,} items, {len(generated.queries):,} queries, {pairs:,} judged pairs"
    Console().print(f"{counts}, seed {generated.settings.seed}")


def _examples(families: dict[str, list[dict[str, Any]]]) -> Iterator[RenderableType]:
    """A heading and a panel per pair for each family."""
    for family, pairs in families.items():
        yield Rule(f"[bold]{family}[/]", align="left")
        yield from (_panel(pair) for pair in pairs)


def _panel(pair: dict[str, Any]) -> Panel:
    """One pair: what is read, the label with the rule that decides it, and the five true steps."""
    colour = COLOURS[pair["position"] % len(COLOURS)]
    styles = {"query": "bold", "label": f"bold {colour}"}
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name in ("query", "facts", "item", "label", "rule", "rationale", "context"):
        if pair[name]:
            table.add_row(name, Text(pair[name], style=styles.get(name, "")))
    return Panel(table, border_style=colour, expand=False)


command = typer.main.get_command(app)
