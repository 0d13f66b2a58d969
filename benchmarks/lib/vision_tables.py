"""The tables of benchmarks/product_vision_language.py, from its result files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from lib.tables import markdown, shown

TASK_COLUMNS = ("category", "attribute", "extract", "f1", "caption", "CIDEr", "BLEU-4", "ROUGE-L", "free")
Results = Sequence[dict[str, Any]]


def vision_tables(results: Results, arms: Sequence[str]) -> str:
    """All that has been measured. arms: in the order of the rows."""
    shop = [one for one in results if "rivals" in one]
    parts = [shop_table(shop, arms)] if shop else []
    parts += [real_table([one for one in results if "real" in one])] if any("real" in one for one in results) else []
    parts += [cost_text(one) for one in results if "cost" in one]
    return "\n\n".join(parts) or "nothing measured yet"


def shop_table(results: Results, arms: Sequence[str]) -> str:
    """Arms, with the rivals of the first; differences to A-8 on the same questions."""
    by_arm = {arm: [one for one in results if one["arm"] == arm] for arm in arms}
    rows = [["arm", "seeds", "trained", *TASK_COLUMNS, "attribute and category minus A-8", "CPU s"]]
    for arm, own in by_arm.items():
        if own:
            trained = f"{own[0]['parameters']:,}"
            cells = [_mean([one["numbers"] for one in own], column) for column in TASK_COLUMNS]
            seconds = f"{np.mean([one['cpu_seconds'] for one in own]):.0f}"
            rows.append([arm, str(len(own)), trained, *cells, _minus(own, by_arm["A-8"]), seconds])
    first = by_arm["A-8"] or results
    for name, label in (("majority", "most frequent answer"), ("probe", "linear probes on the same tokens")):
        cells = [_mean([one["rivals"][name]["numbers"] for one in first], column) for column in TASK_COLUMNS]
        rows.append([label, str(len(first)), "", *cells, _rival_minus(first, name), ""])
    cells = [_mean([one["without pictures"] for one in first], column) for column in TASK_COLUMNS]
    rows.append([f"{first[0]['arm']} asked without pictures", str(len(first)), "", *cells, "", ""])
    note = (
        f"{first[0]['questions']} questions about test products a seed, {first[0]['train_questions']:,} to learn from; "
        f"unknown is right in {100 * first[0]['unknown_share']:.0f} % of attribute questions. Accuracy; f1 of "
        "extracted values; caption and free: F1 of words; CIDEr (0 to 10), BLEU-4, ROUGE-L: of captions. Differences: "
        "accuracy, 95 % intervals over questions."
    )
    return "## The shop's pictures\n\n" + markdown(rows) + "\n\n" + note


def _mean(numbers: Sequence[dict[str, float]], column: str) -> str:
    values = [one[column] for one in numbers if column in one]
    return f"{np.mean(values):.3f}" if values else "-"


def _digits(right: dict[str, str]) -> np.ndarray:
    return np.asarray([int(d) for d in right["attribute"] + right["category"]], dtype=float)


def _minus(own: Results, base: Results) -> str:
    seeds = {one["seed"]: one for one in base}
    pairs = [(one, seeds[one["seed"]]) for one in own if one["seed"] in seeds]
    if not pairs or own is base:
        return ""
    a, b = (np.concatenate([_digits(pair[n]["right"]) for pair in pairs]) for n in (0, 1))
    return shown(paired_bootstrap_difference(a, b), "+.3f")


def _rival_minus(base: Results, name: str) -> str:
    a = np.concatenate([_digits(one["rivals"][name]["right"]) for one in base])
    b = np.concatenate([_digits(one["right"]) for one in base])
    return shown(paired_bootstrap_difference(a, b), "+.3f")


def real_table(results: Results) -> str:
    """Open questions on photographs."""
    told = ["data", "language model", "arm", "updates", "pictures", "questions"]
    rows = [[*told, "adapters", "nearest 5", "linear probe", "most frequent"]]
    for one in results:
        cells = [_level(one[name]["right"]) for name in ("model", "nearest", "probe", "majority")]
        told = [one["real"], one["language model"], one["arm"], f"{one['updates']} of {one['batch']} questions"]
        rows.append([*told, f"{one['train']} learned, {one['test']} asked", str(one["questions"]), *cells])
    note = "Open questions, accuracy with its 95 % interval over questions; all systems read the same tokens."
    return "## Photographs\n\n" + markdown(rows) + "\n\n" + note


def _level(right: dict[str, str]) -> str:
    return shown(bootstrap_interval(_digits(right)))


def cost_text(one: dict[str, Any]) -> str:
    """What a described item costs."""
    share = one["bytes"]["folder"] / one["bytes"]["language_model"]
    return (
        f"## Cost of {one['cost']}\n\n{one['pictures_per_cpu_second']:.0f} pictures through the tiny encoder and "
        f"{1000 / one['cpu_ms_per_item']:.1f} described items ({one['attributes']} attributes, {one['candidates']} "
        f"answers scored) a processor second, {one['cpu_ms_per_item']:.0f} ms an item; the folder has "
        f"{one['bytes']['folder']:,} bytes, {100 * share:.1f} % of the LM's {one['bytes']['language_model']:,}."
    )
