"""The policy in training: micro-batches of whole groups, and the forward that scores them under their views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from goodrate.learning.records import MicroBatch, Prompts, Rollout
from goodrate.models.adapter import Adapter
from goodrate.models.completion_forward import CompletionBatch, Sharing, choose_sharing, completion_logprobs

REFERENCE = "reference"


class PolicyScorer(nn.Module):
    """forward: micro-batch -> log probabilities (N, T) of its completions under each of its views.

    Outputs: one entry by view ("plain", "hint", "context"), "entropy" (N, T) of the first view, and with a reference
    "reference": what the frozen network says under the first view. reference: a frozen network, or the network's own
    adapter, without which it is the reference. sharing None: chosen on the first micro-batch.
    """

    def __init__(self, network: Any, reference: Any | None = None, sharing: Sharing | None = None) -> None:
        super().__init__()
        self.network, self.reference, self.sharing = network, reference, sharing

    def settle(self, batch: MicroBatch) -> None:
        """Choose a way to share prompts that runs every layer once a pass, whatever the lengths (learning.sharding)."""
        if self.sharing not in ("plain", "packed"):
            self.sharing = choose_sharing(self.network, completion_batch(batch, batch["views"][0]), "packed")

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        network = self.network
        first, *others = batch["views"]
        if self.sharing is None:
            self.sharing = choose_sharing(network, completion_batch(batch, first))
        outputs: dict[str, Tensor] = {}
        temperature = batch["temperature"]
        outputs[first], outputs["entropy"] = self._score(network, batch, first, temperature)
        for view in others:
            outputs[view], _ = self._score(network, batch, view, temperature)
        if self.reference is not None:
            start = self.reference
            with torch.no_grad(), start.off() if isinstance(start, Adapter) else nullcontext(start) as frozen:
                outputs[REFERENCE], _ = self._score(frozen, batch, first, temperature)
        return outputs

    def _score(self, network: Any, batch: MicroBatch, view: str, temperature: float) -> tuple[Tensor, Tensor]:
        assert self.sharing is not None
        return completion_logprobs(network, completion_batch(batch, view), temperature, self.sharing)


def completion_batch(batch: MicroBatch, view: str) -> CompletionBatch:
    """The prompts of a view and the completions of a micro-batch."""
    return CompletionBatch(batch[f"prompts/{view}"], batch[f"row/{view}"], batch["ids"], batch["scored"])


def micro_batches(
    rollout: Rollout, tensors: Mapping[str, Tensor], max_tokens: int, views: Sequence[Prompts] = ()
) -> list[dict[str, Any]]:
    """A rollout cut into micro-batches of whole groups with at most max_tokens tokens each (one group at least).

    tensors: (N, ...) constants of the terms: masks, advantages, behaviour log probabilities. views: the prompts under
    which to score, each indexed by example_id as sampled_under is; by default the rollout's own. Tokens are counted
    as the shared forward computes them: a prompt once, every completion at its padded width.
    """
    return [
        _micro_batch(rollout, tensors, rows, views or (rollout.sampled_under,)) for rows in _packed(rollout, max_tokens)
    ]


def _packed(rollout: Rollout, max_tokens: int) -> list[Tensor]:
    """Rows (n,) of every micro-batch: groups in order of length, filled up to max_tokens."""
    groups = []
    for group in torch.unique(rollout.group).tolist():
        rows = (rollout.group == group).nonzero()[:, 0]
        prompt = len(rollout.sampled_under.token_ids[int(rollout.example_id[rows[0]])])
        groups.append((int(rollout.mask[rows].sum(1).max()), prompt, rows))
    groups.sort(key=lambda group: group[:2])
    packed: list[list[Tensor]] = []
    used = 0
    for longest, prompt, rows in groups:
        cost = prompt + len(rows) * longest
        if packed and used + cost <= max_tokens:
            packed[-1].append(rows)
            used += cost
        else:
            packed.append([rows])
            used = cost
    return [torch.cat(rows) for rows in packed]


def _micro_batch(
    rollout: Rollout, tensors: Mapping[str, Tensor], rows: Tensor, views: Sequence[Prompts]
) -> dict[str, Any]:
    width = int(rollout.mask[rows].sum(1).max())
    examples, place = torch.unique(rollout.example_id[rows], return_inverse=True)
    batch: dict[str, Any] = {
        "views": tuple(view.view for view in views),
        "temperature": rollout.temperature,
        "ids": rollout.completion_ids[rows, :width],
        "scored": rollout.mask[rows, :width],
        "first": rollout.mask[rows, 0],
    }
    for view in views:
        batch[f"prompts/{view.view}"] = tuple(view.token_ids[i] for i in examples.tolist())
        batch[f"row/{view.view}"] = place
    cut = {name: value[rows, :width] if value.dim() == 2 else value[rows] for name, value in tensors.items()}
    return batch | cut
