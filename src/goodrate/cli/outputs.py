"""Where a verb writes, looked at before the work and not after it."""

from __future__ import annotations

from pathlib import Path


def require_folder(option: str, path: Path) -> Path:
    """The path, which is a folder or can become one. ValueError when it, or what it would lie in, is a file."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{option} {path}: expected a folder; {part} is a file")
    return path
