"""Completions from a vLLM server beside the training, which gets the policy's weights before every sampling.

The server is a plain `vllm serve FOLDER`, with VLLM_SERVER_DEV_MODE=1 for two of its routes:

POST /v1/completions      token ids in, n samples out, with token ids (vLLM 0.10.2) and log probabilities
POST /collective_rpc      {"method": "reload_weights"}: every worker reads FOLDER again, where the new weights now are
POST /reset_prefix_cache  keys and values of the old weights are dropped
GET  /v1/models           the name that it serves under
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.extras import require
from goodrate.models.adapter import merged_state
from goodrate.models.causal_lm import CausalLM
from goodrate.models.completion_forward import CompletionBatch, completion_logprobs
from goodrate.models.decoding import Completion, row_seeds
from goodrate.models.precision import autocast, evaluating

log = logging.getLogger(__name__)
PROBED = 8  # completions whose log probabilities are compared after the weights were handed over
NO_FILTER = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}


class VllmSettings(BaseModel):
    """A vLLM server that samples in place of the policy."""

    model_config = ConfigDict(extra="forbid")
    server: str = Field(description="address of `vllm serve FOLDER`, such as http://127.0.0.1:8000")
    folder: str = Field(description="the FOLDER that it serves; the policy's weights are written there")
    warn_gap: float = Field(default=0.03, gt=0, description="mean gap of log probabilities per token to warn at")
    refuse_gap: float = Field(default=0.3, gt=0, description="and to stop at: the server samples from another policy")
    timeout: float = Field(default=600.0, gt=0, description="seconds for an answer")
    at_once: int = Field(default=64, gt=0, description="prompts under way together; the server batches them")


class VllmSampler:
    """models.decoding's contract over HTTP. What it samples agrees with the policy in distribution, not in its bits."""

    def __init__(self, settings: VllmSettings, model: CausalLM) -> None:
        """model: the policy in training. Raises MissingExtra, OSError where no server answers, and FileNotFoundError
        where the folder is no model's.
        """
        require("teacher", "rollouts.vllm")
        import httpx

        self._settings, self._model, self._unchecked = settings, model, True
        self._folder = Path(settings.folder)
        if not (self._folder / "config.json").is_file():
            raise FileNotFoundError(f"rollouts.vllm.folder {self._folder}: no config.json; expected what vLLM serves")
        self._client = httpx.Client(base_url=settings.server.rstrip("/"), timeout=settings.timeout)
        served = self._asked("GET", "/v1/models").get("data") or [{}]
        self._name = served[0].get("id")

    def take_weights(self) -> None:
        """Write the policy's weights, adapter merged, where the server reads them, and have it read them."""
        if _rank() == 0:
            self._write()
            self._asked("POST", "/collective_rpc", {"method": "reload_weights"})
            self._asked("POST", "/reset_prefix_cache")
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        self._unchecked = True

    def _write(self) -> None:
        """Every file of the weights in the place of the old one, whole."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".taken.") as beside:
            network = self._model.network
            network.save_pretrained(beside, state_dict=merged_state(network))
            for path in Path(beside).glob("*.safetensors*"):
                os.replace(path, self._folder / path.name)

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop_token_id: int | None, temperature: float = 0.0,
        seed: int | Sequence[int] = 0, batch_size: int = 64,
    ) -> list[Completion]:  # fmt: skip
        """Equal prompts that stand together are one request, whose first seed is the server's for all of them.

        Raises OSError where the server fails, ValueError where its log probabilities are not the policy's.
        """
        seeds, start = row_seeds(seed, len(prompts)), 0
        bodies = []
        for prompt, rows in groupby(map(tuple, prompts)):
            count = len(list(rows))
            bodies.append(self._body(prompt, count, max_new_tokens, stop_token_id, temperature, seeds[start]))
            start += count
        with ThreadPoolExecutor(self._settings.at_once) as pool:
            answers = list(pool.map(lambda body: self._asked("POST", "/v1/completions", body), bodies))
        written = [self._read(choice, stop_token_id) for answer in answers for choice in _in_order(answer)]
        if len(written) != len(prompts):
            raise OSError(f"{self._settings.server}: {len(written)} completions for {len(prompts)} prompts")
        if self._unchecked:
            self._unchecked = False
            self._check(prompts, written, temperature)
        return written

    def _body(
        self, prompt: tuple[int, ...], count: int, room: int, stop: int | None, temperature: float, seed: int
    ) -> dict[str, Any]:
        return {
            "model": self._name, "prompt": list(prompt), "n": count, "max_tokens": room, "temperature": temperature,
            "seed": seed, "logprobs": 1, "return_token_ids": True, "ignore_eos": True, "skip_special_tokens": False,
            "stop_token_ids": [] if stop is None else [stop], **NO_FILTER,
        }  # fmt: skip

    def _read(self, choice: dict[str, Any], stop: int | None) -> Completion:
        """A choice as a completion. OSError where the server left something out."""
        tokens, given = choice.get("token_ids"), choice.get("logprobs") or {}
        values = given.get("token_logprobs")
        if not tokens or not values or len(values) != len(tokens):
            raise OSError(
                f"{self._settings.server}: no token ids with log probabilities in its answer; vLLM 0.10.2 or newer"
            )
        ended = tokens[-1] == stop
        kept = tokens[:-1] if ended else tokens
        text = str(self._model.tokenizer.decode(kept))
        return Completion(tuple(tokens), text, "stop" if ended else "length", tuple(values))

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON object, empty where there is none. OSError with the server's words otherwise."""
        import httpx

        address = f"rollouts.vllm.server {self._settings.server}"
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise OSError(f"{address}{path}: no answer ({type(error).__name__}); start `vllm serve`") from error
        if answer.status_code == 404 and not path.startswith("/v1"):
            raise OSError(f"{address} has no {path}: start it with VLLM_SERVER_DEV_MODE=1")
        if answer.status_code >= 400:
            raise OSError(f"{address}{path}: {answer.status_code} {answer.text[:200]}")
        found = answer.json() if answer.content else {}
        return found if isinstance(found, dict) else {}

    def _check(self, prompts: Sequence[list[int]], written: Sequence[Completion], temperature: float) -> None:
        """Compare log probabilities of a few completions with the policy's own of the same tokens."""
        step = -(-len(written) // PROBED)
        rows = range(0, len(written), step)
        gap = logprob_gap(self._model, [prompts[row] for row in rows], [written[row] for row in rows], temperature)
        if gap <= self._settings.warn_gap:
            return
        says = (
            f"{self._settings.server}: log probabilities of what it sampled are {gap:.3f} a token off the policy's own"
        )
        if not gap <= self._settings.refuse_gap:
            raise ValueError(
                f"{says} (rollouts.vllm.refuse_gap = {self._settings.refuse_gap}): it serves another folder than "
                f"{self._folder}, or runs without --logprobs-mode processed_logprobs at temperature {temperature}"
            )
        log.warning("%s", says)


def logprob_gap(
    model: CausalLM, prompts: Sequence[list[int]], completions: Sequence[Completion], temperature: float
) -> float:
    """Mean absolute gap, per token, between given log probabilities and the model's own of the same tokens."""
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(c.token_ids)) for c in completions], True).bool()
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(c.token_ids) for c in completions], True)
    given = torch.nn.utils.rnn.pad_sequence([torch.tensor(c.logprobs) for c in completions], True)
    device, rows = model.device, torch.arange(len(prompts))
    batch = CompletionBatch([tuple(prompt) for prompt in prompts], rows.to(device), ids.to(device), mask.to(device))
    with evaluating(model.network), autocast(model.precision, device):
        own, _ = completion_logprobs(model.network, batch, temperature or 1.0, "plain")
    return float((own.cpu() - given)[mask].abs().mean())


def _in_order(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(answer.get("choices") or [], key=lambda choice: choice.get("index", 0))


def _rank() -> int:
    on = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if on else 0
