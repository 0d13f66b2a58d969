"""The tables of benchmarks/judge_methods.py: python benchmarks/judge_methods_table.py [--settings HASH] [--write].

Means over seeds; differences are paired: the same test pairs, resampled by query, the seeds that both arms have.
"""

from __future__ import annotations

import numpy as np
import typer

from experiment import markdown
from judge_methods import ARMS, QUEUE, Settings
from judge_methods_reasons import QUEUE as REASONS
from taosr1_table import Found, Measured, changes, collapses, details, interval, mean, page_command

BEGIN = "<!-- judge_methods: python benchmarks/judge_methods_table.py --write -->"
END = "<!-- end of judge_methods -->"
AGAINST = ("sft", "grpo", "grpo+format", "grpo+rules", "verified")
PAIRS = (  # differences that no column holds
    ("grpo+rules", "labels"), ("grpo+derived", "labels"), ("verified", "labels"), ("verified+rules", "labels"),
    ("verified+rules", "verified+grpo"), ("verified+derived", "verified+grpo"), ("verified+hybrid", "verified+grpo"),
    ("hybrid", "verifier"), ("hybrid+derived", "hybrid"), ("hybrid+derived", "grpo+derived"),
    ("hybrid/diverse", "hybrid"), ("agrl/ratio", "agrl"), ("agrl/hinted", "agrl"), ("agrl/tau0.25", "agrl"),
    ("agrl/H2", "agrl"), ("agrl/H3", "agrl"), ("oracle", "verified"), ("continued", "sft"),
    ("label_first/grpo", "label_first/sft"), ("label_first/hybrid", "label_first/grpo"),
    ("label_first/agrl", "label_first/grpo"),
)  # fmt: skip


def scores(found: Found, measured: Measured, tail: Measured) -> list[list[str]]:
    """One row per arm: macro-F1 on the natural and on a balanced mix, on the tail, and what it gains."""
    gains = [f"minus {other}" for other in AGAINST]
    head = [
        "arm",
        "seeds",
        "macro-F1",
        "by seed",
        *gains,
        "balanced",
        "tail",
        "tail minus grpo",
        "accuracy",
        "F1 Good",
    ]
    rows = [head]
    for arm in [name for name in ARMS if name in found]:
        results = found[arm]
        values = measured.values(results)
        each = ", ".join(f"{one['seed']}: {one['macro_f1']:.3f}" for one in results)
        gaps = [measured.difference(results, found.get(o, [])) if o != arm else "-" for o in AGAINST]
        rows.append([
            arm, str(len(results)), interval(values), each,
            *gaps, f"{np.mean([measured.balanced(r) for r in results]):.3f}", f"{tail.values(results)[0]:.3f}",
            tail.difference(results, found.get("grpo", [])) if arm != "grpo" else "-",
            mean(results, "accuracy"), mean(results, "good_f1"),
        ])  # fmt: skip
    return rows


def pairs(found: Found, measured: Measured) -> list[str]:
    """The differences of PAIRS whose arms both have a seed, as one list."""
    told = []
    for arm, other in [pair for pair in PAIRS if set(pair) <= found.keys()]:
        seeds = {one["seed"] for one in found[arm]} & {one["seed"] for one in found[other]}
        if seeds:
            told.append(f"- {arm} minus {other}: {measured.difference(found[arm], found[other])}, seeds {len(seeds)}")
    return ["\n".join(told)] if told else []


def trainings(found: Found) -> list[list[str]]:
    """One row per arm that samples: updates, how steady it was, what replay did, minutes with the measuring."""
    names = ("updates", "sampled_groups", "groups", "kl", "accuracy_spread", "stuck", "rescued", "guided_ratio")
    heads = [
        "updates",
        "groups drawn",
        "groups kept",
        "KL",
        "spread of the last fifth",
        "stuck",
        "rescued",
        "first ratio",
    ]
    rows = [["arm", *heads, "minutes"]]
    for arm in [name for name in ARMS if name in found and "groups" in found[name][0]["training"]]:
        logged = [result["training"] for result in found[arm]]
        minutes = f"{np.mean([result['minutes'] for result in found[arm]]):.1f}"
        rows.append([arm, *(mean(logged, name) for name in names), minutes])
    return rows


PATHS = ("category", "checks", "verdict", "label", "rule_unknown", "label_of_right_rule", "label_of_wrong_rule")


def paths(found: Found) -> list[list[str]]:
    """One row per arm: how often its steps are right, and its label behind a right and behind a wrong deciding rule."""
    heads = ["category", "checks", "rule", "label", "rule not in the book", "label where the rule is right"]
    rows = [["arm", "seeds", *heads, "label where it is wrong", "right labels past a wrong rule"]]
    for arm in [name for name in ARMS if name in found]:
        each = [mean(found[arm], name) for name in (*PATHS, "past_the_rule")]
        rows.append([arm, str(len(found[arm])), *each])
    return rows


def render(only: str | None = None) -> str:
    """Every table as Markdown, one section per settings that have more than the start."""
    parts: list[str] = []
    reasons = REASONS.grouped(Settings)
    for key, found in QUEUE.grouped(Settings).items():
        if only not in (None, key) or set(found) == {"sft"}:
            continue
        chosen = Settings.model_validate(next(iter(found.values()))[0]["settings"])
        measured, tail = Measured(chosen), Measured(chosen, tail=True)
        tables: tuple[list[list[str]], ...] = (scores(found, measured, tail), details(found, ARMS), trainings(found))
        tables += (paths(reasons[key]),) if key in reasons else ()
        parts += [f"**{changes(chosen, Settings()) or 'default'}** (settings `{key}`)", *map(markdown, tables)]
        parts += pairs(found, measured)
    parts += collapses(QUEUE, Settings) if only is None else []
    return "\n\n".join(parts)


if __name__ == "__main__":
    typer.run(page_command(render, BEGIN, END))
