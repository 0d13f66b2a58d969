"""The tagger: what a distillation leaves behind. A folder with its types, its rules and its network."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from goodrate.models.encoder import Encoder
from goodrate.models.precision import evaluating
from goodrate.models.pretrained import readable, remembered_name
from goodrate.models.span_tagger import SpanTagger
from goodrate.models.word_states import WordReader
from goodrate.strict_json import dumps, read_object
from goodrate.understanding.candidates import Spans
from goodrate.understanding.rules import Rule
from goodrate.understanding.words import Words

CARD, WEIGHTS = "tagger.json", "model.safetensors"
FORMAT = 2
BUCKETS = 1 << 14
TEXTS_AT_ONCE = 256
States = Callable[[np.ndarray], np.ndarray]  # texts (N,) -> states of their words, text after text


@dataclass(frozen=True)
class TaggerCard:
    """What tagger.json says: types in the order of the classes, how candidates are found, the rules, the sizes.

    encoder: folder or hub id of the frozen encoder whose states the network reads, with its fingerprint, the layer and
    its width; empty and 0 = the network reads the words alone.
    """

    types: tuple[str, ...]
    function_words: tuple[str, ...] = ()
    max_width: int = 5
    size: int = 48
    hidden: int = 48
    encoder: str = ""
    fingerprint: str = ""
    layer: int = 0
    states: int = 0
    seeds: dict[str, str] = field(default_factory=dict)  # phrase -> type
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Tagger:
    """A card and its network; reader: of the encoder that the card names."""

    card: TaggerCard
    network: SpanTagger
    reader: WordReader | None = None

    def probabilities(self, words: Words, spans: Spans) -> np.ndarray:
        """(S, C + 1) float32 of each candidate phrase; the last class is "no entity"."""
        return span_probabilities(self.network, words, spans, read_states(words, self.reader) if self.reader else None)

    def save(self, folder: Path) -> None:
        """Write the folder's files; the caller makes the folder appear whole."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), str(folder / WEIGHTS))
        (folder / CARD).write_text(dumps({"format": FORMAT, **asdict(self.card)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Tagger:
        """Read a folder, and the encoder that it names.

        FileNotFoundError where there is no tagger or no encoder, ValueError for one that is broken or newer, or whose
        encoder is another one than it was trained with.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileNotFoundError(
                f"{folder}: no {CARD} there; expected the folder `tagger` that goodrate understand wrote"
            )
        card = _card(folder / CARD, read_object(folder / CARD))
        network = new_network(card)
        with readable(folder):
            network.load_state_dict(load_file(str(folder / WEIGHTS)))
        return cls(card, network.eval(), _reader(card, folder) if card.encoder else None)


def open_reader(encoder: str | Path) -> WordReader:
    """The reader of an encoder's folder or hub id; errors as Encoder.load and WordReader."""
    return WordReader(Encoder.load(encoder))


def reading(reader: WordReader, encoder: str | Path) -> dict[str, Any]:
    """What a card says of the encoder that its network reads."""
    return {"encoder": remembered_name(str(encoder)), "fingerprint": reader.encoder.fingerprint, "layer": reader.layer,
            "states": reader.dimension}  # fmt: skip


def _reader(card: TaggerCard, folder: Path) -> WordReader:
    """The reader that a card names."""
    try:
        encoder = Encoder.load(card.encoder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder / CARD}: its encoder is not there: {error}") from error
    if encoder.fingerprint != card.fingerprint:
        raise ValueError(f"{folder / CARD}: {card.encoder} is another encoder than the tagger was trained with; put "
                         "that one back, or distil the tagger anew")  # fmt: skip
    return WordReader(encoder, card.layer)


def new_network(card: TaggerCard) -> SpanTagger:
    """An untrained network of the card's sizes; torch's seed decides its weights."""
    return SpanTagger(len(card.types), BUCKETS, card.size, card.hidden, card.max_width, states=card.states)


def words_in(words: Words, texts: np.ndarray) -> np.ndarray:
    """The words of some texts (N,), text after text."""
    begin, size = words.begin[texts], np.diff(words.begin)[texts]
    return np.repeat(begin - np.cumsum(size) + size, size) + np.arange(size.sum())


def held_states(words: Words, table: np.ndarray) -> States:
    """States of words that are in a table (T, D)."""
    return lambda texts: table[words_in(words, texts)]


def read_states(words: Words, reader: WordReader) -> States:
    """States of words that are read when they are asked for."""

    def states(texts: np.ndarray) -> np.ndarray:
        begin = np.concatenate([[0], np.cumsum(np.diff(words.begin)[texts])])
        return reader(words.texts.gather(texts).to_list(), words.start[words_in(words, texts)], begin)

    return states


def word_features(words: Words) -> np.ndarray:
    """(T, F) int64 buckets of each word: the word, its first three letters, its last two, three and four, its case.

    Computed once a distinct spelling; 0 is kept for padding and for features that a word is too short for.
    """
    spelled = words.surface.unique().sort()
    normal = spelled.str.to_lowercase()
    long = pl.Series(normal.str.len_chars())
    case = (
        pl.DataFrame({"s": spelled})
        .select(
            pl.when(pl.col("s").str.contains(r"^\p{Lu}+$")).then(pl.lit("upper"))
            .when(pl.col("s").str.contains(r"^\p{Lu}")).then(pl.lit("title"))
            .when(pl.col("s").str.contains(r"\p{N}")).then(pl.lit("digit")).otherwise(pl.lit("lower"))
        )
        .to_series()
    )  # fmt: skip
    parts = [("w", normal, 1), ("p3", normal.str.head(3), 4), ("s2", normal.str.slice(-2), 4),
             ("s3", normal.str.slice(-3), 5), ("s4", normal.str.slice(-4), 6), ("c", case, 0)]  # fmt: skip
    columns = [np.where(long.to_numpy() >= least, _buckets(name, values), 0) for name, values, least in parts]
    table = np.stack(columns, axis=1)
    place = pl.DataFrame({"s": spelled, "place": np.arange(len(spelled))})
    rows = words.surface.to_frame("s").join(place, on="s", how="left", maintain_order="left")["place"]
    return table[rows.to_numpy()]


def _buckets(name: str, values: pl.Series) -> np.ndarray:
    """(V,) bucket of each value, 1..BUCKETS - 1; each distinct value is hashed once."""
    distinct = values.unique().sort()
    hashed = [zlib.crc32(f"{name}:{value}".encode()) % (BUCKETS - 1) + 1 for value in distinct.to_list()]
    return values.replace_strict(distinct, hashed, return_dtype=pl.Int64).to_numpy()


def span_batch(
    words: Words, spans: Spans, features: np.ndarray, texts: np.ndarray, rows: np.ndarray, states: States | None = None
) -> dict[str, Any]:
    """What SpanTagger reads of some texts (N,) and of spans (M,) in them. Texts must have a word each."""
    begin, lengths = words.begin[texts], np.diff(words.begin)[texts]
    width = int(lengths.max())
    place = begin[:, None] + np.arange(width)
    inside = np.arange(width) < lengths[:, None]
    padded = np.where(inside[..., None], features[np.minimum(place, len(words) - 1)], 0)
    row_of = np.full(len(words.texts), -1)
    row_of[texts] = np.arange(len(texts))
    row = row_of[spans.text[rows]]
    columns = {"features": padded, "lengths": lengths, "row": row, "first": spans.first[rows] - begin[row],
               "width": spans.width[rows]}  # fmt: skip
    if states is not None:
        own = states(texts)
        columns["states"] = np.zeros((*padded.shape[:2], own.shape[1]), dtype=np.float32)
        columns["states"][inside] = own
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}


def span_probabilities(
    network: SpanTagger, words: Words, spans: Spans, states: States | None = None
) -> np.ndarray:
    """(S, C + 1) float32; texts of like length are read together."""
    classes = network.head[-1].out_features
    assert isinstance(classes, int)
    found = np.zeros((len(spans), classes), dtype=np.float32)
    if not len(spans):
        return found
    features = word_features(words)
    with evaluating(network), torch.inference_mode():
        for texts, rows in _parts(words, spans):
            logits = network(span_batch(words, spans, features, texts, rows, states))["logits"]
            found[rows] = logits.softmax(-1).numpy()
    return found


def _parts(words: Words, spans: Spans) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(texts, their spans) of at most TEXTS_AT_ONCE texts that have spans."""
    begin = np.searchsorted(spans.text, np.arange(len(words.texts) + 1))
    counts = np.diff(begin)
    texts = np.flatnonzero(counts)
    texts = texts[np.argsort(np.diff(words.begin)[texts], kind="stable")]
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[start : start + TEXTS_AT_ONCE]
        size = counts[part]
        rows = np.repeat(begin[part], size) + np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        yield part, rows


def _card(path: Path, read: dict[str, Any]) -> TaggerCard:
    """The card of what was read. ValueError naming the file for another format or what is missing."""
    if read.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a tagger of format {FORMAT}; write it again with goodrate understand --expert")
    try:
        rules = tuple(Rule(**rule) for rule in read.pop("rules"))
        types, words = tuple(read.pop("types")), tuple(read.pop("function_words"))
        return TaggerCard(types=types, function_words=words, rules=rules, **read)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a whole tagger ({error}); write it again") from error
