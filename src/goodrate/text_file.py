"""Text files: the place where the bytes of a file become text, so that a wrong encoding names file and line."""

from __future__ import annotations

from pathlib import Path

BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, a byte-order mark left out. Raises OSError, and ValueError as decode."""
    return decode(path, Path(path).read_bytes())


def decode(path: str | Path, data: bytes) -> str:
    """The text of the bytes of a UTF-8 file. Raises ValueError with the file and the line of the first wrong byte."""
    name = Path(path).name
    if data[:2] in BYTE_ORDER_MARKS:
        raise ValueError(f"{path} is UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8 {name} > utf8-{name})")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8, perhaps Latin-1 or Windows-1252; "
            f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8-{name}"
        ) from error
