"""What gpu_check.py times of sampling by a vLLM server: the hand-over of weights, samples, and how far they agree."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import speed_policy
from goodrate.learning.vllm_sampler import VllmSampler, VllmSettings, logprob_gap
from goodrate.models.causal_lm import CausalLM
from goodrate.models.precision import default_device
from lib.timing import significant
from lib.trl_peer import word_tokenizer

STOP, ROOM, GROUP, PATIENCE = speed_policy.STOP, 64, 8, 180


def sampling(model: str = "0.6B", share: float = 0.3) -> dict[str, Any]:
    """Seconds to give a random Qwen3's weights to a server on this GPU and to sample 8 prompts of 256 tokens (groups of
    8, 64 tokens), beside our own sampling; and the gap of log probabilities a token, after each of two hand-overs.

    Skipped where vLLM is not installed. share: of the GPU's memory that the server takes.
    """
    if find_spec("vllm") is None:
        return {"status": "skipped", "why": "vllm is not installed"}
    speed_policy.DEVICE = default_device()
    case = speed_policy.Case(model, 256, ROOM, GROUP, "bf16", GROUP)
    policy = CausalLM(speed_policy.network(case), word_tokenizer(speed_policy.words_of(case)), "bf16")
    with tempfile.TemporaryDirectory() as folder:
        policy.save(folder)
        with served(Path(folder), share) as address:
            return measured(policy, VllmSettings(server=address, folder=folder, refuse_gap=9.0), case)


@contextmanager
def served(folder: Path, share: float) -> Iterator[str]:
    """The address of `vllm serve folder`, which ends with the block. RuntimeError with its last words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["vllm", "serve", str(folder), "--port", str(port), "--logprobs-mode", "processed_logprobs",
               "--gpu-memory-utilization", str(share), "--max-model-len", "1024", "--enforce-eager"]  # fmt: skip
    log = folder / "vllm.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env={**os.environ, "VLLM_SERVER_DEV_MODE": "1"}, stdout=out, stderr=out)
    try:
        for _ in range(PATIENCE):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise RuntimeError(f"vllm serve ended: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def measured(policy: CausalLM, settings: VllmSettings, case: speed_policy.Case) -> dict[str, Any]:
    """The numbers, against a server that answers."""
    sampler = VllmSampler(settings, policy)
    prompts = [list(ids) for ids in speed_policy.prompts(case, 0) for _ in range(case.group)]
    gaps, taken = [], {}
    for round_ in range(2):
        start = speed_policy.now()
        sampler.take_weights()
        taken["hand_over"] = speed_policy.now() - start
        start = speed_policy.now()
        written = sampler.generate(prompts, case.completion, STOP, 1.0, seed=round_)
        taken["vllm"] = speed_policy.now() - start
        gaps.append(logprob_gap(policy, prompts[:: case.group], written[:: case.group], 1.0))
        with torch.no_grad():
            for weight in policy.network.parameters():
                weight.mul_(1.02)
    start = speed_policy.now()
    policy.generate(prompts, case.completion, STOP, 1.0, seed=0)
    taken["ours"] = speed_policy.now() - start
    return {
        "seconds": {name: significant(value, 3) for name, value in taken.items()},
        "logprob_gap_a_token": [significant(gap, 2) for gap in gaps],
        "tokens": sum(len(completion.token_ids) for completion in written),
    }
