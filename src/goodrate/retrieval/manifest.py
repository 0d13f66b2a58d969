"""store.json: what made an index. Written last, so a folder without it is no index; read and checked in one place."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from goodrate import strict_json
from goodrate.catalog.inferred import INFERRED_FROM
from goodrate.catalog.items import ITEM_COLUMNS
from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
from goodrate.folder_lock import is_lock_file
from goodrate.retrieval.filters import DECLARED_COLUMNS
from goodrate.retrieval.languages import check_language
from goodrate.run_folder import write_atomic

MANIFEST = "store.json"
TABLE_FOLDER = "items.lance"
FORMAT_VERSION = 4


class Manifest(BaseModel):
    """What an index is.

    id: another one for each making. fingerprint, dimension: of its encoder, both or neither. encoder: where that lies,
    see remembered_place. encoded_fields: what the encoder reads of an item; without it, everything. language: of texts
    and queries, see languages. group_by: how results are grouped (ranking.variants), None = not. images: the folder of
    its items' pictures, image_encoder: of their vectors; both remembered like the encoder. inferred_from: the
    confidence from which a filled-in attribute is found, filtered and counted (filled_in).
    """

    model_config = ConfigDict(strict=True, frozen=True)

    format: int = FORMAT_VERSION
    goodrate: str = Field(default_factory=lambda: metadata.version("goodrate"))
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    id: str = ""
    fingerprint: str | None
    dimension: Annotated[int, Field(gt=0)] | None
    encoder: str | None = None
    encoded_fields: list[str] = list(RENDERED_FIELDS)
    language: str = "en"
    group_by: str | None = None
    images: str | None = None
    image_encoder: str | None = None
    inferred_from: Annotated[float, Field(ge=0, le=1)] = INFERRED_FROM
    columns: list[str] = list(ITEM_COLUMNS)
    filters: list[str] = list(DECLARED_COLUMNS)

    @field_validator("encoded_fields")
    @classmethod
    def _known(cls, fields: list[str]) -> list[str]:
        check_fields(fields)
        return fields

    @field_validator("language")
    @classmethod
    def _spoken(cls, language: str) -> str:
        return check_language(language)

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        if (self.fingerprint is None) != (self.dimension is None):
            raise ValueError("an index has both an encoder fingerprint and a dimension, or neither")
        return self

    def write(self, folder: Path) -> Manifest:
        """Make the folder an index of this. Returns the manifest with the id that it is given."""
        named = self.model_copy(update={"id": uuid.uuid4().hex})
        write_atomic(folder / MANIFEST, strict_json.dumps(named.model_dump(), indent=2) + "\n")
        return named


def is_index(folder: str | Path) -> bool:
    """Whether there is an index in the folder, whole or damaged."""
    return (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index. FileNotFoundError when there is no index, ValueError when the manifest is damaged."""
    path = folder / MANIFEST
    try:
        content = strict_json.read_object(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        hint = f"make one: goodrate index CATALOG --out {folder}"
        raise FileNotFoundError(f"no index in {folder}: it has no {MANIFEST} ({hint})") from None
    except ValueError as error:
        raise _damaged(path, str(error).removeprefix(str(path)).lstrip(":, ")) from None
    if "format" not in content:
        raise _damaged(path, "format: expected a number, found nothing")
    if content["format"] != FORMAT_VERSION:
        held = f"{folder} has index format {content['format']!r}; this goodrate reads {FORMAT_VERSION}"
        raise ValueError(f"{held}; {way_out(folder)}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise _damaged(path, _reason(error)) from None


def _reason(error: ValidationError) -> str:
    """Which field is wrong, and how."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    found = f", found {first['input']!r}" if place and first["type"] not in ("missing", "value_error") else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{found}".removeprefix(": ")


def _damaged(path: Path, reason: str) -> ValueError:
    """The one message for a manifest that cannot be used."""
    return ValueError(f"{path} is damaged: {reason}; {way_out(path.parent)}")


def way_out(folder: Path) -> str:
    """What to do about an index that cannot be mended."""
    return f"move {folder} away and make it anew: goodrate index CATALOG --out {folder}"


def require_free(folder: Path) -> None:
    """ValueError unless an index can be made here: the folder is missing, empty, or holds a making that was cut off."""
    if folder.is_dir() and not all(_is_unfinished(entry) for entry in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no index; choose another --out")


def _is_unfinished(entry: Path) -> bool:
    """Whether a making that was cut off left this."""
    return entry.name == TABLE_FOLDER or entry.name.startswith(f".{MANIFEST}.") or is_lock_file(entry)


def remembered_place(index: Path, encoder: Any) -> str | None:
    """How a manifest says where the encoder lies, None for one in memory.

    A folder in the index's parent or below it is given from the index (./encoder, ../encoder), so that both can be
    moved together; another one absolutely; what is no folder is a hub id and stays as it is.
    """
    if not isinstance(encoder, (str, Path)):
        return None
    place, index = Path(encoder).resolve(), index.resolve()
    if not place.exists():
        return str(encoder)
    if not place.is_relative_to(index.parent):
        return str(place)
    relative = Path(os.path.relpath(place, index)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


def encoder_place(index: Path, remembered: str) -> str:
    """Where the encoder lies that a manifest remembers: a folder, or a hub id.

    A relative path is looked for from the index and then from the working folder, from which older indexes had it.
    Raises FileNotFoundError when it is a path and nothing is there.
    """
    looked = [index.resolve() / remembered, Path(remembered).absolute()]
    for place in looked:
        if place.exists():
            return str(place.resolve())
    if not remembered.startswith(("./", "../", "/")) and not Path(remembered).is_absolute():
        return remembered
    places = " and no ".join(dict.fromkeys(os.path.normpath(place) for place in looked))
    raise FileNotFoundError(f"there is no {places}")
