"""What a model says of an item's attributes: a guess with its probability, and the protocol of what makes guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from goodrate.catalog.items import Catalog

Picture: TypeAlias = bytes | np.ndarray | None  # an encoded file, pixels (H, W, 3) uint8, or none

UNKNOWN = "unknown"  # the answer of a model that cannot tell; such an answer is left out of a list of guesses


@dataclass(frozen=True)
class AttributeGuess:
    """One value that a model fills in. confidence: a calibrated probability, 0..1, that the value is right."""

    attribute: str
    value: str
    confidence: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"{self.attribute}: expected a confidence between 0 and 1, got {self.confidence}")


class Describer(Protocol):
    """Fills in attributes of items from their pictures and texts."""

    @property
    def name(self) -> str:
        """What a reader knows it by; with the fingerprint it is the source of each value."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a guess; two describers of one fingerprint say the same of the same item."""

    def describe(
        self, items: Catalog, images: Sequence[Picture], attributes: Mapping[str, Sequence[str]]
    ) -> list[list[AttributeGuess]]:
        """Guesses for each item, at most one an attribute; what it cannot tell is left out.

        images: one an item, None without a picture. attributes: name -> the values it may have; an empty sequence
        leaves the value open. ValueError where the lengths differ.
        """
