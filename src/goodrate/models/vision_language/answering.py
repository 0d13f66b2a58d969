"""Answers of a VisionLanguageModel: how probable each of some answers is, and what it writes by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from goodrate.models.cached_forward import cached_states
from goodrate.models.head import head_logits
from goodrate.models.label_forward import pad_right
from goodrate.models.precision import autocast, evaluating
from goodrate.models.shared_prefix import whole_cache
from goodrate.models.token_logprobs import token_logprobs
from goodrate.models.vision_language.model import VisionLanguageModel

BATCH = 64  # questions that are read side by side


class Reading:
    """Questions that have been read side by side, with what the next token is to be told.

    prompts: token ids with the start tokens. z: visual states (N, N_v, d_v), None for text alone.
    """

    def __init__(self, model: VisionLanguageModel, prompts: Sequence[Sequence[int]], z: Tensor | None) -> None:
        self.model, self._z = model, z
        device, visual = model.lm.device, 0 if z is None else model.visual_places
        self.lengths = torch.tensor([len(prompt) + visual for prompt in prompts], device=device)
        ids = pad_right([tuple(prompt) for prompt in prompts], model.lm.pad_id, device)
        self.cache = whole_cache(model.network.config)
        where = torch.arange(ids.shape[1] + visual, device=device)
        self.seen = (where < self.lengths[:, None]).long()
        inputs = {"input_ids": ids} if z is None else {"inputs_embeds": model.embedded(ids, z)}
        places = where.expand(len(prompts), -1)
        states = self._run(model.settings.injection == "A", **inputs, attention_mask=self.seen, position_ids=places)
        self.last = states[torch.arange(len(prompts), device=device), self.lengths - 1]

    def _run(self, adds: bool, **inputs: Tensor) -> Tensor:
        """Final states of further tokens. adds: whether visual tokens are among them, for injection A."""
        model = self.model
        if self._z is None and model.lora:
            with model.lora.off():
                return cached_states(model.network, self.cache, **inputs)
        if self._z is None or (model.settings.injection == "A" and not adds):
            return cached_states(model.network, self.cache, **inputs)
        with model.seen(self._z):
            return cached_states(model.network, self.cache, **inputs)

    def select(self, rows: Tensor) -> None:
        """Go on with these questions, (M,), some of them maybe several times."""
        self.cache.batch_select_indices(rows)
        self.lengths, self.seen, self.last = self.lengths[rows], self.seen[rows], self.last[rows]
        self._z = None if self._z is None else self._z[rows]

    def feed(self, ids: Tensor) -> Tensor:
        """Final states (N, T, w) of tokens (N, T) behind what has been read."""
        places = self.lengths[:, None] + torch.arange(ids.shape[1], device=ids.device)
        self.seen = torch.cat([self.seen, torch.ones_like(ids)], dim=1)
        states = self._run(False, input_ids=ids, attention_mask=self.seen, position_ids=places)
        self.lengths = self.lengths + ids.shape[1]
        return states


def _z(model: VisionLanguageModel, features: Tensor | None, rows: Sequence[int]) -> Tensor | None:
    return None if features is None else model.resampler(features[list(rows)].to(model.lm.device))


def _batches(
    model: VisionLanguageModel, prompts: Sequence[Sequence[int]], further: int, batch: int
) -> Iterator[list[int]]:
    """Rows that are read side by side, by length. Of one length alone where a layer's window is shorter than what is
    read: it counts the pads between a question and its answer as tokens."""
    longest = max(map(len, prompts), default=0) + model.visual_places + further
    window = getattr(model.network.config, "sliding_window", None)
    alone = window is not None and window < longest
    part: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row])):
        if len(part) == batch or (part and alone and len(prompts[part[0]]) != len(prompts[row])):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def answer_logprobs(
    model: VisionLanguageModel, prompts: Sequence[Sequence[int]], features: Tensor | None,
    answers: Sequence[Sequence[Sequence[int]]], batch: int = BATCH,
) -> list[Tensor]:  # fmt: skip
    """log p(answer | picture, question) of each answer to each question, natural, summed over the answer's tokens.

    prompts: N questions as token ids. features: (N, count, dimension), None for text alone. answers: for each question
    the token ids of its answers, ends included. N tensors (answers,) float32 on the CPU. Each question is read once.
    """
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    longest = max((len(answer) for own in answers for answer in own), default=0)
    with evaluating(model), autocast(model.lm.precision, model.lm.device):
        for rows in _batches(model, prompts, longest, batch):
            read = Reading(model, [prompts[row] for row in rows], _z(model, features, rows))
            for row, values in zip(rows, _answers(read, [answers[row] for row in rows]), strict=True):
                found[row] = values
    return found


def _answers(read: Reading, answers: Sequence[Sequence[Sequence[int]]]) -> list[Tensor]:
    """Of the questions of one batch: first tokens from the questions' last states, the others behind copies of them."""
    network, device = read.model.network, read.last.device
    row = torch.tensor([n for n, own in enumerate(answers) for _ in own], device=device)
    every = [tuple(answer) for own in answers for answer in own]
    ids = pad_right(every, 0, device)
    lengths = torch.tensor([len(answer) for answer in every], device=device)
    first = torch.log_softmax(head_logits(network, read.last, exact=True).float(), -1)
    total = first[row, ids[:, 0]]
    if ids.shape[1] > 1:
        read.select(row)
        states = read.feed(ids[:, :-1])
        scored = torch.arange(1, ids.shape[1], device=device) < lengths[:, None]
        said, _ = token_logprobs(network, states[scored], ids[:, 1:][scored], 1.0)
        total = total + torch.zeros(scored.shape, device=device).masked_scatter(scored, said.float()).sum(1)
    return list(total.float().cpu().split([len(own) for own in answers]))


def write(
    model: VisionLanguageModel, prompts: Sequence[Sequence[int]], features: Tensor | None, max_new_tokens: int = 24,
    batch: int = BATCH,
) -> list[str]:  # fmt: skip
    """What the model answers to each question, always its most probable next token; see answer_logprobs."""
    texts = [""] * len(prompts)
    with evaluating(model), autocast(model.lm.precision, model.lm.device):
        for rows in _batches(model, prompts, max_new_tokens, batch):
            read = Reading(model, [prompts[row] for row in rows], _z(model, features, rows))
            for row, tokens in zip(rows, _greedy(read, max_new_tokens).tolist(), strict=True):
                kept = tokens[: tokens.index(model.stop_id)] if model.stop_id in tokens else tokens
                texts[row] = str(model.lm.tokenizer.decode(kept)).strip()
    return texts


def _greedy(read: Reading, max_new_tokens: int) -> Tensor:
    """Tokens (N, T); behind a row's stop token stands whatever came of it."""
    written, stopped = [], torch.zeros(len(read.last), dtype=torch.bool, device=read.last.device)
    state = read.last
    for place in range(max_new_tokens):
        token = head_logits(read.model.network, state).argmax(-1)
        written.append(token)
        stopped |= token == read.model.stop_id
        if bool(stopped.all()) or place == max_new_tokens - 1:
            break
        state = read.feed(token[:, None])[:, -1]
    return torch.stack(written, dim=1)
