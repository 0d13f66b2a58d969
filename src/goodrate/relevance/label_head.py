"""Labels of an ensemble from more than its sum: multinomial odds of features and members.

A stack: ridge heads on the features, one for each label, and the members' scores go into a multinomial logistic
regression (Wolpert 1992, "Stacked generalization"). A sum is one number, and labels that differ in kind more than in
degree, such as a complement and a bad substitute, lie at the same place of it. Arithmetic only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from goodrate.relevance.calibration import softmax

PULL = 1.0  # towards 0 of the stack's weights on standardised inputs, in pairs
BIAS_PULL = 1e-3  # of its biases: a label that never occurs keeps a finite one


@dataclass(frozen=True)
class LabelHead:
    """logits = bias + ((features - mean) / spread) @ weight + scores @ members.

    mean, spread: (D,). weight: (D, L). members: (M, L), for standardised scores of the ensemble's members in its order.
    bias: (L,). L labels, worst first; all float64.
    """

    mean: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    members: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Of features (N, D) and standardised members' scores (N, M): (N, L); a row of NaN for a NaN in either."""
        return self.bias + self._of_features(features) + scores @ self.members

    def _of_features(self, features: np.ndarray) -> np.ndarray:
        """What the features add to the logits, (N, L)."""
        return ((features - self.mean) / self.spread) @ self.weight

    def probabilities(self, features: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Of labels, (N, L): softmax of the logits."""
        return softmax(self.logits(features, scores))

    def parts(self, features: np.ndarray, scores: np.ndarray, probe: int) -> np.ndarray:
        """What each member says for each label beside the mean of all labels, (M, N, L). probe: the member whose
        features those are.
        """
        own = scores.T[:, :, None] * self.members[:, None, :]
        own[probe] += self._of_features(features)
        return own - own.mean(axis=2, keepdims=True)

    @property
    def digest(self) -> str:
        """16 hex of sha256 over all its numbers."""
        parts = [part.tobytes() + str(part.shape).encode() for part in self._parts.values()]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    @property
    def _parts(self) -> Mapping[str, np.ndarray]:
        return {name: np.ascontiguousarray(part, dtype=np.float64) for name, part in asdict(self).items()}

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save_file

        save_file(dict(self._parts), str(path))

    @classmethod
    def load(cls, path: Path, dimension: int, members: int, labels: int) -> LabelHead:
        """Read it. Raises FileNotFoundError, ValueError naming the file for other tensors or shapes."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the judge's card names a label head; fit the judge anew")
        try:
            head = cls(**load_file(str(path)))
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path} is not a label head: {error!r}") from error
        found = {name: part.shape for name, part in head._parts.items()}
        expected = {
            "mean": (dimension,), "spread": (dimension,), "weight": (dimension, labels), "members": (members, labels),
            "bias": (labels,),
        }  # fmt: skip
        if found != expected:
            raise ValueError(f"{path} has shapes {found}; the judge's model, members and scale have {expected}")
        return head


def fit_multinomial(inputs: np.ndarray, labels: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, L) and biases (L,) with the least sum of -log p + PULL / 2 |weights|^2 (+ BIAS_PULL for biases).

    inputs (N, K), about standardised; labels (N,) positions. Strictly convex: the same wherever it is computed.
    """
    from scipy.optimize import minimize

    x = np.hstack([inputs, np.ones((len(inputs), 1))])
    wished = np.eye(num_labels)[labels]
    pull = np.append(np.full(inputs.shape[1], PULL), BIAS_PULL)[:, None]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(x.shape[1], num_labels)
        logits = x @ w
        highest = logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)) + highest
        value = (norm[:, 0] - logits[wished > 0]).sum() + 0.5 * float((pull * w * w).sum())
        return float(value), (x.T @ (np.exp(logits - norm) - wished) + pull * w).ravel()

    options = {"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-6}
    found = minimize(loss, np.zeros(x.shape[1] * num_labels), jac=True, method="L-BFGS-B", options=options).x
    w = found.reshape(x.shape[1], num_labels)
    return w[:-1], w[-1]
