"""The forest plots of the pages, and their rows as JSON and Markdown beside the results.

python benchmarks/forest_plots.py    docs/pictures/{experiments,retrieval_grpo}.png, results/forest_*.{json,md}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import context_arms
import judge_methods
import retrieval_grpo
import taosr1
from goodrate.run_folder import write_atomic
from lib.forest import Row, as_document, as_rows, draw_forest
from lib.queue import RESULTS, ROOT, ByArm, Queue, Results
from lib.retrieval_tables import gain
from lib.shop_arms import macro_f1_of
from lib.statistics import MacroF1, shared_seeds
from lib.tables import markdown

PICTURES = ROOT / "docs" / "pictures"
Compared = tuple[str, str, str, str]  # method, its arm, control, its arm
R = "reason_first/"
TAOSR1 = ("TaoSR1 chain, 1,500 labels", "0f75cdccdd74", [
    ("more SFT", R + "continued", "SFT", R + "sft"), ("SFT on labels", R + "labels", "SFT", R + "sft"),
    ("rejection sampling", R + "rejection", "SFT", R + "sft"), ("DPO", R + "dpo", "SFT", R + "sft"),
    ("GRPO", R + "grpo", "SFT", R + "sft"), ("GRPO", R + "grpo", "SFT on labels", R + "labels"),
    ("GRPO", R + "grpo", "rejection sampling", R + "rejection"), ("DPO, then GRPO", R + "dpo+grpo", "GRPO", R + "grpo"),
])  # fmt: skip
WEAK = "ebfdbbdf83c4"
AGRL = ("AGRL, weak start", WEAK, [
    ("readable steps", "grpo+format", "GRPO", "grpo"), ("rule reward", "grpo+rules", "readable steps", "grpo+format"),
    ("rule reward", "grpo+rules", "SFT on labels", "labels"),
    ("rules and replay (AGRL)", "agrl", "rule reward", "grpo+rules"), ("AGRL", "agrl", "readable steps", "grpo+format"),
    ("derived labels", "grpo+derived", "readable steps", "grpo+format"),
])  # fmt: skip
SHE = ("SHE, weak start", WEAK, [
    ("stored step verdicts", "verifier", "GRPO", "grpo"), ("SHE", "hybrid", "GRPO", "grpo"),
    ("SHE", "hybrid", "stored step verdicts", "verifier"), ("SHE", "hybrid", "readable steps", "grpo+format"),
    ("SHE, derived labels", "hybrid+derived", "derived labels", "grpo+derived"),
    ("SHE, diverse prompts", "hybrid/diverse", "SHE", "hybrid"),
])  # fmt: skip
VERIFIED = ("Verified steps, weak start", WEAK, [
    ("SFT on verified", "verified", "SFT on labels", "labels"),
    ("SFT on verified", "verified", "rule reward", "grpo+rules"),
    ("half, then GRPO", "verified+grpo", "SFT on verified", "verified"),
    ("half, then rules", "verified+rules", "half, then GRPO", "verified+grpo"),
    ("half, then derived", "verified+derived", "half, then GRPO", "verified+grpo"),
    ("half, then SHE", "verified+hybrid", "half, then GRPO", "verified+grpo"),
])  # fmt: skip
TEXTS = [("SFT with text", "rag_sft", "SFT without", "sft"), ("GRPO", "rag_grpo", "SFT with text", "rag_sft")]
CENTRED = ("centred gate", "dyknow/centred", "GRPO", "rag_grpo")
DYKNOW = ("DyKnow, good texts", "155f90da2c9a", [
    *TEXTS, ("DPO", "rag_dpo", "SFT with text", "rag_sft"), ("fixed gate", "dyknow/fixed", "GRPO", "rag_grpo"), CENTRED,
])  # fmt: skip
SLOW = ("DyKnow, good texts, rate 2e-4", "321b2762442f", [("the paper's gate", "dyknow", "GRPO", "rag_grpo")])
MISLED = ("DyKnow, bad texts", "4b0b65eeea28", [
    *TEXTS, ("oracle gate", "dyknow/oracle", "GRPO", "rag_grpo"), CENTRED,
])  # fmt: skip
STAGE1, PLAIN = "Minus stage 1 (SFT on clicks)", "Minus plain GRPO"
RETRIEVAL: dict[str, str] = {
    "continued": "more SFT", "restarted": "more SFT, one schedule", "grpo": "GRPO", "grpo_K=32": "GRPO, 32 candidates",
    "listwise": "listwise", "listwise_K=32": "listwise, 32 candidates", "ranknet": "RankNet", "dpo": "DPO",
    "lambda": "LambdaLoss", "weak_judge": "GRPO, weak judge", "truth": "GRPO, the truth as reward",
}  # fmt: skip


def judge_rows() -> list[Row]:
    """The paired differences of macro-F1 of the judges' experiments."""
    plans: Sequence[tuple[Queue, type[taosr1.Settings], tuple[str, str, list[Compared]]]] = [
        (taosr1.QUEUE, taosr1.Settings, TAOSR1),
        *((judge_methods.QUEUE, judge_methods.Settings, plan) for plan in (AGRL, SHE, VERIFIED)),
        *((context_arms.QUEUE, context_arms.Settings, plan) for plan in (DYKNOW, SLOW, MISLED)),
    ]
    rows: list[Row] = []
    for queue, settings_type, (group, key, pairs) in plans:
        by_arm = queue.by_settings(settings_type)[key]
        settings = settings_type.model_validate(next(iter(by_arm.values()))[0]["settings"])
        compared = macro_f1_of(settings, getattr(settings, "test_pairs", taosr1.TEST_PAIRS))
        rows += [row for pair in pairs if (row := judge_row(group, pair, by_arm, compared))]
    return rows


