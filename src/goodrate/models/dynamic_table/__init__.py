"""Trainable embeddings of unbounded int64 ids: tables that grow with the ids seen, and give memory back.

The design is that of RecIS (arXiv 2509.20883) in torch alone: docs/dynamic_table.md.
"""

from goodrate.models.dynamic_table.checkpoint import load_tables, save_tables
from goodrate.models.dynamic_table.engine import EmbeddingEngine, EmbeddingSpec
from goodrate.models.dynamic_table.optimizers import SGD, Adagrad, RowWiseAdagrad, SparseAdam
from goodrate.models.dynamic_table.policies import IdleSteps, MaxRows, MinCount, MinNorm

__all__ = [
    "SGD", "Adagrad", "EmbeddingEngine", "EmbeddingSpec", "IdleSteps", "MaxRows", "MinCount", "MinNorm",
    "RowWiseAdagrad", "SparseAdam", "load_tables", "save_tables",
]  # fmt: skip
