"""Three ways to teach a judge better, beside GRPO: rule-aware rewards with guided replay, step rewards, context choice.

python benchmarks/judge_methods.py run --seeds 0                    one JSON per (arm, seed); several processes may work
python benchmarks/judge_methods.py run --seeds 0,1,2 --arms grpo,agrl,srpo
python benchmarks/judge_methods.py table                            one table of all that is there

All arms of a seed start from one SFT judge and have the same seconds. That SFT shows a share of its prompts with a
hint, so that a guided prompt is nothing new.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

import taosr1
from experiment import Job, Queue, add_run, settings_key
from goodrate.demo.stages import judged_pairs
from goodrate.recipes import judge_guided, judge_sft, judge_stepwise
from goodrate.recipes.judge_guided import LADDER, ReplaySettings, hint
from goodrate.recipes.judge_policy import PolicySettings
from goodrate.recipes.judge_steps import KnownPrompt
from goodrate.relevance.prompts import with_hint
from goodrate.relevance.rationale import step_lines
from taosr1 import TEST_PAIRS, Part, Run

QUEUE = Queue("judge_methods")


class Settings(taosr1.Settings):
    """Those of benchmarks/taosr1.py, with few labels, and what these methods add."""

    model_config = ConfigDict(extra="forbid")
    labels: int = 1500
    hinted: float = 0.3  # share of the SFT's prompts that carry a hint
    stored: float = 1.0  # share of the labelled pairs whose steps somebody verified


Change = Mapping[str, Any]
GUIDED: dict[str, Change] = {
    "grpo+rules": {"replay": None},
    "grpo+replay": {"weights": None},
    "agrl": {},
    **{f"agrl/H{level}": {"replay": ReplaySettings(fixed_level=level)} for level in range(1, LADDER + 1)},
    "agrl/ratio": {"replay": ReplaySettings(treatment="ratio")},
    "agrl/hinted": {"replay": ReplaySettings(treatment="hinted")},
    "agrl/tau0": {"replay": ReplaySettings(accuracy=0.0)},
    "agrl/tau0.25": {"replay": ReplaySettings(accuracy=0.25)},
}
STEPWISE: dict[str, Change] = {
    "srpo": {},
    "srpo/permuted": {"permuted": True},
    "srpo/every_step": {"critical": False},
    "srpo/step_mean": {"reduction": "step_mean"},
    "srpo/outcome0.3": {"outcome_weight": 0.3},
}
CONTROLS = ("sft", "continued", "labels", "grpo", "oracle")
ARMS = (*CONTROLS, *GUIDED, *STEPWISE)


def known(run: Run, part: Part, stored: float) -> list[KnownPrompt]:
    """Prompts with their true steps, for the share of the pairs that somebody verified."""
    pairs = zip(run.prompts(part), part.rows.tolist(), part.items.tolist(), strict=True)
    drawn = random.Random(run.seed)
    told = [(p, step_lines(run.shop.rationale(q, i)) if drawn.random() < stored else {}) for p, q, i in pairs]
    return [KnownPrompt(p.example_id, p.prefix, p.suffix, p.label, steps) for p, steps in told]


def start(run: Run) -> Path:
    """The SFT judge of all arms: reasons, a share of them behind a hint of any rung."""
    settings = run.settings
    assert isinstance(settings, Settings)
    drawn, examples = random.Random(run.seed), []
    for example, prompt in zip(taosr1.with_reasons(run, run.reasoned), known(run, run.reasoned, 1.0), strict=True):
        if drawn.random() < settings.hinted:
            text = hint(prompt, drawn.randint(1, LADDER), drawn.choice(["category", "attributes"]))
            example = replace(example, suffix=with_hint(example.suffix, text, run.form.template))
        examples.append(example)
    folder = run.work / "sft"
    return taosr1.sft(run, Path("nano"), examples, folder, settings.sft_seconds, settings.sft_rate)


def policy_arm(run: Run, out: Path, recipe: Any, change: Change) -> Path:
    """Train by a recipe on rollouts, with the true steps of the stored share of the pairs."""
    settings = run.settings
    assert isinstance(settings, Settings)
    told: PolicySettings = recipe.Settings(**{**taosr1.grpo_settings(run, start(run)), **change})
    return Path(recipe.train(told, known(run, run.labelled, settings.stored), out))


def control(run: Run, out: Path, arm: str) -> Path:
    """SFT alone, more SFT, SFT on the labels, plain GRPO, SFT on the true reasons."""
    s = run.settings
    if arm == "grpo":
        return policy_arm(run, out, judge_guided, {"weights": None, "replay": None})
    if arm == "sft":
        return start(run)
    examples: list[judge_sft.JudgeExample]
    form = run.form
    if arm == "labels":
        examples, form = taosr1.with_labels(run, run.labelled), run.form.model_copy(update={"order": "label_first"})
    else:
        examples = taosr1.with_reasons(run, run.reasoned if arm == "continued" else run.labelled)
    return taosr1.sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate, form=form)


def make(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    settings = job.settings
    assert isinstance(settings, Settings)
    run = replace(
        taosr1.begun(settings, "reason_first", job.seed), work=QUEUE.work / f"{settings_key(settings)}-{job.seed}"
    )
    out = run.work / job.arm.replace("/", "-")
    stages: dict[str, Callable[[], Path]] = {
        **{arm: lambda arm=arm: control(run, out, arm) for arm in CONTROLS},  # type: ignore[misc]
        **{a: lambda c=c: policy_arm(run, out, judge_guided, c) for a, c in GUIDED.items()},  # type: ignore[misc]
        **{a: lambda c=c: policy_arm(run, out, judge_stepwise, c) for a, c in STEPWISE.items()},  # type: ignore[misc]
    }
    folder = stages[job.arm]()
    test = judged_pairs(run.shop, "test", TEST_PAIRS, seed=0)
    return {
        **taosr1.judged(run, test, folder),
        "training": {**taosr1.trace(folder.parent), **steadiness(folder.parent)},
    }


def steadiness(folder: Path) -> dict[str, float]:
    """Spread of the samples' accuracy over the last fifth of a training, and what replay did."""
    from goodrate.run_folder import RunFolder

    records = RunFolder(folder).metrics()
    last = [r["accuracy"] for r in records[-max(2, len(records) // 5) :] if "accuracy" in r]
    found = {name: [r[name] for r in records if name in r] for name in ("stuck", "rescued", "guided", "guided_ratio")}
    means = {name: float(np.mean(values)) for name, values in found.items() if values}
    return {**({"accuracy_spread": float(np.std(last))} if len(last) > 1 else {}), **means}


app = typer.Typer(add_completion=False, help=__doc__)


add_run(app, QUEUE, Settings, ARMS, make)


@app.command()
def table(against: Annotated[str, typer.Option(help="The arm that differences are taken to.")] = "grpo") -> None:
    """Macro-F1 on the natural and on a balanced mix, differences, and how reasons stand to labels."""
    from taosr1_table import Measured, markdown, mean

    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for found in QUEUE.found():
        key = settings_key(Settings.model_validate(found["settings"]))
        groups.setdefault(key, {}).setdefault(found["arm"], []).append(found)
    for key, arms in groups.items():
        settings: BaseModel = Settings.model_validate(next(iter(arms.values()))[0]["settings"])
        measured = Measured(settings)  # type: ignore[arg-type]
        rows = [["arm", "seeds", "macro-F1", f"minus {against}", "balanced", "contradict", "wrong behind true steps",
                 "steps true", "minutes"]]  # fmt: skip
        for arm in [a for a in ARMS if a in arms]:
            results = arms[arm]
            values = measured.values(results)
            low, high = np.quantile(values[1:], [0.025, 0.975])
            gap = measured.difference(results, arms.get(against, [])) if arm != against else "-"
            rows.append([
                arm, str(len(results)), f"{values[0]:.3f} ({low:.3f} to {high:.3f})", gap,
                f"{np.mean([measured.balanced(r) for r in results]):.3f}",
                *(mean(results, name) for name in ("inconsistent", "strict_hallucination", "sound_steps")),
                f"{np.mean([r['minutes'] for r in results]):.1f}",
            ])  # fmt: skip
        print(f"\nsettings {key}\n\n{markdown(rows)}")


if __name__ == "__main__":
    app()
