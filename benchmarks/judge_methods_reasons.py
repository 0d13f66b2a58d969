"""How judges of benchmarks/judge_methods.py reach their labels: which steps are right, and labels past a wrong rule.

python benchmarks/judge_methods_reasons.py run --seeds 0 --arms sft,grpo,hybrid --set ...   those of the trainings
python benchmarks/judge_methods_reasons.py draw HASH docs/pictures/judge_reasons.png        labels beside rules, by arm

Reads the judges that benchmarks/judge_methods.py left in runs/; its table shows what this measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import judge_methods
import taosr1
from experiment import Job, Queue, add_run
from goodrate.demo.stages import judged_pairs
from goodrate.relevance.rationale import STEPS, step_lines

QUEUE = Queue("judge_methods_reasons")
PAIRS = 600
BARS = (("label", "right label", -0.2, "#9db8d9"), ("verdict", "right rule", 0.2, "#1f4e8c"))  # of the picture
app = typer.Typer(add_completion=False, help=__doc__)


def make(job: Job) -> dict[str, Any]:
    """Decode the reasons of some test pairs and hold each line against the true one."""
    from goodrate.relevance.judge import Judge

    assert isinstance(job.settings, judge_methods.Settings)
    out = judge_methods.placed(job)[-1]
    judge = Judge.load(max(out.glob("stage?"), default=out) / "judge")  # the last stage of a curriculum
    shop = taosr1.shop_of(job.settings.shop.model_dump_json())
    test = judged_pairs(shop, "test", taosr1.TEST_PAIRS, seed=0)
    chosen = np.random.default_rng(0).permutation(len(test.gold))[:PAIRS]
    verdicts = judge.judge([test.pairs[i] for i in chosen], reasons=True)
    truth = [step_lines(shop.rationale(int(test.rows[i]), int(test.items[i]))) for i in chosen]
    said = [taosr1.stated(verdict, judge.card.order) for verdict in verdicts]
    label = np.asarray([v.label == test.gold[i] for v, i in zip(verdicts, chosen, strict=True)])
    right = {step: np.asarray([s.get(step) == t[step] for s, t in zip(said, truth, strict=True)]) for step in STEPS}
    known = {f"verdict {rule.id}" for rule in shop.book.rules}
    rule = right["verdict"]
    return {
        "pairs": len(chosen),
        **{step: float(right[step].mean()) for step in STEPS},
        "label": float(label.mean()),
        "rule_unknown": float(np.mean([s.get("verdict") not in known for s in said])),
        "label_of_right_rule": float(label[rule].mean()) if rule.any() else None,
        "label_of_wrong_rule": float(label[~rule].mean()) if (~rule).any() else None,
        "past_the_rule": float((label & ~rule).mean()),
    }


@app.command()
def draw(
    key: Annotated[str, typer.Argument(help="Hash of the settings, as the table has it.")],
    out: Annotated[Path, typer.Argument(help="Picture to write.")],
    arms_: Annotated[
        str, typer.Option("--arms", help="In this order, from above.")
    ] = "sft,grpo,grpo+rules,grpo+derived",
) -> None:
    """Right labels beside right deciding rules, a bar each, means over the seeds that are there."""
    from matplotlib.figure import Figure

    found = QUEUE.grouped(judge_methods.Settings)[key]
    arms = [arm for arm in arms_.split(",") if arm in found]
    figure = Figure(figsize=(7, 0.45 * len(arms) + 1.2), layout="constrained")
    axes, place = figure.add_subplot(), np.arange(len(arms))
    for name, told, shift, colour in BARS:
        shares = [float(np.mean([one[name] for one in found[arm]])) for arm in arms]
        bars = axes.barh(place + shift, shares, height=0.38, label=told, color=colour)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(yticks=place, yticklabels=[f"{arm} ({len(found[arm])})" for arm in arms], xlim=(0, 1.08))
    axes.set_xlabel("share of test pairs; seeds in brackets")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / len(arms)), ncols=2, frameon=False)
    figure.savefig(out, dpi=130)


add_run(app, QUEUE, judge_methods.Settings, judge_methods.ARMS, make)

if __name__ == "__main__":
    app()
