"""goodrate understand --vision / --model: attributes that items leave out, from their pictures and texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from goodrate.cli.terminal import column_names, console, print_table, require_folder

if TYPE_CHECKING:
    from goodrate import Catalog
    from goodrate.api.describing import Described

Vision = Annotated[
    str | None,
    typer.Option(
        help="Learn attributes from the items that state them: a network of pictures (folder or hub id), or pixels.",
        show_default=False,
    ),
]
DescribeModel = Annotated[
    Path | None,
    typer.Option(
        help="Apply what was learned before: a folder `describer`, or the model of product_vision_language.",
        show_default=False,
    ),
]
DescribeIndex = Annotated[
    Path | None, typer.Option(help="Fill in the items of this index, too, or instead of --out.", show_default=False)
]
Source = Annotated[
    str | None,
    typer.Option(help="Whose values they are; a run replaces its source's alone. Default: the model's name.",
                 show_default=False),
]  # fmt: skip
Attributes = Annotated[
    str | None, typer.Option(help="Which to fill in: color,material. Default: all it knows.", show_default=False)
]
Precision = Annotated[
    float | None,
    typer.Option(help="With --vision: an attribute is answered where so many answers are right. Default: 0.9.",
                 show_default=False),
]  # fmt: skip
Same = Annotated[
    Path | None,
    typer.Option(help="With --vision: a file of values in other words, lines such as red, crimson.",
                 show_default=False),
]  # fmt: skip
ActFrom = Annotated[
    float | None,
    typer.Option(help="With --index: the confidence from which values are filtered by. Default: as it is (0.8).",
                 show_default=False),
]  # fmt: skip


def describe_items(
    catalog: Path, reading: tuple[Any, ...], out: Path | None, vision: str | None, model: Path | None,
    index: Path | None, source: str | None, attributes: str | None, precision: float | None, same: Path | None,
    act_from: float | None,
) -> None:  # fmt: skip
    """Learn where --vision asks for it, describe, and say what came of it."""
    from goodrate.api import describing as api
    from goodrate.api.reading import read_catalog

    _check(out, vision, model, index, precision, same, act_from)
    with console.status(f"reading {catalog.name}"):
        items = read_catalog(catalog, *reading)
    names = column_names(attributes) if attributes else None
    with console.status("reading pictures") as status:

        def progress(what: str, done: int, total: int) -> None:
            status.update(f"{what}: {done:,} of {total:,}")

        if vision is not None:
            assert out is not None
            folder = out / api.DESCRIBER
            learned = api.fit_describer(items, folder, vision, attributes=names, precision=precision or 0.9,
                                        same=same, progress=progress)  # fmt: skip
            _learned(learned, folder)
        found = api.describe(items, folder if vision is not None else str(model), out=out, index=index, source=source,
                             attributes=names, act_from=act_from, progress=progress)  # fmt: skip
    _report(found, items, index)


def _check(
    out: Path | None, vision: str | None, model: Path | None, index: Path | None, precision: float | None,
    same: Path | None, act_from: float | None,
) -> None:  # fmt: skip
    """ValueError for options that do not go together."""
    if (vision is None) == (model is None):
        raise ValueError("--vision learns and --model applies what was learned; give one of both")
    if out is None and (index is None or vision is not None):
        raise ValueError("name a folder to write with --out" + ("; --vision keeps there what it learns" if vision else
                         ", or an index with --index"))  # fmt: skip
    if precision is not None and vision is None:
        raise ValueError("--precision is for --vision: a model that is applied has its own")
    if same is not None and vision is None:
        raise ValueError("--same is for --vision: a model that is applied has its own words")
    if act_from is not None and index is None:
        raise ValueError("--act-from is a setting of an index; name it with --index")
    if out is not None:
        require_folder("--out", out)


def _learned(learned: Any, folder: Path) -> None:
    """A row an attribute: how well it did on items that were held out."""
    names = ("items", "right", "commonest", "answers from", "of these right", "answered")
    table = Table("attribute learned", *(Column(name, justify="right") for name in names), box=None)
    for head in learned.heads:
        never = head.threshold is None
        table.add_row(
            escape(head.attribute), f"{head.learned:,}", _share(head.accuracy), _share(head.majority),
            "never" if never else f"{head.threshold:.2f}", _share(head.precision), _share(head.answered),
        )  # fmt: skip
    print_table(table)
    console.print(f"right and answered: shares of the held-out items; learned in {escape(str(folder))}",
                  highlight=False)  # fmt: skip


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _report(found: Described, items: Catalog, index: Path | None) -> None:
    """Counts by attribute, and where the values are."""
    table = Table("attribute", *(Column(name, justify="right") for name in ("filled in", "mean confidence")), box=None)
    for name in found.asked:
        own = found.guesses.filter(found.guesses["attribute"] == name)
        mean = f"{own['confidence'].to_numpy().mean():.2f}" if len(own) else ""
        table.add_row(escape(name), f"{len(own):,}", mean)
    print_table(table)
    places = [str(place) for place in (found.catalog, index) if place is not None]
    console.print(f"{len(found):,} values in {len(items):,} items, as source {escape(found.source)}; asked about "
                  f"{found.computed:,} items now; in {escape(' and '.join(places))}", highlight=False)  # fmt: skip
