"""Three ways to teach a judge better, beside GRPO: rule-aware rewards with guided replay, step rewards, verified steps.

python benchmarks/judge_methods.py run --seeds 0                    one JSON per (arm, seed); several processes may work
python benchmarks/judge_methods.py run --seeds 0,1,2 --arms grpo,agrl,srpo
python benchmarks/judge_methods.py reasons --seeds 0 --arms sft,grpo --set ...   how those judges reach their labels
python benchmarks/judge_methods.py table --write                    benchmarks/results/judge_methods.md

All arms of a seed start from one SFT judge and have the same seconds. That SFT shows a share of its prompts with a
hint, so that a guided prompt is nothing new. Of the labelled pairs a share has verified steps (`stored`); hints,
rewards of steps, step judges and the arm `verified` know no others. A step judge is trained before, once a seed.
`reasons` reads the judges that `run` left in runs/: which steps are right, and labels past a wrong rule.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict

from goodrate.examples.prompts import JudgePrompt
from goodrate.examples.shop_pairs import sample_shop_pairs
from goodrate.learning.collapse import Collapsed
from goodrate.learning.fit import FitSettings
from goodrate.recipes import judge_curriculum, judge_guided, judge_stepwise, step_judge
from goodrate.recipes.guided_replay import LADDER, ReplaySettings, hint
from goodrate.recipes.judge_policy import PolicySettings
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.prompt_pool import PoolSettings
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.prompts import with_hint
from goodrate.relevance.rationale import STEPS, step_lines
from goodrate.run_folder import RunFolder
from lib import shop_arms
from lib.judging import details, labels_of, stated_steps
from lib.queue import ByArm, Job, Queue, changes, experiment, run_verb, settings_key
from lib.shop_arms import NANO, TEST_PAIRS, ArmSettings, Run, budget, label_form, logged_means, macro_f1_of, sft, trace
from lib.shop_data import shop_of, with_steps
from lib.statistics import MacroF1, shared_seeds
from lib.tables import add_table, arm_table, averaged, minus, shown

QUEUE, REASONS = Queue("judge_methods"), Queue("judge_methods_reasons")
CHECKED, DECODED = 500, 600  # test pairs that a step judge is measured on; whose reasons are held against the truth


class Settings(ArmSettings):
    """Those of all judge arms, with few labels, and what these methods add."""

    model_config = ConfigDict(extra="forbid")
    labels: int = 1500
    hinted: float = 0.3  # share of the SFT's prompts that carry a hint
    stored: float = 0.3  # share of the labelled pairs whose steps somebody verified
    step_judge_seconds: float = 120.0
    step_judge_updates: int | None = None  # in place of step_judge_seconds
    control_updates: int | None = None  # of the arms that are SFT, where stage_updates is set: what takes as long


Change = Mapping[str, Any]
GUIDED: dict[str, Change] = {
    "grpo+format": {"replay": None, "weights": None, "label_needs": "readable"},
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
    "hybrid+derived": {**BOTH, "label_needs": "derived"},
    "hybrid/permuted": {**BOTH, "permuted": True},
    "hybrid/difficulty": {**BOTH, "pool": PoolSettings(samples=4, diverse=1.0)},
    "hybrid/diverse": {**BOTH, "pool": PoolSettings(samples=4)},
    "hybrid+replay": {**BOTH, "replay": ReplaySettings()},
    "hybrid/curriculum": {**BOTH, "pool": PoolSettings(samples=4, diverse=1.0)},
}
CHAINED: dict[str, Change] = {  # half of the budget is SFT on the verified steps
    "verified+grpo": {"weights": None, "replay": None},
    "verified+rules": {"replay": None},
    "verified+derived": {"replay": None, "weights": None, "label_needs": "derived"},
    "verified+hybrid": STEPWISE["hybrid"],
}
SAMPLING = {**GUIDED, **STEPWISE, **CHAINED}
CONTROLS = ("sft", "continued", "labels", "dpo", "grpo", "verified", "oracle")
LABEL_FIRST = "label_first/"  # the same arm of a judge that states its label before its steps
ARMS = (*CONTROLS, *SAMPLING, *(LABEL_FIRST + arm for arm in ("sft", "grpo", "hybrid")))


def verified(run: Run, stored: float) -> list[JudgedPair]:
    """The labelled pairs, with their steps for the share of them that somebody verified."""
    drawn = random.Random(run.seed)
    return [pair if drawn.random() < stored else replace(pair, reason=None) for pair in run.labelled]


def start(run: Run) -> Path:
    """The SFT judge of all arms: reasons, a share of them behind a hint of any rung."""
    s, drawn = run.settings, random.Random(run.seed)

    def maybe_hinted(prompt: JudgePrompt) -> JudgePrompt:
        if drawn.random() >= s.hinted:
            return prompt
        text = hint(prompt, drawn.randint(1, LADDER), drawn.choice(["category", "attributes"]))
        return replace(prompt, suffix=with_hint(prompt.suffix, text, run.form.template))

    prompts = [maybe_hinted(prompt) for prompt in run.prompts(run.reasoned)]
    return sft(run, NANO, prompts, run.work / "sft", s.sft_seconds, s.sft_rate, s.sft_updates)


def step_judge_of(run: Run, kind: str) -> Path:
    """A step judge that knows the pairs with verified steps, and how it does on test pairs, in scores.json."""
    s, folder = run.settings, run.work / f"step_judge-{kind}"
    recipe = step_judge.Settings(
        model=str(start(run)), kind=kind, optimizer=s.grpo_optimizer, learning_rate=s.sft_rate, batch_size=32,
        micro_tokens=4096, epochs=1000,
        fit=FitSettings(**budget(s.step_judge_updates, s.step_judge_seconds), seed=run.seed),
    )  # fmt: skip
    if not (folder / "scores.json").is_file():
        prompts = run.prompts([*run.reasoned, *verified(run, s.stored)])
        model = step_judge.train(recipe, prompts, folder)
        test = run.prompts(with_steps(run.shop, sample_shop_pairs(run.shop, "test", CHECKED, seed=1)))
        rollout, _ = sample_rollouts(recipe.model, test, recipe.samples, run.seed, "step judge test")
        scores = step_judge.evaluate(step_judge.open_step_judge(model), test, rollout)
        (folder / "scores.json").write_text(json.dumps(asdict(scores), indent=1))
    return folder / "model"


def policy_arm(run: Run, out: Path, recipe: Any, change: Change, judge: Path | None = None) -> Path:
    """Train by a recipe on rollouts, with the true steps of the stored share of the pairs. judge: None = the SFT."""
    if "step_judge" in change:
        change = {**change, "step_judge": str(step_judge_of(run, change["step_judge"]))}
    settings: PolicySettings = recipe.Settings(**{**shop_arms.grpo_settings(run, judge or start(run)), **change})
    return Path(recipe.train(settings, run.prompts(verified(run, run.settings.stored)), out))


def chained(run: Run, out: Path, recipe: Any, change: Change) -> Path:
    """Half of the budget SFT on the verified steps, half on rollouts from there."""
    s = run.settings
    half: dict[str, Any] = {"stage_seconds": s.stage_seconds / 2}
    half |= {n: getattr(s, n) // 2 for n in ("stage_updates", "control_updates") if getattr(s, n)}
    halved = replace(run, settings=s.model_copy(update=half))
    return policy_arm(halved, out, recipe, change, control(halved, run.work / "verified-half", "verified"))


def control(run: Run, out: Path, arm: str) -> Path:
    """SFT alone, more SFT, SFT on the labels, DPO, plain GRPO, SFT on the verified steps or the true ones of all."""
    s = run.settings
    if arm == "grpo":
        return policy_arm(run, out, judge_guided, {"weights": None, "replay": None})
    if arm == "sft":
        return start(run)
    if arm == "dpo":
        return shop_arms.dpo(run, out, start(run))
    if arm == "labels":
        prompts, form = run.label_answers(run.labelled), label_form(run)
    else:
        checked = [*run.reasoned, *(pair for pair in verified(run, s.stored) if pair.reason)]
        pairs = {"continued": run.reasoned, "oracle": run.labelled, "verified": checked}[arm]
        prompts, form = run.prompts(pairs), run.form
    return sft(run, start(run), prompts, out, s.stage_seconds, s.continued_rate, s.control_updates, form)


def placed(job: Job) -> tuple[str, str, Path]:
    """The arm without its order, the order, and where it is trained, beside what other arms of its order need."""
    arm = job.arm.removeprefix(LABEL_FIRST)
    order = "reason_first" if arm == job.arm else "label_first"
    work = QUEUE.work / f"{settings_key(job.settings)}-{job.seed}" / ("" if arm == job.arm else order)
    return arm, order, work / arm.replace("/", "-")


def measure(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    arm, order, out = placed(job)
    run = replace(shop_arms.run_of(QUEUE, job.settings, order, job.seed), work=out.parent)  # type: ignore[arg-type]
    try:
        folder = trained(run, out, arm)
    except Collapsed as error:
        return {"collapsed": str(error), "training": trace(out)}
    test = sample_shop_pairs(run.shop, "test", TEST_PAIRS, seed=0)
    last_stage = max(out.glob("stage?"), default=folder.parent)
    measures = {
        **shop_arms.measured(run, test, folder),
        "training": {**trace(last_stage), **steadiness(last_stage)},
    }
    if kind := SAMPLING.get(arm, {}).get("step_judge"):
        measures["step_judge"] = json.loads((run.work / f"step_judge-{kind}" / "scores.json").read_text())
    return measures


def trained(run: Run, out: Path, arm: str) -> Path:
    """The judge of an arm."""
    if arm in CONTROLS:
        return control(run, out, arm)
    recipe: Any = judge_stepwise if arm.removeprefix("verified+") in STEPWISE else judge_guided
    recipe = judge_curriculum if arm.endswith("curriculum") else recipe
    return (chained if arm in CHAINED else policy_arm)(run, out, recipe, SAMPLING[arm])


def steadiness(folder: Path) -> dict[str, float]:
    """Spread of the samples' accuracy over the last fifth of a training, and what replay did."""
    records = RunFolder(folder).metrics()
    last = [r["accuracy"] for r in records[-max(2, len(records) // 5) :] if "accuracy" in r]
    means = logged_means(records, ("stuck", "rescued", "guided", "guided_ratio"))
    return {**({"accuracy_spread": float(np.std(last))} if len(last) > 1 else {}), **means}


def measure_reasons(job: Job) -> dict[str, Any]:
    """Decode the reasons of some test pairs and hold each line against the true one."""
    out = placed(job)[-1]
    judge = open_judge(max(out.glob("stage?"), default=out) / "judge")  # the last stage of a curriculum
    shop = shop_of(job.settings.shop)  # type: ignore[attr-defined]
    test = sample_shop_pairs(shop, "test", TEST_PAIRS, seed=0)
    chosen = np.random.default_rng(0).permutation(len(test.gold))[:DECODED]
    verdicts = judge.pair_verdicts([test.pairs[i] for i in chosen], reasons=True)
    truth = [step_lines(shop.rationale(int(test.queries[i]), int(test.items[i]))) for i in chosen]
    stated = [stated_steps(verdict) for verdict in verdicts]
    label = labels_of(verdicts, judge.scale) == test.gold[chosen]
    right = {step: np.asarray([s.get(step) == t[step] for s, t in zip(stated, truth, strict=True)]) for step in STEPS}
    book_rules, rule = {f"verdict {rule.id}" for rule in shop.book.rules}, right["verdict"]
    return {
        "pairs": len(chosen),
        **{step: float(right[step].mean()) for step in STEPS},
        "label": float(label.mean()),
        "rule_unknown": float(np.mean([s.get("verdict") not in book_rules for s in stated])),
        "label_of_right_rule": float(label[rule].mean()) if rule.any() else None,
        "label_of_wrong_rule": float(label[~rule].mean()) if (~rule).any() else None,
        "past_the_rule": float((label & ~rule).mean()),
    }


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)
app.command("reasons", help="How judges reach their labels.")(run_verb(REASONS, Settings, ARMS, measure_reasons))
AGAINST = ("sft", "grpo", "grpo+format", "grpo+rules", "verified")
PAIRS = (  # differences that no column holds
    ("grpo+rules", "labels"), ("grpo+derived", "labels"), ("verified", "labels"), ("verified+rules", "labels"),
    ("verified+rules", "verified+grpo"), ("verified+derived", "verified+grpo"), ("verified+hybrid", "verified+grpo"),
    ("hybrid", "verifier"), ("hybrid+derived", "hybrid"), ("hybrid+derived", "grpo+derived"),
    ("hybrid/diverse", "hybrid"), ("agrl/ratio", "agrl"), ("agrl/hinted", "agrl"), ("agrl/tau0.25", "agrl"),
    ("agrl/H2", "agrl"), ("agrl/H3", "agrl"), ("oracle", "verified"), ("continued", "sft"),
    ("label_first/grpo", "label_first/sft"), ("label_first/hybrid", "label_first/grpo"),
)  # fmt: skip
LOGGED = {
    "updates": "updates", "sampled_groups": "groups drawn", "groups": "groups kept", "kl": "KL",
    "accuracy_spread": "spread of the last fifth", "stuck": "stuck", "rescued": "rescued",
    "guided_ratio": "first ratio",
}  # fmt: skip
PATHS = {
    "category": "category", "checks": "checks", "verdict": "rule", "label": "label",
    "rule_unknown": "rule not in the book", "label_of_right_rule": "label where the rule is right",
    "label_of_wrong_rule": "label where it is wrong", "past_the_rule": "right labels past a wrong rule",
}  # fmt: skip


def scores(by_arm: ByArm, whole: MacroF1, tail: MacroF1) -> str:
    """Macro-F1 on the natural and on a balanced mix, on the tail, and what it gains."""
    return arm_table(by_arm, ARMS, {
        "macro-F1": lambda r: shown(whole.level(r)),
        "by seed": lambda r: ", ".join(f"{one['seed']}: {one['macro_f1']:.3f}" for one in r),
        **minus(by_arm, AGAINST, whole),
        "balanced": lambda r: f"{whole.balanced(r):.3f}", "tail": lambda r: f"{tail.values(r)[0]:.3f}",
        **minus(by_arm, ["grpo"], tail, "tail minus {}"), **averaged({"accuracy": "accuracy", "good_f1": "F1 Good"}),
    })  # fmt: skip


def pairs(by_arm: ByArm, whole: MacroF1) -> list[str]:
    """The differences of PAIRS whose arms both have a seed, as one list."""
    lines = []
    for arm, other in [pair for pair in PAIRS if set(pair) <= by_arm.keys()]:
        if seeds := len(shared_seeds(by_arm[arm], by_arm[other])[0]):
            gap = shown(whole.difference(by_arm[arm], by_arm[other]), "+.3f")
            lines.append(f"- {arm} minus {other}: {gap}, seeds {seeds}")
    return ["\n".join(lines)] if lines else []


def render() -> str:
    """Every table as Markdown, one section per settings that have more than the start."""
    parts: list[str] = []
    reasons = REASONS.by_settings(Settings)
    for key, by_arm in [(key, by_arm) for key, by_arm in QUEUE.by_settings(Settings).items() if set(by_arm) != {"sft"}]:
        chosen = Settings.model_validate(next(iter(by_arm.values()))[0]["settings"])
        whole, tail = macro_f1_of(chosen), macro_f1_of(chosen, tail=True)
        logged = {arm: one for arm, one in by_arm.items() if "groups" in one[0]["training"]}
        trainings = {**averaged(LOGGED, part="training"), **averaged({"minutes": "minutes"}, ".1f")}
        tables = [scores(by_arm, whole, tail), details(by_arm, ARMS), arm_table(logged, ARMS, trainings)]
        tables += [arm_table(reasons[key], ARMS, averaged(PATHS))] if key in reasons else []
        parts += [f"**{changes(chosen)}** (settings `{key}`)", *tables, *pairs(by_arm, whole)]
    return "\n\n".join([*parts, *QUEUE.collapses(Settings)])


add_table(app, "judge_methods", render, "Macro-F1, paired differences, trainings, reasons. 95 % over queries.")

if __name__ == "__main__":
    app()
