"""Weights of the channels of hybrid search that follow clicks: docs/online_weights.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.serving.online_weights import ClickSession as ClickSession
from goodrate.serving.online_weights import OnlineSettings as OnlineSettings
from goodrate.serving.online_weights import OnlineWeights as OnlineWeights

if TYPE_CHECKING:
    from goodrate.api.index import Index


def with_online_weights(index: Index, file: str | Path) -> Index:
    """The same index, searched with the weights of a file, which `learn_clicks` moves; see OnlineWeights.

    Raises ValueError for an index without an encoder, and what OnlineWeights does.
    """
    if index.encoder is None:
        raise ValueError(f"{index.store.path} is searched by words alone: there is nothing to weigh; make it --encoder")
    return index.but(online=OnlineWeights(file))


def learn_clicks(
    index: Index, query: str, shown: Sequence[str], clicked: Sequence[str], positions: Sequence[int] | None = None,
    where: str | None = None,
) -> bool:  # fmt: skip
    """Learn from one page that somebody saw; whether there was anything to learn.

    shown: item ids from the top. clicked: those of them that were clicked. positions: their places, 1, 2, ... unless
    said. where: the filter of the search. Raises ValueError for a page that cannot be, and for an index without online
    weights.
    """
    from goodrate.serving.clicks import learn

    places = tuple(positions) if positions is not None else tuple(range(1, len(shown) + 1))
    return learn(index.pipeline, ClickSession(query, tuple(shown), places, tuple(clicked), where))
