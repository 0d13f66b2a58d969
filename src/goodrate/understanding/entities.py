"""What a tagger finds in texts, as a table of entities, and as attributes of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import polars as pl

from goodrate.catalog.attribute_text import merged_objects
from goodrate.catalog.normal_form import normal_form
from goodrate.strict_json import compact, parse
from goodrate.understanding.candidates import Spans, find_spans, phrases_of
from goodrate.understanding.labels import NOTHING, without_overlaps
from goodrate.understanding.rules import fired, rules_at
from goodrate.understanding.tagger import Tagger
from goodrate.understanding.words import Words, split_words

FOUND = "found_"  # what the names of derived attributes begin with: found_material
TAGGER = "tagger"  # of an entity that no seed and no rule knows
SCHEMA = {
    "id": pl.String, "field": pl.String, "start": pl.Int64, "end": pl.Int64, "text": pl.String, "type": pl.String,
    "probability": pl.Float64, "by": pl.String,
}  # fmt: skip


AT_ONCE = 20_000  # texts, for the memory of their candidates


def entity_table(
    tagger: Tagger, ids: Sequence[str], fields: Sequence[str], texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:  # fmt: skip
    """A row for each entity found: SCHEMA, in the order of the texts and their words.

    ids, fields, texts (N,): whose text it is, which of its fields, the text. start, end: characters, end exclusive.
    by: "seed", the words of the most precise rule that finds it there too, or "tagger".
    """
    tables = [pl.DataFrame(schema=SCHEMA)]
    for start in range(0, len(texts), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        tables.append(_block(tagger, ids[block], fields[block], texts[block]))
        progress(min(start + AT_ONCE, len(texts)), len(texts))
    return pl.concat(tables)


def _block(tagger: Tagger, ids: Sequence[str], fields: Sequence[str], texts: Sequence[str]) -> pl.DataFrame:
    """entity_table of texts that are looked at together."""
    words = split_words(texts)
    spans = find_spans(words, tagger.card.function_words, tagger.card.max_width)
    probabilities = tagger.probabilities(words, spans)
    label = entity_labels(words, spans, probabilities)
    rows = np.flatnonzero(label != NOTHING)
    first, last, text = spans.first[rows], spans.last[rows], spans.text[rows]
    placed = pl.DataFrame({
        "text_row": text, "start": words.start[first], "end": words.end[last],
        "type": np.array(tagger.card.types)[label[rows]] if len(rows) else np.zeros(0, dtype=np.str_),
        "probability": probabilities[rows, label[rows]].astype(np.float64).round(4),
        "by": pl.Series(_origins(tagger, words, spans, rows, label[rows]), dtype=pl.String),
    })  # fmt: skip
    whole = pl.DataFrame({"id": list(ids), "field": list(fields), "whole": list(texts)}, schema_overrides={
        "id": pl.String, "field": pl.String, "whole": pl.String}).with_row_index("text_row")  # fmt: skip
    joined = placed.join(whole.with_columns(pl.col("text_row").cast(pl.Int64)), on="text_row", how="left",
                         maintain_order="left")  # fmt: skip
    cut = pl.col("whole").str.slice(pl.col("start"), pl.col("end") - pl.col("start"))
    return joined.with_columns(text=cut).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def entity_labels(words: Words, spans: Spans, probabilities: np.ndarray) -> np.ndarray:
    """(S,) the class of the spans that are kept, the likeliest first where they share words; else NOTHING."""
    likeliest = probabilities.argmax(axis=1)
    score = np.where(likeliest < probabilities.shape[1] - 1, probabilities.max(axis=1), 0.0)
    return np.where(without_overlaps(spans.first, spans.last, score, len(words)), likeliest, NOTHING)


def found_attributes(table: pl.DataFrame, ids: Sequence[str]) -> pl.Series:
    """(N,) one compact JSON object an id: found_TYPE -> its distinct values in normal form, in order."""
    values = table.select("id", "type", value=normal_form(table["text"])).unique(maintain_order=True)
    lists = values.group_by("id", "type", maintain_order=True).agg("value")
    by_id: dict[str, dict[str, Any]] = {}
    for item, kind, found in lists.iter_rows():
        by_id.setdefault(item, {})[FOUND + kind] = found[0] if len(found) == 1 else found
    return pl.Series("attributes", [compact(by_id.get(item, {})) for item in ids], dtype=pl.String)


def enriched(frame: pl.DataFrame, table: pl.DataFrame, types: Sequence[str]) -> pl.DataFrame:
    """A catalogue's frame whose attributes hold what was found of the types, beside what the shop says.

    Attributes found_TYPE of these types from an earlier run are replaced.
    """
    earlier = {FOUND + name for name in types}
    marked = frame["attributes"].str.contains(f'"{FOUND}', literal=True)
    bare = {text: _without(text, earlier) for text in frame["attributes"].filter(marked).unique().to_list()}
    own = frame["attributes"].replace(bare) if bare else frame["attributes"]
    return frame.with_columns(merged_objects(own, found_attributes(table, frame["id"].to_list())).alias("attributes"))


def _without(text: str, names: Collection[str]) -> str:
    """A JSON object without these names, in compact form."""
    return compact({name: value for name, value in parse(text).items() if name not in names})


def _origins(tagger: Tagger, words: Words, spans: Spans, rows: np.ndarray, kinds: np.ndarray) -> list[str]:
    """Who else says so of each found span (rows, with their classes): seed, a rule, or nobody but the tagger."""
    card = tagger.card
    said = np.full(len(rows), TAGGER, dtype=object)
    if card.rules and len(spans):
        of = rules_at(words, spans, card.rules)
        rule_kinds = np.array([rule.kind for rule in card.rules])
        precision = np.array([rule.precision for rule in card.rules])
        _, best = fired(of, rule_kinds, precision, len(card.types))
        chosen = best[rows, kinds]
        texts = np.array([rule.says for rule in card.rules], dtype=object)
        said = np.where(chosen >= 0, texts[chosen], said)
    seeds = phrases_of(words, spans, card.seeds)
    kind_of = np.full(len(spans.count) + 1, NOTHING)
    for text, phrase in seeds.items():
        kind_of[phrase] = card.types.index(card.seeds[text])
    return np.where(kind_of[spans.phrase[rows]] == kinds, "seed", said).tolist()
