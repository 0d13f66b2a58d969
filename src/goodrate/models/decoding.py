"""Decoding many prompts at once: each distinct prompt is read once, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from goodrate.models.head import head_logits
from goodrate.models.label_forward import pad_right

BATCH = 64  # rows decoded together


@dataclass(frozen=True)
class Completion:
    """What a model wrote. finish_reason: "stop" (the stop token came; it is the last id) or "length" (cut off).

    logprobs: per token, log softmax(logits / temperature) without any filter (temperature 1 when greedy): what the
    behaviour policy said of the token it chose.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    logprobs: tuple[float, ...] = ()


@dataclass
class _Row:
    """One prompt being continued; draws are its own uniform numbers, whatever batch it is in."""

    index: int
    draws: np.ndarray
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = "length"


@dataclass(frozen=True)
class DecodeSettings:
    """How to continue. stop_token_id None: only the length ends a row. temperature 0: the most probable token."""

    max_new_tokens: int
    stop_token_id: int | None
    temperature: float
    pad_id: int

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0:
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} must be >= 1 and temperature {self.temperature} >= 0"
            )


def row_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed per row: the given ones, or (seed, row number) mixed, so that rows never share their draws."""
    if isinstance(seed, int):
        return [int(np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0]) for row in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} prompts")
    return [int(s) for s in seed]


def has_sliding_window(network: Any) -> bool:
    """Whether some layer sees only a window: pads inside a row would then push real tokens out of sight."""
    config = network.config
    return "sliding_attention" in (getattr(config, "layer_types", None) or [])


def batches(prompts: Sequence[tuple[int, ...]], size: int, equal_lengths: bool) -> Iterator[list[int]]:
    """Prompt positions in batches, similar lengths (or only equal ones) together and equal prompts adjacent."""
    batch: list[int] = []
    for position in sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i], i)):
        full = len(batch) == size
        other = bool(batch) and equal_lengths and len(prompts[position]) != len(prompts[batch[0]])
        if full or other:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def choose(logits: Tensor, draws: np.ndarray, temperature: float) -> tuple[list[int], list[float]]:
    """The next token of each row and its log probability, from logits (N, V) and one uniform draw per row (N,).

    Sampling inverts the cumulative distribution in float64: one number per row and step decides, so a row's tokens do
    not depend on who shares its batch.
    """
    scores = logits.double() if temperature == 0 else logits.double() / temperature
    logprobs = torch.log_softmax(scores, dim=-1)
    if temperature == 0:
        tokens = logprobs.argmax(dim=-1)
    else:
        cumulative = logprobs.exp().cumsum(dim=-1)
        targets = torch.as_tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    return tokens.tolist(), logprobs.gather(1, tokens[:, None])[:, 0].tolist()


def _draws(seed: int, settings: DecodeSettings) -> np.ndarray:
    """The uniform numbers of one row (max_new_tokens,); zeros, never looked at, when greedy."""
    if settings.temperature == 0:
        return np.zeros(settings.max_new_tokens)
    return np.random.default_rng(seed).random(settings.max_new_tokens)


@dataclass
class _Batch:
    """The rows still being written: logits (N, V) of the next token, cache, key mask (N, K), lengths (N,)."""

    rows: list[_Row]
    logits: Tensor
    cache: DynamicCache
    mask: Tensor
    lengths: Tensor

    def keep(self, positions: list[int]) -> None:
        """Drop all other rows."""
        if len(positions) == len(self.rows):
            return
        index = torch.tensor(positions, device=self.mask.device)
        self.rows = [self.rows[i] for i in positions]
        self.mask, self.lengths = self.mask[index], self.lengths[index]
        self.cache.batch_select_indices(index)


def _read_prompts(
    network: Any, prompts: Sequence[tuple[int, ...]], rows: list[_Row], pad_id: int, device: torch.device
) -> _Batch:
    """Prefill. Equal prompts are read once and their cache is handed to each of their rows."""
    distinct = list(dict.fromkeys(prompts))
    ids = pad_right(distinct, pad_id, device)
    lengths = torch.tensor([len(p) for p in distinct], device=device)
    where = torch.arange(ids.shape[1], device=device)
    mask = (where[None] < lengths[:, None]).long()
    cache = DynamicCache(config=network.config)
    out = network.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=where[None].expand_as(ids),
        past_key_values=cache,
        use_cache=True,
    )
    last = out.last_hidden_state[torch.arange(len(distinct), device=device), lengths - 1]
    index = torch.tensor([distinct.index(p) for p in prompts], device=device)
    cache.batch_select_indices(index)
    return _Batch(rows, head_logits(network, last, exact=True)[index], cache, mask[index], lengths[index])


def _advance(network: Any, batch: _Batch, tokens: list[int]) -> None:
    """Feed one token per row."""
    device = batch.mask.device
    batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(tokens), 1)], dim=1)
    out = network.base_model(
        input_ids=torch.tensor(tokens, device=device)[:, None],
        attention_mask=batch.mask,
        position_ids=batch.lengths[:, None],
        past_key_values=batch.cache,
        use_cache=True,
    )
    batch.lengths = batch.lengths + 1
    batch.logits = head_logits(network, out.last_hidden_state[:, -1], exact=True)


def _write_batch(network: Any, batch: _Batch, settings: DecodeSettings) -> None:
    """Continue all rows until each met the stop token or the length."""
    for step in range(settings.max_new_tokens):
        draws = np.asarray([row.draws[step] for row in batch.rows])
        tokens, logprobs = choose(batch.logits, draws, settings.temperature)
        for row, token, logprob in zip(batch.rows, tokens, logprobs, strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.finish_reason = "stop" if token == settings.stop_token_id else "length"
        going = [i for i, row in enumerate(batch.rows) if row.finish_reason != "stop"]
        if not going or step + 1 == settings.max_new_tokens:
            return
        batch.keep(going)
        _advance(network, batch, [tokens[i] for i in going])


def decode(
    network: Any,
    prompts: Sequence[tuple[int, ...]],
    settings: DecodeSettings,
    seed: int | Sequence[int],
    device: torch.device,
    batch_size: int = BATCH,
) -> list[tuple[list[int], list[float], str]]:
    """Token ids, log probabilities and finish reason per prompt, in the order of the prompts."""
    seeds = row_seeds(seed, len(prompts))
    rows = [_Row(i, _draws(s, settings)) for i, s in enumerate(seeds)]
    for part in batches(prompts, batch_size, has_sliding_window(network)):
        batch = _read_prompts(network, [prompts[i] for i in part], [rows[i] for i in part], settings.pad_id, device)
        _write_batch(network, batch, settings)
    return [(row.token_ids, row.logprobs, row.finish_reason) for row in rows]
