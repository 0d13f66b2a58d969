"""The house's video generator: its arithmetic of noise, its network, its sampler, its folder, clips as files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.content import diffusion
from goodrate.content.captions import item_caption
from goodrate.content.clip_file import clip_bytes, read_clip, write_clip
from goodrate.content.generator import PAD, VideoDenoiser, VideoShape
from goodrate.content.sampler import guided, sample
from goodrate.content.video_generator import ShopGenerator, new_generator, open_generator

SMALL = {"frames": 4, "size": 8, "patch": 4, "patch_frames": 2, "width": 16, "layers": 2, "heads": 2}


def network(**more: object) -> VideoDenoiser:
    """Small, and with weights everywhere: a new network's last layers are 0."""
    torch.manual_seed(0)
    made = VideoDenoiser(VideoShape.model_validate({**SMALL, "words": 50, "caption_length": 4, **more}))
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


@pytest.mark.parametrize("prediction", ["velocity", "noise"])
def test_a_true_prediction_gives_clip_and_noise_back(prediction: diffusion.Prediction) -> None:
    clean, noise = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    time = torch.tensor([0.1, 0.5, 0.9])
    noisy = diffusion.noised(prediction, clean, noise, time)
    parts = diffusion.parted(prediction, noisy, diffusion.target(prediction, clean, noise), time)
    assert torch.allclose(parts[0], clean, atol=1e-5) and torch.allclose(parts[1], noise, atol=1e-5)
    said = diffusion.said_of(prediction, noisy, clean, time)
    assert torch.allclose(said, diffusion.target(prediction, clean, noise), atol=1e-4)
    # nearly clean, the error counts as at time 0.05: times 1 / 0.05, or 1 / tan(0.05 pi / 2) for the noise
    nearly = diffusion.said_of(prediction, clean, clean + 0.1, torch.full((3,), 0.001))
    slope = -1 / 0.05 if prediction == "velocity" else -1 / math.tan(0.05 * math.pi / 2)
    least = diffusion.said_of(prediction, clean, clean, torch.full((3,), 0.001))
    assert torch.allclose(nearly - least, torch.full_like(clean, 0.1 * slope), atol=1e-3)


def test_the_two_ways_to_noise_by_hand() -> None:
    clean, noise, time = torch.tensor([[4.0]]), torch.tensor([[-2.0]]), torch.tensor([0.25])
    assert diffusion.noised("velocity", clean, noise, time).item() == pytest.approx(0.75 * 4 - 0.25 * 2)
    assert diffusion.target("velocity", clean, noise).item() == -6.0
    by_angle = math.cos(math.pi / 8) * 4 - math.sin(math.pi / 8) * 2
    assert diffusion.noised("noise", clean, noise, time).item() == pytest.approx(by_angle)
    assert diffusion.target("noise", clean, noise).item() == -2.0
    assert diffusion.times("velocity", 4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ValueError, match="steps 0"):
        diffusion.times("noise", 0)


def test_patches_hold_a_tube_of_pixels_each() -> None:
    made = network()
    clip = torch.arange(2 * 3 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 3, 4, 8, 8)
    patches = made._patches(clip)
    assert patches.shape == (2, 2 * 2 * 2, 3 * 2 * 4 * 4)
    # patch 5 = second frames' pair, first row, second column
    assert torch.equal(patches[1, 5], clip[1, :, 2:4, 0:4, 4:8].flatten())
    assert torch.equal(made._pixels(patches), clip)


