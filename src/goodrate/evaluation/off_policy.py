"""What a policy would have earned, from the log of another one: inverse propensity weights, plain, self-normalised and
doubly robust, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from goodrate.evaluation.significance import BLOCK, RESAMPLES, Interval

ESTIMATORS = ("ips", "snips", "dr")


@dataclass(frozen=True)
class PolicyValue:
    """The value of a target policy, a mean reward, by estimator, each with a bootstrap interval.

    logged: the mean reward of the log itself. ips, snips: see `off_policy_value`. dr: None without predictions.
    mean_weight: 1 but for chance where the log has all that the target does and its propensities are right.
    effective_rows: (sum w)^2 / sum w^2, how many rows of equal weight the estimates are worth. largest_weight: before
    clipping. clipped: rows whose weight was cut to `clip`. groups: what was resampled, rows where none are named.
    """

    rows: int
    groups: int
    logged: Interval
    ips: Interval
    snips: Interval
    dr: Interval | None
    mean_weight: Interval
    effective_rows: float
    largest_weight: float
    clip: float | None
    clipped: int

    @property
    def warnings(self) -> list[str]:
        """What a person should know before a number is believed, a sentence each."""
        told = []
        share = self.mean_weight
        if share.low > 1 or share.high < 1:
            cut = "; clipping lowers it" if self.clipped else ""
            told.append(
                f"the mean weight is {share.value:.3f} ({share.low:.3f} to {share.high:.3f}) and not 1: the log "
                f"lacks some of what the target does, or propensities are wrong{cut}; ips is biased"
            )
        if self.effective_rows < 0.01 * self.rows or self.effective_rows < 30:
            told.append(
                f"{self.rows:,} rows are worth {self.effective_rows:,.1f} of equal weight (largest weight "
                f"{self.largest_weight:,.4g}): a few rows decide; intervals are too short"
            )
        return told

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {name: getattr(self, name) for name in ("logged", *ESTIMATORS, "mean_weight")}
        return {
            "rows": self.rows, "groups": self.groups,
            **{name: None if value is None else value.as_dict() for name, value in values.items()},
            "effective_rows": self.effective_rows, "largest_weight": self.largest_weight, "clip": self.clip,
            "clipped": self.clipped, "warnings": self.warnings,
        }  # fmt: skip


def off_policy_value(
    reward: ArrayLike, propensity: ArrayLike, target: ArrayLike, *, predicted: ArrayLike | None = None,
    predicted_target: ArrayLike | None = None, clip: float | None = None, groups: ArrayLike | None = None,
    seed: int = 0, resamples: int = RESAMPLES,
) -> PolicyValue:  # fmt: skip
    """The mean reward of the target policy from N logged decisions; w = target / propensity, at most `clip`.

    reward: (N,). propensity, target: (N,) probability with which the log's policy and the target took what the log
    took. ips = mean(w r); snips = sum(w r) / sum(w), in which a wrong scale of the weights cancels out;
    dr = mean(q_target + w (r - q)), right when either the propensities or the predictions are.
    predicted: (N,) q, the expected reward of what was taken; predicted_target: (N,) q_target, that of what the target
    would take (reward_model.py makes both). groups: (N,) what is resampled whole, such as sessions. Intervals are
    percentiles of a bootstrap. Raises ValueError for values that cannot be. Horvitz and Thompson 1952; Swaminathan and
    Joachims 2015 (snips); Dudik et al. 2011, arXiv 1103.4601 (dr).
    >>> off_policy_value([1, 0, 1, 0], [0.5] * 4, [0.9, 0.1, 0.9, 0.1]).ips.value  # (1.8 + 1.8) / 4
    0.9
    """
    arrays = [np.asarray(values, dtype=np.float64).reshape(-1) for values in (reward, propensity, target)]
    earned, logged, wanted = arrays
    _require_sound(earned, logged, wanted, clip)
    raw = wanted / logged
    weight = raw if clip is None else np.minimum(raw, clip)
    residual = _doubly_robust(earned, weight, predicted, predicted_target)
    parts = np.stack([np.ones_like(earned), weight, weight * earned, residual, earned], axis=1)
    names = np.arange(len(earned)) if groups is None else np.asarray(groups)
    if len(names) != len(earned):
        raise ValueError(f"groups: expected one for each of {len(earned):,} rows, got {len(names):,}")
    sums = _group_sums(parts, names)
    drawn = _resampled(sums, seed, resamples)
    values = {name: _interval(name, sums, drawn) for name in ("logged", "ips", "snips", "dr", "mean_weight")}
    return PolicyValue(
        rows=len(earned), groups=len(sums), logged=values["logged"], ips=values["ips"], snips=values["snips"],
        dr=None if predicted is None else values["dr"], mean_weight=values["mean_weight"],
        effective_rows=float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300)), largest_weight=float(raw.max()),
        clip=clip, clipped=int((raw > weight).sum()),
    )  # fmt: skip


def _require_sound(reward: np.ndarray, propensity: np.ndarray, target: np.ndarray, clip: float | None) -> None:
    if not len(reward) == len(propensity) == len(target) or not len(reward):
        lengths = f"{len(reward):,}, {len(propensity):,} and {len(target):,}"
        raise ValueError(f"reward, propensity and target: expected one row at least and equal lengths, got {lengths}")
    for name, bad, expected in (
        ("reward", ~np.isfinite(reward), "a finite number"),
        ("propensity", ~((propensity > 0) & (propensity <= 1)), "a probability above 0"),
        ("target", ~((target >= 0) & (target <= 1)), "a probability"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"{name}, row {row + 1}: expected {expected}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip {clip}: expected a weight above 0")
    if not target.any():
        raise ValueError("target: 0 in every row; the target does nothing that the log did")


def _doubly_robust(
    reward: np.ndarray, weight: np.ndarray, predicted: ArrayLike | None, predicted_target: ArrayLike | None
) -> np.ndarray:
    """(N,) q_target + w (r - q); zeros without predictions."""
    if predicted is None and predicted_target is None:
        return np.zeros_like(reward)
    if predicted is None or predicted_target is None:
        raise ValueError(
            "doubly robust: expected both predictions, of what was taken and of what the target would take"
        )
    taken, wanted = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (predicted, predicted_target))
    if not len(taken) == len(wanted) == len(reward) or not np.isfinite(taken).all() or not np.isfinite(wanted).all():
        raise ValueError(f"predictions: expected a finite number for each of {len(reward):,} rows, twice")
    return wanted + weight * (reward - taken)


def _group_sums(parts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(G, 5) sums of the rows of each group."""
    _, member = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(member, column) for column in parts.T], axis=1)


def _resampled(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """(B, 5) sums of resampled groups."""
    rng, count = np.random.default_rng(seed), len(sums)
    rows = max(1, BLOCK // count)
    drawn = [
        sums[rng.integers(0, count, (min(rows, resamples - start), count))].sum(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(drawn) if drawn and count > 1 else np.empty((0, sums.shape[1]))


_RATIOS = {"logged": (4, 0), "ips": (2, 0), "snips": (2, 1), "dr": (3, 0), "mean_weight": (1, 0)}


def _interval(name: str, sums: np.ndarray, drawn: np.ndarray) -> Interval:
    """A ratio of two sums with its interval."""
    over, under = _RATIOS[name]
    total = sums.sum(axis=0)
    usable = drawn[drawn[:, under] > 0]
    low, high = np.quantile(usable[:, over] / usable[:, under], [0.025, 0.975]) if len(usable) else (np.nan, np.nan)
    return Interval(float(total[over] / total[under]), float(low), float(high), len(sums))
