"""Pictures as pixels: decoded, made square, scaled."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

MOST_PIXELS = 40_000_000  # of a picture that is decoded, 120 MB then; more is refused


def to_pixels(picture: bytes | np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size, 3): the whole picture, centred on white where it is not square, scaled bicubically.

    picture: the bytes of a file that Pillow reads, or uint8 (H, W, 3). Transparent parts are white; a camera's rotation
    is undone. Raises ValueError for anything else, and for a picture of more than MOST_PIXELS.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is uint8 (H, W, 3), found {picture.dtype} {picture.shape}")
        if picture.shape[:2] == (size, size):
            return picture
    image = _opened(picture)
    side = max(image.size)
    if image.size != (side, side):
        from PIL import Image

        square = Image.new("RGB", (side, side), "white")
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    return np.asarray(image.resize((size, size), resample=3))  # 3: bicubic


def _opened(picture: bytes | np.ndarray) -> Any:
    """An RGB image of Pillow."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    try:
        image: Any = Image.open(io.BytesIO(picture))
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"a picture of {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are read")
        image = ImageOps.exif_transpose(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            seen = image.convert("RGBA")
            image = Image.new("RGBA", seen.size, "white")
            image.alpha_composite(seen)
        return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture that can be read ({type(error).__name__})") from error
