"""Off-policy evaluation on the small Open Bandit Dataset: what each policy's log says of the other, beside its own.

    python benchmarks/off_policy.py run
    python benchmarks/off_policy.py table --write
    python benchmarks/off_policy.py example    an invented log, and what the verb says: results/off_policy_example.txt

Two policies showed fashion items at three places in one week: uniformly random, and Bernoulli Thompson sampling (bts).
The random log evaluates bts, whose share of each item at each place is counted in its own log (it moves over the week;
the count is its mean), and the bts log with its logged propensities evaluates the random policy. The clicks a policy
earned itself are what an estimate should hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import typer

from goodrate.api.policies import evaluate_policy
from goodrate.evaluation.significance import Interval, bootstrap_interval
from goodrate.run_folder import code_versions, write_atomic
from lib.entity_spans import shared_folder
from lib.queue import RESULTS, hardware
from lib.tables import add_table, markdown, shown

NAME = "off_policy"
WORK = Path(__file__).parents[1] / "runs" / NAME
CLIPS = (None, 100.0, 10.0)
USER = tuple(f"user_feature_{n}" for n in range(4))
MAP = {"reward": "click", "propensity": "propensity_score", "action": "item_id"}
app = typer.Typer(add_completion=False, help=__doc__)


def log_file(policy: str, campaign: str) -> Path:
    """The log of a policy."""
    return shared_folder() / "obd" / f"{policy}_{campaign}.parquet"


def target_file(policy: str, campaign: str) -> Path:
    """The probabilities of a policy by item and place, as a table of action, position, probability."""
    items = pl.read_parquet(log_file("random", campaign).with_stem(f"random_{campaign}_items"))["item_id"].unique()
    every = items.sort().to_frame().join(pl.DataFrame({"position": [1, 2, 3]}), how="cross")
    if policy == "random":
        table = every.with_columns(pl.lit(1 / len(items)).alias("probability"))
    else:
        log = pl.read_parquet(log_file(policy, campaign)).select(pl.col("item_id", "position").cast(pl.Int64))
        counts = log.group_by("item_id", "position").len()
        table = every.cast(pl.Int64).join(counts, on=["item_id", "position"], how="left").select(
            "item_id", "position",
            (pl.col("len").fill_null(0) / pl.col("len").sum().over("position")).alias("probability"),
        )  # fmt: skip
    path = WORK / f"{policy}_{campaign}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.rename({"item_id": "action"}).write_parquet(path)
    return path


@app.command("run")
def run() -> None:
    """Evaluate both policies from each other's logs, men and women."""
    found = []
    for campaign in ("men", "women"):
        for logged, target in (("random", "bts"), ("bts", "random")):
            own = bootstrap_interval(pl.read_parquet(log_file(target, campaign))["click"])
            for clip in CLIPS:
                value = evaluate_policy(
                    log_file(logged, campaign), target_file(target, campaign), mapping=MAP, clip=clip, features=USER
                )
                found.append({"campaign": campaign, "log": logged, "target": target, "on_policy": own.as_dict(),
                              **value.as_dict()})  # fmt: skip
    document = {
        "command": f"python benchmarks/{NAME}.py run",
        **code_versions(),
        "hardware": hardware(),
        "found": found,
    }
    write_atomic(RESULTS / f"{NAME}.json", json.dumps(document, indent=1) + "\n")


def render() -> str:
    """The table: clicks a thousand impressions."""
    document = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    rows = [["campaign", "log", "target", "largest weight", "target's own log", "IPS", "SNIPS", "DR", "the log itself",
             "mean weight", "worth rows"]]  # fmt: skip
    for one in document["found"]:
        clip = f"none ({one['largest_weight']:,.4g})"
        if one["clip"]:
            clip = f"{one['clip']:g} ({one['clipped']:,} clipped)"
        values = [_thousand(one[name]) for name in ("on_policy", "ips", "snips", "dr", "logged")]
        weight = shown(Interval(**one["mean_weight"]), ".2f")
        rows.append([one["campaign"], one["log"], one["target"], clip, *values, weight,
                     f"{one['effective_rows']:,.0f}"])  # fmt: skip
    head = f"`{document['command']}`, commit {document['commit'][:7]}. Clicks a thousand impressions, 95 % intervals."
    return "\n\n".join([head, markdown(rows)])


def _thousand(value: dict[str, Any]) -> str:
    scaled = {name: value[name] * 1000 for name in ("value", "low", "high")}
    return shown(Interval(**scaled, units=value["units"]), ".1f")


@app.command("example")
def example(rows: int = 5_000, seed: int = 0) -> None:
    """What goodrate evaluate-policy prints of a log whose target's value is known."""
    rates, logging, target = (
        np.array([0.04, 0.05, 0.08, 0.10]),
        np.array([0.4, 0.3, 0.2, 0.1]),
        np.array([0.1, 0.2, 0.35, 0.35]),
    )
    draws = np.random.default_rng(seed)
    action = draws.choice(len(rates), rows, p=logging)
    log = pl.DataFrame({
        "reward": (draws.random(rows) < rates[action]).astype(int), "propensity": logging[action],
        "target_propensity": target[action],
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        log.write_csv(Path(folder) / "log.csv")
        done = subprocess.run(
            [sys.executable, "-c", "from goodrate.cli import main; main()", "evaluate-policy", "log.csv"],
            cwd=folder, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "120"},
        )  # fmt: skip
    said = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
    told = f"$ goodrate evaluate-policy log.csv\n{said}\n\nTrue value of the target: {rates @ target:.4f}\n"
    write_atomic(RESULTS / f"{NAME}_example.txt", told)


add_table(app, NAME, render, "The table.")

if __name__ == "__main__":
    app()
