"""What a probe reads of an item: features of its picture and of its words, made few and of one size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from goodrate.understanding.attribute_guess import Picture
from goodrate.understanding.picture_features import PictureFeatures, open_features

PICTURE_SIZE, TEXT_SIZE = 128, 48  # dimensions that are kept
BUCKETS = 1 << 12  # of hashed words
BATCH = 256
SPREAD = 16.0  # mean squared length of the picture's part of a row, and of the words'
LARGEST_FIT = 20_000  # items that the dimensions are found on
TEXTS = ("title", "description", "brand", "category")


class ProbeFeatures:
    """Rows (N, F) of items. picture_centre (P,), picture_axes (P, D): from features of pictures to dimensions;
    text_axes (BUCKETS, E), none where no text is read; scale (D + E,) of all of them. The last column says whether
    there is a picture.
    """

    def __init__(
        self, pictures: PictureFeatures, picture_centre: np.ndarray, picture_axes: np.ndarray,
        text_axes: np.ndarray | None, centre: np.ndarray, scale: np.ndarray,
    ) -> None:  # fmt: skip
        self.pictures, self._centre, self._axes, self._text = pictures, picture_centre, picture_axes, text_axes
        self._middle, self._scale = centre, scale

    @classmethod
    def fitted(
        cls, frame: pl.DataFrame, images: Sequence[Picture], pictures: PictureFeatures, use_text: bool, seed: int,
        progress: Callable[[str, int, int], None],
    ) -> tuple[ProbeFeatures, np.ndarray]:  # fmt: skip
        """The features of a catalogue, and its rows (N, F). Raises ValueError without any picture."""
        raw, seen = [], []
        for start in range(0, len(frame), BATCH):
            batch = images[start : start + BATCH]
            raw.append(pictures.rows(batch))
            seen += [picture is not None for picture in batch]
            progress("reading pictures", len(seen), len(frame))
        there = np.array(seen)
        if not there.any():
            raise ValueError("no item has a picture; name their folder with --images")
        rows = np.concatenate(raw)
        chosen = np.random.default_rng([seed, 17]).permutation(np.flatnonzero(there))[:LARGEST_FIT]
        centre = rows[chosen].mean(axis=0)
        axes = _axes(rows[chosen] - centre, PICTURE_SIZE, seed)
        words = None
        if use_text:
            some = np.random.default_rng([seed, 18]).permutation(len(frame))[:LARGEST_FIT]
            words = _axes(hashed_words(frame[some]), TEXT_SIZE, seed)
        size = axes.shape[1] + (words.shape[1] if words is not None else 0)
        bare = cls(pictures, centre, axes, words, np.zeros(size, np.float32), np.ones(size, np.float32))
        joined = bare._joined(rows, there, frame)[:, :-1]
        bare._middle, bare._scale = joined.mean(axis=0), _block_scale(joined, axes.shape[1])
        return bare, bare._scaled(bare._joined(rows, there, frame))

    def rows(self, frame: pl.DataFrame, images: Sequence[Picture]) -> np.ndarray:
        """(N, F) float32 of items with their pictures."""
        there = np.array([picture is not None for picture in images], dtype=bool)
        return self._scaled(self._joined(self.pictures.rows(images), there, frame))

    def _joined(self, rows: np.ndarray, there: np.ndarray, frame: pl.DataFrame) -> np.ndarray:
        told = (rows - self._centre) @ self._axes * there[:, None]
        parts = [told, *([hashed_words(frame) @ self._text] if self._text is not None else []), there[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _scaled(self, joined: np.ndarray) -> np.ndarray:
        scaled = (joined[:, :-1] - self._middle) * self._scale
        return np.concatenate([scaled, joined[:, -1:]], axis=1)

    @property
    def fingerprint(self) -> str:
        """Of all that decides a row."""
        digest = hashlib.sha256(self.pictures.fingerprint.encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def card(self) -> dict[str, Any]:
        """What a card says of them; the numbers are in `arrays`."""
        return {"pictures": self.pictures.name, "fingerprint": self.pictures.fingerprint}

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers by name."""
        found = {"picture_centre": self._centre, "picture_axes": self._axes, "centre": self._middle,
                 "scale": self._scale}  # fmt: skip
        return found | ({"text_axes": self._text} if self._text is not None else {})

    @classmethod
    def of(cls, card: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ProbeFeatures:
        """What was saved. Raises ValueError when the network of pictures is not the one that it was fitted on."""
        pictures = open_features(str(card["pictures"]))
        if pictures.fingerprint != card["fingerprint"]:
            raise ValueError(
                f"the network {card['pictures']} is not the one that the probe was fitted on; fit it again"
            )
        return cls(pictures, arrays["picture_centre"], arrays["picture_axes"], arrays.get("text_axes"),
                   arrays["centre"], arrays["scale"])  # fmt: skip


def _block_scale(joined: np.ndarray, pictured: int) -> np.ndarray:
    """(F,) float32: std^-1/2 of each dimension, and one factor for those of the picture and one for those of the words.

    Each part then has a mean squared length of SPREAD. All of the way to unit variance would blow up the weak
    dimensions, which are noise where items are few; none of it hides small signs in the picture.
    """
    scale = np.zeros(joined.shape[1], dtype=np.float32)
    variance = joined.var(axis=0)
    for part in (slice(0, pictured), slice(pictured, None)):
        spread = variance[part]
        weak = np.maximum(spread, 1e-9 * max(float(spread.max(initial=0.0)), 1e-30))
        halfway = weak**-0.25
        total = float((spread * halfway**2).sum())
        if total > 1e-12:
            scale[part] = halfway * np.sqrt(SPREAD / total)
    return scale


def hashed_words(frame: pl.DataFrame) -> Any:
    """A sparse matrix (N, BUCKETS) of the words of TEXTS, each row of length 1."""
    from sklearn.feature_extraction.text import HashingVectorizer

    joined = frame.select(pl.concat_str(*TEXTS, separator=" "))[:, 0].to_list()
    reader = HashingVectorizer(n_features=BUCKETS, alternate_sign=False, dtype=np.float32)
    return reader.transform(joined)


def _axes(rows: Any, size: int, seed: int) -> np.ndarray:
    """(P, D) the D directions in which rows (N, P) differ most; D is size, or less where there are fewer."""
    from sklearn.utils.extmath import randomized_svd

    most = max(1, min(size, rows.shape[0] - 1, rows.shape[1]))
    _, strength, axes = randomized_svd(rows, n_components=most, random_state=seed)
    return np.ascontiguousarray(axes[strength > 1e-6 * max(float(strength[0]), 1e-30)].T, dtype=np.float32)
