"""goodrate trim: cut a language model's vocabulary to that of a shop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from goodrate.cli.options import Currency, Decimal, Format, SkipBad
from goodrate.cli.terminal import console, parse_mapping, print_table, require_folder, verb_app

if TYPE_CHECKING:
    from goodrate.api.trimming import Trimmed

app = verb_app()

HELP = """Cut a language model's vocabulary to that of a shop: smaller, faster to train and to judge with.

What stays: the tokens of the texts, all bytes, digits and punctuation, special tokens, and the words of goodrate's
prompts and reasons. Texts of kept tokens have the same tokens and logits as before; other words are read in smaller
pieces or bytes.

Examples:

  goodrate trim Qwen/Qwen3-0.6B --texts products.csv --texts queries.txt --out models/qwen-shop

  goodrate trim ./gemma --texts products.jsonl.gz --texts ratings.csv --format chorus --out models/gemma-shop

  goodrate train judge_sft --set model=models/gemma-shop --config own.toml --out runs/judge
"""


@app.command(help=HELP)
def trim(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a causal language model, or a judge's folder.")],
    texts: Annotated[
        list[Path],
        typer.Option(
            help="What the vocabulary is taken from: a catalogue; any other table (judgements, queries, facts), whose "
            "cells are read; a .txt file. Can be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the trimmed model.")],
    format: Format = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the catalogues' columns: id=sku,title=name.", show_default=False)
    ] = None,
    decimal: Decimal = None,
    currency: Currency = None,
    skip_bad: SkipBad = 0,
    min_count: Annotated[
        int, typer.Option(min=1, help="Cut tokens that fewer items or cells have, too: those are read in pieces.")
    ] = 1,
) -> None:
    """See HELP."""
    require_folder("--out", out)
    mapping = parse_mapping(map)
    from goodrate.api import trimming

    with console.status(f"trimming {escape(model)}"):
        done = trimming.trim(
            model, texts, out, format=format, map=mapping, skip_bad=skip_bad, min_count=min_count, decimal=decimal,
            currency=currency,
        )  # fmt: skip
    _report(done)
    console.print(f"model: {escape(str(out))}", highlight=False, soft_wrap=True)


def _report(done: Trimmed) -> None:
    """What was read on stderr, and what was cut on stdout."""
    for name, read in done.read_as.items():
        console.print(f"read {read} from {escape(name)}", highlight=False, soft_wrap=True)
    table = Table("", Column("before", justify="right"), Column("after", justify="right"), box=None)
    table.add_row("tokens", *(f"{n:,}" for n in done.vocabulary))
    table.add_row("bytes of weights", *(f"{n:,}" for n in done.bytes))
    print_table(table)
    Console().print(f"{done.share_kept:.2%} of the texts' tokens kept", highlight=False)


command = typer.main.get_command(app)
