"""goodrate curves: what training runs logged, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goodrate.cli.terminal import console, verb_app

app = verb_app()

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
    from goodrate.api.curves import draw

    target = draw([run, *(compare or [])], out)
    console.print(f"curves: {target}", highlight=False, soft_wrap=True)


command = typer.main.get_command(app)
