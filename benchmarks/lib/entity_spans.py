"""Texts with gold entities (BC5CDR, QueryNER, the embedded shop) in one form; exact-span precision, recall, F1."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.shop.shop import ShopSettings, generate
from goodrate.understanding.candidates import Spans
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.words import Words, joined_words
from lib.queue import ROOT

Gold = list[list[tuple[int, int, str]]]  # per text: first word, last word inclusive, type
Measure = dict[str, float]
SHOP_TYPES = ("product_type", "color", "material", "size", "origin")
QUERY_TYPES = ("core_product_type", "creator", "color", "material")


@dataclass(frozen=True)
class Part:
    """Texts as tokens with their gold."""

    tokens: list[list[str]]
    gold: Gold

    def first(self, count: int) -> Part:
        """The first so many texts."""
        return Part(self.tokens[:count], self.gold[:count])


@dataclass(frozen=True)
class Truth:
    """Gold of a corpus: first, last (G,) words, kind (G,); span (G,) the candidate that it is, -1 where none is."""

    first: np.ndarray
    last: np.ndarray
    kind: np.ndarray
    span: np.ndarray

    @property
    def coverage(self) -> float:
        """Share of the gold that is a candidate: what recall cannot exceed."""
        return float((self.span >= 0).mean())

    def labels(self, size: int) -> np.ndarray:
        """(S,) the class of each candidate."""
        label = np.full(size, NOTHING)
        label[self.span[self.span >= 0]] = self.kind[self.span >= 0]
        return label


def truth_of(part: Part, words: Words, spans: Spans, types: Sequence[str]) -> Truth:
    """Gold of the given types as candidates of the corpus."""
    place = {name: c for c, name in enumerate(types)}
    rows = [(words.begin[t] + a, words.begin[t] + b, place[k])
            for t, gold in enumerate(part.gold) for a, b, k in gold if k in place]  # fmt: skip
    first, last, kind = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    fits = last - first < spans.at.shape[1]
    span = np.full(len(first), -1)
    span[fits] = spans.at[first[fits], (last - first)[fits]]
    return Truth(first, last, kind, span)


def measured(label: np.ndarray, truth: Truth) -> Measure:
    """Exact-span precision, recall and F1 of labelled candidates (S,), micro over the types, as shares."""
    right = int((label[truth.span[truth.span >= 0]] == truth.kind[truth.span >= 0]).sum())
    said, there = int((label != NOTHING).sum()), len(truth.kind)
    precision, recall = right / said if said else 0.0, right / there if there else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4), "said": said}


def shared_folder() -> Path:
    """The folder that holds data/, $GOODRATE_SHARED or the one beside the repository."""
    for folder in (os.environ.get("GOODRATE_SHARED"), ROOT.parent / "shared", ROOT.parent.parent / "shared"):
        if folder and (Path(folder) / "data").is_dir():
            return Path(folder) / "data"
    raise FileNotFoundError("no data; set GOODRATE_SHARED to the folder that holds data/bc5cdr and data/queryner")


def read_part(data: str, part: str, seed: int) -> Part:
    """A part (train, dev or test) of bc5cdr, queryner or shop."""
    if data == "shop":
        return _shop(part, seed)
    rows = _lines(shared_folder() / data / f"{part}.{'json' if data == 'bc5cdr' else 'jsonl'}")
    if data == "bc5cdr":
        gold = [[(a, b, kind.lower()) for a, b, kind in row["ner"][0]] for row in rows]
        return Part([row["sentences"][0] for row in rows], gold)
    return Part([row["tokens"] for row in rows], [_from_bio(row["labels"]) for row in rows])


def human_agreement() -> Measure:
    """The three annotators of QueryNER's test against its gold, on the benchmark's types: the mean."""
    rows = _lines(shared_folder() / "queryner" / "test_annotators.jsonl")
    scores = []
    for annotator in ("annotator_1", "annotator_2", "annotator_3"):
        pairs = [(_of_types(row[annotator]), _of_types(row["gold"])) for row in rows]
        right = sum(len(said & gold) for said, gold in pairs)
        precision, recall = right / sum(len(s) for s, _ in pairs), right / sum(len(g) for _, g in pairs)
        scores.append((precision, recall, 2 * precision * recall / (precision + recall)))
    return dict(zip(("precision", "recall", "f1"), np.mean(scores, axis=0).round(4).tolist(), strict=True))


def _of_types(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    return {span for span in _from_bio(labels) if span[2] in QUERY_TYPES}


def _from_bio(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for place, label in enumerate(labels):
        if label.startswith("B-"):
            found.append((place, place, label[2:]))
        elif label.startswith("I-"):
            found[-1] = (found[-1][0], place, found[-1][2])
    return found


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _shop(part: str, seed: int) -> Part:
    """Descriptions that this benchmark writes of the shop's listings: the title, then the stated values in their order.

    Half of the items are train, half test; the gold is the listing's own product type and attributes.
    """
    frame = generate(ShopSettings(seed=seed, items=3000, queries=200)).catalog.frame
    rows = frame.filter(pl.int_range(len(frame)) % 2 == (0 if part == "train" else 1)).select("title", "attributes")
    tokens: list[list[str]] = []
    gold: Gold = []
    for title, attributes in rows.iter_rows():
        line = title.split()
        number = next(n for n, word in enumerate(line) if word.isdigit())
        spans = [(number + 1, len(line) - 1, "product_type")]
        for name, value in json.loads(attributes).items():
            start = len(line) + 1
            line += [",", *str(value).split()]
            spans.append((start, len(line) - 1, name))
        tokens.append(line)
        gold.append(spans)
    return Part(tokens, gold)


def words_of(part: Part) -> Words:
    """The part's words, token for token."""
    return joined_words(part.tokens)


