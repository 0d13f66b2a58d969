"""`goodrate train retriever_contrastive`: pairs of queries and good items, training, and recall on dev queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from goodrate.catalog.judgements import Judgements
from goodrate.cli.train import Outcome, keep_rows, with_data
from goodrate.cli.training_data import DataSettings, TrainingData, load_data
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive
from goodrate.run_folder import RunFolder

DEPTHS = (10, 50)


class PairSettings(retriever_contrastive.Settings):
    """The recipe's settings, and what a pair to learn from is."""

    pairs: Literal["judgements", "clicks", "both"] = Field(
        default="judgements", description="good pairs of the training part, what shoppers clicked, or both"
    )


Settings: Any = with_data(PairSettings, DataSettings)


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train an encoder on the good pairs of the training part; measure it, and what it started from, on dev queries."""
    recipe = retriever_contrastive.Settings.model_validate(settings.model_dump(exclude={"data", "pairs"}))
    data = load_data(settings.data)
    items = dict(zip(data.catalog.ids, data.catalog.text(), strict=True))  # as `goodrate index` encodes them
    pairs, positives = pairs_of(data, settings.pairs)
    dev = good_items(data.parts["dev"])
    encoder = Encoder.load(recipe.encoder)
    retriever_contrastive.require_dimensions(recipe, encoder)
    RunFolder(out / "data").begin(settings.data, settings.data.split_seed)  # refuses to resume on other data
    before = recalls(encoder, items, dev)
    folder = retriever_contrastive.train(recipe, pairs, items, out, positives=positives, progress=progress)
    return Outcome(folder, dev_table(folder, items, dev, before, out), data.notes)


def pairs_of(data: TrainingData, kind: str) -> tuple[list[retriever_contrastive.Pair], dict[str, set[str]]]:
    """Training pairs, and every query's items that are good or were clicked: none of them is its negative.

    A judged pair weighs 1; a clicked one its clicks over the mean, so that both kinds weigh alike. ValueError without
    any pair.
    """
    good = good_items(data.parts["train"])
    judged = [retriever_contrastive.Pair(query, item) for query, items in good.items() for item in sorted(items)]
    if kind == "judgements":
        if not judged:
            raise ValueError(f"no training pair has a good label; good on this scale: {', '.join(data.scale.positive)}")
        return judged, good
    if data.clicks is None:
        raise ValueError(f"pairs = {kind!r} needs data.behaviour, a file of clicks")
    mean = sum(weight for _, _, weight in data.clicks) / len(data.clicks)
    clicked = [retriever_contrastive.Pair(query, item, weight / mean) for query, item, weight in data.clicks]
    for pair in clicked:
        good.setdefault(pair.query, set()).add(pair.item_id)
    return [*(judged if kind == "both" else []), *clicked], good


def dev_table(
    folder: Path, items: Mapping[str, str], dev: Mapping[str, AbstractSet[str]], before: dict[str, float], out: Path
) -> dict[str, dict[str, float]]:
    """Recall of the trained encoder, of what it was and of chance; kept as dev.json in the run folder `out`."""
    chance = {f"recall@{k}": min(k / len(items), 1.0) for k in DEPTHS} | {"queries": float(len(dev))}
    rows = {"trained": recalls(Encoder.load(folder), items, dev), "before": before, "random order": chance}
    keep_rows(out, rows)
    return rows


def good_items(judgements: Judgements) -> dict[str, set[str]]:
    """Query text -> ids of its items with a positive label; queries without one are left out."""
    good: dict[str, set[str]] = {}
    positive = judgements.scale.is_positive[judgements.label_indices()]
    for (query, item), is_good in zip(judgements.frame.select("query", "item_id").iter_rows(), positive, strict=True):
        if is_good:
            good.setdefault(query, set()).add(item)
    return good


def recalls(encoder: Encoder, items: Mapping[str, str], good: Mapping[str, AbstractSet[str]]) -> dict[str, float]:
    """Mean over queries of the share of known good items among the first k of the whole catalogue, exact search."""
    if not good:
        raise ValueError("no dev query has a good item")
    ids = np.asarray(sorted(items))
    vectors = encoder.encode_items([items[item] for item in ids])
    scores = encoder.encode_queries(list(good)) @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, : max(DEPTHS)]  # ids are sorted: ties go by id
    found = [np.isin(ids[row], list(wanted)) for row, wanted in zip(order, good.values(), strict=True)]
    return {
        f"recall@{k}": float(np.mean([hit[:k].sum() / len(w) for hit, w in zip(found, good.values(), strict=True)]))
        for k in DEPTHS
    } | {"queries": float(len(good))}
