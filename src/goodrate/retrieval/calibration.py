"""What cosines mean in an index: how far they spread, and how near its items come to what is no query at all.

Measured when the index is made, without any judgement, and kept in calibration.json beside the table: cosines of 0.4
are near for one encoder and far for another.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goodrate import strict_json
from goodrate.retrieval.indexing import ItemEncoder
from goodrate.retrieval.store import Store
from goodrate.run_folder import write_atomic

CALIBRATION_FILE = "calibration.json"
SPREAD = 0.1  # of an index that was not measured: about that of MiniLM and mpnet
PROBES = 200  # titles, and non-words
SAMPLE = 1000  # items that titles are compared with
TITLE_WORDS = 3  # shoppers type short queries
FLOOR_QUANTILE = 0.99  # of the cosine of each non-word with the item nearest to it
# Added to the floor, in spreads, for queries of no word that the catalogue has: most random letters that come over the
# floor by chance stay under this (benchmarks/search_quality.py counts what finds anything).
STRANGER = 0.5
SCANNED = 100_000  # items up to which all vectors are looked at at once
SEED = 0


class Calibration(BaseModel):
    """items: how many the index had. spread: standard deviation of cosines between queries and items.

    floor: no item of a query that is none was nearer, but for one in a hundred; None = not known. index: whose.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    items: int = Field(ge=0)
    spread: float = Field(default=SPREAD, gt=0, allow_inf_nan=False)
    floor: float | None = Field(default=None, allow_inf_nan=False)
    index: str = ""

    @property
    def strangers_floor(self) -> float | None:
        """The floor for queries that share nothing with the catalogue, whose nearest item may be near by chance."""
        return None if self.floor is None else self.floor + STRANGER * self.spread

    @property
    def rare_word(self) -> float:
        """log(1 + items): about the weight that BM25 gives to a word of a single item."""
        return math.log(1 + max(self.items, 1))

    def dense_gain(self, weight: float) -> float:
        """What one unit of cosine is worth in BM25: weight * rare_word / sqrt(spread * SPREAD).

        The measured spread tells encoders apart that differ by a factor of three, and is off by a tenth for real
        queries: met half-way.
        """
        return weight * self.rare_word / math.sqrt(self.spread * SPREAD)


def read_calibration(store: Store) -> Calibration:
    """That of an index; the usual spread and no floor where it has none, a damaged one or that of an earlier index."""
    try:
        found = Calibration.model_validate(strict_json.read_object(store.path / CALIBRATION_FILE))
    except (FileNotFoundError, ValueError, ValidationError):
        return Calibration(items=len(store))
    return found if found.index == store.manifest.id else Calibration(items=len(store))


def calibrate(store: Store, encoder: ItemEncoder) -> Calibration:
    """Measure an index and write it into its folder, which must be held for writing."""
    draw = np.random.default_rng(SEED)
    measured = Calibration(
        items=len(store), spread=_spread(store, encoder, draw) or SPREAD, floor=_floor(store, encoder, draw),
        index=store.manifest.id,
    )  # fmt: skip
    write_atomic(store.path / CALIBRATION_FILE, strict_json.dumps(measured.model_dump(), indent=2) + "\n")
    return measured


def non_queries(draw: np.random.Generator, count: int) -> list[str]:
    """One to three words of random letters, each of three to eight."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return [
        " ".join("".join(draw.choice(letters, draw.integers(3, 9))) for _ in range(draw.integers(1, 4)))
        for _ in range(count)
    ]


def _spread(store: Store, encoder: ItemEncoder, draw: np.random.Generator) -> float | None:
    """Standard deviation of the cosines of short titles with items; None of too few items."""
    sample = store.sample(SAMPLE, draw)
    if len(sample) < 2:
        return None
    titles = sample["title"].gather_every(max(1, len(sample) // PROBES))
    probes = titles.str.split(" ").list.head(TITLE_WORDS).list.join(" ")
    vectors = sample["vector"].to_numpy().reshape(len(sample), -1)
    spread = float(np.std(encoder.encode_queries(probes.to_list()) @ vectors.T))
    return spread if math.isfinite(spread) and spread > 0 else None


def _floor(store: Store, encoder: ItemEncoder, draw: np.random.Generator) -> float | None:
    """Quantile of how near the nearest item is to what is no query; None without items."""
    probes = encoder.encode_queries(non_queries(draw, PROBES))
    if len(store) <= SCANNED:
        vectors = store.vectors()[1]
        nearest = (probes @ vectors.T).max(axis=1).tolist() if len(vectors) else []
    else:
        nearest = [store.search_vector(probe, 1)[0].score for probe in probes]
    return float(np.quantile(nearest, FLOOR_QUANTILE)) if nearest else None
