"""Three ways to teach a judge better, beside GRPO: rule-aware rewards with guided replay, step rewards, context choice.

python benchmarks/judge_methods.py run --seeds 0                    one JSON per (arm, seed); several processes may work
python benchmarks/judge_methods.py run --seeds 0,1,2 --arms grpo,agrl,srpo
python benchmarks/judge_methods_table.py [--write]                  the tables of docs/experiments.md
python benchmarks/judge_methods.py curves HASH curves.png           what trainings were like, update by update

All arms of a seed start from one SFT judge and have the same seconds. That SFT shows a share of its prompts with a
hint, so that a guided prompt is nothing new. Of the labelled pairs a share has verified steps (`stored`); hints,
rewards of steps, step judges and the arm `verified` know no others. A step judge is trained before, once a seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import ConfigDict

import taosr1
from experiment import Job, Queue, add_run, settings_key
from goodrate.demo.stages import judged_pairs
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.collapse import Collapsed
from goodrate.learning.fit import FitSettings
from goodrate.recipes import judge_curriculum, judge_guided, judge_stepwise, step_judge
from goodrate.recipes.guided_replay import LADDER, ReplaySettings, hint
from goodrate.recipes.judge_policy import PolicySettings
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.prompt_pool import PoolSettings
from goodrate.relevance.prompts import with_hint
from goodrate.relevance.rationale import STEPS, step_lines
from goodrate.run_folder import RunFolder, write_atomic
from taosr1 import TEST_PAIRS, Part, Run

QUEUE = Queue("judge_methods")
CHECKED = 500  # test pairs that a step judge is measured on


class Settings(taosr1.Settings):
    """Those of benchmarks/taosr1.py, with few labels, and what these methods add."""

    model_config = ConfigDict(extra="forbid")
    labels: int = 1500
    hinted: float = 0.3  # share of the SFT's prompts that carry a hint
    stored: float = 0.3  # share of the labelled pairs whose steps somebody verified
    step_judge_seconds: float = 120.0
    step_judge_updates: int | None = None  # in place of step_judge_seconds
    control_updates: int | None = None  # of the arms that are SFT, where stage_updates is set: what takes as long


Change = Mapping[str, Any]
READABLE: Change = {"label_needs": "readable"}
GUIDED: dict[str, Change] = {
    "grpo+format": {"replay": None, "weights": None, **READABLE},
    "grpo+consistent": {"replay": None, "weights": None, "label_needs": "consistent"},
    "grpo+derived": {"replay": None, "weights": None, "label_needs": "derived"},
    "grpo+rules": {"replay": None},
    "grpo+rules+derived": {"replay": None, "label_needs": "derived"},
    "grpo+replay": {"weights": None},
    "agrl": {},
    "agrl+derived": {"label_needs": "derived"},
    **{f"agrl/H{level}": {"replay": ReplaySettings(fixed_level=level)} for level in range(1, LADDER + 1)},
    "agrl/ratio": {"replay": ReplaySettings(treatment="ratio")},
    "agrl/hinted": {"replay": ReplaySettings(treatment="hinted")},
    "agrl/tau0": {"replay": ReplaySettings(accuracy=0.0)},
    "agrl/tau0.25": {"replay": ReplaySettings(accuracy=0.25)},
}
BOTH: Change = {"step_judge": "generative"}
STEPWISE: dict[str, Change] = {
    "verifier": {},
    "generative": {"covered": [], "step_judge": "generative"},
    "scalar": {"covered": [], "step_judge": "scalar"},
    "hybrid": BOTH,
    "hybrid+format": {**BOTH, **READABLE},
    "hybrid+derived": {**BOTH, "label_needs": "derived"},
    "hybrid/permuted": {**BOTH, "permuted": True},
    "hybrid/every_step": {**BOTH, "critical": False},
    "hybrid/cumulative": {**BOTH, "critical": False, "form": "cumulative"},
    "hybrid/step_mean": {**BOTH, "reduction": "step_mean"},
    "hybrid/outcome0.3": {**BOTH, "outcome_weight": 0.3},
    "hybrid/soft": {**BOTH, "soft": True},
    "hybrid/difficulty": {**BOTH, "pool": PoolSettings(samples=4, diverse=1.0)},
    "hybrid/diverse": {**BOTH, "pool": PoolSettings(samples=4)},
    "hybrid+replay": {**BOTH, "replay": ReplaySettings()},
    "hybrid/curriculum": {**BOTH, "pool": PoolSettings(samples=4, diverse=1.0)},
}
CHAINED: dict[str, Change] = {  # half of the budget is SFT on the verified steps
    "verified+grpo": {"weights": None, "replay": None},
    "verified+rules": {"replay": None},
    "verified+derived": {"replay": None, "weights": None, "label_needs": "derived"},
    "verified+verifier": STEPWISE["verifier"],
    "verified+hybrid": STEPWISE["hybrid"],
}
SAMPLING = {**GUIDED, **STEPWISE, **CHAINED}
CONTROLS = ("sft", "continued", "labels", "dpo", "grpo", "verified", "oracle")
LABEL_FIRST = "label_first/"  # the same arm of a judge that states its label before its steps
ARMS = (*CONTROLS, *SAMPLING, *(LABEL_FIRST + arm for arm in ("sft", "grpo", "grpo+rules", "agrl", "hybrid")))


def known(run: Run, part: Part, stored: float) -> list[JudgePrompt]:
    """Prompts with their true steps, for the share of the pairs that somebody verified."""
    pairs = zip(run.prompts(part), part.rows.tolist(), part.items.tolist(), strict=True)
    drawn = random.Random(run.seed)
    told = [(p, step_lines(run.shop.rationale(q, i)) if drawn.random() < stored else {}) for p, q, i in pairs]
    return [replace(p, steps=steps) for p, steps in told]


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
    return taosr1.sft(
        run, Path("nano"), examples, folder, settings.sft_seconds, settings.sft_rate, settings.sft_updates
    )


def step_judge_of(run: Run, kind: str) -> Path:
    """A step judge that knows the pairs with verified steps, and how it does on test pairs, in scores.json."""
    s, folder = run.settings, run.work / f"step_judge-{kind}"
    assert isinstance(s, Settings)
    updates = s.step_judge_updates
    budget: dict[str, Any] = {"updates": updates} if updates else {"seconds": s.step_judge_seconds}
    told = step_judge.Settings(
        model=str(start(run)), kind=kind, optimizer=s.grpo_optimizer, learning_rate=s.sft_rate, batch_size=32,
        micro_tokens=4096, epochs=1000, fit=FitSettings(**budget, seed=run.seed),
    )  # fmt: skip
    if not (folder / "scores.json").is_file():
        trained = step_judge.train(told, [*known(run, run.reasoned, 1.0), *known(run, run.labelled, s.stored)], folder)
        pairs = judged_pairs(run.shop, "test", CHECKED, seed=1)
        test = known(run, Part(pairs.rows, pairs.items, pairs.gold), 1.0)
        rollout, _ = sample_rollouts(told.model, test, told.samples, run.seed, "step judge test")
        scores = step_judge.evaluate(step_judge.open_step_judge(trained), test, rollout)
        (folder / "scores.json").write_text(json.dumps(asdict(scores), indent=1))
    return folder / "model"


def policy_arm(run: Run, out: Path, recipe: Any, change: Change, judge: Path | None = None) -> Path:
    """Train by a recipe on rollouts, with the true steps of the stored share of the pairs. judge: None = the SFT."""
    settings = run.settings
    assert isinstance(settings, Settings)
    if "step_judge" in change:
        change = {**change, "step_judge": str(step_judge_of(run, change["step_judge"]))}
    told: PolicySettings = recipe.Settings(**{**taosr1.grpo_settings(run, judge or start(run)), **change})
    return Path(recipe.train(told, known(run, run.labelled, settings.stored), out))


def chained(run: Run, out: Path, recipe: Any, change: Change) -> Path:
    """Half of the budget SFT on the verified steps, half on rollouts from there."""
    s = run.settings
    assert isinstance(s, Settings)
    half: dict[str, Any] = {"stage_seconds": s.stage_seconds / 2}
    for name in ("stage_updates", "control_updates"):
        if getattr(s, name):
            half[name] = getattr(s, name) // 2
    halved = replace(run, settings=s.model_copy(update=half))
    return policy_arm(halved, out, recipe, change, control(halved, run.work / "verified-half", "verified"))


def verified(run: Run, stored: float) -> Part:
    """The pairs with reasons and those of the labelled ones whose steps somebody verified."""
    has = np.asarray([bool(prompt.steps) for prompt in known(run, run.labelled, stored)])
    columns = ("rows", "items", "gold")
    return Part(*(np.concatenate([getattr(run.reasoned, c), getattr(run.labelled, c)[has]]) for c in columns))


def control(run: Run, out: Path, arm: str) -> Path:
    """SFT alone, more SFT, SFT on the labels, DPO, plain GRPO, SFT on the verified steps or the true ones of all."""
    s = run.settings
    assert isinstance(s, Settings)
    if arm == "grpo":
        return policy_arm(run, out, judge_guided, {"weights": None, "replay": None})
    if arm == "sft":
        return start(run)
    if arm == "dpo":
        return taosr1.dpo(run, out, start(run))
    examples: list[JudgePrompt]
    form = run.form
    if arm == "labels":
        examples, form = taosr1.with_labels(run, run.labelled), run.form.model_copy(update={"order": "label_first"})
    else:
        chosen = {"continued": run.reasoned, "oracle": run.labelled, "verified": verified(run, s.stored)}[arm]
        examples = taosr1.with_reasons(run, chosen)
    return taosr1.sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate, s.control_updates, form)


def placed(job: Job) -> tuple[str, str, Path]:
    """The arm without its order, the order, and where it is trained, beside what other arms of its order need."""
    arm = job.arm.removeprefix(LABEL_FIRST)
    order = "reason_first" if arm == job.arm else "label_first"
    work = QUEUE.work / f"{settings_key(job.settings)}-{job.seed}" / ("" if arm == job.arm else order)
    return arm, order, work / arm.replace("/", "-")


def make(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    settings = job.settings
    assert isinstance(settings, Settings)
    arm, order, out = placed(job)
    run = replace(taosr1.begun(settings, order, job.seed), work=out.parent)
    try:
        folder = trained(run, out, arm)
    except Collapsed as error:
        return {"collapsed": str(error), "training": taosr1.trace(out)}
    test = judged_pairs(run.shop, "test", TEST_PAIRS, seed=0)
    ran = max(out.glob("stage?"), default=folder.parent)
    return {
        **taosr1.judged(run, test, folder),
        "training": {**taosr1.trace(ran), **steadiness(ran)},
        **checked(run, SAMPLING.get(arm, {}).get("step_judge")),
    }


def trained(run: Run, out: Path, arm: str) -> Path:
    """The judge of an arm."""
    if arm in CONTROLS:
        return control(run, out, arm)
    return (chained if arm in CHAINED else policy_arm)(run, out, recipe_of(arm), SAMPLING[arm])


def recipe_of(arm: str) -> Any:
    """The recipe that an arm, or the second half of a chain, is trained by."""
    if arm.endswith("curriculum"):
        return judge_curriculum
    return judge_stepwise if arm.removeprefix("verified+") in STEPWISE else judge_guided


def checked(run: Run, kind: str | None) -> dict[str, Any]:
    """How the arm's step judge does on test pairs."""
    if kind is None:
        return {}
    return {"step_judge": json.loads((run.work / f"step_judge-{kind}" / "scores.json").read_text())}


