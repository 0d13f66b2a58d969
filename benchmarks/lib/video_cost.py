"""What an update of Gran-DPO costs, by frames and grid: processor time, and what the graph keeps."""

from __future__ import annotations

import json
import time

import numpy as np
import torch

from goodrate.content.generator import VideoShape
from goodrate.content.video_generator import new_generator
from goodrate.learning.fit import accumulate
from goodrate.learning.video_terms import PairedErrors, VideoTermSettings, video_terms
from goodrate.recipes.clip_pairs import ClipPairs, PairSource
from goodrate.recipes.video_dpo import frozen
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, hardware
from lib.tables import markdown

COST_FILE = RESULTS / "video_cost.json"
COST_PAIRS, COST_REPEATS, SIZE, GRID = 2, 3, 16, 2


def measure_cost() -> None:
    """Write COST_FILE."""
    torch.set_num_threads(1)
    cases = [(frames, GRID) for frames in (4, 8, 16)] + [(8, grid) for grid in (1, 4)]
    rows = [_cost(frames, grid) for frames, grid in cases]
    told = {"pairs": COST_PAIRS, "size": SIZE, "rows": rows, "hardware": hardware(), **code_versions()}
    write_atomic(COST_FILE, json.dumps(told, indent=1) + "\n")


def _cost(frames: int, grid: int) -> dict[str, float]:
    """The least processor time of some updates, and what their graph keeps."""
    shape = VideoShape(frames=frames, size=SIZE, width=96, caption_length=16)
    generator = new_generator(shape, 0)
    model = PairedErrors(generator, frozen(generator), grid)
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 255, (2, COST_PAIRS, frames, SIZE, SIZE, 3)).astype(np.uint8)
    sign, weight = np.ones((COST_PAIRS, grid * grid), np.float32), np.ones((COST_PAIRS, grid * grid), np.float32)
    pairs = ClipPairs(clips[0], clips[1], ("red lamp",) * COST_PAIRS, sign, weight)
    terms = video_terms(VideoTermSettings())
    source = PairSource(generator, pairs, terms, batch_size=COST_PAIRS, micro_pairs=COST_PAIRS, seed=0, epochs=1)
    update = source.next(0)
    assert update is not None
    seconds, kept = [], 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    for _ in range(COST_REPEATS):
        kept, start = 0, time.process_time()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            accumulate(model, update, lambda loss: loss.backward())
        seconds.append(time.process_time() - start)
    return {"frames": frames, "grid": grid, "cpu_seconds": round(min(seconds), 3), "graph_mb": round(kept / 2**20, 1)}


def cost_table() -> list[str]:
    """The table of COST_FILE, none where it is not there."""
    if not COST_FILE.is_file():
        return []
    told = json.loads(COST_FILE.read_text())
    rows = [["frames", "grid", "processor seconds", "MiB kept for the backward pass"]]
    rows += [[str(row[name]) for name in ("frames", "grid", "cpu_seconds", "graph_mb")] for row in told["rows"]]
    return [f"An update of {told['pairs']} pairs of {told['size']} x {told['size']} pixels, both terms, one thread:",
            markdown(rows)]  # fmt: skip
