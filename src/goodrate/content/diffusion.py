"""What lies between a clip and noise: noisy = alpha(t) clean + sigma(t) noise, time t from 0 (clean) to 1 (noise).

prediction   alpha          sigma          what a network predicts
velocity     1 - t          t              noise - clean           flow matching (arXiv 2210.02747, 2209.03003)
noise        cos(pi t / 2)  sin(pi t / 2)  noise                   variance-preserving, cosine (arXiv 2102.09672)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["velocity", "noise"]
CLEANEST = 0.05
LAST = 0.99  # where the noise prediction begins to sample: at 1 it would divide by alpha = 0


def coefficients(prediction: Prediction, time: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """alpha and sigma at the times (B,), each with further axes of one element up to `axes` in all."""
    t = time.reshape(-1, *[1] * (axes - 1))
    if prediction == "velocity":
        return 1 - t, t
    return torch.cos(t * (math.pi / 2)), torch.sin(t * (math.pi / 2))


def noised(prediction: Prediction, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """alpha clean + sigma noise. clean, noise (B, ...), time (B,) in 0..1."""
    alpha, sigma = coefficients(prediction, time, clean.ndim)
    return alpha * clean + sigma * noise


def target(prediction: Prediction, clean: Tensor, noise: Tensor) -> Tensor:
    """What the network should say: noise - clean, or noise."""
    return noise - clean if prediction == "velocity" else noise


def parted(prediction: Prediction, noisy: Tensor, said: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The clean clip and the noise that a prediction tells of; the inverse of `noised` for the true target."""
    alpha, sigma = coefficients(prediction, time, noisy.ndim)
    if prediction == "velocity":
        return noisy - sigma * said, noisy + alpha * said
    return (noisy - sigma * said) / alpha, said


def said_of(prediction: Prediction, noisy: Tensor, clean: Tensor, time: Tensor) -> Tensor:
    """The prediction of a network that says the clean clip. Below CLEANEST it divides by the sigma of that time: the
    error of a clip that is nearly clean would count without bound.
    """
    alpha, sigma = coefficients(prediction, time.clamp(min=CLEANEST), noisy.ndim)
    noise = (noisy - alpha * clean) / sigma
    return noise - clean if prediction == "velocity" else noise


def times(prediction: Prediction, steps: int) -> Tensor:
    """The times (steps + 1,) from the noisiest to 0 in equal steps. ValueError for less than one step."""
    if steps < 1:
        raise ValueError(f"steps {steps}: at least 1 is expected")
    return torch.linspace(1.0 if prediction == "velocity" else LAST, 0.0, steps + 1)


def noise_of(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Normal noise (B, *shape), each row from its own seed, so that a batch does not change it."""
    rows = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)