MEDICAL = EntityTypes.model_validate({
    "types": {
        "chemical": {
            "words": ["drug", "chemical", "compound", "medication", "substance"],
            "seeds": ["cocaine", "lithium", "morphine", "dopamine", "haloperidol", "cyclosporine", "methotrexate",
                      "ketamine", "heparin", "cisplatin", "nicotine"],
        },
        "disease": {
            "words": ["disease", "disorder", "syndrome", "symptom", "condition"],
            "seeds": ["hypertension", "hypotension", "pain", "seizures", "nephrotoxicity", "depression", "anxiety",
                      "toxicity", "nausea", "bradycardia"],
        },
    },
    "none": ["thing", "number", "time", "method", "word", "result", "group"],
})  # fmt: skip
QUERIES = EntityTypes.model_validate({
    "types": {
        "core_product_type": {
            "words": ["product", "tool", "device", "furniture", "accessory", "garment"],
            "seeds": ["shoes", "dress", "shirt", "case", "lamp", "table", "chair", "bag", "toy", "cover"],
        },
        "creator": {
            "words": ["brand", "company", "manufacturer"],
            "seeds": ["nike", "samsung", "adidas", "apple", "lego", "sony", "dewalt", "disney"],
        },
        "color": {"words": ["color", "shade"], "seeds": ["black", "white", "red", "blue", "green", "pink", "gold"]},
        "material": {"words": ["material", "fabric", "metal"], "seeds": ["leather", "cotton", "silicone", "wood",
                                                                         "glass", "stainless steel", "wool"]},
    },
    "none": ["thing", "number", "time", "method", "word", "result", "group", "person", "place"],
})  # fmt: skip
SHOP = EntityTypes.model_validate({
    "types": {
        "product_type": {"words": ["product", "tool", "device", "furniture", "accessory", "garment"],
                         "seeds": ["lamp", "chair", "jacket", "printer", "carpet"]},
        "color": {"words": ["color", "shade"], "seeds": ["red", "blue", "green", "black", "white"]},
        "material": {"words": ["material", "fabric", "metal"], "seeds": ["oak", "leather", "glass", "cotton", "steel"]},
        "size": {"words": ["size", "dimension"], "seeds": ["small", "large", "medium"]},
        "origin": {"words": ["country", "nation", "place"], "seeds": ["italy", "france", "germany", "japan", "korea"]},
    },
    "none": ["thing", "number", "time", "method", "word", "result", "group"],
})  # fmt: skip
TYPES = {"bc5cdr": MEDICAL, "queryner": QUERIES, "shop": SHOP}
