"""goodrate shop: write the embedded shop to a folder, or show examples of it with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from goodrate.shop.shop import Shop

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
COLOURS = ("red", "yellow", "cyan", "green")  # worst label first

HELP = """Generate the embedded shop: a catalogue, queries, judgements and behaviour whose truth is known.

Examples:

  goodrate shop --show 2

  goodrate shop --out my-shop --set seed=3 --set items=1000 --set queries=400

The folder holds catalog.parquet, queries.csv, judgements.csv, sessions.parquet, rationales.jsonl, facts.jsonl,
contexts.jsonl and
shop.json with the settings that make the same shop again. docs/shop.md says what is in it.
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
    show: Annotated[int, typer.Option(min=0, help="Print N example pairs of each query family, with their truth.")] = 0,
) -> None:
    """See HELP."""
    if out is None and not show:
        raise ValueError("nothing to do: give --out DIR to write the shop, or --show N to see examples")
    from goodrate.settings import load
    from goodrate.shop.shop import ShopSettings, generate

    status = Console(stderr=True)
    settings = load(ShopSettings, config, set_ or [])
    with status.status("generating the shop"):
        made = generate(settings)
    if show:
        Console().print(Group(*_examples(made, show)))
    if out is not None:
        _write(made, out, status)


def _write(made: Shop, out: Path, status: Console) -> None:
    """Write the folder and say what is in it."""
    from goodrate.shop.export import FILES, write_shop

    with status.status(f"writing {out}"):
        write_shop(made, out)
    table = Table(title=f"{out}", title_justify="left", box=None)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    for name in FILES:
        table.add_row(name, f"{(out / name).stat().st_size:,}")
    Console().print(table)
    counts = f"{len(made.world):,} items, {len(made.queries):,} queries, {made.judged.size:,} judged pairs"
    Console().print(f"{counts}, seed {made.settings.seed}")


def chosen_pairs(made: Shop, family: str, count: int, start: int = 0) -> list[tuple[int, int]]:
    """(query, item) of `count` judged pairs of a family, one per query, labels in turn from best - start down."""
    best = len(made.book.scale) - 1
    queries = [q for q, query in enumerate(made.queries) if query.family == family]
    pairs: list[tuple[int, int]] = []
    for q in queries[:count]:
        wished = best - (start + len(pairs)) % (best + 1)
        labels = made.labels[q, made.judged[q]]
        pairs.append((q, int(made.judged[q][abs(labels - wished).argmin()])))
    return pairs


def _examples(made: Shop, count: int) -> Iterator[RenderableType]:
    """A heading and `count` panels for each family."""
    from goodrate.shop.queries import FAMILIES

    for start, family in enumerate(FAMILIES):
        yield Rule(f"[bold]{family}[/]", align="left")
        for query, item in chosen_pairs(made, family, count, start):
            yield _panel(made, query, item)


def _panel(made: Shop, query: int, item: int) -> Panel:
    """One pair: what is read, the label with the rule that decides it, and the five true steps."""
    from goodrate.relevance.listing import listing
    from goodrate.relevance.rationale import label_text, write

    wanted, rationale, chunk = made.queries[query], made.rationale(query, item), made.chunks[query]
    rule = made.book.rules[made.book.index(rationale.rule)]
    label, colour = made.book.scale.labels[rationale.label], COLOURS[rationale.label % len(COLOURS)]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("query", Text(wanted.text, style="bold"))
    if wanted.facts:
        table.add_row("facts", Text(wanted.facts))
    table.add_row("item", Text(listing(made.records[item])))
    table.add_row("label", Text(f"{label_text(rationale.label)} {label}", style=f"bold {colour}"))
    table.add_row("rule", Text(f"{rule.id}: {rule.because}"))
    table.add_row("rationale", Text(write(rationale).rstrip("\n")))
    table.add_row("context", Text(f"{chunk.text} ({chunk.kind})"))
    return Panel(table, border_style=colour, expand=False)


command = typer.main.get_command(app)
