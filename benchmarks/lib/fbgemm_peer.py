"""FBGEMM's static table on a CPU, in an environment of its own: reads one JSON line a turn, answers with one.

{"make": rule, "dim": D, "ids": H} -> {}   {"steps": FILE.npy} -> {"cpu": seconds, "wall": seconds} of (S, F, B) ids
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen

RULES = {
    "row-wise Adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "Adagrad": EmbOptimType.EXACT_ADAGRAD,
    "SGD": EmbOptimType.EXACT_SGD,
}
FEATURES, BATCH, LR = 26, 2048, 0.01


def stepper(rule: str, dim: int, ids: int) -> Callable[[torch.Tensor], None]:
    """One forward and backward, in which FBGEMM updates the rows too."""
    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(ids, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)] * FEATURES,
        optimizer=RULES[rule],
        learning_rate=LR,
        eps=1e-10,
    )
    gradient = torch.randn(BATCH, FEATURES * dim, generator=torch.Generator().manual_seed(1))
    offsets = torch.arange(FEATURES * BATCH + 1)

    def step(batch: torch.Tensor) -> None:
        table(batch.reshape(-1), offsets).backward(gradient)

    return step


def main() -> None:
    torch.set_num_threads(1)
    step: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {}
        if "make" in asked:
            step = stepper(asked["make"], asked["dim"], asked["ids"])
        else:
            batches = [torch.from_numpy(batch) for batch in np.load(asked["steps"])]
            cpu, wall = time.process_time(), time.perf_counter()
            for batch in batches:
                step(batch)
            answer = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print("ANSWER " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
