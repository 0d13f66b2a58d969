"""Filters on attributes and facets at 100k generated items, beside the same search without them.

Items of the embedded shop's world with a category tree, a weight (as many numbers as items), a screen size and a list
added from a seed. Every round runs each arm with one query.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import speed_store
from lib import timing
from lib.tables import markdown
from lib.timing import Document, Measurement, Sample, call_sample, number

WARMUP = 3
SIZES = [10, 11.6, 13.3, 14, 15.6, 17, 24, 27]
FILTERS = {
    "brand": "brand = '{brand}'",
    "a category": "category = 'Department 3'",
    "an attribute": "attributes.material = 'steel'",
    "not a value": "attributes.material != 'steel'",
    "an entry of a list": "attributes.fits IN ('m3', 'm7')",
    "numbers, 8 values": 'attributes."screen size" >= 15',
    "numbers, a value an item": "attributes.weight_g BETWEEN 120 AND 5000",
    "a pattern": "attributes.material LIKE 's%'",
    "four together": "price < 50 AND attributes.material = 'steel' AND category = 'Department 3' AND "
    'attributes."screen size" >= 15',
}
FACETS: dict[str, tuple[str, ...]] = {
    "brand": ("brand",), "brand, category, price, two attributes":
    ("brand", "category", "price", "attributes.material", "attributes.weight_g"), "auto": ("auto",),
}  # fmt: skip


def catalog(count: int) -> Any:
    """The items; the same ones for a count."""
    import polars as pl

    from goodrate.catalog.items import Catalog
    from goodrate.catalog.readers import read_catalog

    frame, draw = read_catalog(speed_store.items_file(count)).frame, np.random.default_rng(0)
    department, kind = draw.integers(0, 12, count), draw.integers(0, 8, count)
    added = {
        "weight_g": np.round(draw.lognormal(6, 1.5, count), 2).tolist(),
        "screen size": [f"{inch:g} inch" for inch in draw.choice(SIZES, count)],
        "fits": [sorted({f"m{one}" for one in row}) for row in draw.integers(0, 20, (count, 3)).tolist()],
    }
    paths = [f"Department {d} > Kind {d}-{k}" for d, k in zip(department, kind, strict=True)]
    return Catalog(frame.with_columns(pl.Series("category", paths), **{n: pl.Series(v) for n, v in added.items()}))


def measure_facets(size: int, rounds: int) -> Path:
    """Index one size and search it in this process."""
    import polars as pl

    from goodrate.api.index import Index
    from goodrate.catalog.items import Catalog
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store
    from goodrate.retrieval.tags import item_tags

    result = Measurement(f"facets-{size}", f"python benchmarks/speed.py facets --size {size} --rounds {rounds}")
    items, folder = catalog(size), timing.WORK / f"facets-{size}"
    shutil.rmtree(folder, ignore_errors=True)
    store = Store.create(folder, speed_store.RandomEncoder.fingerprint, speed_store.DIMENSION)
    indexing = call_sample(lambda: index_catalog(store, items, speed_store.RandomEncoder(0)))
    tagging = call_sample(lambda: item_tags(items.frame))
    seconds = {"index": _seconds(indexing), "of which tags": _seconds(tagging)}
    index = Index(Store.open(folder), speed_store.RandomEncoder(1))  # type: ignore[arg-type]
    reading = {"first reading of the values": call_sample(index.store.facets.table)}
    for number_ in range(3):  # as after an update of a shop that changes prices
        store.update(Catalog(items.frame[number_ * 10 : number_ * 10 + 10].with_columns(price=pl.lit(1.0 + number_))))
        reading[f"after ten prices changed, {number_ + 1}"] = call_sample(index.store.facets.table)
    samples, counted = _search(index, str(items.frame["brand"][0]), rounds)
    arms = {name: speed_store.latency(runs) for name, runs in samples.items()}
    plain = {name: name.split(":")[0] for name in samples}
    ratios = {name: timing.ratio(samples, name, plain[name]) for name in samples if name != plain[name]}
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    shutil.rmtree(folder)
    return result.write(
        items=size, rounds=rounds, k=speed_store.K, seconds=seconds, disk_mib=timing.significant(disk, 4),
        reading_ms={name: timing.significant(run.wall * 1000, 4) for name, run in reading.items()},
        counted=timing.spread(counted), arms=arms, ratios=ratios,
    )  # fmt: skip


def _search(index: Any, brand: str, rounds: int) -> tuple[dict[str, list[Sample]], list[float]]:
    """Samples of every arm, and how many items the facets of each query were counted over."""
    queries, turn = speed_store.query_texts(), {"row": 0}
    counted: list[float] = []

    def search(mode: str, where: str | None = None, facets: tuple[str, ...] = ()) -> None:
        found = index.search(queries[turn["row"] % len(queries)], speed_store.K, where, mode, facets=facets)
        if facets == ("auto",) and where is None and mode == "lexical" and turn["row"] >= WARMUP:
            counted.append(float(found.facets.counted))

    arms: dict[str, Callable[[], None]] = {"lexical": partial(search, "lexical")}
    for name, where in FILTERS.items():
        arms[f"lexical: where, {name}"] = partial(search, "lexical", where.format(brand=brand))
    for name, asked in FACETS.items():
        arms[f"lexical: facets, {name}"] = partial(search, "lexical", None, asked)
    four = FILTERS["four together"]
    arms["lexical: four filters and facets, auto"] = partial(search, "lexical", four, ("auto",))
    arms["hybrid"] = partial(search, "hybrid")
    arms["hybrid: where, an attribute"] = partial(search, "hybrid", FILTERS["an attribute"])
    arms["hybrid: facets, auto"] = partial(search, "hybrid", None, ("auto",))

    samples: dict[str, list[Sample]] = {name: [] for name in arms}
    for row in range(rounds + WARMUP):
        turn["row"] = row
        for name, arm in arms.items():
            sample = call_sample(arm)
            if row >= WARMUP:
                samples[name].append(sample)
    return samples, counted


def _seconds(sample: Sample) -> dict[str, float]:
    return {"wall": timing.significant(sample.wall, 4), "cpu": timing.significant(sample.cpu, 4)}


def render(documents: dict[str, Document]) -> list[str]:
    """A table for each size; nothing without a result."""
    found = sorted((d for name, d in documents.items() if name.startswith("facets-")), key=lambda d: int(d["items"]))
    return [part for document in found for part in _section(document)]


def _section(d: Document) -> list[str]:
    rows = [
        [
            "arm",
            "ms p50",
            "ms p95",
            "processor ms p50",
            "processor time, times the same search without: median (quartiles)",
        ]
    ]
    for name, arm in d["arms"].items():
        ratio = d["ratios"][name]["cpu"] if name in d["ratios"] else None
        against = f"{number(ratio['median'])} ({number(ratio['q1'])} to {number(ratio['q3'])})" if ratio else ""
        rows.append([name, *(number(arm[point]) for point in ("p50", "p95", "cpu_p50")), against])
    reading = "; ".join(f"{name}: {number(ms)} ms" for name, ms in d["reading_ms"].items())
    index, tags = (d["seconds"][name] for name in ("index", "of which tags"))
    counted = [number(d["counted"][point]) for point in ("median", "min", "max")]
    facts = (
        f"{d['rounds']} queries an arm, in turn, first {d['k']} results. Facets were counted over {counted[0]} items "
        f"in the median ({counted[1]} to {counted[2]}). Values in memory: {reading}. Indexing: {number(index['wall'])} "
        f"s wall, {number(index['cpu'])} s processor; making the tags alone {number(tags['wall'])} s; "
        f"{number(d['disk_mib'])} MiB on disk."
    )
    return [
        f"### Filters on attributes and facets, {int(d['items']):,} items",
        timing.conditions([d]),
        markdown(rows),
        facts,
    ]
