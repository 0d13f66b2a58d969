"""A trained click ranker as a folder, and what it says of a query and its items: the chance of a click on what is seen.

ranker.json            features with their fingerprint, scales of the numbers, sizes of all parts, how it was trained
network.safetensors    dense weights
tables/FEATURE/        the live rows of every embedding table (mapped_table)

Nothing of the training is in it, and no torch is needed: it opens in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.ranking.mapped_table import TOLD, MappedTable, open_table, write_table
from goodrate.ranking.ranker_features import (
    FeatureSet,
    ItemFeatures,
    item_features,
    one_query,
    pair_features,
    sparse_features,
)
from goodrate.relevance.verdicts import Verdict
from goodrate.run_folder import file_stamp, new_folder, write_atomic
from goodrate.strict_json import dumps, read_object

CARD, NETWORK, TABLES = "ranker.json", "network.safetensors", "tables"
FORMAT = 1
ANEW = "train the ranker again with a lower learning_rate"
LIMIT = 5.0  # standard deviations: a number further out counts as this far
Weights = dict[str, np.ndarray]


class ChangedMeanwhile(ValueError):
    """The folder was replaced while it was opened."""


@dataclass(frozen=True)
class RankerCard:
    """What ranker.json says.

    mean, spread: of each number of features.dense. dim, hidden: of the network. tables: feature -> what open_table is
    told. correction: how position bias was taken out. judge: whose probabilities are read, for people. trained: facts
    of the training (rows, updates, ...).
    """

    features: FeatureSet
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    dim: int
    hidden: tuple[int, ...]
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    correction: str = ""
    judge: str | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranker:
    """A ranker that is open. tables: by sparse feature, in the order of the card."""

    card: RankerCard
    weights: Weights
    tables: tuple[MappedTable, ...]
    folder: Path | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Ranker:
        """The ranker of a folder. Raises FileNotFoundError, ValueError naming the file that is cut off or another."""
        folder = Path(folder)
        before = file_stamp(folder / CARD)
        try:
            card = read_card(folder)
            tables = tuple(open_table(folder / TABLES / name, card.tables[name]) for name in card.features.sparse)
            opened = cls(card, _read_weights(folder / NETWORK, card), tables, folder)
        except (OSError, ValueError) as error:
            if before != file_stamp(folder / CARD):
                raise ChangedMeanwhile(f"{folder} was replaced while it was opened") from error
            raise
        if before != file_stamp(folder / CARD):
            raise ChangedMeanwhile(f"{folder} was replaced while it was opened")
        return opened

    @property
    def features(self) -> FeatureSet:
        """What it reads."""
        return self.card.features

    def utilities(
        self, query: str, items: Sequence[Mapping[str, Any]], hits: Sequence[Any], verdicts: Sequence[Verdict | None]
    ) -> np.ndarray:
        """The chance (N,) of a click on each item, once it is seen.

        items: catalogue rows. hits: FusedHit of each. verdicts: one of each, or none at all. Raises ValueError for
        files that were damaged so that a chance is none.
        """
        if not items:
            return np.zeros(0)
        own = item_features(items, self.features)
        pairs = pair_features(hits, verdicts, self.features)
        utilities = self.of_features(one_query(query, len(items)), own, np.arange(len(items)), pairs)
        if not np.isfinite(utilities).all():
            raise ValueError(f"{self.folder / TABLES if self.folder else TABLES}: a weight is not finite; {ANEW}")
        return utilities

    def of_features(self, query: np.ndarray, items: ItemFeatures, rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """The same of features: query ids (N,), places (N,) in the items, numbers (N, len(of_pairs)) of the pairs."""
        ids, known = sparse_features(query, items, rows, self.features)
        dense = np.concatenate([pairs, items.dense[rows]], axis=1)
        embedded = np.zeros((len(query), len(self.tables), 1 + self.card.dim), dtype=np.float32)
        for place, table in enumerate(self.tables):
            embedded[:, place] = table.vectors(ids[:, place]) * known[:, place, None]
        numbers = standardised(dense, self.card.mean, self.card.spread, self.features)
        logits = forward(self.weights, embedded, numbers)
        return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def standardised(dense: np.ndarray, mean: Sequence[float], spread: Sequence[float], features: FeatureSet) -> np.ndarray:
    """Numbers (N, F) float32 in standard deviations from their mean, at most LIMIT; NaN for what is not told.

    Raises ValueError for an infinite number, naming its feature.
    """
    infinite = np.isinf(dense)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        name, value = features.dense[column], dense[row, column]
        raise ValueError(f"feature {name} of row {row + 1} is {value}; expected a finite number")
    return np.clip((dense - np.asarray(mean)) / np.asarray(spread), -LIMIT, LIMIT).astype(np.float32)


def scales(dense: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each column (N, F), of what is told; 0 and 1 where nothing is or all is equal."""
    told = ~np.isnan(dense)
    count = np.maximum(told.sum(axis=0), 1)
    mean = np.where(told, dense, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(told, dense - mean, 0.0) ** 2).sum(axis=0) / count)
    return tuple(mean.tolist()), tuple(np.where(spread > 1e-9, spread, 1.0).tolist())


