"""goodrate curves: what training runs logged, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)

HELP = """Draw the numbers that a training run logged, and those of other runs over them.

One panel per number: loss, reward, groups kept, entropy, KL, length, tokens per second, learning rate and whatever else
is in metrics.jsonl. A run that is still going can be drawn too; a finished one has its curves.png already.

Examples:

  goodrate curves runs/grpo

  goodrate curves runs/grpo --compare runs/grpo_lora --compare runs/dpo --out compared.png
"""


@app.command(help=HELP)
def curves(
    run: Annotated[Path, typer.Argument(help="Run folder, as goodrate train writes it.")],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write: png, svg or pdf. RUN/curves.png unless said.")
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Another run to draw over it; can be repeated.")
    ] = None,
) -> None:
    """See HELP."""
    from goodrate.learning.curves import FILE, PICTURES, draw_curves, read_metrics

    target = out or run / FILE
    if target.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {target}: the name must end in {', '.join(PICTURES)}")
    folders = list(dict.fromkeys([run, *(compare or [])]))
    draw_curves(dict(zip(run_names(folders), map(read_metrics, folders), strict=True)), target)
    console.print(f"curves: {target}", highlight=False, soft_wrap=True)


def run_names(folders: list[Path]) -> list[str]:
    """The folders' own names where they differ, else their whole paths.

    >>> run_names([Path("a/grpo"), Path("a/dpo")]), run_names([Path("a/grpo"), Path("b/grpo")])
    (['grpo', 'dpo'], ['a/grpo', 'b/grpo'])
    """
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


command = typer.main.get_command(app)
