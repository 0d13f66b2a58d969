"""Updates of a click ranker from a log that grows: what is there is learned first, what comes later when it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from goodrate.learning.click_terms import Correction, click_term
from goodrate.learning.records import Update
from goodrate.learning.source import refuse_other_data, seed_of
from goodrate.ragged import Ragged
from goodrate.ranking.feature_ids import spread
from goodrate.ranking.propensities import of_positions
from goodrate.ranking.ranker import standardised
from goodrate.recipes.click_features import LogFeatures

DEV_PARTS = 10_000


@dataclass(frozen=True)
class Reading:
    """How impressions become batches. mean, spread: of the numbers. propensities (P,), clip: weights of clicks at the
    places; None where the correction takes none.
    """

    correction: Correction
    batch_size: int
    epochs: int
    seed: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    propensities: np.ndarray | None = None
    clip: float = 10.0


class ClickSource:
    """Impressions in parts: those of the first call, and those that each longer log added. Every part is read
    `epochs` times, in an order that seed, part and pass decide; its last batch may be short.
    """

    def __init__(self, log: LogFeatures, rows: np.ndarray, reading: Reading) -> None:
        """rows: (R,) the impressions of the log to learn from, rising."""
        self._reading, self._term = reading, click_term(reading.correction)
        self._ends: list[int] = []  # of each part, in impressions of the log
        self._part, self._batch = 0, 0
        self.use(log, rows)

    def use(self, log: LogFeatures, rows: np.ndarray) -> None:
        """Go on with a log that begins with the one so far."""
        self._log, self._rows = log, rows

    @property
    def learned(self) -> int:
        """Impressions of the log that some part holds."""
        return self._ends[-1] if self._ends else 0

    def next(self, step: int) -> Update | None:
        """The next batch; None when all that the log holds has been learned."""
        while True:
            if self._part == len(self._ends):
                if self.learned == len(self._log.log):
                    return None
                self._ends.append(len(self._log.log))
            rows = self._of_part(self._part)
            size = self._reading.batch_size
            in_pass = -(-len(rows) // size)
            if self._batch < in_pass * self._reading.epochs:
                break
            self._part, self._batch = self._part + 1, 0
        epoch, place = divmod(self._batch, in_pass)
        order = np.random.default_rng(seed_of(self._reading.seed, "part", self._part, epoch)).permutation(len(rows))
        self._batch += 1
        chosen = rows[np.sort(order[place * size : (place + 1) * size])]
        return Update([click_batch(self._log, chosen, self._reading)], [self._term], {"rows": float(len(chosen))})

    def _of_part(self, part: int) -> np.ndarray:
        """The impressions of a part that are learned from."""
        start = self._ends[part - 1] if part else 0
        return self._rows[np.searchsorted(self._rows, start) : np.searchsorted(self._rows, self._ends[part])]

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, and what it read so far."""
        return {"ends": list(self._ends), "part": self._part, "batch": self._batch, **self._own(self.learned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there. ValueError when the log does not begin with what was read, or for other features or settings."""
        ends = [int(end) for end in state["ends"]]
        learned = ends[-1] if ends else 0
        if learned > len(self._log.log):
            raise ValueError(f"{learned:,} impressions were learned, the log has {len(self._log.log):,}; a log grows")
        refuse_other_data(self._own(learned), state)
        self._ends, self._part, self._batch = ends, int(state["part"]), int(state["batch"])

    def _own(self, learned: int) -> dict[str, Any]:
        """What has to be the same for a run to go on."""
        reading = self._reading
        return {
            "features": self._log.features.fingerprint, "impressions": digest(self._log, learned),
            "batch_size": reading.batch_size, "epochs": reading.epochs, "seed": reading.seed,
        }  # fmt: skip


def click_batch(log: LogFeatures, rows: np.ndarray, reading: Reading) -> dict[str, Any]:
    """The micro-batch of impressions (B,) of a log."""
    position = log.log.position[rows]
    ids, known = log.sparse(rows)
    batch: dict[str, Any] = {
        "ids": {name: _ragged(ids[:, s], known[:, s]) for s, name in enumerate(log.features.sparse)},
        "numbers": torch.from_numpy(standardised(log.dense(rows), reading.mean, reading.spread, log.features)),
        "position": torch.from_numpy(position.astype(np.int64)),
        "clicked": torch.from_numpy(log.log.clicked[rows].astype(np.float32)),
        "mask": torch.ones(len(rows), dtype=torch.bool),
    }
    if reading.propensities is not None:
        weight = np.minimum(1.0 / of_positions(reading.propensities, position), reading.clip)
        batch["weight"] = torch.from_numpy(weight.astype(np.float32))
    return batch


def digest(log: LogFeatures, count: int) -> str:
    """12 hex digits of the first impressions of a log; the same when it has grown."""
    first = slice(count)
    items = log.catalog.ids["item"]
    columns = (log.query[log.log.query[first]], items[log.log.item[first]], log.log.position[first],
               log.log.clicked[first])  # fmt: skip
    held = hashlib.sha256()
    for column in columns:
        held.update(np.ascontiguousarray(column).tobytes())
    return held.hexdigest()[:12]


def is_dev(log: LogFeatures, share: float) -> np.ndarray:
    """Whether each impression (N,) is of a query that is kept for measuring: by its id, so that it stays so."""
    return kept_queries(log.query, share)[log.log.query]


def kept_queries(query: np.ndarray, share: float) -> np.ndarray:
    """Whether queries of these ids (Q,) are kept for measuring."""
    return spread(query) % np.uint64(DEV_PARTS) < round(share * DEV_PARTS)


def _ragged(ids: np.ndarray, known: np.ndarray) -> Ragged:
    """One id a row, or none."""
    offsets = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
    return Ragged(torch.from_numpy(ids[known]), torch.from_numpy(offsets))
