"""The recipe video_dpo: pairs of a generator's own clips, and a training that a kill does not change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goodrate as gr
from goodrate.content.generator import VideoShape
from goodrate.content.reward_model import RewardModel, new_reward_model
from goodrate.content.video_generator import ShopGenerator, new_generator
from goodrate.learning.video_terms import video_terms
from goodrate.recipes.clip_pairs import ClipPairs, PairSettings, PairSource, paired_clips, sampled
from goodrate.recipes.video_dpo import PAIR_FILE, Settings, frozen, run

torch.set_num_threads(1)
SHAPE = VideoShape(frames=2, size=8, patch=2, patch_frames=1, width=8, layers=1, heads=2, caption_length=8)
CAPTIONS = ["red lamp", "blue chair", "green desk", "white tent", "black pan", "pink jacket"]
FAST: dict[str, Any] = {
    "prompts": 4, "held": 2, "batch_size": 2, "epochs": 2, "learning_rate": 1e-2,
    "pairs": {"samples": 3, "steps": 2, "margin": 0.0, "patch_margin": 0.0},
}  # fmt: skip


class Brightness:
    """Stands for a reward model: what is light is good, a clip as a whole or each quarter of it."""

    def __init__(self, grid: int) -> None:
        self.grid = grid

    def scores(self, clips: np.ndarray, captions: list[str]) -> np.ndarray:
        count, frames, size = clips.shape[:3]
        half = size // self.grid
        cells = clips.reshape(count, frames, self.grid, half, self.grid, half, 3).mean(axis=(1, 3, 5, 6)) / 255
        scores = np.repeat(cells.reshape(count, -1, 1), 4, axis=2).astype(np.float32)
        return scores if self.grid > 1 else scores[:, 0]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a generator with random weights and of reward models, and a file of captions."""
    folder = tmp_path_factory.mktemp("dpo")
    generator = new_generator(SHAPE, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in generator.network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    generator.save(folder / "generator")
    video = new_reward_model(SHAPE.frames, SHAPE.size, 4, 0)
    video.save(folder / "video")
    dataclasses.replace(video, card=dataclasses.replace(video.card, kind="patch", grid=2)).save(folder / "patch")
    (folder / "captions.txt").write_text("".join(f"{text}\n" for text in CAPTIONS))
    return {
        "generator": str(folder / "generator"), "video_reward": str(folder / "video"),
        "patch_reward": str(folder / "patch"), "captions": str(folder / "captions.txt"),
    }  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(ShopGenerator.open(folder).network.state_dict())


def test_a_pair_is_the_best_and_the_worst_clip_of_a_caption() -> None:
    clips = np.zeros((2, 3, 2, 8, 8, 3), dtype=np.uint8)
    clips[0, 0], clips[0, 1], clips[0, 2] = 100, 50, 200
    clips[0, 1, :, :4, :4] = 255  # the worst one's upper left quarter is the better one
    clips[1] = 90  # all alike: no pair
    settings = PairSettings(samples=3, margin=0.1, patch_margin=0.1)
    pairs, facts = paired_clips(clips, ["a", "b"], Brightness(1), Brightness(2), settings, 0)  # type: ignore[arg-type]
    assert facts["captions"] == 2 and facts["pairs"] == len(pairs) == 1 and pairs.captions == ("a",)
    # means: 100, 50 + 205 / 4 = 101.25, 200
    assert (pairs.winner[0] == 200).all() and (pairs.loser[0] == 100).all()
    clips[0, 0] = 150
    pairs, facts = paired_clips(clips, ["a", "b"], Brightness(1), Brightness(2), settings, 0)  # type: ignore[arg-type]
    assert pairs.sign.tolist() == [[-1, 1, 1, 1]] and pairs.weight.tolist() == [[1, 1, 1, 1]]
    assert facts["patches_for_the_loser"] == 0.25
    soft = settings.model_copy(update={"soft": 1.0, "patch_margin": 0.3})
    pairs, _ = paired_clips(clips, ["a", "b"], Brightness(1), Brightness(2), soft, 0)  # type: ignore[arg-type]
    assert pairs.weight[0].tolist() == pytest.approx([0, *[150 / 255] * 3])


def test_a_combined_reward_may_choose_another_pair() -> None:
    clips = np.zeros((1, 2, 2, 8, 8, 3), dtype=np.uint8)
    clips[0, 0, :, :4], clips[0, 1, :, 4:] = 100, 250
    told = ["a"]
    found = []
    for share in (0.0, 0.9):
        settings = PairSettings(samples=2, margin=0.0, combined=share)
        pairs, _ = paired_clips(clips, told, TopHalf(), Brightness(2), settings, 0)  # type: ignore[arg-type]
        found.append(int(pairs.winner.max()))
    assert found == [100, 250]


class TopHalf(Brightness):
    """Looks at the upper half alone."""

    def __init__(self) -> None:
        super().__init__(1)

    def scores(self, clips: np.ndarray, captions: list[str]) -> np.ndarray:
        upper = clips[:, :, : clips.shape[2] // 2].mean(axis=(1, 2, 3, 4)) / 255
        return np.repeat(upper[:, None], 4, axis=1).astype(np.float32)


def test_random_patches_draw_the_signs_alone() -> None:
    clips = np.random.default_rng(0).integers(0, 255, (6, 3, 2, 8, 8, 3)).astype(np.uint8)
    plain = PairSettings(samples=3, margin=0.0, patch_margin=0.0)
    lot = plain.model_copy(update={"random_patches": True})
    models = Brightness(1), Brightness(2)
    one, _ = paired_clips(clips, CAPTIONS, *models, plain, 0)  # type: ignore[arg-type]
    other, _ = paired_clips(clips, CAPTIONS, *models, lot, 0)  # type: ignore[arg-type]
    assert (one.winner == other.winner).all() and (one.weight == other.weight).all()
    assert 0 < (one.sign != other.sign).mean() < 1 and set(np.unique(other.sign)) == {-1, 1}


def test_samples_do_not_depend_on_their_batch(start: dict[str, str]) -> None:
    generator = ShopGenerator.open(start["generator"])
    settings = PairSettings(samples=2, steps=2)
    many = sampled(generator, CAPTIONS * 2, settings, 0)
    assert many.shape == (12, 2, 2, 8, 8, 3) and (many[0, 0] != many[0, 1]).any()
    few = sampled(generator, CAPTIONS[:3], settings, 0)
    assert np.abs(many[:3].astype(int) - few).max() <= 1


def test_time_and_noise_belong_to_the_pair_and_the_update(start: dict[str, str], tmp_path: Path) -> None:
    """One of each for winner and loser, whatever the micro-batches are."""
    generator = ShopGenerator.open(start["generator"])
    clips = sampled(generator, CAPTIONS, PairSettings(samples=2, steps=2), 0)
    pairs, _ = paired_clips(  # type: ignore[arg-type]
        clips, CAPTIONS, Brightness(1), Brightness(2), PairSettings(samples=2, margin=0.0), 0
    )
    pairs.write(tmp_path / "pairs.npz")
    held = ClipPairs.read(tmp_path / "pairs.npz")
    assert held.captions == pairs.captions and (held.winner == pairs.winner).all()
    terms = video_terms(Settings.model_fields["loss"].get_default(call_default_factory=True))
    sources = [
        PairSource(generator, held, terms, batch_size=6, micro_pairs=micro, seed=3, epochs=2) for micro in (6, 1)
    ]
    whole, parts = (source.next(0) for source in sources)
    assert whole is not None and parts is not None and len(parts.micro_batches) == 6
    for name in ("noise", "time", "winner", "weight"):
        joined = torch.cat([part[name] for part in parts.micro_batches])
        assert torch.equal(joined, whole.micro_batches[0][name]), name
    later = sources[0].next(sources[0].batches_per_epoch)
    assert later is not None and not torch.equal(later.micro_batches[0]["time"], whole.micro_batches[0]["time"])
    (tmp_path / "pairs.npz").write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"pairs.npz: no file of pairs"):
        ClipPairs.read(tmp_path / "pairs.npz")


def test_the_reference_does_not_move_with_the_policy(start: dict[str, str]) -> None:
    generator = ShopGenerator.open(start["generator"])
    reference = frozen(generator)
    assert not any(weight.requires_grad for weight in reference.network.parameters())
    with torch.no_grad():
        next(generator.network.parameters()).add_(1)
    assert not torch.equal(next(generator.network.parameters()), next(reference.network.parameters()))
    reference.network.train()
    assert not reference.network.training


def test_a_stopped_run_goes_on_to_the_same_weights(start: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.model_validate({**start, **FAST, "fit": {"precision": "fp32", "checkpoint_updates": 1}})
    run(settings, None, tmp_path / "whole", lambda record: None)

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings, None, tmp_path / "stopped", stop)
    pairs = (tmp_path / "stopped" / PAIR_FILE).stat().st_mtime_ns
    run(settings, None, tmp_path / "stopped", lambda record: None)
    assert (tmp_path / "stopped" / PAIR_FILE).stat().st_mtime_ns == pairs
    one, other, before = (
        weights(folder)
        for folder in (tmp_path / "whole/generator", tmp_path / "stopped/generator", Path(start["generator"]))
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], before[name]) for name in one)
    rows = json.loads((tmp_path / "whole" / "dev.json").read_text())
    assert rows == json.loads((tmp_path / "stopped" / "dev.json").read_text()) and set(rows) == {"start", "trained"}
    log = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert {"video", "patch", "error", "preferred"} <= set(log[-1])


