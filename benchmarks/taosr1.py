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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.classification import constant_label
from goodrate.learning.collapse import Collapsed
from goodrate.recipes import judge_sft
from goodrate.recipes.judge_rollouts import rolled
from goodrate.run_folder import RunFolder
from goodrate.shop.gates import shortcuts
from lib import shop_arms
from lib.judging import details, label_scores
from lib.queue import ByArm, Job, Queue, changes, experiment
from lib.shop_arms import NANO, TEST_PAIRS, Run, label_form, macro_f1_of, sft, trace, with_labels, with_reasons
from lib.shop_arms import ArmSettings as Settings
from lib.shop_data import JudgedPairs, judged_pairs
from lib.statistics import MacroF1
from lib.tables import add_table, markdown, mean, shown

QUEUE = Queue("taosr1")
TRIVIAL = ("constant", "bag_of_words")


def start(run: Run) -> Path:
    """The SFT judge that all stages of an order start from."""
    s, out = run.settings, run.work / f"{run.order}-sft"
    return sft(run, NANO, with_reasons(run, run.reasoned), out, s.sft_seconds, s.sft_rate)


def label_only(run: Run, out: Path) -> Path:
    """SFT on the labels of the reasoned pairs, no reasons at all."""
    return sft(run, NANO, with_labels(run, run.reasoned), out, run.settings.sft_seconds, run.settings.sft_rate)


def continued(run: Run, out: Path) -> Path:
    """More SFT on the same reasoned pairs, as long as a stage takes."""
    return longer_sft(run, out, with_reasons(run, run.reasoned))


def oracle(run: Run, out: Path) -> Path:
    """SFT on the true reasons of the pairs of which DPO and GRPO see the label: what nobody has on own data."""
    return longer_sft(run, out, with_reasons(run, run.labelled))


def longer_sft(run: Run, out: Path, examples: list[judge_sft.JudgeExample]) -> Path:
    """SFT from the start, as long as a stage takes."""
    return sft(run, start(run), examples, out, run.settings.stage_seconds, run.settings.continued_rate)


def labels(run: Run, out: Path) -> Path:
    """SFT on the labels that DPO and GRPO see, as long as a stage takes. A judge that answers nothing but the label."""
    examples, s = with_labels(run, run.labelled), run.settings
    return sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate, form=label_form(run))


def labels_once(run: Run, out: Path) -> Path:
    """SFT on the labels of as many prompts as GRPO sampled from, each read once."""
    grpo(run, run.work / f"{run.order}-grpo")
    records = RunFolder(run.work / f"{run.order}-grpo").metrics()
    each = np.mean([record["sampled_groups"] for record in records])
    updates = max(1, round(each * records[-1]["update"] / 32))
    examples, rate = with_labels(run, run.labelled), run.settings.continued_rate
    return sft(run, start(run), examples, out, 0.0, rate, updates, label_form(run))


def dpo(run: Run, out: Path) -> Path:
    """From SFT."""
    return shop_arms.dpo(run, out, start(run))


def grpo(run: Run, out: Path) -> Path:
    """From SFT."""
    return shop_arms.grpo(run, out, start(run))


def dpo_grpo(run: Run, out: Path) -> Path:
    """The whole chain."""
    return shop_arms.grpo(run, out, dpo(run, run.work / f"{run.order}-dpo"))


def rejection(run: Run, out: Path) -> Path:
    """SFT on own samples that got the label right, one a prompt; its seconds are those of sampling and training."""
    samples = RunFolder(run.work / f"{run.order}-rejection-samples")
    if not samples.stage_done("samples"):
        began = time.monotonic()
        examples = right_samples(run)
        samples.write("samples.json", json.dumps([asdict(example) for example in examples]))
        samples.mark_done("samples", {"seconds": time.monotonic() - began})
    examples = [judge_sft.JudgeExample(**e) for e in json.loads((samples.path / "samples.json").read_text("utf-8"))]
    left = run.settings.stage_seconds - samples.stage_payload("samples")["seconds"]
    return sft(run, start(run), examples, out, left, run.settings.continued_rate)


def right_samples(run: Run) -> list[judge_sft.JudgeExample]:
    """One right completion of five for every prompt that has one."""
    prompts = run.prompts(run.labelled)[: run.settings.dpo_prompts]
    rollout, model = rolled(start(run), prompts, 5, run.seed, "rejection")
    examples: dict[int, judge_sft.JudgeExample] = {}
    for row, (reason, place) in enumerate(zip(rollout.parsed, rollout.group.tolist(), strict=True)):
        if place not in examples and reason is not None and reason.label == prompts[place].label:
            text = model.tokenizer.decode(rollout.completion_ids[row][rollout.mask[row]].tolist()[:-1])
            examples[place] = judge_sft.JudgeExample(prompts[place].prefix, prompts[place].suffix, text)
    return list(examples.values())