def steadiness(folder: Path) -> dict[str, float]:
    """Spread of the samples' accuracy over the last fifth of a training, and what replay did."""
    records = RunFolder(folder).metrics()
    last = [r["accuracy"] for r in records[-max(2, len(records) // 5) :] if "accuracy" in r]
    found = {name: [r[name] for r in records if name in r] for name in ("stuck", "rescued", "guided", "guided_ratio")}
    means = {name: float(np.mean(values)) for name, values in found.items() if values}
    return {**({"accuracy_spread": float(np.std(last))} if len(last) > 1 else {}), **means}


app = typer.Typer(add_completion=False, help=__doc__)


add_run(app, QUEUE, Settings, ARMS, make)


OVER_TIME = ("accuracy", "entropy", "paths", "unreadable_steps", "inconsistent", "kl")
STEPS_RIGHT = tuple(f"reward/step/{step}" for step in STEPS)  # kept with the curves, not drawn


@app.command()
def curves(
    key: Annotated[str, typer.Argument(help="Hash of the settings, as the table and the result files have it.")],
    out: Annotated[Path, typer.Argument(help="Picture to write.")],
    arms_: Annotated[str, typer.Option("--arms", help="Whose trainings to draw.")] = "grpo,agrl,hybrid",
    seed: Annotated[int, typer.Option(help="Of all of them.")] = 0,
) -> None:
    """Entropy, distinct reasonings and others over the updates: a picture, and its numbers beside the results."""
    from goodrate.learning.curves import draw_curves, read_metrics

    found = {}
    for arm in arms_.split(","):
        records = read_metrics(QUEUE.work / f"{key}-{seed}" / arm.replace("/", "-"))
        found[arm] = [{name: r[name] for name in ("update", *OVER_TIME, *STEPS_RIGHT) if name in r} for r in records]
    text = json.dumps(found, indent=1) + "\n"
    write_atomic(QUEUE.results.parent / "judge_methods_curves" / f"{key}-seed{seed}.json", text)
    drawn = {arm: [{k: v for k, v in r.items() if k not in STEPS_RIGHT} for r in rs] for arm, rs in found.items()}
    draw_curves(drawn, out)


if __name__ == "__main__":
    app()