@pytest.mark.parametrize("form", ["video", "patch", "dense", "sft"])
def test_every_form_trains(start: dict[str, str], tmp_path: Path, form: str) -> None:
    settings = Settings.model_validate({**start, **FAST, "loss": {"form": form}, "fit": {"updates": 1}})
    result = run(settings, None, tmp_path / form, lambda record: None)
    before = weights(Path(start["generator"]))
    assert not all(torch.equal(weight, before[name]) for name, weight in weights(result.folder).items())


def test_what_cannot_be_trained_is_named(start: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"captions.txt: 6 captions; prompts \+ held = 9 are needed"):
        gr.train("video_dpo", out=tmp_path / "a", **{**start, **FAST, "prompts": 7})
    with pytest.raises(ValueError, match="a video reward model; expected one of the recipe patch_reward"):
        gr.train("video_dpo", out=tmp_path / "b", **{**start, **FAST, "patch_reward": start["video_reward"]})
    with pytest.raises(ValueError, match="none of 4 captions has two clips that are pairs.margin = 100.0 apart"):
        gr.train("video_dpo", out=tmp_path / "c", **{**start, **FAST, "pairs": {**FAST["pairs"], "margin": 100.0}})
    with pytest.raises(ValueError, match="is no diffusers pipeline"):
        gr.train("video_dpo", out=tmp_path / "d", **{**start, **FAST, "lora": {"rank": 2}})
    assert RewardModel.open(start["video_reward"]).card.kind == "video"


