"""TaoSR1 on the shop: SFT, DPO, GRPO and the controls without which a gain means nothing.

python benchmarks/taosr1.py run --seeds 0,1,2                 one JSON per (arm, seed) in benchmarks/results/taosr1
python benchmarks/taosr1.py run --seeds 0 --arms label_first/grpo,label_first/labels
python benchmarks/taosr1.py table --write                     benchmarks/results/taosr1.md from all that is there

All arms of an order start from one SFT judge per seed; it reads few pairs with their reasons, the later stages read the
labels of other pairs. Several processes may work on the queue.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.classification import constant_label
from goodrate.examples.prompts import JudgePrompt
from goodrate.examples.shop_pairs import sample_shop_pairs
from goodrate.learning.collapse import Collapsed
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import gold_labels
from goodrate.run_folder import RunFolder
from goodrate.shop.gates import shortcuts
from lib import shop_arms
from lib.judging import details, label_scores
from lib.queue import ByArm, Job, Queue, Results, changes, experiment
from lib.shop_arms import NANO, TEST_PAIRS, Run, label_form, macro_f1_of, sft, trace
from lib.shop_arms import ArmSettings as Settings
from lib.statistics import MacroF1
from lib.tables import add_table, arm_table, averaged, markdown, mean, shown

QUEUE = Queue("taosr1")


def start(run: Run) -> Path:
    """The SFT judge that all stages of an order start from."""
    s, out = run.settings, run.work / f"{run.order}-sft"
    return sft(run, NANO, run.prompts(run.reasoned), out, s.sft_seconds, s.sft_rate)


def longer_sft(run: Run, out: Path, examples: list[JudgePrompt], form: JudgeFormat | None = None) -> Path:
    """SFT from the start, as long as a stage takes."""
    return sft(run, start(run), examples, out, run.settings.stage_seconds, run.settings.continued_rate, form=form)


def labels_once(run: Run, out: Path) -> Path:
    """SFT on the labels of as many prompts as GRPO sampled from, each read once."""
    shop_arms.grpo(run, run.work / f"{run.order}-grpo", start(run))
    records = RunFolder(run.work / f"{run.order}-grpo").metrics()
    each = np.mean([record["sampled_groups"] for record in records])
    updates = max(1, round(each * records[-1]["update"] / 32))
    examples, rate = run.label_answers(run.labelled), run.settings.continued_rate
    return sft(run, start(run), examples, out, 0.0, rate, updates, label_form(run))


def rejection(run: Run, out: Path) -> Path:
    """SFT on own samples that got the label right, one a prompt; its seconds are those of sampling and training."""
    samples = RunFolder(run.work / f"{run.order}-rejection-samples")
    if not samples.stage_done("samples"):
        began = time.monotonic()
        examples = right_samples(run)
        samples.write("samples.json", json.dumps([asdict(example) for example in examples]))
        samples.mark_done("samples", {"seconds": time.monotonic() - began})
    examples = [JudgePrompt(**e) for e in json.loads((samples.path / "samples.json").read_text("utf-8"))]
    left = run.settings.stage_seconds - samples.stage_payload("samples")["seconds"]
    return sft(run, start(run), examples, out, left, run.settings.continued_rate)


def right_samples(run: Run) -> list[JudgePrompt]:
    """One right completion of five for every prompt that has one."""
    prompts = run.label_prompts(run.labelled[: run.settings.dpo_prompts])
    rollout, model = sample_rollouts(start(run), prompts, 5, run.seed, "rejection")
    examples: dict[int, JudgePrompt] = {}
    for row, (reason, place) in enumerate(zip(rollout.parsed, rollout.group.tolist(), strict=True)):
        if place not in examples and reason is not None and reason.label == prompts[place].label:
            text = model.tokenizer.decode(rollout.completion_ids[row][rollout.mask[row]].tolist()[:-1])
            examples[place] = replace(prompts[place], completion=text)
    return list(examples.values())


STAGES: dict[str, Callable[[Run, Path], Path]] = {
    "sft": lambda run, out: start(run),
    "continued": lambda run, out: longer_sft(run, out, run.prompts(run.reasoned)),
    "labels_once": labels_once,
    "labels": lambda run, out: longer_sft(run, out, run.label_answers(run.labelled), label_form(run)),
    "rejection": rejection,
    "dpo": lambda run, out: shop_arms.dpo(run, out, start(run)),
    "grpo": lambda run, out: shop_arms.grpo(run, out, start(run)),
    "dpo+grpo": lambda run, out: shop_arms.grpo(run, out, STAGES["dpo"](run, run.work / f"{run.order}-dpo")),
    "oracle": lambda run, out: longer_sft(run, out, run.prompts(run.labelled)),  # what nobody has on own data
}
ORDERS = ("label_first", "reason_first")
ARMS = ("constant", "bag_of_words", "label_only", *(f"{order}/{stage}" for order in ORDERS for stage in STAGES))


def measure(job: Job) -> dict[str, Any]:
    """Train what the arm needs and measure it on the test pairs."""
    order, _, stage = job.arm.rpartition("/")
    run = shop_arms.run_of(QUEUE, job.settings, order or "label_first", job.seed)  # type: ignore[arg-type]
    test, s = sample_shop_pairs(run.shop, "test", TEST_PAIRS, seed=0), run.settings
    if job.arm == "constant":
        return label_scores(run.shop, test, np.full(len(test.gold), constant_label(gold_labels(run.reasoned))))
    if job.arm == "bag_of_words":
        return label_scores(run.shop, test, shortcuts(run.shop, test.queries, test.items, run.seed)[job.arm])
    out = run.work / (f"{order}-{stage}" if order else job.arm)
    try:
        if order:
            folder = STAGES[stage](run, out)
        else:  # the labels of the reasoned pairs, no reasons at all
            folder = sft(run, NANO, run.label_answers(run.reasoned), out, s.sft_seconds, s.sft_rate)
    except Collapsed as error:
        return {"collapsed": str(error), "training": trace(out)}
    return {**shop_arms.measured(run, test, folder), "training": trace(folder.parent)}


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)
GRPO = "reason_first/grpo"


def scores(by_arm: ByArm, compared: MacroF1) -> str:
    """Macro-F1 with its interval over queries and range over seeds, what it gains, and the rest."""

    def gain(results: Results) -> str:
        start = by_arm.get(f"{results[0]['arm'].rpartition('/')[0]}/sft", [])
        return shown(compared.difference(results, start), "+.3f")

    def by_label(results: Results) -> str:
        return ", ".join(f"{np.mean([r['f1'][name] or 0 for r in results]):.2f}" for name in results[0]["f1"])

    def over_seeds(results: Results) -> str:
        return "{:.3f} to {:.3f}".format(*(end(r["macro_f1"] for r in results) for end in (min, max)))

    return arm_table(by_arm, ARMS, {
        "macro-F1": lambda r: shown(compared.level(r)), "over seeds": over_seeds, "minus SFT": gain,
        **averaged({"accuracy": "accuracy", "good_f1": "F1 Good", "accuracy_tail": "tail"}),
        "F1 of 1, 2, 3, 4": by_label, **averaged({"minutes": "minutes"}, ".1f"),
    })  # fmt: skip


def versus(by_arm: ByArm, compared: MacroF1, arm: str) -> list[str]:
    """What an arm gains over every other arm of its order."""
    order = arm.rpartition("/")[0]
    others = [other for other in ARMS if other in by_arm and other != arm and other.startswith((order, "label_only"))]
    return [f"- {arm} minus {o}: {shown(compared.difference(by_arm[arm], by_arm[o]), '+.3f')}" for o in others]


def variants(base: ByArm, others: list[ByArm], compared: MacroF1) -> list[list[str]]:
    """GRPO under other settings, one row each, beside that of the base."""
    facts = ["label_cv", "share_kept", "groups", "updates", "kl"]
    heads = ["label counts' CV", "groups kept", "groups an update", "updates", "KL"]
    rows = [["settings", "seeds", "macro-F1", "minus the first row", *heads, "own steps contradict"]]
    for results in (by_arm[GRPO] for by_arm in (base, *others)):
        chosen, plain = (Settings.model_validate(one[0]["settings"]) for one in (results, base[GRPO]))
        rows.append([
            "as above" if results is base[GRPO] else changes(chosen, plain), str(len(results)),
            shown(compared.level(results)), shown(compared.difference(results, base[GRPO]), "+.3f"),
            *(mean([r["training"] for r in results], name) for name in facts), mean(results, "inconsistent"),
        ])  # fmt: skip
    return rows


def render() -> str:
    """Every table as Markdown: one section per settings, and one row of the last table where GRPO alone was run."""
    parts: list[str] = []
    groups = QUEUE.by_settings(Settings)
    settings = {k: Settings.model_validate(next(iter(by_arm.values()))[0]["settings"]) for k, by_arm in groups.items()}
    alone = [key for key, by_arm in groups.items() if set(by_arm) == {GRPO}]
    for key, by_arm in [(key, by_arm) for key, by_arm in groups.items() if key not in alone]:
        chosen, compared = settings[key], macro_f1_of(settings[key])
        parts += [f"**{changes(chosen)}** (settings `{key}`)"]
        parts += [scores(by_arm, compared), details(by_arm, ARMS)]
        parts += ["\n".join(versus(by_arm, compared, arm)) for arm in ("label_first/grpo", GRPO) if arm in by_arm]
        alike = [k for k in alone if (settings[k].labels, settings[k].rules) == (chosen.labels, chosen.rules)]
        if alike and GRPO in by_arm:
            rows = variants(by_arm, [groups[k] for k in alike], compared)
            parts += ["GRPO under other settings:", markdown(rows)]
    return "\n\n".join([*parts, *QUEUE.collapses(Settings)])


add_table(app, "taosr1", render, "Macro-F1, paired differences, details. Means over seeds; 95 % over queries.")

if __name__ == "__main__":
    app()
