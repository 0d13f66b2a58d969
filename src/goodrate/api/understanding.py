"""Find typed entities in a catalogue: distil a tagger, or apply one, and write what it finds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from goodrate.bulk.cluster import Cluster
    from goodrate.catalog.items import Catalog
    from goodrate.understanding.tagger import Tagger

FIELDS = ("title", "description")
SHOWN = 20
TAGGER_FOLDER = "tagger"  # of a run
KEPT = "tagged"  # folder in which workers' tables stay until all is written
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Understood:
    """What was found. entities: id, field, start, end, text, type, probability, by. queries: the same of queries.

    catalog: the file with the found attributes, which `goodrate index` reads. history: a record a round, empty where a
    tagger was only applied. left_out: label words that the expert has no single token for.
    """

    entities: pl.DataFrame
    queries: pl.DataFrame | None
    tagger: Tagger
    folder: Path
    catalog: Path
    history: list[dict[str, Any]]
    left_out: tuple[str, ...] = ()
    shown: tuple[dict[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.entities)


def understand(
    catalog: Catalog, out: str | Path, *, types: str | Path | None = None, expert: str | Path | None = None,
    encoder: str | Path | None = None, tagger: str | Path | None = None, queries: Sequence[str] = (),
    fields: Sequence[str] = ("title",), settings: Path | None = None, overrides: Sequence[str] = (),
    progress: Progress = lambda what, done, total: None,
    cluster: Cluster | None = None,
) -> Understood:  # fmt: skip
    """Find entities in a catalogue's texts and write them to the folder `out`.

    types: a types file, or "products". expert: a language model's folder or hub id; None = the seeds of the types file
    alone. encoder: a text encoder's folder or hub id, whose states of the words the tagger reads; None = the tagger
    knows the catalogue's words alone. tagger: the folder of one that was distilled before: it is applied, nothing is
    learned. fields: of title and
    description. settings, overrides: of the recipe. In `out`: entities.parquet, queries.parquet, catalog.parquet (the
    items with attributes found_TYPE), rules.txt, page.html, and where a tagger was distilled the run with `tagger`.
    A killed run goes on when it is called again. cluster: its workers tag the items (api.bulk.ray_cluster).
    Raises FileNotFoundError, or ValueError for what cannot be used.
    """
    from goodrate.run_folder import run_lock

    _check(catalog, types, tagger, fields)
    if tagger is not None and encoder is not None:
        raise ValueError("a tagger knows its encoder; an encoder is named when one is distilled")
    with run_lock(out):
        every = item_texts(catalog, fields)
        if tagger is not None:
            from goodrate.understanding.tagger import Tagger

            place = (Path(tagger), cluster)
            return _written(Path(out), catalog, every, Tagger.load(tagger), queries, [], (), progress, place)
        assert types is not None
        models = (expert, encoder)
        found, history, left_out = _distilled(types, models, every[2], Path(out), settings, overrides, progress)
        place = (Path(out) / TAGGER_FOLDER, cluster)
        return _written(Path(out), catalog, every, found, queries, history, left_out, progress, place)


def item_texts(catalog: Catalog, fields: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """(ids, fields, texts) of all texts of a catalogue, item by item; empty ones too, which have no entity."""
    ids = [item for item in catalog.ids for _ in fields]
    columns = [catalog.frame[name].to_list() for name in fields]
    texts = [text for row in zip(*columns, strict=True) for text in row]
    return ids, list(fields) * len(catalog), texts


def _check(catalog: Catalog, types: Any, tagger: Any, fields: Sequence[str]) -> None:
    if (types is None) == (tagger is None):
        raise ValueError("expected types to distil a tagger for, or the folder of a tagger to apply, and not both")
    unknown = [name for name in fields if name not in FIELDS]
    if unknown or not fields:
        raise ValueError(f"fields {', '.join(fields) or 'none'}: expected some of {', '.join(FIELDS)}")
    if not len(catalog):
        raise ValueError("the catalogue has no items")


def _distilled(
    types_file: str | Path, models: tuple[str | Path | None, str | Path | None], texts: list[str], out: Path,
    settings: Path | None, overrides: Sequence[str], progress: Progress,
) -> tuple[Tagger, list[dict[str, Any]], tuple[str, ...]]:  # fmt: skip
    """The tagger of a run in `out`, the run's history, and the label words that were left out.

    models: expert and encoder.
    """
    import numpy as np

    from goodrate.recipes.stream import Settings, corpus_of, distil_tagger, read_words
    from goodrate.run_folder import RunFolder
    from goodrate.settings import load
    from goodrate.understanding.entity_types import read_types, require_words
    from goodrate.understanding.expert import open_expert
    from goodrate.understanding.words import split_words

    expert, encoder = models
    resolved = load(Settings, settings, overrides)
    types = read_types(types_file)
    if expert is not None:
        require_words(types, str(types_file))
    elif unseeded := [name for name, kind in types.types.items() if not kind.seeds]:
        raise ValueError(f"{types_file}: type {unseeded[0]!r} has no seeds; without an expert every type needs "
                         "seeds = [...]; or name one with --expert")  # fmt: skip
    filled = sorted({text for text in texts if text.strip()})
    if not filled:
        raise ValueError("every text of the catalogue is empty; choose other fields")
    drawn = np.random.default_rng([resolved.seed, 11]).permutation(len(filled))[: resolved.texts]
    learned = [filled[i] for i in sorted(drawn)]
    data = hashlib.sha256("\n".join(learned).encode()).hexdigest()[:16]
    opened = open_expert(expert) if expert is not None else None
    words = split_words(learned)
    if encoder is not None:
        progress("reading texts with the encoder", 0, len(learned))
    corpus = corpus_of(words, types, read_words(words, encoder) if encoder is not None else None)
    done = distil_tagger(resolved, types, corpus, opened, RunFolder(out), data, progress, source=str(types_file))
    return done.tagger, done.history, done.left_out


def _written(
    out: Path, catalog: Catalog, texts: tuple[list[str], list[str], list[str]], tagger: Tagger, queries: Sequence[str],
    history: list[dict[str, Any]], left_out: tuple[str, ...], progress: Progress, place: tuple[Path, Cluster | None],
) -> Understood:  # fmt: skip
    """Tag everything and write the files of `out`. place: the tagger's folder, and who works with it if not we."""
    from goodrate.bulk.tagging import tagged
    from goodrate.catalog.tables import write_table
    from goodrate.recipes.stream import rule_lines
    from goodrate.run_folder import write_atomic
    from goodrate.understanding.entities import enriched, entity_table
    from goodrate.understanding.page import html_page, shown

    told, (folder, cluster) = partial(progress, "tagging"), place
    table = entity_table(tagger, *texts, told) if cluster is None else tagged(cluster, folder, texts, out / KEPT, told)
    asked = entity_table(tagger, queries, ["query"] * len(queries), queries) if queries else None
    write_table(out / "entities.parquet", table)
    if asked is not None:
        write_table(out / "queries.parquet", asked)
    write_table(out / "catalog.parquet", enriched(catalog.frame, table, tagger.card.types))
    write_atomic(out / "rules.txt", "".join(f"{line}\n" for line in rule_lines(tagger)))
    by_place: Mapping[tuple[str, str], str] = dict(zip(zip(texts[0], texts[1], strict=True), texts[2], strict=True))
    some = shown(table, by_place, SHOWN)
    about = f"{len(table):,} entities in {len(catalog):,} items; here {len(some)} of the texts that have some."
    write_atomic(out / "page.html", html_page(some, about, tagger.card.types))
    shutil.rmtree(out / KEPT, ignore_errors=True)
    return Understood(table, asked, tagger, out, out / "catalog.parquet", history, left_out, tuple(some))


def read_queries(path: str | Path) -> list[str]:
    """The distinct queries of a file with a column query (csv, tsv, jsonl, parquet), in its order."""
    from goodrate.catalog.query_log import read_query_log

    return list(dict.fromkeys(query for query, _ in read_query_log(path, skip_bad=0)))