def test_an_adapter_of_a_pipeline_trains_against_its_own_start(tmp_path: Path, start: dict[str, str]) -> None:
    """LoRA in a diffusers pipeline; the reference is the same network with the adapter off."""
    pytest.importorskip("diffusers")
    from goodrate.content.diffusers_generator import DiffusersGenerator
    from tiny_pipelines import FAMILIES

    build, frames, size, _ = FAMILIES["wan"]
    build().save_pretrained(tmp_path / "pipeline")
    DiffusersGenerator.open(tmp_path / "pipeline", frames=frames, size=size).save(tmp_path / "start")
    video = new_reward_model(frames, size[0], 4, 0)
    video.save(tmp_path / "video")
    dataclasses.replace(video, card=dataclasses.replace(video.card, kind="patch", grid=2)).save(tmp_path / "patch")
    named = {name: str(tmp_path / name.partition("_")[0]) for name in ("video_reward", "patch_reward")}
    pairs = {"samples": 2, "steps": 2, "margin": 0.0, "patch_margin": 0.0}
    settings = Settings.model_validate({
        **named, "generator": str(tmp_path / "start"), "captions": start["captions"], "prompts": 2, "held": 1,
        "pairs": pairs, "lora": {"rank": 2}, "fit": {"updates": 2, "log_every": 1, "warmup": 0.0, "precision": "fp32"},
        "learning_rate": 0.01,
    })  # fmt: skip
    result = run(settings, None, tmp_path / "run", lambda record: None)
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert log[0]["video"] == pytest.approx(np.log(2), abs=1e-6) and log[1]["video"] != log[0]["video"]
    trained = DiffusersGenerator.open(result.folder)
    adapter = [weight for name, weight in trained.network.named_parameters() if "lora_B" in name]
    assert adapter and any(weight.abs().max() > 0 for weight in adapter)
