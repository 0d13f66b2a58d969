"""Losses, unreduced: tensors in, a tensor of the same shape out, to be minimised. No mask, no mean, no configuration.

Reduction is the only place that divides. Values at masked positions must be finite: a mask stops numbers, not NaN.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from goodrate.learning.records import Unit

# What a split of an update into micro-batches may not tear apart; each is tested for it.
LOSS_UNITS: dict[str, Unit] = {
    "cross_entropy": "token",
    "policy_gradient": "token",
    "off_policy_shaped": "token",
    "probability_weighted": "token",
    "kl_k3": "token",
    "binary": "token",
    "soft_cross_entropy": "token",
    "kl_categorical": "group",
    "listwise": "group",  # a list brings its own candidates; only in-batch candidates would tie it to the update
    "ranknet": "group",
    "lambda_loss": "group",
    "dpo": "pair",
    "video_dpo": "pair",
    "patch_dpo": "pair",
    "dense_dpo": "pair",
    "info_nce": "update",
}


def cross_entropy(logprobs: Tensor) -> Tensor:
    """-log p of the given tokens, any shape."""
    return -logprobs


def soft_cross_entropy(logprobs: Tensor, target: Tensor) -> Tensor:
    """-sum_l t_l log p_l over the last axis, shape (...); target sums to 1, or is 0 all over where a mask stops it.

    A label of target 0 contributes 0, at probability 0 too. One-hot targets: the cross-entropy of a label.
    """
    return -torch.where(target > 0, target * logprobs, torch.zeros_like(logprobs)).sum(dim=-1)


def policy_gradient(
    logprobs: Tensor, behaviour: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> Tensor:
    """-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = exp(logprobs - behaviour).

    With one update per rollout pass behaviour = logprobs.detach(): rho is 1 and the gradient is -A grad log p.
    Infinite clip_low and clip_high switch clipping off. GRPO: arXiv 2402.03300; unequal clips: DAPO, 2503.14476.
    """
    ratio = torch.exp(logprobs - behaviour)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def off_policy_shaped(logprobs: Tensor, behaviour: Tensor, advantages: Tensor, *, constant: float = 0.1) -> Tensor:
    """-f(rho) A with f(rho) = rho / (rho + constant), for rollouts sampled under another prompt; no clip, f < 1 bounds.

    The gradient weight is constant rho / (rho + constant)^2: 0.139 at rho = 0.02, where a plain ratio gives 0.02.
    LUFFY, arXiv 2504.14945. Computed as sigmoid(log rho - log constant), which cannot overflow.
    """
    return -torch.sigmoid(logprobs - behaviour - math.log(constant)) * advantages


def probability_weighted(logprobs: Tensor, advantages: Tensor) -> Tensor:
    """-p A with p = exp(logprobs) in float32: a plain probability, no ratio and no clip (DyKnow-RAG eq. 11)."""
    return -torch.exp(logprobs.float()) * advantages


def dpo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float
) -> Tensor:
    """-log sigmoid(beta ((chosen - reference_chosen) - (rejected - reference_rejected))), one value per pair.

    Arguments are sequence log probabilities (sums over the completion). arXiv 2305.18290.
    """
    return -F.logsigmoid(beta * ((chosen - reference_chosen) - (rejected - reference_rejected)))


def video_dpo(winner: Tensor, loser: Tensor, *, beta: float) -> Tensor:
    """-log sigmoid(-(beta / 2) (winner - loser)), one value per pair (N,): DPO of a diffusion model.

    winner, loser: (N,) mean squared error of the policy less that of the reference, at one time and one noise for both
    videos and both networks. Diffusion-DPO, arXiv 2311.12908.
    """
    return -F.logsigmoid(-beta / 2 * (winner - loser))


def patch_dpo(winner: Tensor, loser: Tensor, sign: Tensor, weight: Tensor, *, beta: float) -> Tensor:
    """The same for each patch, its weighted mean per pair (N,): the patch term of Gran-DPO (after arXiv 2502.06812).

    winner, loser: (N, P) as in video_dpo, of one patch. sign: (N, P) 1 where the winner's patch is the better one, -1
    where the loser's is. weight: (N, P) in 0..1. Divided by the weights' sum, 1 at least: no weight at all gives 0.
    """
    values = -F.logsigmoid(-beta / 2 * sign * (winner - loser))
    return (weight * values).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def dense_dpo(winner: Tensor, loser: Tensor, label: Tensor, *, beta: float) -> Tensor:
    """-log sigmoid(-(beta / 2) mean_p l_p (winner_p - loser_p)), one value per pair (N,): one sigmoid for all patches.

    label: (N, P) in -1..1, sign times weight. DenseDPO (arXiv 2506.03517) with patches in place of segments; the mean
    in place of its sum, so that beta is on the scale of video_dpo, which it equals where every label is 1.
    """
    return -F.logsigmoid(-beta / 2 * (label * (winner - loser)).mean(dim=1))


def info_nce(scores: Tensor, positive: Tensor, allowed: Tensor, *, temperature: float) -> Tensor:
    """-log(exp(s_+ / t) / sum over allowed c of exp(s_c / t)), one value per query (Q,).

    scores: (Q, C). positive: (Q,) column of each query's positive. allowed: (Q, C) bool, false takes a candidate (a
    false negative, a duplicate) out of the sum; the positive itself always counts. Only the positive: loss 0.
    """
    own = F.one_hot(positive, scores.shape[1]).bool()
    logits = (scores / temperature).masked_fill(~(allowed | own), float("-inf"))
    return -F.log_softmax(logits, dim=1).gather(1, positive[:, None]).squeeze(1)


def listwise(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy from the target distribution to softmax(scores) over each list, one value per list (Q,).

    scores, target: (Q, K); target sums to 1 over the masked-in candidates and is 0 elsewhere. A list without
    candidates has loss 0. (ListNet; with target = softmax(reward / t) the listwise distillation of a reward.)
    """
    logprobs = F.log_softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1)
    return -(target * logprobs.masked_fill(~mask, 0.0)).sum(dim=1)


