"""Pictures of items: where the column `image` says they are, and whether they can be used.

A value of the column is an address (https:, data:), which is left as it is, a path inside a folder of pictures, or the
name of bytes that came with the table. Pictures are only ever opened from their bytes, in the formats of FORMATS, after
their size was read from their header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from goodrate.catalog.problems import SHOWN, BadRow
from goodrate.models.vision.pixels import MOST_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",)}
KNOWN = "JPEG, PNG, WebP or GIF"
MOST_BYTES = 20_000_000
KEPT = "sha256-"  # begins the name of bytes that came with the table
_ADDRESS = re.compile(r"(?i)^(?:[a-z][a-z0-9+.-]+:|//)")  # a scheme has two letters at least, a drive one
THREADS = 4


class PictureError(ValueError):
    """A picture that cannot be used. The message is what was expected and what was found."""


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of items lie. root: the folder of paths, None = no paths; kept: bytes by their name."""

    root: Path | None = None
    kept: Mapping[str, bytes] = field(default_factory=dict)

    def content(self, image: str) -> bytes | None:
        """The bytes of a picture by the item's `image`; None for an address and for "".

        Raises PictureError where it is missing, outside of the folder or too large to be read.
        """
        if not image or is_address(image):
            return None
        if image in self.kept:
            return self.kept[image]
        if self.root is None:
            raise PictureError(f"a folder of pictures, found none for {image[:80]!r}")
        return read_bounded(located(self.root, image))


def is_address(image: str) -> bool:
    """Whether an item's picture is somewhere on the web, or written out as a data: address.

    >>> [is_address(text) for text in ("https://a.example/1.png", "//a.example/1.png", "pics/1.png", "c:/1.png")]
    [True, True, False, False]
    """
    return _ADDRESS.match(image) is not None


def kept_name(content: bytes) -> str:
    """The name of bytes that came with the table: equal bytes have one."""
    return KEPT + hashlib.sha256(content).hexdigest()[:32]


def located(root: Path, image: str, beside: Path | None = None) -> Path:
    """The file of a path, looked for in the folder and then from `beside`; either way it must lie in the folder.

    Links are followed first. Raises PictureError where it lies outside or there is no such file.
    """
    home = root.resolve()
    try:
        found = [(start / image.replace("\\", "/")).resolve() for start in (home, beside) if start is not None]
        inside = [place for place in found if place.is_relative_to(home)]
        for place in inside:
            if place.is_file():
                return place
    except (OSError, ValueError, RuntimeError):  # too long, a null character, links in a circle
        raise PictureError(f"a path, found {image[:80]!r}") from None
    where = "a file" if inside else "a path"
    raise PictureError(f"{where} inside {root}, found {image[:80]!r}{'' if inside else ', which is outside'}")


def read_bounded(path: Path) -> bytes:
    """The bytes of a picture's file. Raises PictureError where it is larger than a picture may be or unreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PictureError(f"a file that can be read, found {path.name}: {error.strerror}") from None
    return content


def open_picture(content: bytes, draft: int | None = None) -> Image:
    """A decoded picture, of several frames the first. draft: a JPEG may be decoded smaller, but not below so many
    pixels a side. Raises PictureError for what is no picture in FORMATS, broken or huge.
    """
    from PIL import Image, UnidentifiedImageError

    if len(content) > MOST_BYTES:
        raise PictureError(f"a picture of at most {MOST_BYTES // 1_000_000} MB, found more")
    try:
        image = Image.open(BytesIO(content), formats=list(FORMATS))
    except UnidentifiedImageError:
        raise PictureError(f"a picture in {KNOWN}, found {_kind(content)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"at most {MOST_PIXELS:,} pixels, found more") from None
    except Exception as error:  # a decoder meets nonsense in many ways; all of them mean the same here
        raise PictureError(f"a whole picture, found a broken one ({error})") from None
    if image.width * image.height > MOST_PIXELS:
        raise PictureError(f"at most {MOST_PIXELS:,} pixels, found {image.width} x {image.height}")
    try:
        if draft is not None:
            image.draft("RGB", (draft, draft))
        image.load()
    except Exception as error:
        raise PictureError(f"a whole picture, found a broken one ({error})") from None
    return image


def _kind(content: bytes) -> str:
    """What bytes seem to be, for a message."""
    head = content[:200].lstrip().lower()
    if not content:
        return "an empty file"
    return "SVG or HTML" if head.startswith((b"<svg", b"<?xml", b"<!doctype", b"<html")) else "another kind of file"


def check_pictures(
    frame: pl.DataFrame, row: str, folder: Path | None, source: Path, kept: Mapping[str, bytes]
) -> tuple[pl.Series, list[BadRow]]:
    """The column image (N,) with every path as one from the folder, and what is wrong with pictures.

    frame: `row` (the rows' numbers), id and image. folder: None where only bytes came. An item without a value has the
    picture of the folder that is called like its id. source: the table, from whose folder paths may be written too; a
    picture that cannot be used is left as it is written.
    """
    named = _by_id(folder) if folder is not None else {}
    images = [
        image or named.get(item, "") for item, image in frame.select("id", pl.col("image").fill_null("")).iter_rows()
    ]
    beside = source.parent.resolve()
    with ThreadPoolExecutor(THREADS) as pool:  # files are waited for, and decoders run beside one another
        checked = list(pool.map(lambda image: _checked(image, folder, beside, kept), images))
    rows = frame[row].to_list()
    problems = [BadRow(r, "image", found.wrong) for r, found in zip(rows, checked, strict=True) if found.wrong]
    return pl.Series("image", [found.image for found in checked], dtype=pl.String), problems


def without_picture(problems: list[BadRow]) -> tuple[str, ...]:
    """What to tell of items whose picture cannot be used, a line each, at most SHOWN of them."""
    lines = [f"without its picture: {problem}" for problem in problems[:SHOWN]]
    more = len(problems) - len(lines)
    return (*lines, f"... and {more:,} more without their picture") if more else tuple(lines)


@dataclass(frozen=True)
class _Checked:
    image: str
    wrong: str = ""


def _checked(image: str, folder: Path | None, beside: Path, kept: Mapping[str, bytes]) -> _Checked:
    """One value: as a path from the folder, or with what is wrong."""
    if not image or is_address(image):
        return _Checked(image)
    try:
        if image in kept:
            open_picture(kept[image], draft=64)
            return _Checked(image)
        if folder is None:
            return _Checked(image)
        place = located(folder, image, beside)
        open_picture(read_bounded(place), draft=64)
    except PictureError as error:
        return _Checked(image, str(error))
    return _Checked(place.relative_to(folder.resolve()).as_posix())


def _by_id(folder: Path) -> dict[str, str]:
    """id -> the file of the folder that is called so; of several the first by the order of FORMATS."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--images {folder}: there is no such folder")
    endings = [ending for group in FORMATS.values() for ending in group]
    named: dict[str, tuple[int, str]] = {}
    for path in _pictures_in(folder, endings):
        key = (endings.index(path.suffix.lower()), path.name)
        named[path.stem] = min(named.get(path.stem, key), key)
    return {stem: name for stem, (_, name) in named.items()}


def _pictures_in(folder: Path, endings: list[str]) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in endings)
