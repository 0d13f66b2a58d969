"""A judge that sees: a causal LM that reads the query, then the item's picture as visual tokens, then its text.

The query's part is computed once for all items, as by every LM judge; the picture stands behind it (models.
vision_language.seeing). It gives labels and no reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.catalog.images import PictureError, Pictures
from goodrate.relevance import lm_judge
from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge_card import JudgeCard, write_judge_card
from goodrate.relevance.lm_judge import LmJudge
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import NO_PROBABILITIES, OK, Explanation, ReasonStep

if TYPE_CHECKING:
    from torch import Tensor

    from goodrate.models.vision_language.model import VisionLanguageModel

LM_FOLDER = "lm"  # in the judge's folder: the language model, whose weights were trained with the adapters
KEPT = 4096  # pictures whose tokens are held in memory
PictureOf = Callable[[Item], bytes | np.ndarray | None]


@dataclass(frozen=True, kw_only=True)
class Card(lm_judge.Card):
    """images: the folder of the items' pictures when it was trained; an index brings its own."""

    kind: ClassVar[str] = "seeing"
    images: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order != "label_first":
            raise ValueError(f"order {self.order!r}: a judge that sees gives its label first")


def open_kind(folder: Path, card: JudgeCard) -> SeeingJudge:
    """The judge of a folder. Raises FileNotFoundError, ValueError naming the file that is missing or broken."""
    from goodrate.models.pretrained import folder_hash
    from goodrate.models.vision_language.folder import load

    assert isinstance(card, Card)
    model, encoder, _ = load(folder, str(folder / LM_FOLDER))
    model.lm.surround_prompts(card.chat_frame, card.start_token_ids)
    fingerprint = f"{folder_hash(folder)}+{folder_hash(folder / LM_FOLDER)}"
    root = Path(card.images) if card.images else None
    return SeeingJudge(model, encoder, card, pictures_in(Pictures(root)), fingerprint)


def write_seeing_judge(folder: Path, card: Card, model: VisionLanguageModel, encoder: Any, vision: str) -> None:
    """Fill a folder. vision: by what the encoder is opened again, "" for the shop's own, which lies inside."""
    from goodrate.models.vision_language.folder import save

    model.lm.save(folder / LM_FOLDER)
    save(model, encoder, folder, language_model=str(folder / LM_FOLDER), vision=vision, more={})
    write_judge_card(folder, card)


def pictures_in(pictures: Pictures) -> PictureOf:
    """The picture of an item by its column image, or its id; None where it has none that can be read here."""

    def picture(item: Item) -> bytes | None:
        try:
            return pictures.of_item(item)
        except PictureError:
            return None

    return picture


class SeeingJudge(LmJudge):
    """A VisionLanguageModel with a card. encoder: of pictures. pictures: the picture of an item, None for none."""

    def __init__(
        self, model: VisionLanguageModel, encoder: Any, card: Card, pictures: PictureOf, fingerprint: str = ""
    ) -> None:
        super().__init__(model.lm, card, fingerprint)
        self.seeing, self.encoder, self.pictures = model, encoder, pictures
        self._tokens: dict[str, Tensor] = {}

    def with_pictures(self, pictures: PictureOf) -> SeeingJudge:
        """The same judge with other pictures, such as those of an index."""
        assert isinstance(self.card, Card)
        return SeeingJudge(self.seeing, self.encoder, self.card, pictures, self.fingerprint)

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The items' texts, and a hash of each picture: a stored verdict holds as long as both do."""
        from goodrate.models.vision.token_cache import picture_key

        texts = super().reads(items)
        own = [self.pictures(item) for item in items]
        return [
            text if one is None else f"{text} [picture {picture_key(one)}]"
            for text, one in zip(texts, own, strict=True)
        ]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Softmax over the label tokens behind each prompt and picture; the query's part is read once."""
        from goodrate.models.vision_language.seeing import seen_logits

        prompts, status, cut = self._prompts(pairs)
        logits = np.full((len(pairs), len(self.scale)), np.nan)
        usable = [row for row, prompt in enumerate(prompts) if prompt is not None]
        if usable:
            ids = self.seeing.lm.id_pairs([prompts[row] for row in usable])  # type: ignore[misc]
            features = self.features([pairs[row].item for row in usable])
            logits[usable] = seen_logits(self.seeing, ids, features, self.card.label_token_ids).numpy()
        failed = np.isnan(logits).any(axis=1)
        named = [NO_PROBABILITIES if bad and name == OK else name for bad, name in zip(failed, status, strict=True)]
        return Assessment(softmax(logits), tuple(named), tuple(cut), (None,) * len(pairs))

    def features(self, items: Sequence[Item]) -> Tensor:
        """(N, count, dimension) of the items' pictures, zeros without one; each distinct picture is encoded once."""
        import torch

        from goodrate.models.vision.token_cache import encoded, picture_key

        own = [self.pictures(item) for item in items]
        keys = ["" if one is None else picture_key(one) for one in own]
        new = {key: one for key, one in zip(keys, own, strict=True) if one is not None and key not in self._tokens}
        if new:
            if len(self._tokens) + len(new) > KEPT:
                self._tokens = {key: self._tokens[key] for key in keys if key in self._tokens}
            rows = torch.from_numpy(encoded(self.encoder, list(new.values())))
            self._tokens.update(zip(new, rows, strict=True))
        nothing = torch.zeros(self.seeing.count, self.seeing.dimension)
        return torch.stack([self._tokens[key].float() if key else nothing for key in keys])

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """How probable the label is, and the query's words that the item has and lacks. It has no reason to give."""
        rows = zip(pairs, super().reads([p.item for p in pairs]), labels, self.assess(pairs).probabilities, strict=True)
        return [
            _explanation(p.query, text, self.scale.labels[label], float(row[label])) for p, text, label, row in rows
        ]


def _explanation(query: str, text: str, label: str, probability: float) -> Explanation:
    line = f"{label} {probability:.3f}"
    step = ReasonStep("seeing", "What was read in query, picture and item", line, f"{label}: {probability:.2f} of 1")
    return explained([step], query, text)
