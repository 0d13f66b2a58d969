"""The table of benchmarks/chorus_judge.py from its result files: python benchmarks/chorus_table.py [test|dev] [ARM]

ARM: what the others are compared with, over the seeds that both have; the cosine unless said.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from chorus_judge import ARMS, FREE, RESULTS
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference, paired_randomisation


def main(part: str = "test", against: str = "cosine") -> None:
    """One row per arm and settings; seeds are averaged per query before the interval over queries is taken."""
    grouped: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"*-{part}-seed*.json")):
        found = json.loads(path.read_text())
        grouped.setdefault((ARMS.index(found["arm"]), path.stem.rpartition("-")[2]), []).append(found)
    base = next((found for key, found in grouped.items() if ARMS[key[0]] == against), [])
    print(f"arm | settings | seeds | nDCG@10 | minus {against} | AUC | F1 good | accuracy | macro-F1 | minutes")
    print("--- | --- | --- | --- | --- | --- | --- | --- | --- | ---")
    for key in sorted(grouped):
        found = grouped[key]
        values, gap = _by_query(found), "-" if found is base else _gap(found, base)
        cells = [_mean(found, name) for name in ("auc", "good_f1", "accuracy", "macro_f1")]
        minutes = np.mean([f["minutes"] for f in found])
        ndcg = _spread(bootstrap_interval(values).as_dict(), ".3f")
        print(" | ".join([ARMS[key[0]], key[1], str(len(found)), ndcg, gap, *cells, f"{minutes:.1f}"]))


def _by_query(found: list[dict[str, Any]]) -> np.ndarray:
    """nDCG@10 (Q,) of every query, mean over seeds."""
    return np.mean([f["ndcg@10_by_query"] for f in found], axis=0)


def _gap(found: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    """The paired difference and its p; an arm that learns nothing has one seed, which stands for all."""
    seeds = {f["seed"] for f in found} & {f["seed"] for f in base}
    free = any(fs and fs[0]["arm"] in FREE for fs in (found, base))
    if not seeds:
        return "-"
    ours, theirs = (_by_query(fs if free else [f for f in fs if f["seed"] in seeds]) for fs in (found, base))
    gap = _spread(paired_bootstrap_difference(ours, theirs).as_dict(), "+.3f")
    return f"{gap}, p {paired_randomisation(ours, theirs):.4f}"


def _spread(interval: dict[str, Any], form: str) -> str:
    """A value with its interval."""
    return f"{interval['value']:{form}} ({interval['low']:{form}} to {interval['high']:{form}})"


def _mean(found: list[dict[str, Any]], name: str) -> str:
    """The mean over seeds of a value and of the ends of its interval over queries."""
    given = [f[name] for f in found if name in f]
    if not given or given[0]["value"] is None:
        return "-"
    whole = {end: np.mean([one[end] for one in given]) for end in ("value", "low", "high")}
    return _spread(whole, ".3f")


if __name__ == "__main__":
    main(*sys.argv[1:3])
