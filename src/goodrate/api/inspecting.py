"""Have a reward model look at clips: their scores, and where they are broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.content.inspection import Inspection

DEFECTIVE = 2.0  # a tube that scores lower is marked


def inspect_film(
    files: Sequence[str | Path], model: str | Path, *, captions: Mapping[str, str] | None = None,
    picture: str | Path | None = None, below: float = DEFECTIVE,
) -> list[Inspection]:  # fmt: skip
    """What a reward model says of clips, in order: dimensions, tubes, the worst tube and where it is.

    files: .webp, .gif, or folders of frames. model: folder of `goodrate train patch_reward`, or of `video_reward`,
    which scores whole clips alone. captions: text by file name; caption_alignment is told only where there is one.
    picture: a .png to write, a clip a row, with the tubes that score below `below` framed in red.

    Raises FileNotFoundError, ValueError naming the file that is no clip.
    """
    from goodrate.content.inspection import inspect_clips, marked_picture
    from goodrate.content.reward_model import RewardModel

    found = inspect_clips(files, RewardModel.open(model), captions)
    if picture is not None:
        _write_picture(Path(picture), marked_picture(found, below))
    return found


def read_captions(path: str | Path) -> dict[str, str]:
    """Captions by file, of a table with the columns file and caption (csv, tsv, jsonl, parquet).

    Raises as any reader of tables, and ValueError naming the column that is missing.
    """
    from goodrate.catalog.tables import read_table

    frame = read_table(path)
    missing = [name for name in ("file", "caption") if name not in frame.columns]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; expected file and caption, found {', '.join(frame.columns)}")
    return {str(file): str(text or "") for file, text in frame.select("file", "caption").iter_rows()}


def _write_picture(path: Path, picture: object) -> None:
    import io

    from PIL import Image

    from goodrate.run_folder import write_atomic

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
