"""The shop as files that every other stage, and any other program, reads. A folder is written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.folder_lock import is_lock_file
from goodrate.relevance.facts import to_jsonl
from goodrate.relevance.rationale import write
from goodrate.run_folder import new_folder
from goodrate.shop.behaviour import examination
from goodrate.shop.picture_export import is_picture_file, picture_contents, with_images
from goodrate.shop.world import World
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    import polars as pl

    from goodrate.shop.shop import Shop

FILES = (
    "shop.json",
    "catalog.parquet",
    "queries.csv",
    "judgements.csv",
    "sessions.parquet",
    "rationales.jsonl",
    "facts.jsonl",
    "contexts.jsonl",
)


def write_shop(shop: Shop, out: Path, picture_size: int | None = None) -> Path:
    """Write the shop's files to the folder `out`, beside it first, and return it.

    picture_size: pixels a side of pictures of all items, which go with it (picture_export); None: no pictures.
    The full truth is not written: it follows from the settings in shop.json in about a second. An older shop at `out`
    is replaced; a folder that holds anything else is refused with a ValueError, and nothing in it is touched.
    """
    _refuse_other(out)
    with new_folder(out) as folder:
        for name, content in contents(shop, picture_size):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    return out


def contents(shop: Shop, picture_size: int | None = None) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of every file, in the order of FILES, then pictures. The same bytes for the same settings."""
    pictured = {} if picture_size is None else {"picture_size": picture_size}
    yield "shop.json", (dumps({**manifest(shop), **pictured}, indent=2) + "\n").encode()
    yield "catalog.parquet", _parquet(shop.catalog.frame if picture_size is None else with_images(shop.catalog.frame))
    yield "queries.csv", shop.query_frame().write_csv().encode()
    yield "judgements.csv", shop.judgement_frame().write_csv().encode()
    yield "sessions.parquet", _parquet(session_frame(shop))
    yield "rationales.jsonl", "".join(_rationale_lines(shop)).encode()
    yield "facts.jsonl", to_jsonl(fact_entries(shop.world)).encode()
    yield "contexts.jsonl", "".join(dumps({"id": t.id, "text": t.text}) + "\n" for t in shop.corpus).encode()
    if picture_size is not None:
        yield from picture_contents(shop.world, shop.catalog.ids, picture_size)


def manifest(shop: Shop) -> dict[str, Any]:
    """What shop.json says: the settings that make this very shop again, and what was counted."""
    from goodrate.shop.shop import SPLITS

    return {
        "settings": shop.settings.model_dump(mode="json"),
        "taxonomy_version": shop.world.taxonomy.version,
        "rulebook_hash": shop.book.hash,
        "catalog_hash": shop.catalog.content_hash,
        "scale": shop.book.scale.name,
        "labels": list(shop.book.scale.labels),
        "items": len(shop.world),
        "judged_pairs": int(shop.judged_items.size),
        "queries": {split: len(shop.queries_of(split)) for split in SPLITS},
        "examination": examination().round(6).tolist(),
    }


def session_frame(shop: Shop) -> pl.DataFrame:
    """Impressions in order of time: query_id, query, session, item_id, position (1 = top), clicked, bought, time."""
    import polars as pl

    ids = np.asarray(shop.catalog.ids)
    sessions = shop.sessions
    queries = [int(q) for q in sessions["query"]]
    frame = pl.DataFrame(
        {
            "query_id": pl.Series([shop.query_id(q) for q in queries], dtype=pl.String),
            "query": pl.Series([shop.queries[q].text for q in queries], dtype=pl.String),
            "session": sessions["session"],
            "item_id": pl.Series(ids[sessions["item"]].tolist(), dtype=pl.String),
            "position": sessions["position"],
            "clicked": sessions["clicked"],
            "bought": sessions["bought"],
            "time": pl.Series(sessions["time"] * 1000).cast(pl.Datetime("ms", "UTC")),
        }
    )
    return frame.sort("time", "query_id", "session", "position")


def fact_entries(world: World) -> list[tuple[str, str]]:
    """(name, fact) of every model ("velto 17") and line ("velto"), as alternative queries tell them.

    Where a line has more than 90 models, numbers repeat; such a name means no one item and gets no fact.
    """
    names = [f"{world.lines[line]} {model}" for line, model in zip(world.line, world.model, strict=True)]
    prices: dict[str, int | None] = {}
    for name, price in zip(names, world.price.tolist(), strict=True):
        prices[name] = None if name in prices else price
    models = [(name, f"{name} : price {price}") for name, price in prices.items() if price is not None]
    return models + [(world.lines[line], _line_fact(world, line)) for line in range(len(world.lines))]


def _line_fact(world: World, line: int) -> str:
    """What every item of a line shares: its kind and its signature value."""
    t = world.taxonomy
    a, v = int(world.line_attribute[line]), int(world.line_value[line])
    kind = t.categories[world.line_category[line]]
    return f"{world.lines[line]} : {kind} , {t.attributes[a]} {t.values[a][v]}"


def _rationale_lines(shop: Shop) -> Iterator[str]:
    """One JSON line per judged pair: its true rationale, label first."""
    ids = shop.catalog.ids
    for q, items in enumerate(shop.judged_items.tolist()):
        for i in items:
            text = write(shop.rationale(q, i), "label_first")
            yield dumps({"query_id": shop.query_id(q), "item_id": ids[i], "rationale": text}) + "\n"


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _refuse_other(out: Path) -> None:
    """A ValueError when `out` is a file or holds what no export wrote."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; choose a folder")
    held = [entry for entry in out.iterdir() if not is_lock_file(entry)] if out.is_dir() else []
    written = (out / FILES[0]).is_file()  # only then are pictures those of an older shop
    strangers = sorted(e.name for e in held if e.name not in FILES and not (written and is_picture_file(e)))
    if strangers:
        raise ValueError(f"{out} holds other files, such as {strangers[0]!r}; choose a new or an empty folder")
