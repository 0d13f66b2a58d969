"""Item texts encoded by workers, for an index that the asking program writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.bulk.cluster import Cluster

if TYPE_CHECKING:
    import pyarrow as pa

    from goodrate.retrieval.indexing import ItemEncoder

PARTS_AT_ONCE = 400  # that are on the way; the workers load the encoder for each so many


class ClusterEncoder:
    """An encoder whose parts of items are read by workers; queries, and items outside of parts, are read here."""

    def __init__(self, encoder: ItemEncoder, cluster: Cluster, folder: str) -> None:
        """folder: the encoder's, which every worker can read, or a hub id."""
        self._encoder, self._cluster, self._folder = encoder, cluster, folder
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension
        self.encode_items, self.encode_queries = encoder.encode_items, encoder.encode_queries
        self.tokenizer = getattr(encoder, "tokenizer", None)

    def encode_parts(self, parts: list[list[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the part, vectors (N, D) of its texts), as they are done."""
        import pyarrow as pa

        for first in range(0, len(parts), PARTS_AT_ONCE):
            some = range(first, min(first + PARTS_AT_ONCE, len(parts)))
            blocks = [pa.table({"part": [number] * len(parts[number]), "text": parts[number]}) for number in some]
            arguments = (self._folder, self.dimension, self.fingerprint)
            for table in self._cluster.stream(blocks, EncodeWorker, arguments):
                vectors = table["vector"].combine_chunks().flatten().to_numpy()
                yield table["part"][0].as_py(), vectors.reshape(-1, self.dimension)


class EncodeWorker:
    """An encoder in a process of its own. Raises ValueError where its folder holds another one than the asker's."""

    def __init__(self, folder: str, dimension: int, fingerprint: str) -> None:
        from goodrate.models.encoder import Encoder

        self.encoder: Any = Encoder.load(folder, precision="auto", longest=dimension)
        if self.encoder.fingerprint != fingerprint:
            raise ValueError(f"{folder} holds another encoder on a worker than here")

    def __call__(self, block: pa.Table) -> pa.Table:
        """The vectors of a block of texts."""
        import pyarrow as pa

        vectors = np.ascontiguousarray(self.encoder.encode_items(block["text"].to_pylist()), dtype=np.float32)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        return pa.table({"part": block["part"], "vector": flat})
