"""The shop's own tiny network of pictures, trained from scratch: it learns what pictures show, and is then frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.examples.product_items import Product, ProductSet
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of
from goodrate.models.vision.pixels import to_pixels
from goodrate.models.vision.tiny import TinyVision, pooled
from goodrate.run_folder import RunFolder, new_folder

NOT_TOLD = -1


class TinySettings(BaseModel):
    """The tiny encoder and its training."""

    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=64, gt=0, description="pixels of a side, a multiple of 8")
    dimension: int = Field(default=64, gt=0, description="floats of a token, a multiple of 8")
    updates: int = Field(default=400, gt=0)
    batch_size: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0)


class ClassReader(nn.Module):
    """forward: micro-batch -> {"logits": (N, C)}: the classes of all heads one after the other."""

    def __init__(self, encoder: TinyVision, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(2 * encoder.dimension, classes)

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"logits": self.head(pooled(self.encoder.tokens(batch["pixels"])))}


def heads_of(products: ProductSet) -> dict[str, tuple[str, ...]]:
    """What a picture may show: head -> classes. The category's head has no name; what has no value has no head.

    Raises ValueError when nothing is left.
    """
    heads = {name: names for name, names in {"": products.categories, **products.values}.items() if names}
    if not heads:
        raise ValueError(
            "the products have neither categories nor attributes that a picture could show; expected categories, or "
            "text attributes of 2 to 40 values, each at least twice"
        )
    return heads


def classes_of(products: Sequence[Product], heads: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """(N, heads) the class of each head that a product's picture shows, NOT_TOLD where it does not."""
    place = {head: {name: n for n, name in enumerate(names)} for head, names in heads.items()}
    rows = []
    for product in products:
        shown = {"": product.category, **{name: product.told[name] for name in product.pictured}}
        rows.append([place[head].get(shown.get(head, ""), NOT_TOLD) for head in heads])
    return np.asarray(rows, dtype=np.int64)


class _Pictures:
    """Updates of drawn pictures with what they show."""

    def __init__(self, pixels: np.ndarray, classes: np.ndarray, sizes: Sequence[int], batch: int, seed: int) -> None:
        self._pixels, self._classes = torch.from_numpy(pixels), torch.from_numpy(classes)
        self._order = EpochOrder([1] * len(pixels), batch, seed_of(seed, "tiny"))
        self._term = Term("cross_entropy", _head_losses(tuple(sizes)), mask="told")
        self._state = {"pictures": len(pixels), "seed": seed, "batch_size": batch}

    def next(self, step: int) -> Update | None:
        """The update of that number."""
        rows = torch.tensor(self._order.rows(step))
        classes = self._classes[rows]
        batch = {"pixels": self._pixels[rows], "classes": classes, "told": classes != NOT_TOLD}
        return Update([batch], [self._term])

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other data."""
        refuse_other_data(self._state, state)


def _head_losses(sizes: tuple[int, ...]) -> Callable[[Outputs, MicroBatch], Tensor]:
    """Cross-entropy (N, heads) of each head's class."""

    def losses(outputs: Outputs, batch: MicroBatch) -> Tensor:
        parts = outputs["logits"].split(sizes, dim=1)
        wanted = batch["classes"].clamp(min=0)
        return torch.stack([F.cross_entropy(p, wanted[:, n], reduction="none") for n, p in enumerate(parts)], 1)

    return losses


def train_tiny(
    settings: TinySettings, products: ProductSet, out: Path, seed: int, progress: Callable[[dict[str, Any]], None]
) -> Path:
    """The folder out/encoder of a tiny encoder that has learned category and attributes of the products' pictures.

    A killed run resumes; a finished one is not trained again.
    """
    folder = RunFolder(out)
    folder.begin(settings, seed)
    if folder.stage_done("encoder"):
        return out / "encoder"
    heads = heads_of(products)
    pixels = np.stack([to_pixels(products.pictures[p.row], settings.size) for p in products.products])
    sizes = [len(names) for names in heads.values()]
    torch.manual_seed(seed_of(seed, "tiny"))
    reader = ClassReader(TinyVision(settings.size, settings.dimension), sum(sizes))
    source = _Pictures(pixels, classes_of(products.products, heads), sizes, settings.batch_size, seed)
    optimizer = torch.optim.AdamW(reader.parameters(), settings.learning_rate, weight_decay=0.01)
    budget = FitSettings(updates=settings.updates, seed=seed)
    fit(reader, source, [optimizer], budget, folder=folder, on_update=progress)
    with new_folder(out / "encoder") as beside:
        reader.encoder.cpu().save(beside)
    folder.mark_done("encoder")
    return out / "encoder"
