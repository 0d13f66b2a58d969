"""Team-draft interleaving: two systems in one list, and which of them the clicks prefer.

Radlinski, Kurup, Joachims 2008 (CIKM), "How does clickthrough data reflect retrieval quality?"; the estimate is that of
Chapelle, Joachims, Radlinski, Yue 2012 (TOIS), section 3.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from goodrate.evaluation.significance import Interval, bootstrap_ratio

A, B = "a", "b"


def team_draft(first: Sequence[str], second: Sequence[str], length: int, seed: int) -> tuple[list[str], list[str]]:
    """The first `length` items of both lists in one, and the team (a, b) of each.

    In each round a coin says which system picks first; each picks its best item that is not there yet. A system without
    more items leaves the rest to the other. A longer draft with the same seed begins as a shorter one does.
    >>> team_draft(["x", "y"], ["x", "z"], 3, seed=1)[0][0]
    'x'
    """
    rng = random.Random(seed)
    waiting = {A: list(dict.fromkeys(first))[::-1], B: list(dict.fromkeys(second))[::-1]}
    items: dict[str, str] = {}
    turns: list[str] = []
    while len(items) < length:
        for left in waiting.values():
            while left and left[-1] in items:
                left.pop()
        if not (waiting[A] or waiting[B]):
            break
        turns = turns or rng.choice([[A, B], [B, A]])
        team, turns = turns[0], turns[1:]
        if waiting[team]:
            items[waiting[team].pop()] = team
    return list(items), list(items.values())


@dataclass(frozen=True)
class Preference:
    """Which of two systems clicks prefer. value: (wins of B + ties / 2) / (all three) - 1/2, so above 0 for B, with its
    interval over sessions.

    impressions: lists that were shown; of those with a click, b_wins: where more clicked items are of B's team, a_wins,
    ties. clicks: that count, each item of a list once; ignored: those on lists or items that were not shown. sessions:
    with a click. p: two-sided sign test over sessions, each of which prefers the system that wins more of its lists.
    """

    value: Interval
    impressions: int
    a_wins: int
    b_wins: int
    ties: int
    clicks: int
    ignored: int
    sessions: int
    p: float

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        counts = {name: getattr(self, name) for name in ("impressions", "a_wins", "b_wins", "ties", "clicks")}
        rest = {"ignored": self.ignored, "sessions": self.sessions, "sign_test_p": self.p}
        return {"preference": self.value.as_dict(), **counts, **rest}


def preference(shown: pl.DataFrame, clicks: pl.DataFrame, seed: int = 0) -> Preference:
    """What clicks say of two systems. The team of an item gets one credit when the item was clicked, however often.

    shown: one row a list: query_id, session, and items and teams, lists of one length. clicks: query_id, item_id, one
    row a click. Raises ValueError when no click is on an item that was shown.
    """
    from scipy.stats import binomtest

    slots = shown.select("query_id", "session", item_id="items", team="teams").explode("item_id", "team")
    slots = slots.unique(["query_id", "item_id"], maintain_order=True)
    distinct = clicks.select("query_id", "item_id").unique()
    counted = slots.join(distinct, on=["query_id", "item_id"], how="inner")
    if counted.is_empty():
        raise ValueError(f"none of {len(clicks):,} clicks is on an item of the {len(shown):,} lists that were shown")
    known = clicks.join(slots, on=["query_id", "item_id"], how="semi")
    sign = pl.when(pl.col("team") == B).then(1).otherwise(-1)
    lists = counted.group_by("query_id").agg(pl.col("session").first(), won=sign.sum().sign())
    won = lists["won"]
    sessions = lists.group_by("session", maintain_order=False).agg(
        half=(pl.col("won") / 2).sum(), lists=pl.len(), won=pl.col("won").sum().sign()
    ).sort("session")  # fmt: skip
    value = bootstrap_ratio(sessions["half"].to_numpy(), sessions["lists"].to_numpy(), seed)
    for_b, differing = int((sessions["won"] > 0).sum()), int((sessions["won"] != 0).sum())
    return Preference(
        value=value, impressions=len(shown), a_wins=int((won < 0).sum()), b_wins=int((won > 0).sum()),
        ties=int((won == 0).sum()), clicks=len(counted), ignored=len(clicks) - len(known), sessions=len(sessions),
        p=float(binomtest(for_b, differing).pvalue) if differing else 1.0,
    )  # fmt: skip


def draft_seed(*parts: str) -> int:
    """A seed from who searches and for what: the same for every page of a list."""
    import hashlib

    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8], "big")
