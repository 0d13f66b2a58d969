"""Diffusers pipelines of four families as video generators: the same calls, the scheduler's own noise, LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from goodrate.content.diffusers_generator import DiffusersGenerator
from goodrate.content.lora import add_lora, lora_off
from goodrate.content.video_generator import open_generator
from goodrate.models.adapter import LoraSettings
from goodrate.recipes.clip_source import ClipSource, DenoisingError
from tiny_pipelines import FAMILIES

CAPTIONS = ["red lamp", "blue chair"]
LORA = LoraSettings(rank=2, alpha=4.0)


def opened(family: str, lora: LoraSettings | None = None) -> DiffusersGenerator:
    build, frames, size, _ = FAMILIES[family]
    return DiffusersGenerator(build(), family, frames=frames, size=size, lora=lora)


@pytest.fixture(scope="module", params=list(FAMILIES))
def generator(request: pytest.FixtureRequest) -> DiffusersGenerator:
    return opened(request.param)


def clips_of(family: str, count: int = 2) -> torch.Tensor:
    _, frames, size, _ = FAMILIES[family]
    random = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, frames, *size, 3), dtype=torch.uint8, generator=random)


def test_a_prediction_is_what_the_pipeline_itself_gets(generator: DiffusersGenerator) -> None:
    """One step of the pipeline from given latents, and the same prediction asked for by us."""
    pipeline, latents = generator.pipeline, torch.randn(2, *FAMILIES[generator.source][3])
    conditions = generator.conditions(CAPTIONS)
    given = generator._arranged(latents, conditions["layout"])
    seen: list[Any] = []
    hook = generator.network.register_forward_hook(lambda module, args, output: seen.append(output))
    pipeline(
        prompt=CAPTIONS, latents=given.clone(), num_inference_steps=1, guidance_scale=1.0, output_type="latent",
        **generator._shape,
    )  # fmt: skip
    hook.remove()
    own = seen[0][0] if isinstance(seen[0], tuple) else seen[0].sample
    scheduler = pipeline.scheduler
    steps = scheduler.config.num_train_timesteps
    time = float(scheduler.timesteps[0]) / (steps if generator._flow else steps - 1)
    # DDIM and CogVideoX scale the first noise by init_noise_sigma, which is 1 for all of these
    said = generator.predict(latents, torch.full((2,), time), conditions)
    assert torch.allclose(generator._arranged(said, conditions["layout"]), own.float(), atol=1e-4)
    assert said.shape == latents.shape and said.abs().max() > 0


def test_noise_and_target_are_the_schedulers_own(generator: DiffusersGenerator) -> None:
    """Told the target, the scheduler finds the clean latents."""
    scheduler = generator.pipeline.scheduler
    clean, noise = torch.randn(1, *FAMILIES[generator.source][3]), torch.randn(1, *FAMILIES[generator.source][3])
    scheduler.set_timesteps(4)
    if not generator._flow:
        step = scheduler.timesteps[1]
        time = step.float().reshape(1) / (scheduler.config.num_train_timesteps - 1)
        noisy = generator.noised(clean, noise, time)
        assert torch.allclose(noisy, scheduler.add_noise(clean, noise, step.reshape(1)), atol=1e-5)
        found = scheduler.step(generator.target(clean, noise, time), int(step), noisy).pred_original_sample
        assert torch.allclose(found, clean, atol=1e-3)
        return
    latents = noise
    for step in scheduler.timesteps:
        latents = scheduler.step(generator.target(clean, noise, torch.ones(1)), step, latents).prev_sample
    assert torch.allclose(latents, clean, atol=1e-3)
    half = generator.noised(clean, noise, torch.tensor([0.5]))
    assert torch.allclose(half, (clean + noise) / 2)


def test_latents_are_normalised_as_the_vae_says(generator: DiffusersGenerator) -> None:
    clips = clips_of(generator.source)
    latents = generator.encode(clips)
    assert latents.shape == (2, *FAMILIES[generator.source][3])
    vae = generator.pipeline.vae
    pixels = clips[:1].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.no_grad():
        if generator.source == "animate_diff":
            alone = vae.encode(pixels[:, :, 1]).latent_dist.mode() * vae.config.scaling_factor
            assert torch.allclose(latents[:1, :, 1], alone, atol=1e-5)  # the second frame
            return
        raw = vae.encode(pixels).latent_dist.mode()
    if generator.source == "wan":
        mean, deviation = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 2.0, 1.0, 2.0])
        raw = (raw - mean[:, None, None, None]) / deviation[:, None, None, None]
    if generator.source == "cogvideox":
        raw = raw * vae.config.scaling_factor
    assert torch.allclose(latents[:1], raw, atol=1e-5)


def test_sampling_is_the_pipelines_and_a_seed_is_a_clip(generator: DiffusersGenerator) -> None:
    _, frames, size, _ = FAMILIES[generator.source]
    clips = generator.sample(CAPTIONS, [1, 2], steps=2, guidance=2.0)
    assert clips.shape == (2, frames, *size, 3) and clips.dtype == np.uint8
    assert (clips == generator.sample(CAPTIONS, [1, 2], steps=2, guidance=2.0)).all()
    assert (clips != generator.sample(CAPTIONS, [1, 3], steps=2, guidance=2.0))[1].any()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_adapter_learns_alone_and_comes_back_from_its_folder(family: str, tmp_path: Path) -> None:
    base = FAMILIES[family][0]()
    base.save_pretrained(str(tmp_path / "base"))
    _, frames, size, shape = FAMILIES[family]
    generator = DiffusersGenerator.open(tmp_path / "base", frames=frames, size=size, lora=LORA)
    network, conditions = generator.network, generator.conditions(CAPTIONS)
    latents, time = torch.randn(2, *shape), torch.tensor([0.3, 0.6])
    before = generator.predict(latents, time, conditions).detach()
    frozen = {name: w.detach().clone() for name, w in network.named_parameters() if not w.requires_grad}
    source = ClipSource(
        generator, clips_of(family).numpy(), [[c] for c in CAPTIONS], batch_size=2, micro_clips=2, unspoken=0.0, seed=0
    )
    optimizer = torch.optim.AdamW([w for w in network.parameters() if w.requires_grad], 0.05)
    model, update = DenoisingError(generator), source.next(0)
    errors = []
    for _ in range(6):
        error = model(update.micro_batches[0])["error"].mean()
        error.backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0]
    assert all(torch.equal(w, frozen[name]) for name, w in network.named_parameters() if name in frozen)
    after = generator.predict(latents, time, conditions).detach()
    with lora_off(network):
        assert torch.allclose(generator.predict(latents, time, conditions), before, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-4)
    assert sum(w.requires_grad for w in network.parameters()) == len(list(network.parameters())) - len(frozen)
    generator.save(tmp_path / "tuned")
    again = open_generator(tmp_path / "tuned")
    assert torch.allclose(again.predict(latents, time, again.conditions(CAPTIONS)), after, atol=1e-5)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    generator = opened("wan")
    _, _, size, _ = FAMILIES["wan"]
    four = DiffusersGenerator(generator.pipeline, "wan", frames=13, size=size)  # 4 latent frames of 4 channels
    with pytest.raises(ValueError, match="cannot tell frames from channels"):
        four.conditions(CAPTIONS)
    with pytest.raises(ValueError, match="neither a transformer nor a unet"):
        DiffusersGenerator(type("Pipeline", (), {"transformer": None, "unet": None})(), "here")
    with pytest.raises(ValueError, match="no linear layer ends so; such as"):
        add_lora(generator.network, LoraSettings(target_modules=["nowhere"]), 0)
    generator.save(tmp_path / "whole")
    again = open_generator(tmp_path / "whole")
    assert isinstance(again, DiffusersGenerator) and again._shape == generator._shape
