"""Click rankers that are written by hand: their one opinion is about one item."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goodrate.ranking.feature_ids import text_ids
from goodrate.ranking.ranker import RankerCard, write_ranker
from goodrate.ranking.ranker_features import FeatureSet

JUDGED = FeatureSet(channels=("lexical",), labels=("irrelevant", "mismatch", "related", "excellent"))
BARE = FeatureSet(channels=("lexical",))


def small_ranker(folder: Path, item: str = "a", weight: float = 1.0, features: FeatureSet = BARE) -> Path:
    """A ranker whose logit is `weight` for one item and 0 for all others."""
    count = len(features.dense)
    dim, inputs, tables = 2, 2 * count, len(features.sparse)
    shapes = {"linear.weight": (1, inputs), "linear.bias": (1,), "deep.1.bias": (3,), "deep.4.bias": (1,)}
    shapes |= {"deep.1.weight": (3, tables * dim + inputs), "deep.4.weight": (1, 3)}
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    rows = {name: (np.zeros(0, dtype=np.int64), np.zeros((0, 1 + dim), dtype=np.float32)) for name in features.sparse}
    rows["item"] = (text_ids([item]), np.asarray([[weight, 0.0, 0.0]], dtype=np.float32))
    card = RankerCard(features, (0.0,) * count, (1.0,) * count, dim, (3,), correction="naive", judge="fake")
    return write_ranker(folder, card, weights, rows)
