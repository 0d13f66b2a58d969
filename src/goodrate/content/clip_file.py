"""Clips as animated pictures: WebP without loss, and GIF. Pillow is imported when a file is read or written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.run_folder import write_atomic

ENDINGS = {".webp": "WEBP", ".gif": "GIF"}
FRAME_MS = 125
SHOWN_SIDE = 256  # pixels that a small clip is enlarged to at least, so that it can be looked at
MOST_FRAMES, MOST_PIXELS = 512, 64_000_000  # of a file that is read, over all frames


def clip_bytes(frames: np.ndarray, ending: str = ".webp", *, scale: int = 1, frame_ms: int = FRAME_MS) -> bytes:
    """An endless animation of frames uint8 (T, H, W, 3); every pixel becomes scale x scale. ValueError for an ending.

    WebP keeps every level; GIF has 256 colours a frame.
    """
    from PIL import Image

    if ending.lower() not in ENDINGS:
        raise ValueError(f"a clip ends in {' or '.join(ENDINGS)}, not {ending!r}")
    enlarged = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    first, *rest = [Image.fromarray(frame) for frame in enlarged]
    told = {"lossless": True, "method": 4} if ending.lower() == ".webp" else {"disposal": 1}
    file = io.BytesIO()
    first.save(file, ENDINGS[ending.lower()], save_all=True, append_images=rest, duration=frame_ms, loop=0, **told)
    return file.getvalue()


def check_ending(path: str | Path) -> None:
    """ValueError, naming the file, for an ending other than .webp and .gif."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: a clip ends in {' or '.join(ENDINGS)}")


def write_clip(path: str | Path, frames: np.ndarray, *, scale: int | None = None, frame_ms: int = FRAME_MS) -> None:
    """Write an animation, whole or not at all. scale: None enlarges until a side has SHOWN_SIDE pixels.

    Raises ValueError for an ending other than .webp and .gif, naming the file.
    """
    path = Path(path)
    check_ending(path)
    times = scale or max(1, -(-SHOWN_SIDE // min(frames.shape[1:3])))
    write_atomic(path, clip_bytes(frames, path.suffix, scale=times, frame_ms=frame_ms))


def read_clip(path: str | Path, *, frames: int | None = None, size: int | None = None) -> np.ndarray:
    """The frames uint8 (T, H, W, 3) of an animation; a still picture is one frame.

    frames: that many, in equal steps from the first, one several times where there are fewer. size: pixels of a side;
    each is the mean of those that it replaces, so that a clip that was enlarged comes back as it was. Raises
    FileNotFoundError, ValueError naming a file that is no picture, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        with Image.open(path) as image:
            count = getattr(image, "n_frames", 1)
            if count > MOST_FRAMES or count * image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{path}: {count} frames of {image.width} x {image.height} pixels; at most {MOST_FRAMES} frames "
                    f"and {MOST_PIXELS:,} pixels in all are read"
                )
            wanted = range(count) if frames is None else [i * count // frames for i in range(frames)]
            return np.stack([_frame(image, number, size) for number in wanted])
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture that can be read; expected {' or '.join(ENDINGS)}") from None
    except (EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        if error.errno is not None:  # of the disk; a decoder's has no number
            raise
        raise ValueError(f"{path} is damaged: {error}") from None


def _frame(image: Any, number: int, size: int | None) -> np.ndarray:
    from PIL import Image

    image.seek(number)
    frame = image.convert("RGB")
    if size is not None and frame.size != (size, size):
        frame = frame.resize((size, size), Image.Resampling.BOX)
    return np.asarray(frame)
