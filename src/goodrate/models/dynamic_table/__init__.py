"""Trainable embeddings of unbounded int64 ids: tables that grow with the ids seen, and give memory back.

The design is that of RecIS (arXiv 2509.20883) in torch alone: docs/dynamic_table.md.
"""

from goodrate.models.dynamic_table.engine import EmbeddingEngine, EmbeddingSpec
from goodrate.models.dynamic_table.optimizers import SGD, Adagrad, RowWiseAdagrad, SparseAdam

__all__ = ["SGD", "Adagrad", "EmbeddingEngine", "EmbeddingSpec", "RowWiseAdagrad", "SparseAdam"]
