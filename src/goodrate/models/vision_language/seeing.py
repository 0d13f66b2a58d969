"""Label logits of prompts whose item has a picture: [query's part][visual tokens][item's part].

The visual tokens stand behind the query's part, so that its keys and values are computed once for all items of a query,
as without pictures (models.label_forward). The placing is ours; injections A and C are those of PUMGPT's adapters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from goodrate.models.cached_forward import cached_states
from goodrate.models.head import head_logits
from goodrate.models.label_forward import (
    IdPair,
    blocks,
    by_prefix_length,
    chunks_by_length,
    even_width,
    last_hidden,
    pad_right,
    positions,
    prefill,
    rows_at_once,
)
from goodrate.models.precision import autocast, evaluating
from goodrate.models.vision_language.injection import added_to_tokens
from goodrate.models.vision_language.model import VisionLanguageModel


class SeeingLabeller(nn.Module):
    """forward: micro-batch (collate_seen) -> {"logits": (N, L)} of the label tokens behind each prompt.

    model: whose LM, resampler and adapters all train here. labels: token ids, worst label first. Raises ValueError for
    injection B, whose pictures have no place in the sequence.
    """

    def __init__(self, model: VisionLanguageModel, labels: Sequence[int]) -> None:
        super().__init__()
        if model.settings.injection == "B":
            raise ValueError("injection B gives a picture no place behind the query; use A or C")
        self.model, self.labels = model, tuple(labels)
        model.network.requires_grad_(True)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        model, network = self.model, self.model.network
        z = model.resampler(batch["features"])
        embed, before = network.get_input_embeddings(), batch["prefix"].shape[1]
        visual = model.adapters.state(0, z)
        text = embed(batch["prefix"]), embed(batch["suffix"])
        inputs = torch.cat([text[0], visual.to(text[0].dtype), text[1]], dim=1)
        ones = torch.ones(visual.shape[:2], dtype=torch.long, device=inputs.device)
        seen = torch.cat([batch["prefix_seen"], ones, batch["suffix_seen"]], dim=1)
        where = (seen.cumsum(1) - 1).clamp(min=0)
        with _injected(model, z, before):
            states = network.base_model(
                inputs_embeds=inputs, attention_mask=seen, position_ids=where, use_cache=False
            ).last_hidden_state
        last = seen.shape[1] - 1 - seen.flip(1).argmax(1)
        chosen = states[torch.arange(len(states), device=states.device), last]
        return {"logits": head_logits(network, chosen, torch.tensor(self.labels, device=states.device)).float()}


def _injected(model: VisionLanguageModel, z: Tensor, before: int) -> Any:
    """What the layers are given behind so many tokens."""
    if model.settings.injection == "C":
        return nullcontext()
    return added_to_tokens(model.network, model.adapters, z, slice(before, before + model.settings.visual_tokens))


def collate_seen(pairs: Sequence[IdPair], features: Tensor, pad_id: int) -> dict[str, Tensor]:
    """A micro-batch: prefixes (N, P) filled up on the left, suffixes (N, S) on the right, and which are tokens."""
    device = features.device
    turned = pad_right([prefix[::-1] for prefix, _ in pairs], pad_id, device)
    suffix = pad_right([own for _, own in pairs], pad_id, device)
    lengths = [torch.tensor([len(pair[side]) for pair in pairs], device=device)[:, None] for side in (0, 1)]
    places = [torch.arange(ids.shape[1], device=device)[None] for ids in (turned, suffix)]
    seen = [(place < length).long() for place, length in zip(places, lengths, strict=True)]
    return {"prefix": turned.flip(1), "prefix_seen": seen[0].flip(1), "suffix": suffix, "suffix_seen": seen[1],
            "features": features}  # fmt: skip


def seen_logits(
    model: VisionLanguageModel, pairs: Sequence[IdPair], features: Tensor, labels: Sequence[int],
    chunk: int | None = None,
) -> Tensor:  # fmt: skip
    """Label logits (N, L) in the order of the pairs, float32 on the CPU; each distinct prefix is read once.

    features: (N, count, dimension), zeros for an item without a picture. Raises ValueError for a prompt that lacks one
    of its two parts.
    """
    device = model.lm.device
    tokens = torch.tensor(list(labels), device=device)
    groups, rest = by_prefix_length(pairs)
    if rest:
        raise ValueError("a prompt has no part of its query or of its item")
    found = torch.empty(len(pairs), len(tokens))
    longest = max((len(p) + len(s) for p, s in pairs), default=0) + model.settings.visual_tokens
    size = chunk or rows_at_once(device, longest)
    lengths = [len(suffix) for _, suffix in pairs]
    with evaluating(model), autocast(model.lm.precision, device):
        for group in groups:
            for prefixes in blocks(list(group), size):
                cache = prefill(model.network, prefixes, device)
                place = {prefix: number for number, prefix in enumerate(prefixes)}
                rows = [i for prefix in prefixes for i in group[prefix]]
                for part in chunks_by_length(rows, lengths, size):
                    behind = [place[pairs[i][0]] for i in part]
                    z = model.resampler(features[part].to(device))
                    logits = _behind(model, cache, behind, len(prefixes[0]), [pairs[i][1] for i in part], z, tokens)
                    found[part] = logits.cpu()
    return found


def _behind(
    model: VisionLanguageModel, cache: DynamicCache, behind: Sequence[int], start: int,
    suffixes: Sequence[Sequence[int]], z: Tensor, tokens: Tensor,
) -> Tensor:  # fmt: skip
    """Label logits (n, L) of pictures and suffixes behind P cached prefixes of `start` tokens. The cache stays."""
    network, visual = model.network, model.settings.visual_tokens
    chosen = copy.deepcopy(cache)  # the forward appends to it in place
    chosen.batch_select_indices(torch.tensor(list(behind), device=z.device))
    ids = pad_right(suffixes, model.lm.pad_id, z.device, even_width(network, suffixes, start + visual))
    text = network.get_input_embeddings()(ids)
    inputs = torch.cat([model.adapters.state(0, z).to(text.dtype), text], dim=1)
    where = positions(start, inputs.shape[1], z.device, network).expand(len(inputs), -1)
    with _injected(model, z, 0):
        states = cached_states(network, chosen, inputs_embeds=inputs, position_ids=where)
    return head_logits(network, last_hidden(states[:, visual:], suffixes), tokens).float()
