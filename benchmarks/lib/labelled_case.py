"""A catalogue with its labelled pairs, on which arms are trained by folds of query groups."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import goodrate as gr
from goodrate.recipes.score_sum import LabelledPairs
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class LabelledCase:
    """name: of the data. start: folder of the model that arms start from. folder: where scores are kept."""

    name: str
    catalog: gr.Catalog
    data: LabelledPairs
    start: Path
    folder: Path

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.data.scale

    def kept(self, what: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Scores that are computed once."""
        path = self.folder / f"{self.name}-{what}.json"
        if not path.is_file():
            write_atomic(path, json.dumps(compute().tolist()))
        return np.asarray(json.loads(path.read_text()))
