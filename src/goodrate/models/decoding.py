"""Decoding many prompts at once: each distinct prompt is read once, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodrate.models.cached_forward import cached_states
from goodrate.models.head import head_logits
from goodrate.models.shared_prefix import Prefill, SharedPrefix, fits, prefill, states_behind
from goodrate.models.steps import step_done

BATCH = 64  # rows decoded together
BLOCK = 512  # words that are summed together
KEPT = 0.75  # share of a batch's rows still being written at which the others are dropped


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


def choose(logits: Tensor, draws: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The next token of each row and its log probability, from logits (N, V) and one uniform draw per row (N,).

    Sampling inverts the cumulative distribution, summed in float64: one number per row and step decides, so a row's
    tokens do not depend on who shares its batch. Words are summed in blocks first: a vocabulary of 262,000 is then
    read three times and not seven.
    """
    scores = logits.float()
    scores = scores if temperature in (0, 1) else scores / temperature
    best = scores.amax(-1, keepdim=True)
    blocks = _in_blocks(scores, best)
    sums = blocks.sum(-1, dtype=torch.float64)
    if temperature == 0:
        tokens = scores.argmax(dim=-1)
    else:
        targets = torch.as_tensor(draws, dtype=torch.float64, device=logits.device)[:, None]
        tokens = _inverted(blocks, sums, targets).clamp(max=scores.shape[1] - 1)
    logprobs = (scores.gather(1, tokens[:, None]) - best)[:, 0].double() - sums.sum(-1).log()
    return tokens.cpu().numpy(), logprobs.cpu().numpy()


