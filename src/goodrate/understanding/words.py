"""Texts as words with their places: one table for all texts, made by column operations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import normal_form

# Blanks, a word (with what joins its parts: t-shirt, 40.5, l'oreal, r&b), or one other character: every character is
# in exactly one piece, so that the lengths of the pieces add up to their places.
PIECE = r"(?s)\s+|[\p{L}\p{M}\p{N}_]+(?:['’.&-][\p{L}\p{M}\p{N}_]+)*|."


@dataclass(frozen=True)
class Words:
    """The T words of N texts, one after the other.

    text (T,): whose it is. word (T,): place of its normal form in the vocabulary (V,), sorted. surface (T,): as it
    is written. start, end (T,): its characters in the text, end exclusive. texts (N,).
    """

    texts: pl.Series
    text: np.ndarray
    word: np.ndarray
    vocabulary: pl.Series
    surface: pl.Series
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def begin(self) -> np.ndarray:
        """(N + 1,) the first word of each text, and T."""
        return np.searchsorted(self.text, np.arange(len(self.texts) + 1))

    @cached_property
    def hashes(self) -> np.ndarray:
        """(V,) uint64 of each word of the vocabulary: the same in every run and corpus, so that rules can travel."""
        return stable_hashes(self.vocabulary)


def stable_hashes(texts: pl.Series) -> np.ndarray:
    """(N,) uint64 of texts, the same on every machine; polars' own hash changes between versions."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts.to_list())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def split_words(texts: Sequence[str]) -> Words:
    """The words of texts; signs that normal_form drops (a trademark sign) are no words. Empty texts have none.

    >>> words = split_words(["Oak T-shirt, 40.5 cm", ""])
    >>> words.surface.to_list(), words.start.tolist()
    (['Oak', 'T-shirt', ',', '40.5', 'cm'], [0, 4, 11, 13, 18])
    """
    series = pl.Series("texts", list(texts), dtype=pl.String)
    pieces = pl.DataFrame({"text": np.arange(len(series)), "surface": series.str.extract_all(PIECE)})
    pieces = pieces.filter(pl.col("surface").list.len() > 0).explode("surface")
    length = pl.col("surface").str.len_chars().cast(pl.Int64)
    placed = pieces.with_columns(end=length.cum_sum().over("text")).with_columns(start=pl.col("end") - length)
    return _words(series, placed.filter(~pl.col("surface").str.contains(r"^\s*$")))


def joined_words(tokens: Sequence[Sequence[str]]) -> Words:
    """Words of texts that somebody has split already: the texts are the tokens with a blank between them."""
    frame = pl.DataFrame({"text": np.arange(len(tokens)), "surface": pl.Series(list(tokens), dtype=pl.List(pl.String))})
    series = frame["surface"].list.join(" ").rename("texts")
    pieces = frame.filter(pl.col("surface").list.len() > 0).explode("surface")
    length = pl.col("surface").str.len_chars().cast(pl.Int64)
    ends = (length + 1).cum_sum().over("text") - 1
    return _words(series, pieces.with_columns(end=ends).with_columns(start=pl.col("end") - length), drop=False)


def _words(texts: pl.Series, placed: pl.DataFrame, drop: bool = True) -> Words:
    """The table of words. placed: text, surface, start, end. drop: words without a normal form, else they are empty."""
    spelled = placed.select(pl.col("surface").unique().sort())
    spelled = spelled.with_columns(normal=normal_form(spelled["surface"]))
    placed = placed.join(spelled, on="surface", how="left", maintain_order="left")
    if drop:
        placed = placed.filter(pl.col("normal") != "")
    vocabulary = placed["normal"].unique().sort()
    numbered = pl.DataFrame({"normal": vocabulary, "word": np.arange(len(vocabulary))})
    placed = placed.join(numbered, on="normal", how="left", maintain_order="left")
    columns = {name: placed[name].cast(pl.Int64).to_numpy() for name in ("text", "word", "start", "end")}
    return Words(texts, columns["text"], columns["word"], vocabulary, placed["surface"], columns["start"],
                 columns["end"])  # fmt: skip
