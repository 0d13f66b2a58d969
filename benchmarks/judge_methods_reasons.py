"""How judges of benchmarks/judge_methods.py reach their labels: which steps are right, and labels past a wrong rule.

python benchmarks/judge_methods_reasons.py run --seeds 0 --arms sft,grpo,hybrid --set ...   those of the trainings

Reads the judges that benchmarks/judge_methods.py left in runs/; its table shows what this measures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import typer

import judge_methods
import taosr1
from experiment import Job, Queue, add_run, settings_key
from goodrate.demo.stages import judged_pairs
from goodrate.relevance.rationale import STEPS, step_lines

QUEUE = Queue("judge_methods_reasons")
PAIRS = 600
app = typer.Typer(add_completion=False, help=__doc__)


def make(job: Job) -> dict[str, Any]:
    """Decode the reasons of some test pairs and hold each line against the true one."""
    from goodrate.relevance.judge import Judge

    assert isinstance(job.settings, judge_methods.Settings)
    work = judge_methods.QUEUE.work / f"{settings_key(job.settings)}-{job.seed}"
    judge = Judge.load(next(path for path in judges(work, job.arm) if path.is_dir()))
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


def judges(work: Any, arm: str) -> list[Any]:
    """Where the judge of an arm may lie: a curriculum leaves one a stage, of which the last is the arm's."""
    order, _, name = ("", "", arm) if not arm.startswith(judge_methods.LABEL_FIRST) else arm.partition("/")
    folder = work / order / name.replace("/", "-")
    return [*sorted((stage / "judge" for stage in folder.glob("stage?")), reverse=True), folder / "judge"]


@app.callback()
def main() -> None:
    """See run."""


add_run(app, QUEUE, judge_methods.Settings, judge_methods.ARMS, make)

if __name__ == "__main__":
    app()
