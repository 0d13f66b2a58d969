"""Any diffusers text-to-video pipeline as a VideoGenerator.

The pipeline says itself how it calls its network: it is started with the captions, and what the network is first
called with is kept. A prediction is then that call with other latents and another time. So no family needs code of
its own as long as its network gets the scheduler's own time and latents in one of three layouts: (B, C, T, H, W),
(B, T, C, H, W), or tokens that the pipeline packs and unpacks itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.content.lora import add_lora, load_lora, save_lora
from goodrate.content.protocol import CARD, FORMAT, Conditions
from goodrate.extras import require
from goodrate.models.adapter import LoraSettings
from goodrate.run_folder import new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

PIPELINE = "model_index.json"  # what a pipeline's folder has
INPUTS = ("hidden_states", "sample")  # what networks call their latents
TIME = "timestep"


class _Called(Exception):
    """Ends a pipeline's run at the first call of its network."""


class DiffusersGenerator:
    """A pipeline whose scheduler flow-matches or has alphas_cumprod; its text encoder and VAE stay as they are."""

    def __init__(
        self, pipeline: Any, source: str, *, frames: int | None = None, size: tuple[int, int] | None = None,
        lora: LoraSettings | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        """source: folder or hub id that the pipeline is from. frames, size (height, width): of clips; None = its own.

        Raises ValueError for a pipeline without a network that denoises video.
        """
        self.pipeline, self.source, self.lora = pipeline, source, lora
        network = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
        if network is None:
            raise ValueError(f"{source}: a {type(pipeline).__name__} has neither a transformer nor a unet")
        self.network: Any = network
        self._shape = {"num_frames": frames} if frames else {}
        self._shape |= {"height": size[0], "width": size[1]} if size else {}
        self._signature = inspect.signature(network.forward)
        self._input = next((name for name in INPUTS if name in self._signature.parameters), "")
        if not self._input or TIME not in self._signature.parameters:
            raise ValueError(f"{source}: {type(network).__name__} takes no {' or '.join(INPUTS)} with a {TIME}")
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval()
                part.requires_grad_(part is network)
        if lora:
            add_lora(network, lora, seed)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def conditions(self, captions: Sequence[str]) -> Conditions:
        """The keywords of the network's first call for these captions, without guidance."""
        caught: dict[str, Any] = {}

        def catch(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught.update(self._signature.bind(*args, **kwargs).arguments)
            raise _Called

        hook = self.network.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            self.pipeline(
                prompt=list(captions), num_inference_steps=1, guidance_scale=1.0, output_type="latent", **self._shape
            )
        except _Called:
            pass
        finally:
            hook.remove()
        self._check(caught)
        caught["layout"] = self._layout(caught[self._input])
        return caught

    def _check(self, caught: Mapping[str, Any]) -> None:
        """ValueError when the pipeline tells its network another time than the scheduler's: noise would be misread."""
        told, due = float(torch.as_tensor(caught[TIME]).max()), float(self.pipeline.scheduler.timesteps[0])
        if abs(told - due) > 1e-3 * max(1.0, abs(due)):
            raise ValueError(f"{self.source}: the network is told time {told}, the scheduler says {due}; not supported")

    def _layout(self, latents: Tensor) -> str:
        """Which of the three layouts the network's latents have."""
        if latents.ndim == 3 and hasattr(self.pipeline, "_pack_latents"):
            return "packed"
        channels = self.network.config.in_channels
        first, second = (latents.shape[1], latents.shape[2]) if latents.ndim == 5 else (0, 0)
        if (first == channels) == (second == channels):
            raise ValueError(
                f"{self.source}: latents {tuple(latents.shape)} of {channels} channels: cannot tell frames from "
                "channels; choose another number of frames"
            )
        return "channels_first" if first == channels else "frames_first"

    @torch.no_grad()
    def encode(self, clips: Tensor) -> Tensor:
        """The VAE's latents (the mode, not a draw), frame by frame where it knows only pictures, and normalised."""
        vae = self.pipeline.vae
        weight = next(vae.parameters())
        pixels = (clips.permute(0, 4, 1, 2, 3).to(weight.device).float() / 127.5 - 1).to(weight.dtype)
        if any(isinstance(layer, nn.Conv3d) for layer in vae.modules()):
            return self._normalised(vae.encode(pixels).latent_dist.mode().float())
        pictures = pixels.transpose(1, 2).flatten(0, 1)
        latents = vae.encode(pictures).latent_dist.mode().float()
        return self._normalised(latents.unflatten(0, (len(clips), -1)).transpose(1, 2))

    def _normalised(self, latents: Tensor) -> Tensor:
        """(latents - mean) * scaling / deviation, by what the VAE says of itself."""
        vae = self.pipeline.vae
        scale = vae.config.get("scaling_factor") or 1.0
        mean, deviation = (_per_channel(vae, name, latents) for name in ("latents_mean", "latents_std"))
        if mean is not None and deviation is not None:
            return (latents - mean) * scale / deviation
        return (latents - (vae.config.get("shift_factor") or 0.0)) * scale

    @property
    def _flow(self) -> bool:
        """Whether the scheduler matches flows: noisy = (1 - t) clean + t noise, velocity predicted."""
        scheduler = self.pipeline.scheduler
        flow = scheduler.config.get("prediction_type") == "flow_prediction"
        return flow or type(scheduler).__name__.startswith("FlowMatch")

    def _steps(self, time: Tensor) -> Tensor:
        """The network's time: a number of training steps, whole where the scheduler has a table."""
        steps = self.pipeline.scheduler.config.num_train_timesteps
        return time * steps if self._flow else (time * (steps - 1)).round().long()

    def _mix(self, time: Tensor, axes: int) -> tuple[Tensor, Tensor]:
        """alpha and sigma at the times."""
        if self._flow:
            alpha, sigma = 1 - time, time
        else:
            kept = self.pipeline.scheduler.alphas_cumprod.to(time)[self._steps(time)]
            alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        return alpha.reshape(-1, *[1] * (axes - 1)), sigma.reshape(-1, *[1] * (axes - 1))

    def noised(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """See VideoGenerator; by the scheduler's table, or straight for flows."""
        alpha, sigma = self._mix(time, latents.ndim)
        return alpha * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """See VideoGenerator. ValueError for a scheduler's kind of prediction that is not known."""
        if self._flow:
            return noise - latents
        kind = self.pipeline.scheduler.config.prediction_type
        alpha, sigma = self._mix(time, latents.ndim)
        if kind == "v_prediction":
            return alpha * noise - sigma * latents
        if kind not in ("epsilon", "sample"):
            raise ValueError(f"{self.source}: the scheduler predicts {kind!r}; known: epsilon, sample, v_prediction")
        return noise if kind == "epsilon" else latents

    def predict(self, noisy: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        """See VideoGenerator. conditions: of as many captions as there are clips."""
        caught = dict(conditions)
        layout, seen = caught.pop("layout"), caught[self._input]
        told = self._steps(time).to(noisy.device)
        like = torch.as_tensor(caught[TIME])
        if like.ndim > 1:  # a time for every token
            told = told[:, None].expand(len(noisy), like.shape[1])
        caught[TIME] = told
        caught[self._input] = self._arranged(noisy, layout).to(seen.dtype)
        said = self.network(**caught)
        said = said[0] if isinstance(said, tuple) else said.sample
        return self._restored(said.float(), layout, noisy)

    def _arranged(self, latents: Tensor, layout: str) -> Tensor:
        """(B, C, T, H, W) as the network takes it."""
        if layout == "packed":
            return self.pipeline._pack_latents(latents, *self._patches())
        return latents.transpose(1, 2) if layout == "frames_first" else latents

    def _restored(self, said: Tensor, layout: str, like: Tensor) -> Tensor:
        """The inverse; of a network that says its variance, too, the first channels."""
        if layout == "packed":
            space, time = self._patches()
            t, h, w = like.shape[2] // time, like.shape[3] // space, like.shape[4] // space
            return self.pipeline._unpack_latents(said, t, h, w, space, time)
        said = said.transpose(1, 2) if layout == "frames_first" else said
        return said[:, : like.shape[1]]

    def _patches(self) -> tuple[int, int]:
        """Side and frames of a packed token."""
        config = self.network.config
        return int(config.patch_size), int(config.get("patch_size_t") or 1)

    @torch.no_grad()
    def sample(
        self, captions: Sequence[str], seeds: Sequence[int], *, steps: int | None = None, guidance: float | None = None,
        frames: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The pipeline's own clips, each with the generator of its seed."""
        told: dict[str, Any] = dict(self._shape)
        told |= {"num_inference_steps": steps} if steps is not None else {}
        told |= {"guidance_scale": guidance} if guidance is not None else {}
        told |= {"num_frames": frames} if frames is not None else {}
        own = [torch.Generator().manual_seed(seed) for seed in seeds]
        frames_out = self.pipeline(prompt=list(captions), generator=own, output_type="np", **told).frames
        return np.rint(np.clip(np.asarray(frames_out), 0, 1) * 255).astype(np.uint8)

    def save(self, folder: str | Path) -> None:
        """The adapter with a card that names the pipeline; the whole pipeline where there is no adapter."""
        card = {"format": FORMAT, "kind": "diffusers", "shape": self._shape}
        with new_folder(folder) as beside:
            if self.lora:
                card |= {"pipeline": self.source, "lora": self.lora.model_dump()}
                save_lora(self.network, beside)
            else:
                self.pipeline.save_pretrained(str(beside))
            write_atomic(beside / CARD, dumps(card, indent=2) + "\n")

    @classmethod
    def open(
        cls, folder: str | Path, *, frames: int | None = None, size: tuple[int, int] | None = None,
        lora: LoraSettings | None = None, seed: int = 0,
    ) -> DiffusersGenerator:  # fmt: skip
        """The generator of a pipeline's folder, or of one that `save` wrote; what it says of frames and size is kept.

        lora: an adapter to train. Raises MissingExtra without diffusers, FileNotFoundError for no pipeline.
        """
        require("video", "a diffusers pipeline")
        folder = Path(folder)
        card = read_object(folder / CARD) if (folder / CARD).is_file() else {}
        shape = card.get("shape", {})
        frames = frames or shape.get("num_frames")
        size = size or ((shape["height"], shape["width"]) if "height" in shape else None)
        source = card.get("pipeline", str(folder.resolve()))
        held = LoraSettings.model_validate(card["lora"]) if card.get("lora") else None
        opened = cls(_load(source), source, frames=frames, size=size, lora=None if held else lora, seed=seed)
        if held:
            load_lora(opened.network, held, folder)
            opened.lora = held
        return opened


def _load(source: str) -> Any:
    """The pipeline; from this machine alone where it is a folder."""
    from diffusers import DiffusionPipeline

    if Path(source).is_absolute() and not (Path(source) / PIPELINE).is_file():
        raise FileNotFoundError(f"{source}: no {PIPELINE}; a diffusers pipeline's folder is expected")
    return DiffusionPipeline.from_pretrained(source)


def _per_channel(vae: Any, name: str, latents: Tensor) -> Tensor | None:
    """What a VAE says of each channel, in its weights or its configuration; None where it says nothing."""
    value = dict(vae.named_buffers()).get(name, vae.config.get(name))
    return None if value is None else torch.as_tensor(value).to(latents).reshape(1, -1, 1, 1, 1)
