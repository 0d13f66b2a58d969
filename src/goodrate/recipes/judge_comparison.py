"""Whether a trained judge is worth having: its dev log-loss against a constant's and a calibrated cosine's, by query.

Log-loss is a proper score: it sees what accuracy hides (a judge that is sure and wrong) and tells systems apart on
fewer pairs. Differences are resampled by query, since pairs of one query are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from goodrate.evaluation.significance import Interval, bootstrap_over_groups

MIN_QUERIES = 10  # fewer dev queries tell nothing
LEAST = 1e-6  # probability of the right label that a log is taken of
WAYS_OUT = (
    "what to try: the encoder judge itself (goodrate train judge_encoder), more labelled queries, more updates, a "
    "larger pretrained model, or lora.rank=16 with another learning_rate; docs/judge.md, 'A judge that is no better "
    "than a constant'"
)


@dataclass(frozen=True)
class Scores:
    """One system on N dev pairs. log_loss: (N,) nats of each; accuracy: share of right labels, a failure is wrong."""

    log_loss: np.ndarray
    accuracy: float


@dataclass(frozen=True)
class Comparison:
    """The judge against one rival. difference: mean log-loss of the judge less the rival's, in nats; < 0 is better."""

    rival: str
    log_loss: tuple[float, float]
    accuracy: tuple[float, float]
    difference: Interval

    @property
    def better(self) -> bool:
        """Whether the whole 95 % interval is on the judge's side."""
        return self.difference.high < 0

    def __str__(self) -> str:
        d = self.difference
        verb = "is worse than" if d.low > 0 else "is not shown to be better than"
        if d.value < 0 < d.high:
            verb = "looks better, on too few dev queries to show it (data.dev_share), than"
        return (
            f"this judge {verb} {self.rival}: log-loss {self.log_loss[0]:.3f} against {self.log_loss[1]:.3f} "
            f"({d.value:+.3f}, 95 % {d.low:+.3f} to {d.high:+.3f}, {d.units} dev queries), "
            f"accuracy {self.accuracy[0]:.3f} against {self.accuracy[1]:.3f}"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "difference": self.difference.as_dict(), "better": self.better}


def pair_losses(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """-log p(gold) of each pair in nats, (N,), from (N, L) and (N,); a failed pair (NaN) counts as p = 1 / L."""
    rows = np.where(np.isnan(probabilities), 1 / probabilities.shape[1], probabilities)
    return -np.log(np.maximum(rows[np.arange(len(gold)), gold], LEAST))


def compare(judge: Scores, rivals: Mapping[str, Scores], queries: Sequence[str], seed: int = 0) -> list[Comparison]:
    """The judge against each rival on the same pairs; queries: (N,), that of each pair."""

    def difference(rival: Scores) -> Interval:
        gap = judge.log_loss - rival.log_loss
        return bootstrap_over_groups(lambda rows: float(gap[rows].mean()), queries, seed)

    return [
        Comparison(
            name, (float(judge.log_loss.mean()), float(rival.log_loss.mean())), (judge.accuracy, rival.accuracy),
            difference(rival),
        )
        for name, rival in rivals.items()
    ]  # fmt: skip


def warnings_of(comparisons: Sequence[Comparison], queries: int) -> tuple[str, ...]:
    """What has to be said of a judge, a line for each rival that it does not beat; nothing when it beats all."""
    if queries < MIN_QUERIES:
        names = " or ".join(one.rival for one in comparisons)
        return (
            f"nobody knows whether this judge is better than {names}: dev has {queries} queries to measure it on, it "
            f"takes {MIN_QUERIES}; raise data.dev_share, or bring more labelled queries",
        )
    return tuple(str(one) for one in comparisons if not one.better)
