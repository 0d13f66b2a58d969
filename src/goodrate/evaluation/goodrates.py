"""Item Goodrate and Query Goodrate of result pages, the field's own measures of a search (arXiv 2510.11122, 4.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import polars as pl

from goodrate.evaluation.metrics import Qrels, Run, evaluate_run
from goodrate.scale import RelevanceScale

GOOD_PAGE, MID_PAGE = 0.8, 0.5  # of a page's judged results; the paper has no cut-offs, these are ours
PAGES = ("Good", "Mid", "Bad")
UNKNOWN = "unknown"


def goodrates(run: Run, labels: Qrels, scale: RelevanceScale, k: int = 10) -> pl.DataFrame:
    """query_id, item_goodrate of each query of labels, in their order: goodrate@k as evaluate_run has it.

    run: what was shown, with scores that order it. labels: label positions of what is judged; every query that was
    asked has an entry, if an empty one. A page without a result counts 0; one of which nothing is judged is null.
    >>> from goodrate.scale import FOUR_LEVEL
    >>> shown = {"lamp": [("a", 3.0), ("b", 2.0), ("c", 1.0)], "desk": []}
    >>> goodrates(shown, {"lamp": {"a": 3, "b": 0}, "desk": {}}, FOUR_LEVEL)["item_goodrate"].to_list()
    [0.5, 0.0]
    """
    name = f"goodrate@{k}"
    return evaluate_run(run, labels, scale, [name]).select("query_id", item_goodrate=pl.col(name))


def page_of(goodrate: float | None, good: float = GOOD_PAGE, mid: float = MID_PAGE) -> str:
    """What a page is by the share of its judged results that are good: Good, Mid, Bad, or unknown for None.

    >>> [page_of(share) for share in (0.8, 0.5, 0.4, None)]
    ['Good', 'Mid', 'Bad', 'unknown']
    """
    if goodrate is None:
        return UNKNOWN
    return "Good" if goodrate >= good - 1e-9 else "Mid" if goodrate >= mid - 1e-9 else "Bad"


def page_is_good(pages: Iterable[str]) -> np.ndarray:
    """1.0 for a page that is Good or Mid, 0.0 for a Bad one, NaN for an unknown one (N,); Query Goodrate is its mean.

    >>> page_is_good(["Good", "Mid", "Bad"]).tolist()
    [1.0, 1.0, 0.0]
    """
    value = {"Good": 1.0, "Mid": 1.0, "Bad": 0.0}
    return np.asarray([value.get(page, float("nan")) for page in pages], dtype=np.float64)


def page_counts(pages: Iterable[str]) -> dict[str, int]:
    """How many pages are Good, Mid, Bad and unknown, each there when it is 0."""
    counts = Counter(pages)
    return {page: counts[page] for page in (*PAGES, UNKNOWN)}
