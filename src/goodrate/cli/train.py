"""goodrate train: run a recipe on judgements or on an embedded shop, then say what came out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from goodrate.cli.options import Config, Overrides
from goodrate.cli.terminal import console, print_table, require_folder, update_progress, verb_app

if TYPE_CHECKING:
    from goodrate.api.training import TrainingResult

app = verb_app()
COUNTS = ("pairs", "failed", "queries", "words", "rollouts")
RECIPES = (
    "base", "judge_encoder", "judge_zero_shot", "judge_cross_encoder", "judge_ensemble", "judge_unlabelled",
    "judge_human", "judge_entity", "judge_seeing",
    "judge_sft",
    "judge_dpo", "judge_grpo", "judge_guided", "judge_stepwise", "judge_curriculum", "judge_context", "step_judge",
    "taosr1", "retriever_contrastive", "retriever_grpo", "video_reward", "patch_reward", "video_dpo", "click_ranker",
    "video_generator", "product_vision_language",
)  # fmt: skip

HELP = f"""Train a base, a judge, a retriever, a click ranker, a model that sees products or one that films them:
{", ".join(RECIPES)}.

What to train on stands in the settings: data.catalog or data.index with data.judgements, or data.shop for a generated
shop. Queries that are nearly the same stay on one side of the split. A run that was stopped goes on when it is started
again.

Examples:

  goodrate train judge_sft --config configs/judge_sft.toml --out runs/judge

  goodrate train judge_encoder --set encoder=./my-encoder --set data.index=shop-index --set data.judgements=ratings.csv
  --set data.scale=graded_0_3 --out runs/cosine

  goodrate train judge_cross_encoder --set model=./my-encoder --set data.index=shop-index
  --set data.judgements=ratings.csv --set data.scale=graded_0_3 --out runs/cross

  goodrate train judge_sft --config own.toml --set model=Qwen/Qwen3-0.6B --set lora.rank=16 --out runs/judge

  goodrate train judge_grpo --config configs/judge_grpo.toml --set judge=runs/judge/judge --out runs/grpo

  goodrate train taosr1 --config configs/taosr1.toml --out runs/taosr1      # SFT, DPO, GRPO, one after the other

  goodrate train click_ranker --set events=impressions.parquet --set index=shop-index --set judge=runs/judge/judge
  --out runs/clicks

  goodrate train video_generator --set shop.items=600 --out runs/film      # clips of the generated shop

  goodrate train video_reward --out runs/video      # then patch_reward --set reward=runs/video/model, then video_dpo

  goodrate train product_vision_language --set products.catalog=items.csv --set products.images=photos
  --out runs/sight
"""


@app.command(help=HELP)
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    out: Annotated[Path, typer.Option(help="Run folder: settings, metrics, checkpoints and the trained model.")],
    config: Config = None,
    overrides: Overrides = None,
) -> None:
    """See HELP."""
    from goodrate.api.training import planned_updates, run_from_settings, settings_with_data
    from goodrate.settings import load

    model = settings_with_data(recipe)
    require_folder("--out", out)
    settings = load(model, config, overrides or [])
    with update_progress(planned_updates(settings)) as progress:
        try:
            result = run_from_settings(recipe, settings, out, progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("the same command goes on from the last checkpoint") from stop
    report(result)


def report(result: TrainingResult) -> None:
    """The table on stdout; notes, warnings and the place of the model on stderr."""
    for note in result.notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)
    if result.rows:
        names = list(dict.fromkeys(name for row in result.rows.values() for name in row))
        table = Table("", *names, title="dev", title_justify="left", box=None)
        for name, row in result.rows.items():
            table.add_row(name, *(_cell(column, row.get(column, math.nan)) for column in names))
        print_table(table)
    for warning in result.warnings:
        console.print(f"WARNING: {escape(warning)}", style="bold yellow", highlight=False, soft_wrap=True)
    console.print(f"model: {result.folder}", highlight=False)


def _cell(column: str, value: float) -> str:
    """A count as a whole number, a share with three digits; - where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if column in COUNTS else f"{value:.3f}"


command = typer.main.get_command(app)