def forward(weights: Weights, embedded: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Logits (N,) as models.deepfm gives them. embedded: (N, S, 1 + D). numbers: (N, F), NaN = missing."""
    missing = np.isnan(numbers)
    known = np.where(missing, 0.0, numbers)
    inputs = np.concatenate([np.sign(known) * np.log1p(np.abs(known)), missing], axis=1).astype(np.float32)
    linear, vectors = embedded[..., 0], embedded[..., 1:]
    pairs = 0.5 * (np.square(vectors.sum(1)) - np.square(vectors).sum(1)).sum(1)
    deep = np.concatenate([vectors.reshape(len(vectors), -1), inputs], axis=1)
    layers = _layers(weights)
    for layer in layers:
        deep = deep @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        deep = np.maximum(deep, 0.0) if layer != layers[-1] else deep
    first = inputs @ weights["linear.weight"][0] + weights["linear.bias"][0]
    return np.asarray(first + linear.sum(1) + pairs + deep[:, 0])


def _layers(weights: Weights) -> list[str]:
    """Names of the layers of the perceptron, from the inputs on."""
    named = {name.rpartition(".")[0] for name in weights if name.startswith("deep.")}
    return sorted(named, key=lambda name: int(name.rpartition(".")[2]))


def write_ranker(
    folder: str | Path, card: RankerCard, weights: Mapping[str, np.ndarray],
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Path:  # fmt: skip
    """Write a ranker folder in the place of an older one, whole or not at all. rows: feature -> ids (N,), rows."""
    from safetensors.numpy import save

    with new_folder(folder) as beside:
        told = {name: write_table(beside / TABLES / name, *rows[name]) for name in card.features.sparse}
        (beside / NETWORK).write_bytes(save({name: np.ascontiguousarray(w) for name, w in weights.items()}))
        content = {**asdict(card), "tables": told, "fingerprint": card.features.fingerprint}
        write_atomic(beside / CARD, dumps({"kind": "click_ranker", "format": FORMAT, **content}, indent=2) + "\n")
    return Path(folder)


def read_card(folder: Path) -> RankerCard:
    """The card of a ranker folder. Raises FileNotFoundError, ValueError naming the file and what is wrong in it."""
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a ranker is made by: goodrate train click_ranker --out RUN")
    content = read_object(path)
    if content.get("kind") != "click_ranker" or content.get("format") != FORMAT:
        found = f"found kind {content.get('kind')!r}, format {content.get('format')!r}; train the ranker again"
        raise ValueError(f"{path}: expected kind 'click_ranker', format {FORMAT}; {found}")
    try:
        told: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content["features"].items()}
        features = FeatureSet(**told)
        tuples = {name: tuple(content[name]) for name in ("mean", "spread", "hidden")}
        others = {name: content[name] for name in ("tables", "correction", "judge", "trained", "dim")}
        values: dict[str, Any] = {"features": features, **tuples, **others}
        card = RankerCard(**values)
        complete = set(card.tables) == set(features.sparse) and len(card.mean) == len(features.dense)
        _require_numbers(card)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not what goodrate train click_ranker writes ({error!r})") from error
    if features.fingerprint != content.get("fingerprint") or not complete:
        raise ValueError(f"{path}: its features are others than this goodrate makes; train the ranker again")
    return card


def _require_numbers(card: RankerCard) -> None:
    """TypeError for a card whose sizes are no whole numbers, or whose scales are no finite ones."""
    sizes = [card.dim, *card.hidden, *(told[name] for told in card.tables.values() for name in TOLD)]
    if wrong := [size for size in sizes if type(size) is not int or size < 0]:
        raise TypeError(f"expected a size, found {wrong[0]!r}")
    scaled = (*card.mean, *card.spread)
    if odd := [one for one in scaled if type(one) not in (int, float) or not math.isfinite(one)]:
        raise TypeError(f"mean and spread: expected numbers, found {odd[0]!r}")
    if len(card.spread) != len(card.mean) or min(card.spread, default=1.0) <= 0:
        raise TypeError("spread: expected a number above 0 for each of mean")


def _read_weights(path: Path, card: RankerCard) -> Weights:
    """The dense weights. Raises FileNotFoundError, ValueError when the file is cut off or of another network."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: cut off or no safetensors file ({error}); write the ranker again") from error
    inputs = 2 * len(card.features.dense)
    sizes = [len(card.features.sparse) * card.dim + inputs, *card.hidden, 1]
    shapes = [weights[f"{layer}.weight"].shape for layer in _layers(weights)]
    linear = weights.get("linear.weight", np.zeros(0)).shape
    if linear != (1, inputs) or shapes != [(after, before) for before, after in pairwise(sizes)]:
        raise ValueError(f"{path}: weights of another network than {CARD} tells; write the ranker again")
    if not all(np.isfinite(weight).all() for weight in weights.values()):
        raise ValueError(f"{path}: a weight is not finite; {ANEW}")
    return weights
