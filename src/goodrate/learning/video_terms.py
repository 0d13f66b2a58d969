"""Gran-DPO: a video generator learns from pairs of clips by rewards of whole videos and of their patches.

After HALO (arXiv 2502.06812), whose formula is not public: the terms here are our reading of its abstract on top of
Diffusion-DPO. Clips are latents (N, C, T, H, W); patch p of P = g * g is a tube over all frames, row by row. Errors
are squared errors of what the network predicts (a velocity, a noise); one time and one noise for both clips of a pair
and for both networks, or the difference of errors measures the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.learning.losses import dense_dpo, patch_dpo, video_dpo
from goodrate.learning.records import MicroBatch, Outputs, Term

Form = Literal["both", "video", "patch", "dense", "sft"]


class Denoises(Protocol):
    """What of a video generator the errors need; content.video_generator.VideoGenerator has it."""

    @property
    def network(self) -> nn.Module: ...

    def conditions(self, captions: Sequence[str]) -> Any:
        """What the network reads of N captions."""
        ...

    def noised(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Latents and noise (N, C, T, H, W) mixed at the times (N,), 0 (clean) to 1 (noise)."""
        ...

    def target(self, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the network should predict there."""
        ...

    def predict(self, noisy: Tensor, time: Tensor, conditions: Any) -> Tensor:
        """What it predicts."""
        ...


class VideoTermSettings(BaseModel):
    """Which form of the loss and how its parts weigh."""

    model_config = ConfigDict(extra="forbid")
    form: Form = Field(
        default="both", description="both = video and patches (HALO); video or patch alone; dense = one sigmoid over "
        "all patches (DenseDPO); sft = the winners' own loss, no preference",
    )  # fmt: skip
    beta: float = Field(default=1000.0, gt=0, description="of both terms: how far errors may go from the reference's")
    patch_weight: float = Field(default=0.5, ge=0, description="of the patch term beside the video term")
    sft: float = Field(default=0.0, ge=0, description="weight of the winner's own loss; 0 = none")


def patch_errors(squared: Tensor, grid: int) -> Tensor:
    """(N, grid * grid) mean of squared errors (N, C, T, H, W) over the channels, frames and cells of each patch.

    The mean over patches is the mean over everything. ValueError where the grid does not divide height and width:
    patches of pixels and of latent cells would then be others.
    """
    height, width = squared.shape[-2:]
    if height % grid or width % grid:
        raise ValueError(f"a grid of {grid} x {grid} does not divide {height} x {width} cells")
    cells = squared.unflatten(-1, (grid, width // grid)).unflatten(-3, (grid, height // grid))
    return cells.mean(dim=(1, 2, 4, 6)).flatten(1)


def patch_preferences(winner: Tensor, loser: Tensor, margin: float, soft: float | None = None) -> tuple[Tensor, Tensor]:
    """(sign, weight), both of the rewards' shape (N, P). sign: 1 where the winner's patch has the higher reward, or -1.

    weight: 1 where the rewards are further apart than the margin, else 0; with soft = the gap of full weight,
    min(1, gap / soft) there. Equal rewards have weight 0, and sign 0.
    """
    gap = winner - loser
    counts = (gap.abs() > margin).to(gap.dtype)
    return gap.sign(), counts if soft is None else counts * (gap.abs() / soft).clamp(max=1)


def combined_reward(video: Tensor, patches: Tensor, share: float) -> Tensor:
    """(N,) one number for a clip: (1 - share) of its video reward (N,) and share of its patches' mean (N, P)."""
    return (1 - share) * video + share * patches.mean(dim=1)


class PairedErrors(nn.Module):
    """Policy and frozen reference on both clips of every pair: forward gives the errors that the terms read.

    Micro-batch: winner, loser, noise (N, C, T, H, W), time (N,), captions (N). Outputs: winner, loser (N, P) error of
    the policy less that of the reference; error (N, P) of the policy on the winner.
    """

    def __init__(
        self, policy: Denoises, reference: Denoises | None, grid: int,
        adapter_off: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        """reference: frozen; None = the policy itself inside adapter_off()."""
        super().__init__()
        self.policy = policy.network  # registers the weights; the generator reads the same module
        if reference is not None:
            self.reference = reference.network
        self._generators, self._grid, self._adapter_off = (policy, reference or policy), grid, adapter_off

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Four forwards of N clips."""
        policy, reference = self._generators
        with torch.no_grad(), self._adapter_off():
            fixed = {name: self._errors(reference, batch, name) for name in ("winner", "loser")}
        errors = {name: self._errors(policy, batch, name) for name in fixed}
        return {name: errors[name] - fixed[name] for name in errors} | {"error": errors["winner"]}

    def _errors(self, generator: Denoises, batch: MicroBatch, name: str) -> Tensor:
        clean, noise, time = batch[name], batch["noise"], batch["time"]
        conditions = generator.conditions(batch["captions"])
        predicted = generator.predict(generator.noised(clean, noise, time), time, conditions)
        return patch_errors((predicted.float() - generator.target(clean, noise, time)) ** 2, self._grid)


def video_terms(settings: VideoTermSettings) -> tuple[list[Term], list[Term]]:
    """(terms, diagnostics) over the pairs of an update, each one value a pair. Mask: `pair`; patches: sign, weight."""
    beta = settings.beta

    def video(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return video_dpo(outputs["winner"].mean(dim=1), outputs["loser"].mean(dim=1), beta=beta)

    def patch(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return patch_dpo(outputs["winner"], outputs["loser"], batch["sign"], batch["weight"], beta=beta)

    def dense(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return dense_dpo(outputs["winner"], outputs["loser"], batch["sign"] * batch["weight"], beta=beta)

    def sft(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return outputs["error"].mean(dim=1)

    def preferred(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return (outputs["winner"].mean(dim=1) < outputs["loser"].mean(dim=1)).float()

    weights = {"video": {"video": 1.0}, "patch": {"patch": 1.0}, "dense": {"dense": 1.0}, "sft": {"sft": 1.0},
               "both": {"video": 1.0, "patch": settings.patch_weight}}[settings.form]  # fmt: skip
    if settings.sft and settings.form != "sft":
        weights = {**weights, "sft": settings.sft}
    losses = {"video": video, "patch": patch, "dense": dense, "sft": sft}
    terms = [Term(name, losses[name], "pair", weight=weight, unit="pair") for name, weight in weights.items()]
    others = [Term("error", sft, "pair", unit="pair"), Term("preferred", preferred, "pair", unit="pair")]
    return terms, others
