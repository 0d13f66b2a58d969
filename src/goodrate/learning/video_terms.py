"""Gran-DPO: a video generator learns from pairs of clips by rewards of whole videos and of their patches.

After HALO (arXiv 2502.06812), whose formula is not public: the terms here are our reading of its abstract on top of
Diffusion-DPO. Clips are latents (N, C, T, H, W); patch p of P = g * g is a tube over all frames, row by row. Errors
are squared errors of what the network predicts (a velocity, a noise); one time and one noise for both clips of a pair
and for both networks, or the difference of errors measures the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.learning.losses import dense_dpo, patch_dpo, video_dpo
from goodrate.learning.records import MicroBatch, Outputs, Term

Form = Literal["both", "video", "patch", "dense", "sft"]
# (clean, noise, time (N,)) -> what the network reads and what it should predict
Noising = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


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

    Micro-batch: winner, loser, noise (N, C, T, H, W), time (N,), captions (N, L). Outputs: winner, loser (N, P) error
    of the policy less that of the reference; error (N, P) of the policy on the winner.
    """

    def __init__(self, policy: nn.Module, reference: nn.Module, noising: Noising, grid: int) -> None:
        super().__init__()
        self.policy, self.reference = policy, reference
        self._noising, self._grid = noising, grid

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Two forwards, each of 2 N clips."""
        clean = torch.cat([batch["winner"], batch["loser"]])
        noise, time, captions = (torch.cat([batch[name]] * 2) for name in ("noise", "time", "captions"))
        noisy, target = self._noising(clean, noise, time)
        own = self._errors(self.policy, noisy, target, time, captions)
        with torch.no_grad():
            reference = self._errors(self.reference, noisy, target, time, captions)
        winner, loser = (own - reference).chunk(2)
        return {"winner": winner, "loser": loser, "error": own.chunk(2)[0]}

    def _errors(self, network: nn.Module, noisy: Tensor, target: Tensor, time: Tensor, captions: Tensor) -> Tensor:
        predicted = network(noisy, time, captions).float()  # bf16 would round away what the two networks differ in
        return patch_errors((predicted - target) ** 2, self._grid)


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
