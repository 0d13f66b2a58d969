"""What training runs logged, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Draw the numbers that training runs logged over each other; out: png, svg or pdf, curves.png in the first unless
    given. Returns where the picture is. Raises ValueError for another ending, FileNotFoundError without a log.
    """
    from goodrate.learning.curves import FILE, PICTURES, draw_curves, read_metrics

    folders = [Path(run) for run in dict.fromkeys(map(str, runs))]
    target = Path(out) if out is not None else folders[0] / FILE
    if target.suffix.lower() not in PICTURES:
        raise ValueError(f"--out {target}: the name must end in {', '.join(PICTURES)}")
    draw_curves(dict(zip(run_names(folders), map(read_metrics, folders), strict=True)), target)
    return target


def run_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names where they differ, else their whole paths.

    >>> run_names([Path("a/grpo"), Path("a/dpo")]), run_names([Path("a/grpo"), Path("b/grpo")])
    (['grpo', 'dpo'], ['a/grpo', 'b/grpo'])
    """
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