STAGES: dict[str, Callable[[Run, Path], Path]] = {
    "sft": lambda run, out: start(run), "continued": continued, "labels_once": labels_once, "labels": labels,
    "rejection": rejection, "dpo": dpo, "grpo": grpo, "dpo+grpo": dpo_grpo, "oracle": oracle,
}  # fmt: skip
ARMS = (*TRIVIAL, "label_only", *(f"{order}/{stage}" for order in ("label_first", "reason_first") for stage in STAGES))


def measure(job: Job) -> dict[str, Any]:
    """Train what the arm needs and measure it on the test pairs."""
    order, _, stage = job.arm.rpartition("/")
    run = shop_arms.run_of(QUEUE, job.settings, order or "label_first", job.seed)  # type: ignore[arg-type]
    test = judged_pairs(run.shop, "test", TEST_PAIRS, seed=0)
    if job.arm in TRIVIAL:
        return label_scores(run.shop, test, trivial(run, test, job.arm))
    out = run.work / (f"{order}-{stage}" if order else job.arm)
    try:
        folder = STAGES[stage](run, out) if order else label_only(run, out)
    except Collapsed as error:
        return {"collapsed": str(error), "training": trace(out)}
    return {**shop_arms.measured(run, test, folder), "training": trace(folder.parent)}


def trivial(run: Run, test: JudgedPairs, arm: str) -> np.ndarray:
    """Labels of a judge without training worth the name."""
    if arm == "constant":
        return np.full(len(test.gold), constant_label(run.reasoned.gold))
    return shortcuts(run.shop, test.rows, test.items, run.seed)["bag_of_words"]


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)
GRPO = "reason_first/grpo"


def scores(found: ByArm, compared: MacroF1) -> list[list[str]]:
    """One row per arm: macro-F1 with its interval over queries and range over seeds, what it gains, and the rest."""
    head = ["arm", "seeds", "macro-F1", "over seeds", "minus SFT", "accuracy", "F1 Good", "tail", "F1 of 1, 2, 3, 4"]
    rows = [[*head, "minutes"]]
    for arm in [arm for arm in ARMS if arm in found]:
        results, sft_arm = found[arm], f"{arm.rpartition('/')[0]}/sft"
        each = [one["macro_f1"] for one in results]
        by_label = [np.mean([r["f1"][name] or 0 for r in results]) for name in results[0]["f1"]]
        rows.append([
            arm, str(len(results)), shown(compared.level(results)), f"{min(each):.3f} to {max(each):.3f}",
            shown(compared.difference(results, found.get(sft_arm, [])), "+.3f"), mean(results, "accuracy"),
            mean(results, "good_f1"), mean(results, "accuracy_tail"), ", ".join(f"{f1:.2f}" for f1 in by_label),
            mean(results, "minutes", ".1f"),
        ])  # fmt: skip
    return rows


def versus(found: ByArm, compared: MacroF1, arm: str) -> list[str]:
    """What an arm gains over every other arm of its order."""
    order = arm.rpartition("/")[0]
    others = [other for other in ARMS if other in found and other != arm and other.startswith((order, "label_only"))]
    return [f"- {arm} minus {o}: {shown(compared.difference(found[arm], found[o]), '+.3f')}" for o in others]


def variants(base: ByArm, others: list[ByArm], compared: MacroF1) -> list[list[str]]:
    """GRPO under other settings, one row each, beside that of the base."""
    facts = ["label_cv", "share_kept", "groups", "updates", "kl"]
    heads = ["label counts' CV", "groups kept", "groups an update", "updates", "KL"]
    rows = [["settings", "seeds", "macro-F1", "minus the first row", *heads, "own steps contradict"]]
    for results in (found[GRPO] for found in (base, *others)):
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
    settings = {k: Settings.model_validate(next(iter(found.values()))[0]["settings"]) for k, found in groups.items()}
    alone = [key for key, found in groups.items() if set(found) == {GRPO}]
    for key, found in [(key, found) for key, found in groups.items() if key not in alone]:
        chosen, compared = settings[key], macro_f1_of(settings[key])
        parts += [f"**{changes(chosen)}** (settings `{key}`)"]
        parts += [markdown(scores(found, compared)), markdown(details(found, ARMS))]
        parts += ["\n".join(versus(found, compared, arm)) for arm in ("label_first/grpo", GRPO) if arm in found]
        alike = [k for k in alone if (settings[k].labels, settings[k].rules) == (chosen.labels, chosen.rules)]
        if alike and GRPO in found:
            rows = variants(found, [groups[k] for k in alike], compared)
            parts += ["GRPO under other settings:", markdown(rows)]
    return "\n\n".join([*parts, *QUEUE.collapses(Settings)])


add_table(app, "taosr1", render, "Macro-F1, paired differences, details. Means over seeds; 95 % over queries.")

if __name__ == "__main__":
    app()