def _in_blocks(scores: Tensor, best: Tensor) -> Tensor:
    """exp(scores - best) as (N, blocks, BLOCK); what fills the last block is 0."""
    rows, words = scores.shape
    size = min(words, BLOCK)
    weights = scores.new_zeros(rows, -(-words // size) * size)
    torch.sub(scores, best, out=weights[:, :words])
    weights[:, :words].exp_()
    return weights.view(rows, -1, size)


def _inverted(blocks: Tensor, sums: Tensor, share: Tensor) -> Tensor:
    """The word (N,) at which the weights so far pass this share (N, 1) of all: the block first, then in it."""
    reached = sums.cumsum(-1)
    target = share * reached[:, -1:]
    block = torch.searchsorted(reached, target, right=True).clamp(max=sums.shape[1] - 1)
    before = reached.gather(1, block) - sums.gather(1, block)
    inside = blocks.gather(1, block[..., None].expand(-1, 1, blocks.shape[2]))[:, 0].cumsum(-1, dtype=torch.float64)
    word = torch.searchsorted(inside, target - before, right=True).clamp(max=blocks.shape[2] - 1)
    return (block * blocks.shape[2] + word)[:, 0]


def _draws(seeds: Sequence[int], settings: DecodeSettings) -> np.ndarray:
    """The uniform numbers (N, max_new_tokens) of the rows; zeros, never looked at, when greedy."""
    if settings.temperature == 0:
        return np.zeros((len(seeds), settings.max_new_tokens))
    return np.stack([np.random.default_rng(seed).random(settings.max_new_tokens) for seed in seeds])


@dataclass
class _Written:
    """What N rows wrote so far: tokens and log probabilities (N, C), lengths (N,), which met the stop token (N,)."""

    tokens: np.ndarray
    logprobs: np.ndarray
    lengths: np.ndarray
    stopped: np.ndarray

    @classmethod
    def empty(cls, rows: int, room: int) -> _Written:
        """Nothing yet."""
        return cls(np.zeros((rows, room), int), np.zeros((rows, room)), np.zeros(rows, int), np.zeros(rows, bool))

    def add(self, rows: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray, stop: int | None) -> None:
        """A token of each of these rows."""
        at = self.lengths[rows]
        self.tokens[rows, at], self.logprobs[rows, at] = tokens, logprobs
        self.lengths[rows] += 1
        if stop is not None:
            self.stopped[rows] = tokens == stop

    def row(self, i: int) -> tuple[list[int], list[float], str]:
        """Token ids, log probabilities and finish reason of a row."""
        end = self.lengths[i]
        return self.tokens[i, :end].tolist(), self.logprobs[i, :end].tolist(), "stop" if self.stopped[i] else "length"


class _SharedRows:
    """Rows behind prompts whose keys are kept once; the usual way."""

    def __init__(self, network: Any, read: Prefill, row: Tensor, room: int) -> None:
        self._network = network
        self._prefix = SharedPrefix(read, row, room)
        self._lengths = read.lengths[row]

    def keep(self, index: Tensor) -> None:
        """Drop all other rows."""
        self._prefix.keep(index)
        self._lengths = self._lengths[index]

    def feed(self, tokens: Tensor) -> Tensor:
        """One token per row (N,) -> final states (N, D)."""
        states = states_behind(self._network, self._prefix, tokens[:, None], self._lengths)
        self._prefix.advance()
        self._lengths = self._lengths + 1
        return states[:, -1]


class _CopiedRows:
    """Rows that each have a copy of their prompt's cache: any model of Hugging Face's."""

    def __init__(self, network: Any, read: Prefill, row: Tensor, room: int) -> None:
        self._network, self._cache = network, read.cache
        self._cache.batch_select_indices(row)
        self._mask, self._lengths = read.seen[row], read.lengths[row]

    def keep(self, index: Tensor) -> None:
        """Drop all other rows."""
        self._mask, self._lengths = self._mask[index], self._lengths[index]
        self._cache.batch_select_indices(index)

    def feed(self, tokens: Tensor) -> Tensor:
        """One token per row (N,) -> final states (N, D)."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        states = cached_states(
            self._network,
            self._cache,
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._lengths[:, None],
        )
        self._lengths = self._lengths + 1
        return states[:, -1]


def _write(
    network: Any, prompts: Sequence[tuple[int, ...]], draws: np.ndarray, settings: DecodeSettings, device: torch.device
) -> _Written:
    """Continue every prompt until it meets the stop token or the length. Equal prompts are read once.

    Rows that have stopped are fed on, unread, until a quarter of the batch has: dropping rows copies the others' keys.
    """
    written = _Written.empty(len(prompts), settings.max_new_tokens)
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    row = torch.tensor([place[prompt] for prompt in prompts], device=device)
    read = prefill(network, list(place), settings.pad_id, device)
    rows_kind = _SharedRows if fits(network, device) else _CopiedRows
    going = rows_kind(network, read, row, settings.max_new_tokens)
    logits = head_logits(network, read.last, exact=True)[row]
    rows = np.arange(len(prompts))  # those still in the batch
    for step in range(settings.max_new_tokens):
        tokens, logprobs = choose(logits, draws[rows, step], settings.temperature)
        open_ = ~written.stopped[rows]
        written.add(rows[open_], tokens[open_], logprobs[open_], settings.stop_token_id)
        open_ = ~written.stopped[rows]
        if not open_.any() or step + 1 == settings.max_new_tokens:
            break
        step_done()
        if open_.mean() <= KEPT:
            rows, tokens = rows[open_], tokens[open_]
            going.keep(torch.from_numpy(open_.nonzero()[0]).to(device))
        logits = head_logits(network, going.feed(torch.from_numpy(tokens).to(device)), exact=True)
    return written


def decode(
    network: Any,
    prompts: Sequence[tuple[int, ...]],
    settings: DecodeSettings,
    seed: int | Sequence[int],
    device: torch.device,
    batch_size: int = BATCH,
) -> list[tuple[list[int], list[float], str]]:
    """Token ids, log probabilities and finish reason per prompt, in the order of the prompts."""
    draws = _draws(row_seeds(seed, len(prompts)), settings)
    completions: dict[int, tuple[list[int], list[float], str]] = {}
    padless = has_sliding_window(network) and not fits(network, device)
    for part in batches(prompts, batch_size, padless):
        written = _write(network, [prompts[i] for i in part], draws[part], settings, device)
        completions |= {i: written.row(n) for n, i in enumerate(part)}
    return [completions[i] for i in range(len(prompts))]
