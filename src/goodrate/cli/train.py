"""goodrate train: run a recipe on judgements or on an embedded shop, then say what came out."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from goodrate.cli.outputs import require_folder
from goodrate.run_folder import RunFolder, without_nan

if TYPE_CHECKING:
    from pydantic import BaseModel

    from goodrate.cli.training_data import DataSettings

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

# recipe -> the module that runs it from the command line. Imported only when it is asked for: recipes import torch.
RECIPES = {
    "base": "goodrate.cli.train_base",
    "judge_sft": "goodrate.cli.train_judge",
    "judge_dpo": "goodrate.cli.train_dpo",
    "judge_grpo": "goodrate.cli.train_grpo",
    "judge_guided": "goodrate.cli.train_guided",
    "judge_stepwise": "goodrate.cli.train_stepwise",
    "judge_curriculum": "goodrate.cli.train_curriculum",
    "step_judge": "goodrate.cli.train_step_judge",
    "judge_context": "goodrate.cli.train_context",
    "taosr1": "goodrate.cli.train_taosr1",
    "retriever_contrastive": "goodrate.cli.train_retriever",
    "retriever_grpo": "goodrate.cli.train_retriever_grpo",
}

HELP = f"""Train a base, a judge or a retriever: {", ".join(RECIPES)}.

What to train on stands in the settings: data.catalog with data.judgements, or data.shop for a generated shop. Queries
that are nearly the same stay on one side of the split. A run that was stopped goes on when it is started again.

Examples:

  goodrate train judge_sft --config configs/judge_sft.toml --out runs/judge

  goodrate train judge_sft --config own.toml --set model=Qwen/Qwen3-0.6B --set learning_rate=1e-5 --out runs/judge

  goodrate train judge_grpo --config configs/judge_grpo.toml --set judge=runs/judge/judge --out runs/grpo

  goodrate train taosr1 --config configs/taosr1.toml --out runs/taosr1      # SFT, DPO, GRPO, one after the other
"""
COUNTS = ("pairs", "failed", "queries", "words", "rollouts")
console = Console(stderr=True)


@app.command(help=HELP)
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    out: Annotated[Path, typer.Option(help="Run folder: settings, metrics, checkpoints and the trained model.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting.", show_default=False)
    ] = None,
) -> None:
    """See HELP."""
    from goodrate.settings import load, nearest

    if recipe not in RECIPES:
        raise ValueError(
            f"unknown recipe {recipe!r}; did you mean {nearest(recipe, list(RECIPES))!r}? known: {', '.join(RECIPES)}"
        )
    require_folder("--out", out)
    runner = importlib.import_module(RECIPES[recipe])
    settings = load(runner.Settings, config, overrides or [])
    with training_progress(planned_updates(settings)) as progress:
        try:
            result = runner.run(settings, out, progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("the same command goes on from the last checkpoint") from stop
    report(result)


@dataclass(frozen=True)
class Outcome:
    """What a training run left: the model's folder, and rows of dev numbers, the trivial predictor's among them."""

    model: Path
    rows: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()


def keep_rows(out: Path, rows: dict[str, dict[str, float]]) -> None:
    """The table as dev.json of the run folder `out`; null where there is no number."""
    told = {name: without_nan(row) for name, row in rows.items()}
    RunFolder(out).write("dev.json", json.dumps(told, indent=2) + "\n")


def with_data(recipe_settings: type[BaseModel], data: type[DataSettings]) -> type[BaseModel]:
    """The settings of a recipe with a section `data`, as one model for files and --set."""
    from pydantic import create_model

    return create_model(recipe_settings.__name__, __base__=recipe_settings, data=(data, ...))


def planned_updates(settings: BaseModel) -> int | None:
    """How many updates the settings ask for, None when time or the data decides."""
    return getattr(getattr(settings, "fit", None), "updates", None)


@contextlib.contextmanager
def training_progress(total: int | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A progress bar on stderr, fed with the record of each update."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("preparing", total=total)

        def update(record: dict[str, Any]) -> None:
            loss = f"loss {record['loss']:.3f}" if "loss" in record else "training"
            bar.update(task, completed=record.get("update", 0), description=loss)

        yield update


def report(outcome: Outcome) -> None:
    """The table on stdout, notes and the place of the model on stderr."""
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False)
    if outcome.rows:
        names = list(dict.fromkeys(name for row in outcome.rows.values() for name in row))
        table = Table("", *names, title="dev", title_justify="left", box=None)
        for name, row in outcome.rows.items():
            table.add_row(name, *(shown(column, row.get(column, math.nan)) for column in names))
        Console().print(table)
    console.print(f"model: {outcome.model}", highlight=False)


def shown(column: str, value: float) -> str:
    """A count as a whole number, a share with three digits; - where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if column in COUNTS else f"{value:.3f}"


command = typer.main.get_command(app)
