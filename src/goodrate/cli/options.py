"""Options that several verbs have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Mode = Literal["hybrid", "lexical", "dense"]
CatalogFile = Annotated[Path | None, typer.Option(help="Items by item_id: a file.", show_default=False)]
CatalogFormat = Annotated[str | None, typer.Option(help="Of --catalog: esci, wands, chorus.", show_default=False)]
CatalogMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of --catalog: id=sku,title=name.", show_default=False)
]
Decimal = Annotated[
    Literal["point", "comma"] | None,
    typer.Option(help="Of prices, where the column does not say: is 1.299 one or a thousand?", show_default=False),
]
Currency = Annotated[
    str | None, typer.Option(help="Of prices, where none is written: EUR, GBP, USD, ...", show_default=False)
]
IndexFolder = Annotated[Path | None, typer.Option(help="Items by item_id: an index.", show_default=False)]
PairMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of PAIRS: query=q,item_id=sku.", show_default=False)
]
Facts = Annotated[
    Path | None,
    typer.Option(
        help="What the shop knows of names in queries (facts.jsonl). Default: that of the index, if any.",
        show_default=False,
    ),
]
Contexts = Annotated[
    str | None,
    typer.Option(
        help='Texts for a judge that reads some: a file (id, text), or "items". Default: contexts.jsonl of the index, '
        "if any.",
        show_default=False,
    ),
]
ContextEncoder = Annotated[
    str | None,
    typer.Option(
        help="Encoder to find texts with, best that of the judge's training; none = by words.", show_default=False
    ),
]
Encoder = Annotated[str | None, typer.Option(help="Where the index's encoder lies, if it has moved.")]
Rules = Annotated[
    Path | None,
    typer.Option(
        help="Ranking rules: pins, boosts, burials (ranking_rules.toml). Default: those of the index, if any.",
        show_default=False,
    ),
]
SkipBad = Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting.", show_default=False)
]
