"""The model of query-entity verdicts: a cross-encoder with three states, support, conflict and neutral."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goodrate.models.cross_encoder import CrossEncoder
from goodrate.relevance.calibration import softmax
from goodrate.relevance.entities import Entity

if TYPE_CHECKING:
    from goodrate.relevance.entity_start import EntityStart

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
    """A cross-encoder as relevance.entity_verdicts asks one. Its weights must not change any more.

    start: what its numbers are added to, and what alone says how a whole item stands; None for a model that says all.
    """

    def __init__(self, model: CrossEncoder, start: EntityStart | None = None) -> None:
        self.model, self.start = model, start
        digest = hashlib.sha256(model.encoder.fingerprint.encode())
        for _, weight in sorted(model.head.state_dict().items()):
            digest.update(weight.detach().cpu().float().numpy().tobytes())
        self.fingerprint = f"{digest.hexdigest()} {model.encoder.precision} {model.max_tokens}"
        self.fingerprint += f" {start.fingerprint}" if start is not None else ""

    @classmethod
    def load(cls, folder: Path, start: EntityStart | None = None) -> CrossEncoderVerdicts:
        """Read a folder of CrossEncoder.save. Raises as CrossEncoder.load."""
        from goodrate.models.encoder_folder import read_rules

        most = min(MAX_TOKENS, read_rules(folder)[0].max_length)
        return cls(CrossEncoder.load(folder, STATES, most), start)

    def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        """Support and conflict (N, 2); NaN where a query leaves no room for an entity."""
        return corrected(self.model, self.start, queries, entities)


def corrected(
    model: CrossEncoder, start: EntityStart | None, queries: Sequence[str], entities: Sequence[Entity]
) -> np.ndarray:
    """Verdicts (N, 2) of a model as it is, on top of the start's; NaN where a query leaves no room for an entity."""
    if start is None:
        return _states(model.numbers(model.tokenize(queries, [str(one) for one in entities])))
    told = start.verdicts(queries, entities)
    rows = [row for row, one in enumerate(entities) if not start.knows(one)]
    asked, parts = [queries[row] for row in rows], [entities[row] for row in rows]
    if rows:
        numbers = model.numbers(model.tokenize(asked, [str(one) for one in parts]))
        told[rows] = _states(numbers + start.logits(asked, parts))
    return told


def _states(logits: np.ndarray) -> np.ndarray:
    return softmax(logits)[:, [SUPPORT, CONFLICT]]
