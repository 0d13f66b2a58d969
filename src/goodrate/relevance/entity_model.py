"""The model of query-entity verdicts: a cross-encoder with three states, support, conflict and neutral."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from goodrate.models.cross_encoder import CrossEncoder
from goodrate.relevance.calibration import softmax

SUPPORT, CONFLICT, NEUTRAL = 0, 1, 2
STATES = 3
MAX_TOKENS = 96  # of query and entity; an entity has at most 60 characters
PRIOR = (-1.0, -3.0, 1.0)  # of a new head: nearly all entities are neutral


def new_model(model: CrossEncoder) -> CrossEncoder:
    """The cross-encoder with a head that starts at PRIOR: else twenty entities would make every item irrelevant."""
    import torch

    with torch.no_grad():
        model.head.bias.copy_(torch.tensor(PRIOR))
    return model


class CrossEncoderVerdicts:
    """A cross-encoder as relevance.entity_verdicts asks one. Its weights must not change any more."""

    def __init__(self, model: CrossEncoder) -> None:
        self.model = model
        digest = hashlib.sha256(model.encoder.fingerprint.encode())
        for _, weight in sorted(model.head.state_dict().items()):
            digest.update(weight.detach().cpu().float().numpy().tobytes())
        self.fingerprint = f"{digest.hexdigest()} {model.encoder.precision} {model.max_tokens}"

    @classmethod
    def load(cls, folder: Path) -> CrossEncoderVerdicts:
        """Read a folder of CrossEncoder.save. Raises as CrossEncoder.load."""
        from goodrate.models.encoder_folder import read_rules

        most = min(MAX_TOKENS, read_rules(folder)[0].max_length)
        return cls(CrossEncoder.load(folder, STATES, most))

    def verdicts(self, queries: Sequence[str], entities: Sequence[str]) -> np.ndarray:
        """Support and conflict (N, 2); NaN where a query leaves no room for an entity."""
        rows = self.model.numbers(self.model.tokenize(queries, entities))
        return softmax(rows)[:, [SUPPORT, CONFLICT]]
