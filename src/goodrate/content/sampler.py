"""Few-step sampling with classifier-free guidance; the same seeds and captions give the same clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from goodrate.content.diffusion import Prediction, coefficients, noise_of, parted, times

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # noisy, time (B,), caption_ids (B, L) -> the prediction


def guided(predict: Predict, noisy: Tensor, time: Tensor, caption_ids: Tensor, guidance: float) -> Tensor:
    """without + guidance * (with - without the caption); 1 asks once, with the caption (arXiv 2207.12598)."""
    if guidance == 1:
        return predict(noisy, time, caption_ids)
    both = torch.cat([caption_ids, torch.zeros_like(caption_ids)])
    spoken, unspoken = predict(torch.cat([noisy, noisy]), torch.cat([time, time]), both).chunk(2)
    return unspoken + guidance * (spoken - unspoken)


@torch.no_grad()
def sample(
    predict: Predict,
    caption_ids: Tensor,
    shape: Sequence[int],
    seeds: Sequence[int],
    *,
    prediction: Prediction = "velocity",
    steps: int = 8,
    guidance: float = 2.0,
) -> Tensor:
    """Clean clips (B, *shape) for the captions (B, L), each from the noise of its seed.

    A step parts the noisy clip into clean and noise, and mixes them for the next time: Euler's method for the velocity,
    DDIM (arXiv 2010.02502) for the noise. Raises ValueError when captions and seeds are not as many, for steps < 1.
    """
    if len(seeds) != len(caption_ids):
        raise ValueError(f"{len(caption_ids)} captions need as many seeds, got {len(seeds)}")
    clip = noise_of(seeds, shape).to(caption_ids.device)
    schedule = times(prediction, steps)
    for now, then in zip(schedule[:-1].tolist(), schedule[1:].tolist(), strict=True):
        time = torch.full((len(clip),), now, device=clip.device)
        said = guided(predict, clip, time, caption_ids, guidance)
        clean, noise = parted(prediction, clip, said, time)
        alpha, sigma = coefficients(prediction, torch.full_like(time, then), clip.ndim)
        clip = alpha * clean.clamp(-1, 1) + sigma * noise if prediction == "noise" else alpha * clean + sigma * noise
    return clip
