"""The oracle of generated clips, and the preparation that the arms of benchmarks/video.py share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import video as benchmark  # noqa: E402
from goodrate.content.reward_model import defect_scores  # noqa: E402
from goodrate.shop.clips import Defect, caption, inject, turntable  # noqa: E402
from goodrate.shop.pictures import View  # noqa: E402
from goodrate.shop.world import World, make_world  # noqa: E402
from lib.clip_truth import ClipTruth  # noqa: E402
from lib.queue import Job, Queue  # noqa: E402

FRAMES, SIZE, GRID = 4, 16, 2


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(0, num_items=40)


@pytest.fixture(scope="module")
def truth(world: World) -> ClipTruth:
    return ClipTruth(world, range(20), FRAMES, SIZE, GRID)


def clip(world: World, item: int, angle: float = 0.0) -> np.ndarray:
    return turntable(world, item, frames=FRAMES, size=SIZE, view=View(angle=angle))


def test_the_true_clip_is_the_best_from_each_angle(world: World, truth: ClipTruth) -> None:
    clips = np.stack([clip(world, 3), clip(world, 3, 8.0)])
    video, patches = truth.labels(clips, [3, 3])
    assert patches[..., 0].min() > 3.98 and patches[..., 1].min() > 3.98
    assert (video[:, 3] == 4).all() and (video[:, :2] > 3.98).all()


def test_another_item_and_noise_are_worse_and_a_defect_is_where_it_is(world: World, truth: ClipTruth) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    broken = inject(clip(world, 3), Defect("colour_jump", 1, 0, 0, FRAMES - 1), np.random.default_rng(0))
    other = truth._others(3)[0]
    assert caption(world, other) != caption(world, 3)
    video, patches = truth.labels(np.stack([clip(world, 3), clip(world, other), noise, broken]), [3] * 4)
    assert video[0, 0] > video[1, 0] > video[2, 0] and video[1, 3] < 4
    assert defect_scores(patches)[3].argmin() == 2 and (np.delete(patches[3, :, 0], 2) > 3.98).all()
    assert patches[3, 2, 0] < 3


def test_a_still_clip_has_no_dynamic_degree(world: World, truth: ClipTruth) -> None:
    still = np.repeat(clip(world, 3)[:1], FRAMES, axis=0)
    video, patches = truth.labels(np.stack([still, clip(world, 3)]), [3, 3])
    assert video[0, 2] == 1 and (patches[0, :, 2] == 1).all() and video[1, 2] > 1


def test_held_out_items_are_no_prompts() -> None:
    case = benchmark.Case(benchmark.Settings(items=60, held=10, prompts=20), 0)
    learned, held = case.parts
    assert len(held) == 10 and len(learned) == 50 and not set(learned) & set(held)
    assert set(case.prompts) <= set(learned) and len(case.prompts) == 20


def test_a_small_screen_from_the_base_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "queue", Queue(benchmark.NAME, tmp_path / "results", tmp_path / "work"))
    settings = benchmark.Settings(
        categories=["chair", "lamp"], items=14, held=3, frames=2, base_updates=1, rendered=12, prompts=4, steps=1,
        reward_epochs=1, updates=1, batch_size=2,
    )  # fmt: skip
    benchmark.queue.run([Job(arm, 0, settings) for arm in (benchmark.BASE, "video", "both")], benchmark.measure)
    results = {one["arm"]: one for one in benchmark.queue.results()}
    assert list(results) == ["base", "both", "video"] and results["both"]["curve"][0]["update"] == 1
    assert all(len(values) == 3 for one in results.values() for values in one["captions"].values())
    table = benchmark.render()
    assert "both (HALO)" in table and "minus video term alone" in table and "patch, from scratch" in table
    samples = sorted((tmp_path / "work" / "video").glob("seed0-*/samples.npy"))
    assert len(samples) == 1  # all arms choose from the same
