"""A linear head on frozen features: standardised ridge regression onto the gains of labels. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class ProbeHead:
    """score = bias + ((features - mean) / spread) @ weight. mean, spread, weight: (D,) float64.

    Of L targets at once: weight (D, L), bias (L,); only heads of one target are saved.
    """

    mean: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    bias: float | np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """The score (N,), or (N, L), of each row of features (N, D)."""
        return self.bias + ((features - self.mean) / self.spread) @ self.weight

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save_file

        bias = np.asarray([self.bias])
        save_file({"mean": self.mean, "spread": self.spread, "weight": self.weight, "bias": bias}, str(path))

    @classmethod
    def load(cls, path: Path, dimension: int) -> ProbeHead:
        """Read it. Raises FileNotFoundError, ValueError naming the file for other tensors or another width."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the judge's head is missing")
        try:
            found = load_file(str(path))
            head = cls(found["mean"], found["spread"], found["weight"], float(found["bias"][0]))
        except (SafetensorError, KeyError, IndexError) as error:
            raise ValueError(f"{path} is not the head of a probe: {error!r}") from error
        shapes = {head.mean.shape, head.spread.shape, head.weight.shape}
        if shapes != {(dimension,)}:
            raise ValueError(f"{path} has shapes {sorted(shapes)}; the model's features have ({dimension},)")
        return head


def ridge_heads(features: np.ndarray, targets: np.ndarray, alphas: Sequence[float]) -> list[ProbeHead]:
    """A head for each alpha > 0: argmin_w |y - mean(y) - Z w|^2 + alpha |w|^2 with Z the standardised features.

    features (N, D), targets (N,) or (N, L). One Gram matrix serves all alphas and targets: Z'Z, or ZZ' where N < D. A
    feature that never changes has spread 1 and so no influence.
    """
    from scipy.linalg import solve

    x = np.asarray(features, dtype=np.float64)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    z, y = (x - mean) / spread, np.asarray(targets, dtype=np.float64)
    bias = y.mean(axis=0)
    wide = len(z) < z.shape[1]
    gram, right = (z @ z.T, y - bias) if wide else (z.T @ z, z.T @ (y - bias))
    solved = [solve(gram + alpha * np.eye(len(gram)), right, assume_a="pos") for alpha in alphas]
    return [
        ProbeHead(mean, spread, z.T @ one if wide else one, float(bias) if y.ndim == 1 else bias) for one in solved
    ]


def gain_targets(labels: np.ndarray, scale: RelevanceScale) -> np.ndarray:
    """What a head is fitted to: each label's gain, of the largest (N,) in 0..1."""
    gains = scale.gain_array
    return gains[np.asarray(labels, dtype=np.int64)] / gains[-1]
