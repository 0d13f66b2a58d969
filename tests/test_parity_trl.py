"""Our GRPO and DPO give TRL's losses and gradients on one batch; run where the extra `parity` is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import parity_batch  # noqa: E402
import parity_trl  # noqa: E402
from parity_trl import TOLERANCE, GrpoCase  # noqa: E402


@pytest.mark.slow
def test_every_case_gives_the_loss_and_the_gradients_of_trl() -> None:
    found = parity_trl.compare()
    assert len(found) == 20 and {one.case: one for one in found if max(one.loss, one.gradient) >= TOLERANCE} == {}
    clipped = {one.case: one.clipped for one in found if "clipped" in one.case}
    assert len(clipped) == 10 and min(clipped.values()) > 0.3


@pytest.mark.slow
def test_the_kl_that_trl_weighs_by_the_ratio_is_another_gradient(tmp_path: Path) -> None:
    """On-policy the ratio is 1, so the loss is equal; its gradient is what TRL adds by default and GRPO does not."""
    case = GrpoCase("grpo", 0.04, on_policy=True)
    policy, reference = parity_batch.networks(tmp_path)
    with parity_trl.quiet():
        theirs = parity_trl.trl_grpo(replace(case, weighted_kl=True), policy, tmp_path)
    apart = parity_trl.difference("", parity_trl.our_grpo(case, policy, reference), theirs, scale=0.5)
    assert apart.loss < TOLERANCE < 1e-3 < apart.gradient
