"""Which groups are worth an update: difficulty band, label quota after filtering."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from goodrate.learning.advantages import group_statistics


def difficulty_band(correct: Tensor, group: Tensor, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Which rollouts belong to a group with low < accuracy < high; bool (N,).

    Reads label accuracy, never the reward: a shaped reward has spread in groups that are all right or all wrong.
    correct: (N,) 1, 0 or NaN (not scored, not counted); a group with nothing scored is out. Defaults: TaoSR1's
    0 < right < G.
    """
    stats = group_statistics(correct, group)
    return (stats.mean > low) & (stats.mean < high) & (stats.count > 0)


def band_counts(correct: Tensor, group: Tensor, inside: Tensor) -> dict[str, int]:
    """Groups inside the band ("kept"), and the others by why: all right, all wrong, mixed, nothing scored."""
    stats = group_statistics(correct, group)
    counts: Counter[str] = Counter()
    for name in torch.unique(group):
        row = int((group == name).nonzero()[0])
        if inside[row]:
            counts["kept"] += 1
        elif stats.count[row] == 0:
            counts["unscored"] += 1
        else:
            mean = float(stats.mean[row])
            counts["all_right" if mean == 1 else "all_wrong" if mean == 0 else "outside_band"] += 1
    return dict(counts)


def missing_groups(have: Mapping[int, int], labels: Iterable[int], per_label: int) -> dict[int, int]:
    """How many groups of each label a refill still has to bring: label -> count, full ones left out.

    >>> missing_groups({3: 1, 0: 2}, [0, 1, 3], 2)
    {1: 2, 3: 1}
    """
    return {label: per_label - have.get(label, 0) for label in labels if have.get(label, 0) < per_label}


def within_quota(labels: Sequence[int], quota: Mapping[int, int]) -> list[int]:
    """Positions of the first groups of each label, as many as its quota allows, in their order.

    Apply it to the groups that are left AFTER the difficulty filter: the drop rate differs by label, so a balance
    made before does not survive it.
    """
    left = dict(quota)
    places = []
    for place, label in enumerate(labels):
        if left.get(label, 0) > 0:
            left[label] -= 1
            places.append(place)
    return places


def coefficient_of_variation(labels: Iterable[int], num_labels: int) -> float:
    """Population std / mean of the label counts, 0 when balanced; NaN without labels. (TaoSR1: keep it at 0.)

    >>> round(coefficient_of_variation([3] * 50 + [2] * 5 + [1] * 36 + [0] * 9, 4), 3)
    0.749
    """
    have = Counter(labels)
    counts = torch.tensor([have[label] for label in range(num_labels)], dtype=torch.float64)
    return float(counts.std(correction=0) / counts.mean()) if counts.sum() else float("nan")


def accuracy_by_group(correct: Tensor, group: Tensor) -> Tensor:
    """Share of right rollouts of each group (G,), groups ascending, NaN for those with nothing scored."""
    stats = group_statistics(correct, group)
    first = [int((group == name).nonzero()[0]) for name in torch.unique(group)]
    rows = torch.tensor(first, dtype=torch.long, device=group.device)
    return torch.where(stats.count > 0, stats.mean, float("nan"))[rows]


def group_accuracies(correct: Tensor, group: Tensor) -> Tensor:
    """accuracy_by_group without the groups that have nothing scored."""
    means = accuracy_by_group(correct, group)
    return means[~means.isnan()]


def quarters(accuracies: Sequence[float]) -> dict[str, float]:
    """Share of groups that are all wrong, in each quarter between, and all right: {"0", "0-25", ..., "75-100", "100"}.

    A quarter holds its upper end, the last one does not.
    >>> quarters([0.0, 0.25, 0.5, 1.0])
    {'0': 0.25, '0-25': 0.25, '25-50': 0.25, '50-75': 0.0, '75-100': 0.0, '100': 0.25}
    """
    names = ("0", "0-25", "25-50", "50-75", "75-100", "100")
    have = Counter(_quarter(accuracy) for accuracy in accuracies)
    return {name: have[place] / max(1, len(accuracies)) for place, name in enumerate(names)}


def _quarter(accuracy: float) -> int:
    """Place in the histogram: 0 all wrong, 1-4 the quarters, 5 all right."""
    return 5 if accuracy == 1 else math.ceil(accuracy * 4)
