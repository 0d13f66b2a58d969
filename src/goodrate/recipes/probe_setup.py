"""A language model set up to be probed: how it reads pairs, the card of its judge, and its features of many pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodrate.models.causal_lm import CausalLM
from goodrate.models.pretrained import remembered_name
from goodrate.recipes.registry import Progress
from goodrate.relevance.feature_cache import FeatureCache, feature_key
from goodrate.relevance.pairs import Pair
from goodrate.relevance.probe_judge import Card, ProbeReader, fitting_log, model_fingerprint, open_model
from goodrate.scale import RelevanceScale, scale_entry
from goodrate.strict_json import dumps


@dataclass(frozen=True)
class ProbeSetup:
    """reader: from pairs to features. card: of a judge that reads so, before a head and odds are fitted."""

    reader: ProbeReader
    card: Card

    @classmethod
    def open(
        cls, name: str, scale: RelevanceScale, fields: Sequence[str], characters: int,
        layers: Sequence[int] | None = None, opening: str | None = None,
    ) -> ProbeSetup:  # fmt: skip
        """Load a model. name: folder or hub id. layers: None = middle_layers. opening: None = as much of the search log
        as fits. Raises FileNotFoundError for a missing model, ValueError for a layer that it lacks.
        """
        model = open_model(name)
        layers = tuple(layers or middle_layers(model))
        opening = fitting_log(model) if opening is None else opening
        reader = ProbeReader(model, layers, opening, fields, characters)
        card = Card(
            scale=scale_entry(scale), language_model=remembered_name(name), fingerprint=model_fingerprint(model),
            layers=layers, opening=opening, slope=1.0, cuts=(0.0,) * (len(scale) - 1), fields=tuple(fields),
            characters=characters,
        )  # fmt: skip
        return cls(reader, card)

    def features(self, pairs: Sequence[Pair], path: Path, progress: Progress) -> np.ndarray:
        """Features (N, D) of pairs; those that a file at `path` holds are not computed again."""
        texts = self.reader.reads([pair.item for pair in pairs])
        read = (self.card.fingerprint, dumps([list(self.card.layers), self.card.opening]), self.reader.model.precision)
        keys = [feature_key(*read, text, pair.query) for text, pair in zip(texts, pairs, strict=True)]

        def tell(done: int, total: int) -> None:
            progress({"done": done, "total": total})

        return FeatureCache(path, self.reader.dimension).rows(
            keys, lambda places: self.reader.features([pairs[place] for place in places]), tell
        )


def middle_layers(model: CausalLM) -> tuple[int, ...]:
    """Those at 1/2 and 2/3 of a model's depth: the middle knows most of relevance (notes/real_judges.md)."""
    depth = int(model.network.config.num_hidden_layers)
    return tuple(sorted({max(1, depth // 2), max(1, 2 * depth // 3)}))
