"""The losses of a retriever on its own rankings: Retrieval-GRPO, and what it must be compared with.

All read scores (P, M) of P queries and M distinct items, `place` (P, K) of the candidates among them, and rewards or
advantages (P, K). On-policy and without KL the gradient of Retrieval-GRPO is 1 / (K t) * sum_i A_i grad s_i, whatever
set the softmax runs over (papers/taosearchemb.md 6, derived): so a listwise loss on the same rewards is its rival.
The top K are no samples of that policy, yet each counts 1 / K. The objective "expected" (ours) weighs them as samples
would be: -sum_i p_i A_i, whose gradient -p_i (A_i - sum_j p_j A_j) / t fades where the policy is already sure.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.contrastive import contrastive_term
from goodrate.learning.losses import dpo, kl_categorical, lambda_loss, listwise, policy_gradient, ranknet
from goodrate.learning.ranking_source import ranking_logprobs
from goodrate.learning.records import MicroBatch, Outputs, Term

Objective = Literal["grpo", "expected", "listwise", "ranknet", "lambda", "dpo"]
Chosen = Literal["highest", "lowest"]


KL, KL_OTHERS = {"grpo": 3.0}, 0.05  # as screened on the shop's dev queries


class RankingTermSettings(BaseModel):
    """Which loss on the rewards, how close to the start, and the anchor."""

    model_config = ConfigDict(extra="forbid")
    objective: Objective = Field(default="grpo", description="grpo, its expectation under the policy, or a rival loss")
    clip_low: float = Field(default=0.2, gt=0, description="the ratio's lower bound is 1 - this")
    clip_high: float = Field(default=0.2, gt=0, description="the ratio's upper bound is 1 + this")
    kl: float | None = Field(
        default=None, ge=0, description="weight of the exact KL over K to the start; null = 3 for grpo, else 0.05"
    )
    anchor: float = Field(default=1.0, ge=0, description="weight of InfoNCE on known positives")
    anchor_temperature: float = Field(default=0.05, gt=0)
    target_temperature: float = Field(default=0.1, gt=0, description="listwise: target is softmax(reward / this)")
    beta: float = Field(default=0.5, gt=0, description="dpo: how far log odds may go from the start")
    chosen: Chosen = Field(default="highest", description="dpo: which of equally rewarded best candidates, by rank")

    @property
    def kl_weight(self) -> float:
        """The weight given, or the objective's own: grpo's push never fades by itself (docs/retrieval_grpo.md)."""
        return self.kl if self.kl is not None else KL.get(self.objective, KL_OTHERS)


def ranking_terms(settings: RankingTermSettings, temperature: float, on_policy: bool) -> tuple[list[Term], list[Term]]:
    """(terms, diagnostics). temperature: of the policy over K. on_policy: rankings serve one step."""

    def candidates(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return outputs["scores"].gather(1, batch["place"])

    def logprobs(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return ranking_logprobs(candidates(outputs, batch), batch["mask"], temperature)

    def old(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return logprobs(outputs, batch).detach() if on_policy else batch["behaviour"]

    def policy(outputs: Outputs, batch: MicroBatch) -> Tensor:
        clip = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
        return policy_gradient(logprobs(outputs, batch), old(outputs, batch), batch["advantages"], **clip)

    def expected(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return -(logprobs(outputs, batch).exp() * batch["advantages"] * batch["mask"]).sum(1)

    def distilled(outputs: Outputs, batch: MicroBatch) -> Tensor:
        mask = batch["mask"]
        target = ranking_logprobs(batch["rewards"], mask, settings.target_temperature).exp() * mask
        return listwise(candidates(outputs, batch) / temperature, target, mask)

    def pairwise(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return ranknet(candidates(outputs, batch) / temperature, batch["rewards"], batch["mask"])

    def weighted(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return lambda_loss(candidates(outputs, batch) / temperature, batch["rewards"], batch["mask"])

    def preference(outputs: Outputs, batch: MicroBatch) -> Tensor:
        ours, start = logprobs(outputs, batch), batch["reference"]
        best, hardest = best_and_hardest(batch["rewards"], batch["mask"], settings.chosen)
        values = [x.gather(1, c[:, None])[:, 0] for x in (ours, start) for c in (best, hardest)]
        return dpo(values[0], values[1], values[2], values[3], beta=settings.beta)

    def kl(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return kl_categorical(logprobs(outputs, batch), batch["reference"])

    def clipped(outputs: Outputs, batch: MicroBatch) -> Tensor:
        ratio = torch.exp(logprobs(outputs, batch) - old(outputs, batch))
        return ((ratio < 1 - settings.clip_low) | (ratio > 1 + settings.clip_high)).float()

    def entropy(outputs: Outputs, batch: MicroBatch) -> Tensor:
        values = logprobs(outputs, batch)
        return -(values.exp() * values).sum(1)

    losses = {
        "grpo": policy, "expected": expected, "listwise": distilled, "ranknet": pairwise, "lambda": weighted,
        "dpo": preference,
    }  # fmt: skip
    mask = "mask" if settings.objective == "grpo" else "kept"
    terms = [Term(settings.objective, losses[settings.objective], mask, unit="update")]
    diagnostics = [Term("entropy", entropy, "kept"), Term("clipped", clipped, "mask")]
    if settings.kl_weight > 0:
        terms.append(Term("kl_loss", kl, "kept", weight=settings.kl_weight, unit="update"))
        diagnostics.append(Term("kl", kl, "kept"))
    if settings.anchor > 0:
        terms.append(contrastive_term(settings.anchor_temperature, weight=settings.anchor, mask="anchored"))
    return terms, diagnostics


def best_and_hardest(rewards: Tensor, mask: Tensor, chosen: Chosen = "highest") -> tuple[Tensor, Tensor]:
    """Columns (P,) of the best rewarded candidate, and of the highest ranked one that is worse than it.

    rewards, mask: (P, K), candidates best scored first; those masked out are neither. chosen: of several best ones.
    Where none is worse, the hardest is the last candidate.
    """
    last = rewards.shape[1] - 1
    known = rewards.masked_fill(~mask, float("-inf"))
    best = known.argmax(1) if chosen == "highest" else last - known.flip(1).argmax(1)
    worse = mask & (rewards < rewards.gather(1, best[:, None]))
    places = torch.arange(last + 1, device=rewards.device).expand_as(rewards)
    return best, torch.where(worse, places, last).amin(1)
