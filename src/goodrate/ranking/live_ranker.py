"""A ranker folder that others replace: opened anew when it is another one, the last good one until then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.ranking.ranker import CARD, ChangedMeanwhile, Ranker
from goodrate.ranking.ranker_features import FeatureSet
from goodrate.relevance.verdicts import Verdict
from goodrate.run_folder import file_stamp
from goodrate.scale import RelevanceScale

ATTEMPTS = 5  # at a folder that is replaced while it is opened
log = logging.getLogger(__name__)


class LiveRanker:
    """The ranker of what is in a folder now, for one judge. Safe to call from many threads.

    A folder that cannot be opened, or whose features this search does not have, leaves the ranker that was there in
    place; `problem` says so and the log once.
    """

    def __init__(self, folder: str | Path, scale: RelevanceScale | None, across_tiers: bool = False) -> None:
        """scale: of the judge, None without one. across_tiers: order by utility alone, what is Bad behind.

        Raises FileNotFoundError and ValueError as Ranker.open, for features that this search does not have, and
        without a judge unless across_tiers says that there are no tiers to heed.
        """
        if scale is None and not across_tiers:
            raise ValueError(
                f"{folder}: a ranker orders results inside the tiers of a judge, and there is none: --model JUDGE, or "
                "--across-tiers to order the first results as one tier"
            )
        self.folder, self.across_tiers, self.problem = Path(folder), across_tiers, ""
        self._scale, self._lock = scale, threading.Lock()
        self._stamp = file_stamp(self.folder / CARD)
        self._ranker = self._open()

    def current(self) -> Ranker:
        """The ranker of the folder, or the last one that could be opened."""
        with self._lock:
            stamp = file_stamp(self.folder / CARD)
            if stamp != self._stamp and stamp is not None:  # none: a folder is being put in its place
                self._renew(stamp)
            return self._ranker

    def utilities(
        self, query: str, items: Sequence[Mapping[str, Any]], hits: Sequence[Any], verdicts: Sequence[Verdict | None]
    ) -> np.ndarray:
        """See Ranker.utilities."""
        return self.current().utilities(query, items, hits, verdicts)

    def status(self) -> dict[str, Any]:
        """What is served, for people and monitors."""
        card = self.current().card
        rows = {name: told["rows"] for name, told in card.tables.items()}
        return {
            "folder": str(self.folder), "features": card.features.fingerprint, "correction": card.correction,
            "judge": card.judge, "across_tiers": self.across_tiers, "rows": rows, "trained": dict(card.trained),
            "problem": self.problem or None,
        }  # fmt: skip

    def _renew(self, stamp: tuple[int, ...]) -> None:
        try:
            self._ranker, self.problem = self._open(), ""
            log.info("%s was replaced and is opened anew", self.folder)
        except ChangedMeanwhile:
            return  # the next search tries again
        except (OSError, ValueError) as error:
            self.problem = f"the last ranker is served, because the one in the folder cannot be opened: {error}"
            log.warning("%s: %s", self.folder, self.problem)
        self._stamp = stamp

    def _open(self) -> Ranker:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                opened = Ranker.open(self.folder)
                break
            except ChangedMeanwhile:
                if attempt == ATTEMPTS:
                    raise
        require_servable(opened.features, self._scale, self.folder)
        return opened


def require_servable(features: FeatureSet, scale: RelevanceScale | None, folder: Path) -> None:
    """ValueError when a ranker reads a judge's probabilities and there is none, or one with other labels."""
    if not features.labels:
        return
    read = ", ".join(features.labels)
    if scale is None:
        raise ValueError(f"{folder} reads what a judge says ({read}), and there is none: --model JUDGE")
    if scale.labels != features.labels:
        raise ValueError(
            f"{folder} was trained on verdicts with labels {read}; this judge has {', '.join(scale.labels)}; "
            "serve the judge that it was trained with, or train the ranker again"
        )
