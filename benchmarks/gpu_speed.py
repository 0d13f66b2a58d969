"""What gpu_check.py times: an update of GRPO beside TRL, judging by label, encoding, and the log-probability kernel."""

from __future__ import annotations

import gc
import random
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch

import speed_logprobs
import speed_policy
from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.models.precision import default_device
from lib.timing import ratio, significant, spread
from lib.trl_peer import word_tokenizer

Result = dict[str, Any]


def seconds(call: Callable[[], object], rounds: int) -> list[float]:
    """Wall seconds of each round after one that is not kept."""
    taken = []
    for _ in range(rounds + 1):
        start = speed_policy.now()
        call()
        taken.append(speed_policy.now() - start)
    return taken[1:]


def policy(model: str, rounds: int, rows: int) -> Result:
    """Seconds of a GRPO update (8 prompts of 256, groups of 8, 64 tokens, bf16), ours and TRL's in turn where it is."""
    speed_policy.DEVICE = default_device()
    case = speed_policy.Case(model, 256, 64, 8, "bf16", rows)
    arms = ("trl", "split") if find_spec("trl") and find_spec("datasets") else ("split",)
    if "trl" in arms:
        taken, parts = speed_policy.in_turn(case, rounds, arms)
    else:
        ours = speed_policy.Ours(case, "split")
        runs = [ours.step() for _ in range(rounds + 1)][1:]
        taken, parts = {"split": runs}, {"split": ours.parts[1:]}
    memory = _memory(case, arms) if speed_policy.DEVICE.type == "cuda" else {}
    results: Result = {
        "wall": {arm: spread([run.wall for run in runs], 4) for arm, runs in taken.items()},
        "parts": {n: spread([part[n] for part in parts["split"]], 4) for n in ("sampling", "learning")},
        "peak_mib": memory,
    }
    if "trl" in arms:
        results["trl_over_ours"] = ratio(taken, "trl", "split")["wall"]
    return {**results, "case": vars(case), "vocabulary": speed_policy.words_of(case), "prompts": speed_policy.PROMPTS}


def _memory(case: speed_policy.Case, arms: tuple[str, ...]) -> dict[str, float | None]:
    """Peak MiB on the device of two updates, each arm alone, weights, gradients and AdamW's state included."""

    def trl() -> None:
        with tempfile.TemporaryDirectory() as folder:
            speed_policy.trl_trainer(case, Path(folder), 2).train()

    def split() -> None:
        ours = speed_policy.Ours(case, "split")
        ours.step(), ours.step()

    peaks = {}
    for arm in arms:
        gc.collect()
        torch.cuda.empty_cache()
        peaks[arm] = _peak({"trl": trl, "split": split}[arm])
    return peaks


def judging(items: int, rounds: int, big: bool) -> Result:
    """Pairs per second by label: so many items of one query, prompts of 120 shared and 80 own tokens."""
    speed_policy.DEVICE = default_device()
    models = {"nano": CausalLM.load(nano_folder())}
    if big:
        case = speed_policy.Case("0.6B", 0, 0, 0, "bf16", 0)
        models["0.6B"] = CausalLM(speed_policy.network(case), word_tokenizer(speed_policy.words_of(case)))
    results: Result = {}
    for name, model in models.items():
        draw = random.Random(0)
        limit = min(len(model.tokenizer), 4000)
        prefix = [draw.randrange(5, limit) for _ in range(120)]
        asked = [
            (_text(model, prefix), _text(model, [draw.randrange(5, limit) for _ in range(80)])) for _ in range(items)
        ]
        for chunk in (20, 100, 400):
            if chunk <= max(items, 20):
                taken = seconds(lambda m=model, c=chunk: m.label_logits(asked, [5, 6, 7, 8], chunk=c), rounds)  # type: ignore[misc]  # noqa: B023
                results[f"{name}, chunks of {chunk}"] = spread([items / one for one in taken], 4)
        results[f"{name}, precision"] = model.precision
    return results


def _text(model: CausalLM, ids: list[int]) -> str:
    return str(model.tokenizer.decode(ids))


def encoding(items: int, rounds: int) -> Result:
    """Items per second of an encoder of MiniLM's shape (6 layers, 384 wide, random) over texts of some 60 tokens."""
    speed_policy.DEVICE = default_device()
    draw = random.Random(0)
    texts = [
        " ".join(
            draw.choice(("red lamp", "steel table 40 cm", "blue wool", "chair")) for _ in range(draw.randint(8, 24))
        )
        for _ in range(items)
    ]
    results: Result = {}
    for precision in ("fp32", "bf16"):
        encoder = Encoder.create(nano_folder() / "tokenizer.json", 384, 6, 12)
        encoder.precision = precision
        for batch in (32, 256):
            taken = seconds(lambda e=encoder, b=batch: e.encode_items(texts, b), rounds)  # type: ignore[misc]
            results[f"{precision}, batches of {batch}"] = spread([items / one for one in taken], 4)
    return results


def logprobs() -> Result:
    """The log-probability kernel (head, softmax, entropy; forward and backward) beside all logits at once."""
    device, sizes = default_device().type, product(((151_936, 1024), (262_144, 640)), (512, 4096), ("fp32", "bf16"))
    cases = [speed_logprobs.Case(*head, rows, precision, device) for head, rows, precision in sizes]
    return {case.name: speed_logprobs.measured(case, 5) for case in cases}


def _peak(call: Callable[[], object]) -> float | None:
    """MiB over what lay on the device before; None without a GPU."""
    if speed_policy.DEVICE.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return significant((torch.cuda.max_memory_allocated() - before) / 2**20, 4)