def test_the_network_reads_time_words_and_all_of_the_clip() -> None:
    made = network()
    noisy, time = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.2, 0.2])
    ids = torch.tensor([[5, 6, PAD, PAD], [5, 6, PAD, PAD]])
    said = made(noisy, time, ids)
    assert said.shape == noisy.shape

    def differs(**change: torch.Tensor) -> bool:
        values = {"noisy": noisy, "time": time, "caption_ids": ids, **change}
        return bool((made(**values)[0] - said[0]).abs().max() > 1e-4)

    corner = noisy.clone()
    corner[:, :, 3, 7, 7] += 5
    assert differs(time=torch.tensor([0.9, 0.2])) and differs(caption_ids=ids.flip(1)) and differs(noisy=corner)
    swapped = made(noisy.flip(0), time, ids)  # a clip's prediction does not depend on its neighbours
    assert torch.allclose(swapped.flip(0), said, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fill 4 frames of 9 x 9"):
        VideoShape.model_validate({**SMALL, "size": 9})
    with pytest.raises(ValueError, match="width 18"):
        VideoShape.model_validate({**SMALL, "width": 18})


@pytest.mark.parametrize("prediction", ["velocity", "noise"])
def test_a_perfect_network_samples_the_clip_in_any_number_of_steps(prediction: diffusion.Prediction) -> None:
    """Where one clip is all there is, the true prediction follows from the noisy clip, and every step lands on it."""
    clip = torch.rand(3, 4, 8, 8) * 2 - 1

    def knows(noisy: torch.Tensor, time: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        alpha, sigma = diffusion.coefficients(prediction, time, noisy.ndim)
        return diffusion.target(prediction, clip, (noisy - alpha * clip) / sigma)

    for steps in (1, 5):
        made = sample(knows, torch.ones(2, 4), clip.shape, [0, 1], prediction=prediction, steps=steps)
        assert torch.allclose(made, clip.expand(2, *clip.shape), atol=1e-3)


def test_guidance_moves_away_from_what_is_said_without_a_caption() -> None:
    def predict(noisy: torch.Tensor, time: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return torch.where((ids != PAD).any(1), 3.0, 1.0)[:, None]

    ids = torch.tensor([[4, 5]])
    assert guided(predict, torch.zeros(1, 1), torch.ones(1), ids, 2.0).item() == 5.0  # 1 + 2 * (3 - 1)
    assert guided(predict, torch.zeros(1, 1), torch.ones(1), ids, 1.0).item() == 3.0


def test_a_seed_makes_its_clip_whatever_is_beside_it() -> None:
    made = network().eval()
    ids = torch.tensor([[5, 6, PAD, PAD]] * 3)
    three = sample(made, ids, (3, 4, 8, 8), [7, 8, 9], steps=2)
    alone = sample(made, ids[:1], (3, 4, 8, 8), [8], steps=2)
    assert torch.allclose(three[1], alone[0], atol=1e-4) and not torch.allclose(three[0], three[1], atol=0.1)
    with pytest.raises(ValueError, match="3 captions"):
        sample(made, ids, (3, 4, 8, 8), [7])


def test_a_folder_is_the_generator_again(tmp_path: Path) -> None:
    made = new_generator(VideoShape.model_validate(SMALL), 3, {"attributes": ["color"]})
    with torch.no_grad():
        made.network.head.weight.normal_()
    made.save(tmp_path / "g")
    again = open_generator(tmp_path / "g")
    assert isinstance(again, ShopGenerator) and again.card == {"attributes": ["color"]}
    captions = ["red wool kettle by zib", ""]
    clips = made.sample(captions, [1, 2], steps=2)
    assert clips.shape == (2, 4, 8, 8, 3) and clips.dtype == np.uint8
    assert (again.sample(captions, [1, 2], steps=2) == clips).all()
    assert (made.caption_ids([""]) == PAD).all() and made.caption_ids(["red " * 99]).shape == (1, 24)
    levels = torch.from_numpy(clips)
    assert (made.decode(made.encode(levels)) == clips).all()
    with pytest.raises(ValueError, match="frames 9"):
        made.sample(captions, [1, 2], frames=9)
    with pytest.raises(ValueError, match=r"this generator makes \(4, 8, 8, 3\)"):
        made.encode(levels[:, :2])


def test_folders_that_are_no_generator_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no video generator: neither generator.json"):
        open_generator(tmp_path)
    made = new_generator(VideoShape.model_validate(SMALL), 0)
    made.save(tmp_path / "a")
    new_generator(VideoShape.model_validate({**SMALL, "layers": 1}), 0).save(tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="not those of one generator"):
        open_generator(tmp_path / "a")
    (tmp_path / "b" / "generator.json").write_text('{"format": 9, "kind": "house"}')
    with pytest.raises(ValueError, match="format 9, expected 1"):
        open_generator(tmp_path / "b")


def test_a_clip_file_keeps_every_level_and_its_frames(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    write_clip(tmp_path / "a.webp", clip, scale=3)
    assert read_clip(tmp_path / "a.webp").shape == (5, 24, 24, 3)
    assert (read_clip(tmp_path / "a.webp", size=8) == clip).all()
    assert (read_clip(tmp_path / "a.webp", size=8, frames=2) == clip[[0, 2]]).all()  # frames 0 and 5 * 1 // 2
    write_clip(tmp_path / "a.gif", clip // 128 * 128)
    assert read_clip(tmp_path / "a.gif", size=8).shape == clip.shape
    assert clip_bytes(clip) == clip_bytes(clip)


def test_files_that_are_no_clip_are_named(tmp_path: Path) -> None:
    clip = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"a\.mp4: a clip ends in \.webp or \.gif"):
        write_clip(tmp_path / "a.mp4", clip)
    (tmp_path / "no.webp").write_text("text")
    with pytest.raises(ValueError, match=r"no\.webp is no picture"):
        read_clip(tmp_path / "no.webp")
    (tmp_path / "cut.webp").write_bytes(
        clip_bytes(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))[:900]
    )
    with pytest.raises(ValueError, match=r"cut\.webp"):
        read_clip(tmp_path / "cut.webp")


def test_captions_of_a_catalogue() -> None:
    item = {
        "title": "Lima 12",
        "brand": "Zib",
        "category": "Home > Kettle",
        "attributes": '{"b":["X","y"],"a":3,"c":true}',
    }
    assert item_caption(item) == "x y 3 kettle by zib"
    assert item_caption(item, ["a", "none", "b"]) == "3 x y kettle by zib"
    assert item_caption({"title": "Lamp"}) == "lamp"
