"""Encoding item texts with MiniLM: bf16 autocast against fp32, and both against sentence-transformers' own encode."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chorus_data import minilm_folder
from goodrate.catalog.readers import read_catalog
from goodrate.models.encoder import Encoder
from goodrate.models.precision import autocast
from speed_measure import Arm, Measurement, call_sample, interleave, ratio, significant, summaries
from speed_store import items_file

TEXTS, BATCH = 192, 32
PRECISIONS = ("fp32", "bf16")


def encoders() -> dict[str, Any]:
    """Arm -> texts to vectors (N, D)."""
    from sentence_transformers import SentenceTransformer

    folder = minilm_folder()
    peer = SentenceTransformer(str(folder), device="cpu")

    def peer_encode(precision: str, texts: list[str]) -> np.ndarray:
        with autocast(precision, "cpu"):
            made = peer.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(made, dtype=np.float32)

    ours = {
        f"goodrate {p}": partial(Encoder.load(folder, precision=p).encode_items, batch_size=BATCH) for p in PRECISIONS
    }
    return {**ours, **{f"sentence-transformers {p}": partial(peer_encode, p) for p in PRECISIONS}}


def agreement(calls: dict[str, Any], texts: list[str]) -> dict[str, float]:
    """The lowest cosine of each arm's vectors to those of sentence-transformers in fp32."""
    truth = calls["sentence-transformers fp32"](texts)
    return {name: significant(float((call(texts) * truth).sum(axis=1).min()), 7) for name, call in calls.items()}


def measure_encode(rounds: int, threads: int) -> Path:
    """The four arms, interleaved."""
    torch.set_num_threads(threads)
    texts = read_catalog(items_file(1000)).text()[:TEXTS]
    calls = encoders()
    lengths = [len(row) for row in _tokens(texts)]
    result = Measurement("encode", f"python benchmarks/speed.py encode --rounds {rounds} --threads {threads}", threads)
    arms: dict[str, Arm] = {name: partial(call_sample, partial(call, texts)) for name, call in calls.items()}
    samples = interleave(arms, rounds)
    compared = [
        ("goodrate fp32", "goodrate bf16"),
        *((f"sentence-transformers {p}", f"goodrate {p}") for p in PRECISIONS),
    ]
    speedups = {f"{fast} over {slow}": ratio(samples, slow, fast) for slow, fast in compared}
    return result.keep(
        model={"name": "all-MiniLM-L6-v2", "parameters": _parameters()}, texts=TEXTS, batch=BATCH,
        tokens_per_text={"mean": round(float(np.mean(lengths)), 1), "max": max(lengths)},
        arms=summaries(samples), speedups=speedups,
        lowest_cosine_to_sentence_transformers_fp32=agreement(calls, texts),
    )  # fmt: skip


def _tokens(texts: list[str]) -> list[list[int]]:
    """Token ids of the texts, special tokens included."""
    encoder = Encoder.load(minilm_folder(), precision="fp32")
    return list(encoder.tokenizer(texts)["input_ids"])


def _parameters() -> int:
    """Of the network, without the pooling layer that is not used."""
    return sum(p.numel() for p in Encoder.load(minilm_folder(), precision="fp32").network.parameters())
