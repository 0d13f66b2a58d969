"""Make a clip of an item, by the house's video generator or a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from goodrate.content.protocol import VideoGenerator


def open_generator(folder: str | Path) -> VideoGenerator:
    """The video generator of a folder: one that `train("video_generator")` wrote, or a diffusers pipeline's.

    Raises FileNotFoundError for a folder that is neither, MissingExtra for a pipeline without diffusers.
    """
    from goodrate.content.video_generator import open_generator

    return open_generator(folder)


def film(
    item: Mapping[str, Any] | str, model: VideoGenerator | str | Path, *, out: str | Path | None = None, seed: int = 0,
    frames: int | None = None, steps: int | None = None, guidance: float | None = None,
) -> np.ndarray:  # fmt: skip
    """A clip of an item, uint8 (T, H, W, 3); the same arguments give the same clip.

    item: a catalogue row, or a caption. model: an open generator or its folder. out: where to write it, too, as .webp
    or .gif. frames, steps, guidance: None = the model's own choice. Raises ValueError for another ending, before
    anything is computed, and for what the model cannot make.
    """
    from goodrate.content.clip_file import write_clip

    if out is not None:
        check_out(out)
    generator = open_generator(model) if isinstance(model, str | Path) else model
    told = item if isinstance(item, str) else item_caption(item, generator)
    clip = generator.sample([told], [seed], steps=steps, guidance=guidance, frames=frames)[0]
    if out is not None:
        write_clip(out, clip)
    return clip


def check_out(out: str | Path) -> None:
    """ValueError, naming the file, unless it ends in .webp or .gif."""
    from goodrate.content.clip_file import check_ending

    check_ending(out)


def item_caption(item: Mapping[str, Any], generator: VideoGenerator) -> str:
    """What a generator is told of a catalogue row: the attributes that it learned from, or else all."""
    from goodrate.content.captions import item_caption

    return item_caption(item, getattr(generator, "card", {}).get("attributes", ()))


def item_row(
    item_id: str, catalog: str | Path | None = None, index: str | Path | None = None, format: str | None = None,
    map: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The catalogue row of an item, from a file or an index. Raises ValueError when it is in neither."""
    from goodrate.api.reading import read_catalog

    if (catalog is None) == (index is None):
        raise ValueError(f"where is item {item_id!r}? give --catalog FILE or --index DIR, or what it is by --caption")
    if catalog is not None:
        return read_catalog(str(catalog), format, map).rows([item_id]).to_dicts()[0]
    from goodrate.api.index import Index

    assert index is not None
    return Index.open(index, words_only=True).store.items([item_id]).to_dicts()[0]
