"""Keys of tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Keys:
    """U different keys of a table: ids, tags (which of the tables that share the storage) and hashes, (U,) int64."""

    ids: Tensor
    tags: Tensor
    hashes: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, pick: Tensor) -> Keys:
        """The keys picked by a mask or by positions."""
        if pick.dtype == torch.bool:
            pick = pick.nonzero()[:, 0]
        return Keys(*(part.index_select(0, pick) for part in (self.ids, self.tags, self.hashes)))
