"""goodrate inspect-film: have a reward model look at clips, and stop what is broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from goodrate.cli.terminal import console, print_table, require_file_name, verb_app
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.inspecting import Inspection

app = verb_app()
FAILING = 1  # exit code of a clip below the gate; 2 is for what cannot be read

HELP = """Look at clips with a reward model: how good each is, which part of it is worst, and where.

Scores go from 1 (bad) to 4 (good). A worst patch below 2 is most likely broken: a smear, a jump of colour, a missing
part, flicker, a part that stands still while the rest turns (docs/video_rewards.md).

Examples:

  goodrate inspect-film clips/*.webp --model runs/patch/model

  goodrate inspect-film clips/*.webp --model runs/patch/model --picture looked-at.png --fail-below 2

  goodrate inspect-film frames/ --model runs/patch/model --captions captions.csv --json
"""


@app.command(help=HELP)
def inspect_film(
    files: Annotated[list[Path], typer.Argument(help="Clips: .webp, .gif, or folders of frames.", show_default=False)],
    model: Annotated[
        Path, typer.Option(help="Folder of a patch reward model, or of a video reward model, which knows no places.")
    ],
    captions: Annotated[
        Path | None,
        typer.Option(help="What the clips should show: a table with the columns file and caption.", show_default=False),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Write a .png: a clip a row, broken patches framed in red.", show_default=False),
    ] = None,
    fail_below: Annotated[
        float | None,
        typer.Option(min=0, max=5, help="Exit 1 when a clip's worst patch scores lower.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    from goodrate.api import inspecting as api

    if picture is not None:
        require_file_name("--picture", picture, (".png",))
    told = api.read_captions(captions) if captions is not None else None
    below = api.DEFECTIVE if fail_below is None else fail_below
    with console.status("looking at the clips"):
        found = api.inspect_film(files, model, captions=told, picture=picture, below=below)
    if as_json:
        sys.stdout.write(dumps([one.as_dict() for one in found], indent=2) + "\n")
    else:
        _show(found)
    if picture is not None:
        console.print(f"picture: {escape(str(picture))}", highlight=False)
    failed = [one for one in found if fail_below is not None and one.worst < fail_below]
    for one in failed:
        place = f" in row {one.place[0]}, column {one.place[1]}" if one.place else ""
        line = f"FAILED: {one.file}: worst patch {one.worst:.2f}{place}, below {fail_below:g}"
        console.print(escape(line), style="bold red", highlight=False)
    if failed:
        raise typer.Exit(FAILING)


def _show(found: Sequence[Inspection]) -> None:
    """A row a clip on stdout."""
    names = list(dict.fromkeys(name for one in found for name in one.dimensions()))
    placed = any(one.place for one in found)
    heads = [*(name.partition("_")[0] for name in names), "worst patch" if placed else "worse of two"]
    table = Table(
        Column("clip", no_wrap=True), *(Column(head, justify="right", no_wrap=True) for head in heads),
        *([Column("where", no_wrap=True)] if placed else []), box=None,
    )  # fmt: skip
    for one in found:
        told = one.dimensions()
        cells = [f"{told[name]:.2f}" if name in told else "-" for name in names]
        where = [f"row {one.place[0]}, column {one.place[1]}"] if one.place else []
        table.add_row(escape(str(one.file)), *cells, f"{one.worst:.2f}", *where)
    print_table(table)


command = typer.main.get_command(app)
