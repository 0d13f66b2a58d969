"""Losses of a click ranker, and how each takes position bias out: each gives one value an impression (N,).

outputs["logits"]: of relevance, the click once the item is seen. batch: clicked (N,) 0 or 1 as float.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from goodrate.learning.records import MicroBatch, Outputs, Term

Correction = Literal["ipw", "position_tower", "examination", "naive"]


def naive(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """-c log s(f) - (1 - c) log(1 - s(f)): what was not looked at counts as not wanted."""
    return F.binary_cross_entropy_with_logits(outputs["logits"], batch["clicked"], reduction="none")


def inverse_propensity(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """softplus(f) - c f / p, the cross-entropy whose expectation is that of relevance where p is the examination.

    batch: weight (N,) 1 / p, clipped. A click counts 1 / p times as wanted and 1 - 1 / p times as not wanted.
    Saito et al., WSDM 2020 (arXiv 1909.03601), eq. 7; clipping keeps the variance bounded and lets some bias in.
    """
    return F.softplus(outputs["logits"]) - batch["clicked"] * batch["weight"] * outputs["logits"]


def position_tower(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """The cross-entropy of s(f + t), with t of the place: PAL's shallow tower (Zhao et al., RecSys 2019), as a sum."""
    return F.binary_cross_entropy_with_logits(outputs["logits"] + outputs["tower"], batch["clicked"], reduction="none")


def examination(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """The log loss of s(f) * e, with e the examination of the place: the position-based click model's likelihood.

    outputs: examination (N,), log e, at most 0.
    """
    log_click = F.logsigmoid(outputs["logits"]) + outputs["examination"]
    log_none = torch.log(-torch.expm1(log_click.clamp(max=-1e-6)))
    return -batch["clicked"] * log_click - (1 - batch["clicked"]) * log_none


LOSSES = {
    "naive": naive, "ipw": inverse_propensity, "position_tower": position_tower, "examination": examination,
}  # fmt: skip


def click_term(correction: Correction) -> Term:
    """The loss of a correction as the term of an update."""
    return Term("click", LOSSES[correction], mask="mask")
