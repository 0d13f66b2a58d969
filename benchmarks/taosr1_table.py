"""The tables of benchmarks/taosr1.py from its results: python benchmarks/taosr1_table.py [--settings HASH] [--write].

Means over seeds; differences are paired: the same test pairs, resampled by query, all seeds together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiment import Queue, markdown, write_between
from goodrate.demo.stages import judged_pairs
from taosr1 import ARMS, QUEUE, TEST_PAIRS, Settings, shop_of

RESAMPLES = 1000
GRPO = "reason_first/grpo"
PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
BEGIN, END = "<!-- taosr1: python benchmarks/taosr1_table.py --write -->", "<!-- end of taosr1 -->"
Found = dict[str, list[dict[str, Any]]]  # results by arm, one per seed


def confusions(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray, labels: int) -> np.ndarray:
    """Weighted confusions (B, L, L + 1) of B resamples; weights (B, N), predicted -1 = failed (last column)."""
    cell = gold * (labels + 1) + np.where(predicted < 0, labels, predicted)
    onto = np.zeros((len(gold), labels * (labels + 1)))
    onto[np.arange(len(gold)), cell] = 1
    return (weights @ onto).reshape(len(weights), labels, labels + 1)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Macro-F1 (B,) over the labels that gold has."""
    square = confusion[:, :, :-1]
    gold, predicted = confusion.sum(2), square.sum(1)
    hits = np.diagonal(square, axis1=1, axis2=2)
    f1 = np.where(gold > 0, 2 * hits / np.maximum(gold + predicted, 1e-12), np.nan)
    return np.nanmean(f1, axis=1)


