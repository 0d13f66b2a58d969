"""Judging many items of one query: the query's prefix computed once, against the same network without sharing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodrate.models import label_forward
from goodrate.models.label_forward import IdPair
from goodrate.models.precision import autocast, evaluating
from speed_measure import Arm, Measurement, call_sample, interleave, ratio, significant, summaries

ITEMS, PREFIX, SUFFIX, LABELS = 100, 120, 80, 4
IDEAL = ITEMS * (PREFIX + SUFFIX) / (PREFIX + ITEMS * SUFFIX)  # tokens computed without and with sharing
TARGET = 2.0
CHUNKS = (label_forward.CHUNK, 100)
VOCABULARY = 2048
# Five million parameters; init 0.1 instead of 0.02, so that a fault would show in the logits.
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
    "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip


def random_network() -> Any:
    """A Qwen3 of CONFIG with random weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**CONFIG))


def random_pairs() -> list[IdPair]:
    """One prefix, ITEMS suffixes."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (ITEMS + 1, max(PREFIX, SUFFIX))).tolist()
    return [(tuple(ids[0][:PREFIX]), tuple(row[:SUFFIX])) for row in ids[1:]]


def forwards(network: Any, precision: str) -> dict[str, Any]:
    """Arm -> a function without arguments that gives the logits (ITEMS, LABELS) of the same pairs."""
    pairs, tokens = random_pairs(), torch.arange(LABELS)

    def labels(share: bool, chunk: int) -> torch.Tensor:
        with evaluating(network), autocast(precision, "cpu"):
            return label_forward.label_logits(network, pairs, tokens, 0, share=share, chunk=chunk)

    def full_head() -> torch.Tensor:
        rows = [prefix + suffix for prefix, suffix in pairs]
        starts = range(0, ITEMS, label_forward.CHUNK)
        with evaluating(network), autocast(precision, "cpu"):
            parts = [rows[i : i + label_forward.CHUNK] for i in starts]
            return torch.cat([label_forward.plain_logits(network, part, tokens, 0) for part in parts])

    names = {True: "shared", False: "plain"}
    arms = {
        f"{names[share]}, {chunk} rows": partial(labels, share, chunk) for chunk in CHUNKS for share in (True, False)
    }
    return {**arms, "plain, logits of every token": full_head}


def differences(by_precision: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Largest difference of each arm's logits from the fp32 forward without sharing, and the logits' own spread."""
    truth = by_precision["fp32"]["plain, logits of every token"]()
    found = {
        precision: {name: significant(float((call() - truth).abs().max()), 3) for name, call in calls.items()}
        for precision, calls in by_precision.items()
    }
    return {**found, "logits": {"std": significant(float(truth.std()), 3)}}


def measure_judge(rounds: int, threads: int) -> Path:
    """All arms in both precisions, interleaved."""
    torch.set_num_threads(threads)
    network = random_network()
    command = f"python benchmarks/speed.py judge --rounds {rounds} --threads {threads}"
    result = Measurement("judge", command, threads)
    calls = {precision: forwards(network, precision) for precision in ("fp32", "bf16")}
    arms: dict[str, Arm] = {
        f"{precision}: {name}": partial(call_sample, call)
        for precision, part in calls.items()
        for name, call in part.items()
    }
    samples = interleave(arms, rounds)
    pairs = [(p, f"{p}: plain, {c} rows", f"{p}: shared, {c} rows") for p in calls for c in CHUNKS]
    speedups = {f"{shared} over {plain}": ratio(samples, plain, shared) for _, plain, shared in pairs}
    for precision in calls:
        fast = fastest(summaries(samples), precision)
        speedups[f"{precision}: fastest shared over fastest plain"] = ratio(samples, fast["plain"], fast["shared"])
    return result.keep(
        model={"parameters": sum(p.numel() for p in network.parameters()), **CONFIG}, ideal=significant(IDEAL, 3),
        target=TARGET, items=ITEMS, prefix_tokens=PREFIX, suffix_tokens=SUFFIX, labels=LABELS,
        attention=network.config._attn_implementation, arms=summaries(samples), speedups=speedups,
        largest_difference=differences(calls),
    )  # fmt: skip


def fastest(found: dict[str, dict[str, Any]], precision: str) -> dict[str, str]:
    """ "plain" and "shared" -> the arm of that kind with the lowest median of processor time."""
    arms = [f"{precision}: {kind}, {chunk} rows" for kind in ("plain", "shared") for chunk in CHUNKS]
    cost = {arm: found[arm]["cpu"]["median"] for arm in arms}
    return {
        kind: min((arm for arm in arms if f": {kind}" in arm), key=cost.__getitem__) for kind in ("plain", "shared")
    }
