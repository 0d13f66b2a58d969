"""The text encoder of an index: loaded, cut, or found where the index remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.store import Store


def load_encoder(encoder: str | Path | Encoder, longest: int | None = None) -> Encoder:
    """An encoder from its folder or hub id. longest: floats of the vectors, where the encoder's may be longer."""
    from goodrate.models.encoder import Encoder

    if isinstance(encoder, Encoder):
        return encoder if longest is None else encoder.cut(min(longest, encoder.dimension))
    return Encoder.load(encoder, precision="auto", longest=longest)


def single_query_encoder(encoder: Any) -> Any:
    """The encoder for one query at a time."""
    from goodrate.retrieval.query_encoder import SingleQueryEncoder

    return SingleQueryEncoder(encoder)


def new_encoder(encoder: str | Path | Encoder | None, dimensions: int | None) -> Encoder | None:
    """The encoder of a new index, with vectors of so many floats; None for full text only."""
    if encoder is None:
        if dimensions is not None:
            raise ValueError("--dimensions cuts the vectors of an encoder; give one with --encoder")
        return None
    loaded = load_encoder(encoder)
    return loaded if dimensions is None else loaded.cut(dimensions)


def remembered_encoder(store: Store) -> Encoder:
    """The encoder that an index remembers. FileNotFoundError with the way out when it is not found."""
    from goodrate.retrieval.manifest import encoder_place

    remembered, way_out = store.manifest.encoder, "say where it lies with --encoder PATH"
    if remembered is None:
        raise ValueError(f"{store.path} does not say where its encoder lies; {way_out}")
    try:
        return load_encoder(encoder_place(store.path, remembered), store.dimension)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the encoder of {store.path} is not found: {error}; {way_out}") from error
