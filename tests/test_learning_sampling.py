"""Figures of groups."""

from __future__ import annotations

import pytest
import torch

from goodrate.learning.sampling import accuracy_by_group, group_accuracies


def test_accuracy_by_group_keeps_the_place_of_a_group_without_a_score() -> None:
    nan = float("nan")
    correct, group = torch.tensor([1.0, 0.0, nan, nan, 1.0, nan]), torch.tensor([3, 3, 5, 5, 9, 9])
    assert accuracy_by_group(correct, group).tolist() == pytest.approx([0.5, nan, 1.0], nan_ok=True)
    assert group_accuracies(correct, group).tolist() == [0.5, 1.0]