def judge_row(group: str, pair: Compared, by_arm: ByArm, compared: MacroF1) -> Row | None:
    """A row of the plot; None where the two arms share no seed."""
    method, arm, control, other = pair
    gap = compared.difference(by_arm[arm], by_arm[other])
    seeds = len(shared_seeds(by_arm[arm], by_arm[other])[0])
    return Row(group, method, control, seeds, {"macro-F1": gap}) if gap else None


def retrieval_rows() -> list[Row]:
    """The paired differences of the retrieval arms with the judge's reward, to stage 1 and to plain GRPO."""
    groups = retrieval_grpo.grouped()

    def row(group: str, control: str, arm: str, other: Results) -> Row:
        names = {"Hitrate@100": "hitrate@100", "Goodrate@10": "goodrate@10"}
        gaps = {title: gap for title, name in names.items() if (gap := gain(groups[arm], other, name))}
        return Row(group, RETRIEVAL[arm], control, len(shared_seeds(groups[arm], other)[0]), gaps)

    rows = [row(STAGE1, "SFT", arm, groups["sft"]) for arm in RETRIEVAL if arm in groups]
    return rows + [row(PLAIN, "GRPO", arm, groups["grpo"]) for arm in RETRIEVAL if arm in groups and arm != "grpo"]


def write(name: str, rows_of: Callable[[], list[Row]], limits: dict[str, tuple[float, float]]) -> None:
    """The picture, and its rows beside the results."""
    rows = rows_of()
    draw_forest(rows, PICTURES / f"{name}.png", limits)
    write_atomic(RESULTS / f"forest_{name}.json", json.dumps(as_document(rows), indent=1) + "\n")
    head = f"# Rows of docs/pictures/{name}.png\n\nGenerated by `python benchmarks/forest_plots.py`."
    write_atomic(RESULTS / f"forest_{name}.md", f"{head}\n\n{markdown(as_rows(rows))}\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    write("experiments", judge_rows, {"macro-F1": (-0.14, 0.14)})
    write("retrieval_grpo", retrieval_rows, {"Hitrate@100": (-0.035, 0.035), "Goodrate@10": (-0.045, 0.045)})
