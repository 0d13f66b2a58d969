"""Entities found by workers; what is done is kept by the hash of what was asked until all is."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from goodrate.bulk.cluster import Cluster, whole_path

if TYPE_CHECKING:
    import pyarrow as pa

Texts = tuple[Sequence[str], Sequence[str], Sequence[str]]  # ids, fields, texts, as entity_table has them


def tagged(
    cluster: Cluster, tagger: Path, texts: Texts, kept: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:  # fmt: skip
    """understanding.entities.entity_table of these texts, by workers.

    tagger: a folder that every worker can read. kept: the folder in which each block's table stays, so that a run that
    was cut off goes on; the caller removes it when all is written.
    """
    from goodrate.catalog.tables import write_table
    from goodrate.understanding.entities import AT_ONCE

    total = len(texts[2])
    cuts = [slice(start, start + AT_ONCE) for start in range(0, total, AT_ONCE)]
    identity = _identity(tagger)
    files = [kept / f"{_block_hash(identity, texts, cut)}.parquet" for cut in cuts]
    todo = [n for n, file in enumerate(files) if not file.is_file()]
    done = total - sum(len(texts[2][cuts[n]]) for n in todo)
    kept.mkdir(parents=True, exist_ok=True)
    for table in cluster.stream([_block(n, texts, cuts[n]) for n in todo], TagWorker, (whole_path(tagger),)):
        row = table.to_pylist()[0]
        write_table(files[row["block"]], pl.read_parquet(io.BytesIO(row["entities"])))
        done += len(texts[2][cuts[row["block"]]])
        progress(done, total)
    return pl.concat([_no_entities(), *(pl.read_parquet(file) for file in files)])


class TagWorker:
    """A tagger in a process of its own."""

    def __init__(self, folder: str) -> None:
        from goodrate.understanding.tagger import Tagger

        self.tagger = Tagger.load(folder)

    def __call__(self, block: pa.Table) -> pa.Table:
        """One row: the block's number and its entities as a parquet file, which may be empty."""
        import pyarrow as pa

        from goodrate.understanding.entities import entity_table

        columns = [block[name].to_pylist() for name in ("id", "field", "text")]
        file = io.BytesIO()
        entity_table(self.tagger, *columns).write_parquet(file)
        return pa.table({"block": [block["block"][0].as_py()], "entities": pa.array([file.getvalue()], pa.binary())})


def _block(number: int, texts: Texts, cut: slice) -> pa.Table:
    import pyarrow as pa

    columns = dict(zip(("id", "field", "text"), (list(column[cut]) for column in texts), strict=True))
    return pa.table({"block": [number] * len(columns["id"]), **columns})


def _identity(tagger: Path) -> str:
    """A hash of all files of a tagger."""
    digest = hashlib.sha256()
    for file in sorted(tagger.iterdir()):
        digest.update(file.name.encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _block_hash(identity: str, texts: Texts, cut: slice) -> str:
    content = [identity, *(list(column[cut]) for column in texts)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:32]


def _no_entities() -> pl.DataFrame:
    from goodrate.understanding.entities import SCHEMA

    return pl.DataFrame(schema=SCHEMA)
