"""A click ranker over the results of an index: chosen by its folder, followed when it is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.ranking.live_ranker import LiveRanker
    from goodrate.relevance.judge import CalibratedJudge


class RankerChoice:
    """The folder of a click ranker and how it orders. Copies of an index share what was opened.

    Inside a tier of the judge results stand by the predicted chance of a click, never across tiers; across_tiers: all
    tiers but Bad are one, and no judge is needed.
    """

    def __init__(self, folder: str | Path, across_tiers: bool = False) -> None:
        self.folder, self.across_tiers = Path(folder), across_tiers
        self._opened: dict[tuple[str, ...] | None, LiveRanker] = {}

    def live(self, judge: CalibratedJudge | None) -> LiveRanker:
        """The ranker for a judge, opened once. Raises FileNotFoundError and ValueError as LiveRanker."""
        from goodrate.ranking.live_ranker import LiveRanker

        labels = judge.scale.labels if judge else None
        if labels not in self._opened:
            self._opened[labels] = LiveRanker(self.folder, judge.scale if judge else None, self.across_tiers)
        return self._opened[labels]

    def notice(self) -> str:
        """What a server says of it."""
        return f"results stand by {self.folder} {'across' if self.across_tiers else 'inside'} their tiers"


def ranker_choice(folder: Path | None, across_tiers: bool) -> RankerChoice | None:
    """The choice of a command line. Raises ValueError for --across-tiers without a ranker."""
    if folder is None and across_tiers:
        raise ValueError("--across-tiers is for a ranker, and there is none: --ranker DIR")
    return None if folder is None else RankerChoice(folder, across_tiers)
