"""How an index is searched where no search says otherwise: search_settings.json in its folder, written by tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goodrate import strict_json
from goodrate.retrieval.full_text import ATTRIBUTE_WEIGHT
from goodrate.run_folder import write_atomic

SETTINGS_FILE = "search_settings.json"
# Chosen on the two catalogues of benchmarks/search_quality.py and the embedded shop: docs/tune.md.
DENSE_WEIGHT = 0.6
# From 2.5 to 8 hybrid is at least the better half on both ("One part of hybrid changed" there).
SHARE_WEIGHT = 4.0
DENSE_SHARE = 0.45  # of the list: 0.4 and 0.5 are within the noise of it
HEAD = 50  # items that are ordered by scores, and that a judge reads
SYNONYM_WEIGHT = 0.5  # what was typed counts for more than what may mean the same


class SearchSettings(BaseModel):
    """Weights of the channels. All have defaults; goodrate tune chooses others on judgements.

    fusion: "listed", by scores within the head of a list that every channel has a share of (hybrid.fused); "scores"
    alone (fusion.score_fusion); or "ranks" (reciprocal rank fusion). dense_weight: how many rare words one
    spread of cosines is worth (calibration.Calibration.dense_gain); with "ranks", its weight. attribute_weight: of BM25
    over attributes, beside that of the other texts. share_weight: how many rare words all words of a query are worth
    in an item of the head, each by its rarity (coverage); 0 = BM25 orders there, too. floor: whether what is near to a
    query without a known word must be nearer than anything is to non-words.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    fusion: Literal["listed", "scores", "ranks"] = "listed"
    dense_weight: Annotated[float, Field(ge=0, le=100)] = DENSE_WEIGHT
    attribute_weight: Annotated[float, Field(ge=0, le=100)] = ATTRIBUTE_WEIGHT
    share_weight: Annotated[float, Field(ge=0, le=100)] = SHARE_WEIGHT
    floor: bool = True

    def write(self, folder: Path) -> None:
        """Make it the settings of an index folder, which must be held for writing."""
        write_atomic(folder / SETTINGS_FILE, strict_json.dumps(self.model_dump(), indent=2) + "\n")


def read_settings(folder: Path) -> SearchSettings:
    """The settings of an index folder; without a file, the defaults. ValueError naming file and key of a wrong one."""
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return SearchSettings()
    try:
        return SearchSettings.model_validate(strict_json.read_object(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}: {key}: {first['msg']}, found {first['input']!r}; goodrate tune writes it, and without the file "
            "the defaults hold"
        ) from None