def ranknet(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """Mean over pairs with r_i > r_j of log(1 + exp(s_j - s_i)), one value per list (Q,); 0 without such a pair.

    scores, rewards, mask: (Q, K); a pair counts when both are masked in. (RankNet, Burges et al. 2005.)
    """
    ordered = _ordered(rewards, mask)
    values = F.softplus(-(scores[:, :, None] - scores[:, None, :]))
    return (values * ordered).sum((1, 2)) / ordered.sum((1, 2)).clamp(min=1)


def lambda_loss(scores: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """RankNet with every pair weighed by the nDCG that swapping it would change; one value per list (Q,).

    Gains are the rewards less the lowest of the list (never negative), discounts 1 / log2(rank + 1) by the present
    scores; the sum is not divided. (LambdaRank in the form of LambdaLoss, Wang et al. 2018.)
    """
    ordered = _ordered(rewards, mask)
    rank = (scores[:, None, :] > scores[:, :, None]).logical_and(mask[:, None, :]).sum(2) + 1
    discount = 1 / torch.log2(rank.float() + 1)
    gains = torch.where(mask, rewards, float("inf")).amin(1, keepdim=True)
    gains = (rewards - gains).clamp(min=0) * mask
    ranks = torch.arange(2, gains.shape[1] + 2, device=gains.device)
    ideal = (gains.sort(1, descending=True).values / torch.log2(ranks)).sum(1)
    change = (gains[:, :, None] - gains[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()
    weight = (change / ideal.clamp(min=1e-9)[:, None, None]).detach()
    values = F.softplus(-(scores[:, :, None] - scores[:, None, :]))
    return (values * weight * ordered).sum((1, 2))


def _ordered(rewards: Tensor, mask: Tensor) -> Tensor:
    """(Q, K, K) 1 where both candidates are masked in and the first has the larger reward."""
    both = mask[:, :, None] & mask[:, None, :]
    return ((rewards[:, :, None] > rewards[:, None, :]) & both).to(rewards.dtype)


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference - logprobs: KL(policy || reference) per sampled token, never negative."""
    difference = reference - logprobs
    return torch.exp(difference) - difference - 1


def kl_categorical(logprobs: Tensor, reference: Tensor) -> Tensor:
    """sum_k p_k (log p_k - log r_k) over the last axis: exact KL(policy || reference), shape (...).

    A candidate of probability 0 (log probability -inf, filtered out) contributes 0, in value and gradient.
    """
    p = torch.exp(logprobs)
    # The selection stands before the product: 0 * (-inf - -inf) would be NaN in the backward pass.
    return (p * torch.where(p > 0, logprobs - reference, torch.zeros_like(p))).sum(dim=-1)


def binary(logits: Tensor, target: Tensor) -> Tensor:
    """-(y log sigmoid(z) + (1 - y) log(1 - sigmoid(z))), any shape, target in 0..1."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