def resampled(queries: np.ndarray, count: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Weights (B + 1, N): the first row is the sample itself, each other one drew queries with replacement."""
    _, place = np.unique(queries, return_inverse=True)
    total = int(place.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=count)
    return np.concatenate([np.ones((1, total)), drawn])[:, place].astype(float)


def interval(values: np.ndarray, form: str = ".3f") -> str:
    """A value with its 95 % interval. values: (B + 1,), the first of the sample itself, the others of resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


class Measured:
    """Macro-F1 and accuracy of arms over one set of resamples, so that any two can be compared."""

    def __init__(self, settings: Settings, pairs: int = TEST_PAIRS, tail: bool = False) -> None:
        """tail: only the pairs of tail queries count."""
        shop = shop_of(settings.shop.model_dump_json())
        test = judged_pairs(shop, "test", pairs, seed=0)
        self._gold, self._weights = test.gold, resampled(test.rows)
        if tail:
            self._weights *= [shop.queries[q].tail for q in test.rows.tolist()]

    def values(self, results: list[dict[str, Any]]) -> np.ndarray:
        """(B + 1,) macro-F1, mean over seeds."""
        return np.mean([macro_f1(self._confusions(found)) for found in results], axis=0)

    def _confusions(self, found: dict[str, Any]) -> np.ndarray:
        predicted = np.asarray([-1 if label == "x" else int(label) for label in found["predicted"]])
        return confusions(self._gold, predicted, self._weights, labels=4)

    def balanced(self, found: dict[str, Any]) -> float:
        """Macro-F1 as if every gold label were equally frequent (B-Eval)."""
        predicted = np.asarray([-1 if label == "x" else int(label) for label in found["predicted"]])
        weights = 1 / np.bincount(self._gold)[self._gold]
        return float(macro_f1(confusions(self._gold, predicted, weights[None], labels=4))[0])

    def difference(self, arm: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
        """Macro-F1 of `arm` minus that of `other` over the seeds both have, with a 95 % interval."""
        seeds = {found["seed"] for found in arm} & {found["seed"] for found in other}
        if not seeds:
            return "-"
        ours, theirs = ([f for f in results if f["seed"] in seeds] for results in (arm, other))
        return interval(self.values(ours) - self.values(theirs), "+.3f")


def scores(found: Found, measured: Measured) -> list[list[str]]:
    """One row per arm: macro-F1 with its interval over queries and range over seeds, what it gains, and the rest."""
    head = ["arm", "seeds", "macro-F1", "over seeds", "minus SFT", "accuracy", "F1 Good", "tail", "F1 of 1, 2, 3, 4"]
    rows = [[*head, "minutes"]]
    for arm in present(found):
        results, order = found[arm], arm.rpartition("/")[0]
        values = measured.values(results)
        each = [one["macro_f1"] for one in results]
        start = found.get(f"{order}/sft", []) if arm != f"{order}/sft" else []
        by_label = [np.mean([r["f1"][name] or 0 for r in results]) for name in results[0]["f1"]]
        rows.append([
            arm, str(len(results)), interval(values), f"{min(each):.3f} to {max(each):.3f}",
            measured.difference(results, start), mean(results, "accuracy"), mean(results, "good_f1"),
            mean(results, "accuracy_tail"), ", ".join(f"{f1:.2f}" for f1 in by_label),
            f"{np.mean([r['minutes'] for r in results]):.1f}",
        ])  # fmt: skip
    return rows


def details(found: Found, arms: Sequence[str] = ARMS) -> list[list[str]]:
    """One row per arm: accuracy by family, how reasons stand to labels, pass@k, tiers."""
    families = sorted(next(iter(found.values()))[0]["accuracy_by_family"])
    names = ["own steps contradict", "steps true", "steps true, label wrong", "pass@1", "pass@8", "argmax", "CumPT 0.5"]
    rows = [["arm", *families, *names, "CumPT tuned"]]
    for arm in present(found, arms):
        results = found[arm]
        inner = [_inner(results, "pass_at", name) for name in ("pass@1", "pass@8")]
        inner += [_inner(results, "tiers", name) for name in ("argmax", "cumpt_0.5", "cumpt_tuned")]
        rows.append([
            arm, *(f"{np.mean([r['accuracy_by_family'][f] for r in results]):.2f}" for f in families),
            *(mean(results, name) for name in ("inconsistent", "sound_steps", "strict_hallucination")), *inner,
        ])  # fmt: skip
    return rows


def present(found: Found, arms: Sequence[str] = ARMS) -> list[str]:
    """The arms that have results, in their order."""
    return [arm for arm in arms if arm in found]


def _inner(results: list[dict[str, Any]], part: str, name: str) -> str:
    return mean([found[part] for found in results if part in found], name)


def mean(results: list[dict[str, Any]], name: str) -> str:
    """The mean of a value over the results that have it, as text."""
    given = [found[name] for found in results if found.get(name) is not None]
    return f"{np.mean(given):.3f}" if given else "-"


def versus(found: Found, measured: Measured, arm: str) -> list[str]:
    """What an arm gains over every other arm of its order."""
    order = arm.rpartition("/")[0]
    others = [other for other in ARMS if other in found and other != arm and other.startswith((order, "label_only"))]
    return [f"{arm} minus {other}: {measured.difference(found[arm], found[other])}" for other in others]


def variants(base: Found, others: list[Found], measured: Measured) -> list[list[str]]:
    """GRPO under other settings, one row each, beside that of the base."""
    facts = ["label_cv", "share_kept", "groups", "updates", "kl"]
    heads = ["label counts' CV", "groups kept", "groups an update", "updates", "KL"]
    rows = [["settings", "seeds", "macro-F1", "minus the first row", *heads, "own steps contradict"]]
    for found in (base, *others):
        (results,) = [found[arm] for arm in found if arm == GRPO]
        chosen, plain = (Settings.model_validate(one[GRPO][0]["settings"]) for one in (found, base))
        values = measured.values(results)
        logged = [mean([r["training"] for r in results], name) for name in facts]
        rows.append([
            changes(chosen, plain) if found is not base else "as above", str(len(results)),
            interval(values),
            measured.difference(results, base[GRPO]) if found is not base else "-", *logged,
            mean(results, "inconsistent"),
        ])  # fmt: skip
    return rows


def collapses(queue: Queue, settings_type: type[Settings]) -> list[str]:
    """The runs that the collapse detector stopped: arm, seed, settings, what it said; Markdown."""
    lines = [
        f"- {one['arm']}, seed {one['seed']}, "
        f"{changes(settings_type.model_validate(one['settings']), settings_type()) or 'default'}: "
        f'"{one["collapsed"].partition(". ")[0]}"'
        for one in queue.found()
        if "collapsed" in one
    ]
    return ["Stopped by the collapse detector:", "\n".join(lines)] if lines else []


def render(only: str | None = None) -> str:
    """Every table as Markdown: one section per settings, and one row of the last table where GRPO alone was run."""
    parts: list[str] = []
    groups = QUEUE.grouped(Settings)
    alone = [found for found in groups.values() if set(found) == {GRPO}]
    for key, found in groups.items():
        if only not in (None, key) or found in alone:
            continue
        chosen = Settings.model_validate(next(iter(found.values()))[0]["settings"])
        measured = Measured(chosen)
        parts += [f"**{told(chosen)}** (settings `{key}`)", markdown(scores(found, measured)), markdown(details(found))]
        for arm in ("label_first/grpo", GRPO):
            lines = versus(found, measured, arm) if arm in found else []
            if lines:
                parts.append("\n".join(f"- {line}" for line in lines))
        mine = [other for other in alone if _alike(other[GRPO][0]["settings"], chosen)]
        if mine and GRPO in found:
            parts += ["GRPO under other settings:", markdown(variants(found, mine, measured))]
    parts += collapses(QUEUE, Settings) if only is None else []
    return "\n\n".join(parts)


def _alike(settings: dict[str, Any], chosen: Settings) -> bool:
    """Whether two settings differ in nothing but GRPO's."""
    return (settings["labels"], settings.get("rules")) == (chosen.labels, chosen.rules)


def told(chosen: Settings) -> str:
    """The settings that are not the default."""
    return changes(chosen, Settings()) or "default"


def changes(chosen: Settings, plain: Settings) -> str:
    """The settings that differ, as the command line takes them."""
    before, given = (_flat(s.model_dump(mode="json")) for s in (plain, chosen))
    return " ".join(f"--set {name}={value}" for name, value in given.items() if value != before[name])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    inner = [_flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v} for k, v in values.items()]
    return {name: value for part in inner for name, value in part.items()}


def put(text: str, write: bool, begin: str, end: str) -> None:
    """Print tables, or write them into docs/experiments.md between its marks."""
    if write:
        write_between(PAGE, begin, end, text)
    else:
        print(text)


def page_command(render: Callable[[str | None], str], begin: str, end: str) -> Callable[..., None]:
    """The command that prints tables, or writes them into docs/experiments.md between its marks."""

    def main(
        settings: Annotated[str | None, typer.Option(help="Only these settings, by hash.")] = None,
        write: Annotated[bool, typer.Option("--write", help="Into docs/experiments.md, between its marks.")] = False,
    ) -> None:
        """Print every table."""
        put(render(settings), write, begin, end)

    return main


if __name__ == "__main__":
    typer.run(page_command(render, BEGIN, END))
