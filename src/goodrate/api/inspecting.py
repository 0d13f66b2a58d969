"""Have a reward model look at clips: their scores, and where they are broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

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
    """Captions by file, of a csv, tsv, jsonl or parquet file with the columns file and caption.

    Raises FileNotFoundError, ValueError naming the file and the column or row that is missing or wrong.
    """
    from goodrate.catalog.problems import require_columns, tolerate
    from goodrate.catalog.readers import as_text
    from goodrate.catalog.tables import read_table

    table = read_table(path, {"file", "caption"})
    require_columns(table.path, {"file": "file", "caption": "caption"}, ["file", "caption"], table.columns)
    tolerate(table.path, table.problems, 0)
    columns = (as_text(table.frame, name).fill_null("") for name in ("file", "caption"))
    return dict(table.frame.select(*columns).iter_rows())


def _write_picture(path: Path, picture: np.ndarray) -> None:
    import io

    from PIL import Image

    from goodrate.run_folder import write_atomic

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
