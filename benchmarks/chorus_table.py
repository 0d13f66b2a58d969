"""The table of benchmarks/chorus_judge.py from its result files: python benchmarks/chorus_table.py [test|dev]."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from chorus_judge import ARMS, RESULTS
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference, paired_randomisation


def main(part: str = "test") -> None:
    """One row per arm and settings; seeds are averaged per query before the interval over queries is taken."""
    grouped: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"*-{part}-seed*.json")):
        found = json.loads(path.read_text())
        grouped.setdefault((ARMS.index(found["arm"]), path.stem.rpartition("-")[2]), []).append(found)
    by_query = {key: np.mean([f["ndcg@10_by_query"] for f in found], axis=0) for key, found in grouped.items()}
    cosine = next((values for key, values in by_query.items() if ARMS[key[0]] == "cosine"), None)
    print("arm | settings | seeds | nDCG@10 | minus cosine | AUC | F1 good | accuracy | macro-F1 | minutes")
    print("--- | --- | --- | --- | --- | --- | --- | --- | --- | ---")
    for key in sorted(grouped):
        found, values = grouped[key], by_query[key]
        gap = "-"
        if cosine is not None and ARMS[key[0]] != "cosine":
            gap = _spread(paired_bootstrap_difference(values, cosine).as_dict(), "+.3f")
            gap += f", p {paired_randomisation(values, cosine):.4f}"
        cells = [_mean(found, name) for name in ("auc", "good_f1", "accuracy", "macro_f1")]
        minutes = np.mean([f["minutes"] for f in found])
        ndcg = _spread(bootstrap_interval(values).as_dict(), ".3f")
        print(" | ".join([ARMS[key[0]], key[1], str(len(found)), ndcg, gap, *cells, f"{minutes:.1f}"]))


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
    main(*sys.argv[1:2])
