"""Labelled clips, reward models of clips and of their tubes, and the recipes that train them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goodrate as gr
from goodrate.content.labelled_clips import (
    DIMENSIONS,
    LabelledClips,
    example_labels,
    joined,
    motion,
    read_labelled_clips,
    shop_clips,
    tubes,
)
from goodrate.content.reward_model import RewardModel, defect_scores, new_reward_model, tube_clips
from goodrate.recipes.reward_learning import spearman
from goodrate.shop.clips import ClipExample, Defect
from goodrate.shop.world import make_world

torch.set_num_threads(1)
FRAMES, SIZE = 4, 16
QUALITY, CONSISTENCY, DYNAMIC, ALIGNMENT = range(4)


@pytest.fixture(scope="module")
def clips() -> LabelledClips:
    return shop_clips(make_world(0, num_items=40), range(20), 60, 0, frames=FRAMES, size=SIZE)


def example(*defects: Defect, wrong: dict[str, str] | None = None) -> ClipExample:
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    return ClipExample(0, frames, "a lamp", wrong or {}, tuple(defects))


def test_labels_say_where_and_what() -> None:
    video, patches = example_labels(example(Defect("smear", 0, 1, 0, FRAMES - 1)), 2)
    assert patches[:, QUALITY].tolist() == [4, 1, 4, 4] and patches[:, CONSISTENCY].tolist() == [4, 4, 4, 4]
    assert video[QUALITY] == pytest.approx((13 / 4 + 1) / 2) and video[ALIGNMENT] == 4
    # what begins in the middle of the clip is a break in time as well
    _, patches = example_labels(example(Defect("wrong_logo", 1, 0, 2, FRAMES - 1)), 2)
    assert patches[:, QUALITY].tolist() == patches[:, CONSISTENCY].tolist() == [4, 4, 1, 4]
    assert patches[:, ALIGNMENT].tolist() == [4, 4, 1, 4]
    _, patches = example_labels(example(Defect("flicker", 1, 1, 0, FRAMES - 1)), 2)
    assert patches[:, CONSISTENCY].tolist() == [4, 4, 4, 1] and (patches[:, QUALITY] == 4).all()
    assert defect_scores(patches).tolist() == [4, 4, 4, 1]
    video, patches = example_labels(example(wrong={"color": "red"}), 2)
    assert 1 < video[ALIGNMENT] < 4 and (patches[:, ALIGNMENT] == video[ALIGNMENT]).all()


def test_motion_is_nothing_for_a_still_clip() -> None:
    moving = np.zeros((2, FRAMES, 4, 4, 3), dtype=np.uint8)
    moving[1, 1::2] = 51
    assert motion(moving).tolist() == pytest.approx([0.0, 0.2])
    assert motion(moving[:, :1]).tolist() == [0.0, 0.0]


def test_tubes_are_crops_over_all_frames_row_by_row(clips: LabelledClips) -> None:
    found = tubes(clips.clips[:3], 2)
    half = SIZE // 2
    assert (found[1, 2] == clips.clips[1, :, half:, :half]).all()
    scaled = tube_clips(torch.from_numpy(clips.clips[:3]), 2)
    assert scaled.shape == (12, FRAMES, SIZE, SIZE, 3)
    means = scaled.reshape(3, 4, -1).mean(2).numpy()
    np.testing.assert_allclose(means, found.reshape(3, 4, -1).mean(2), atol=2)
    with pytest.raises(ValueError, match="3 x 3 does not divide"):
        tubes(clips.clips, 3)


def test_shop_clips_are_those_of_their_seed_and_survive_a_file(clips: LabelledClips, tmp_path: Path) -> None:
    again = shop_clips(make_world(0, num_items=40), range(20), 60, 0, frames=FRAMES, size=SIZE)
    assert (again.clips == clips.clips).all() and again.captions == clips.captions
    assert (defect_scores(clips.patches) < 2).any() and (motion(clips.clips) == 0).any()
    assert ((clips.video >= 1) & (clips.video <= 4)).all()
    clips.write(tmp_path / "clips.npz")
    held = read_labelled_clips(tmp_path / "clips.npz")
    assert held.captions == clips.captions
    for name in ("clips", "video", "patches", "group"):
        assert (getattr(held, name) == getattr(clips, name)).all()
    assert len(joined([clips, held])) == 120 and clips.grid == 2
    learned, dev = clips.split(0.25)
    assert len(learned) + len(dev) == 60 and not set(learned.group) & set(dev.group)
    with pytest.raises(ValueError, match="cannot be parted"):
        clips.rows(np.flatnonzero(clips.group == clips.group[0])).split(0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, "no array 'video'"),
        ({"clips": np.zeros((60, 4, 16, 16, 3))}, "expected uint8"),
        ({"patches": np.ones((60, 3, 4))}, "patches is"),
        ({"patches": np.ones((60, 9, 4))}, "3 x 3 patches do not divide clips of 16 x 16"),
        ({"group": np.zeros(59)}, "group is"),
        ({"video": np.full((60, 4), 5.0)}, "a label outside 1 to 4"),
    ],
    ids=["missing", "dtype", "tubes", "grid", "count", "range"],
)
def test_a_file_of_other_arrays_is_refused_by_name(
    clips: LabelledClips, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arrays = {"clips": clips.clips, "captions": np.asarray(clips.captions), "video": clips.video,
              "patches": clips.patches, "group": clips.group, **change}  # fmt: skip
    np.savez(tmp_path / "own.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=rf"own.npz: .*{message}"):
        read_labelled_clips(tmp_path / "own.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="own.npz: cut off or no npz"):
        read_labelled_clips(tmp_path / "own.npz")


def test_a_model_survives_its_folder(clips: LabelledClips, tmp_path: Path) -> None:
    model = new_reward_model(FRAMES, SIZE, 4, seed=1)
    model.save(tmp_path / "model")
    opened = RewardModel.open(tmp_path / "model")
    mine = model.scores(clips.clips[:5], clips.captions[:5])
    assert mine.shape == (5, len(DIMENSIONS)) and opened.card == model.card
    np.testing.assert_array_equal(opened.scores(clips.clips[:5], clips.captions[:5], batch=2), mine)
    assert model.scores(clips.clips[:0], []).shape == (0, 4)
    with pytest.raises(ValueError, match="reads"):
        opened.scores(clips.clips[:, :2], clips.captions)
    with pytest.raises(FileNotFoundError, match="no reward model"):
        RewardModel.open(tmp_path)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"0" * 30)
    with pytest.raises(ValueError, match="not those of one reward model"):
        RewardModel.open(tmp_path / "model")


def test_a_patch_is_scored_by_what_is_in_it(tmp_path: Path, clips: LabelledClips) -> None:
    from dataclasses import replace

    model = new_reward_model(FRAMES, SIZE, 4, seed=1)
    patch = replace(model, card=replace(model.card, kind="patch", grid=2))
    changed = clips.clips[:1].copy()
    changed[:, :, : SIZE // 2, SIZE // 2 :] = 0
    before, after = (patch.scores(one, clips.captions[:1])[0] for one in (clips.clips[:1], changed))
    assert before.shape == (4, 4)
    assert [bool((before[p] != after[p]).any()) for p in range(4)] == [False, True, False, False]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, clips: LabelledClips) -> tuple[Path, Path, Path]:
    """File of clips, run of a video model, run of a patch model learned on from it."""
    folder = tmp_path_factory.mktemp("rewards")
    data = flashes(80)
    data.write(folder / "clips.npz")
    named = {"clips": {"file": str(folder / "clips.npz")}, "width": 4, "batch_size": 16, "learning_rate": 0.01}
    gr.train("video_reward", out=folder / "video", epochs=8, **named)
    gr.train("patch_reward", out=folder / "patch", reward=folder / "video" / "model", epochs=6, **named)
    return folder / "clips.npz", folder / "video", folder / "patch"


def flashes(count: int) -> LabelledClips:
    """Grey clips; in some tubes a flash, which is all that the labels are about."""
    rng = np.random.default_rng(4)
    lit = rng.random((count, 4)) < 0.3
    clips = np.full((count, FRAMES, SIZE, SIZE, 3), 120, dtype=np.uint8)
    half = SIZE // 2
    for p in range(4):
        clips[lit[:, p], 1, p // 2 * half : p // 2 * half + half, p % 2 * half : p % 2 * half + half] = 250
    patches = np.repeat(np.where(lit, 1.0, 4.0)[:, :, None], 4, axis=2).astype(np.float32)
    video = ((patches.mean(1) + patches.min(1)) / 2).astype(np.float32)
    return LabelledClips(clips, ("a lamp",) * count, video, patches, np.arange(count) // 2)


def test_recipes_learn_the_labels(trained: tuple[Path, Path, Path]) -> None:
    import json

    file, video, patch = trained
    rows = json.loads((video / "dev.json").read_text())
    assert rows["video"]["visual_quality"] > 0.8
    rows = json.loads((patch / "dev.json").read_text())
    assert rows["patches"]["visual_quality"] > 0.6 and rows["patches"]["auc_broken"] > 0.9
    assert rows["consistency"]["mean"] > 0.5 and 0 <= rows["consistency"]["ks"] <= 1
    data = read_labelled_clips(file)
    model = RewardModel.open(patch / "model")
    assert model.card.kind == "patch" and model.card.grid == 2
    scores = defect_scores(model.scores(data.clips, data.captions))
    assert spearman(scores, defect_scores(data.patches)) > 0.6


def test_a_patch_model_does_not_start_from_a_patch_model(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    file, _, patch = trained
    with pytest.raises(ValueError, match="is a patch reward model; expected one of whole clips"):
        gr.train("patch_reward", out=tmp_path / "again", reward=patch / "model", clips={"file": str(file)})
    small = shop_clips(make_world(0, num_items=30), range(8), 8, 0, frames=2, size=8)
    small.write(tmp_path / "small.npz")
    with pytest.raises(ValueError, match="reads 4 frames of 16 x 16; the clips have 2 of 8 x 8"):
        gr.train("patch_reward", out=tmp_path / "other", reward=trained[1] / "model",
                 clips={"file": str(tmp_path / "small.npz")})  # fmt: skip


def test_replay_of_weight_zero_leaves_the_video_loss_out() -> None:
    from goodrate.recipes.reward_learning import RewardLearner, RewardSettings, RewardSource, reward_terms

    data, model = flashes(8), new_reward_model(FRAMES, SIZE, 4, seed=1)
    source = RewardSource(data, model, reward_terms({"patches": 1.0}), RewardSettings(untold=0.9), seed=0)
    update = source.next(0)
    assert update is not None and [term.name for term in update.terms] == ["patches"]
    batch = update.micro_batches[0]
    untold = ~batch["caption_ids"].any(1)
    assert untold.any() and not batch["video_counted"][untold, ALIGNMENT].any()
    assert batch["video_counted"][:, :ALIGNMENT].all()
    assert not batch["patches_counted"][untold][:, :, ALIGNMENT].any()
    outputs = RewardLearner(model.network, 2)(batch)
    assert outputs["patches"].shape == (8, 4, 4) and outputs["video"].shape == (8, 4)
