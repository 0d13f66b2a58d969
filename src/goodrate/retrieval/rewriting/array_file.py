"""One file of number arrays and lists of words, inside an index folder: written whole, checked when it is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path

import numpy as np

from goodrate import strict_json
from goodrate.run_folder import write_atomic

HEADER = "header"
DAMAGE = (
    zipfile.BadZipFile,
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
)  # what numpy and zipfile raise for wrong bytes


def save_arrays(
    path: str | Path, kind: str, version: int, arrays: Mapping[str, np.ndarray], texts: Mapping[str, Sequence[str]]
) -> None:
    """Write arrays and lists of texts without line breaks as one npz file. kind, version: what load_arrays asks for."""
    header = strict_json.dumps(
        {"kind": kind, "version": version, "counts": {name: len(t) for name, t in texts.items()}}
    )
    packed = {HEADER: _bytes(header)} | dict(arrays)
    packed |= {name: _bytes("\n".join(lines)) for name, lines in texts.items()}
    memory = io.BytesIO()
    np.savez(memory, allow_pickle=False, **packed)
    write_atomic(path, memory.getvalue())


def load_arrays(path: str | Path, kind: str, version: int) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The arrays and the lists of texts of a file.

    Raises FileNotFoundError, or ValueError of one line for a file of another kind or version, a cut or a changed one:
    every part has a checksum.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; index the catalogue again to make it")
    content = io.BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = strict_json.parse(arrays.pop(HEADER).tobytes().decode())
        counts = header["counts"]
        texts = {name: _lines(arrays.pop(name)) for name in counts}
    except (*DAMAGE, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, _reason(error)) from None
    if header.get("kind") != kind or header.get("version") != version:
        found = f"{header.get('kind')} of format {header.get('version')}"
        raise ValueError(f"{path} holds {found}; expected {kind} of format {version}; index the catalogue again")
    if any(len(texts[name]) != count for name, count in counts.items()):
        raise damaged(path, "a list is not as long as its head says")
    return arrays, texts


def damaged(path: str | Path, reason: str) -> ValueError:
    """The error for a file whose parts are broken or do not belong together."""
    return ValueError(f"{path} is damaged ({reason}); index the catalogue again to make it")


def check_lengths(path: str | Path, parts: Mapping[str, Sized], lengths: Mapping[str, int]) -> None:
    """Raise the error of a damaged file unless the parts are exactly those named, each so long."""
    found = {name: len(part) for name, part in parts.items()}
    if found != dict(lengths):
        raise damaged(path, f"expected parts {dict(lengths)}, found {found}")


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _lines(packed: np.ndarray) -> list[str]:
    text = packed.tobytes().decode()
    return text.split("\n") if text else []


def _reason(error: Exception) -> str:
    """The first line of what the reader says."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
