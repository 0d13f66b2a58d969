"""Relevant product search, trained by reinforcement learning. `import goodrate as gr` loads nothing heavy.

Names are read when they are first used; goodrate.api has them all, docs/api.md tells about each.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that has it
_NAMES = {
    "Catalog": "goodrate.catalog.items",
    "CalibratedJudge": "goodrate.relevance.judge",
    "FunctionJudge": "goodrate.relevance.function_judge",
    "Index": "goodrate.api.index",
    "Judgements": "goodrate.catalog.judgements",
    "Verdict": "goodrate.relevance.verdicts",
    "describe": "goodrate.api.describing",
    "evaluate": "goodrate.api.evaluating",
    "export": "goodrate.api.exporting",
    "film": "goodrate.api.filming",
    "index_pictures": "goodrate.api.image_search",
    "search_image": "goodrate.api.image_search",
    "generate_shop": "goodrate.api.shops",
    "label": "goodrate.api.labelling",
    "next_labels": "goodrate.api.next_labels",
    "open_judge": "goodrate.api.judging",
    "read_catalog": "goodrate.api.reading",
    "read_judgements": "goodrate.api.reading",
    "serve": "goodrate.api.serving",
    "train": "goodrate.api.training",
    "trim": "goodrate.api.trimming",
    "tune": "goodrate.api.tuning",
    "understand": "goodrate.api.understanding",
    "warm": "goodrate.api.warming",
}
__all__ = [
    "CalibratedJudge", "Catalog", "FunctionJudge", "Index", "Judgements", "Verdict", "__version__", "describe",
    "evaluate", "export", "film", "generate_shop", "index_pictures", "label", "next_labels", "open_judge",
    "read_catalog", "read_judgements", "search_image", "serve", "train", "trim", "tune", "understand", "warm",
]  # fmt: skip

if TYPE_CHECKING:
    from goodrate.api.describing import describe
    from goodrate.api.evaluating import evaluate
    from goodrate.api.exporting import export
    from goodrate.api.filming import film
    from goodrate.api.image_search import index_pictures, search_image
    from goodrate.api.index import Index
    from goodrate.api.judging import open_judge
    from goodrate.api.labelling import label
    from goodrate.api.next_labels import next_labels
    from goodrate.api.reading import read_catalog, read_judgements
    from goodrate.api.serving import serve
    from goodrate.api.shops import generate_shop
    from goodrate.api.training import train
    from goodrate.api.trimming import trim
    from goodrate.api.tuning import tune
    from goodrate.api.understanding import understand
    from goodrate.api.warming import warm
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.function_judge import FunctionJudge
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.verdicts import Verdict


def __getattr__(name: str) -> Any:
    """The name, from its module. AttributeError for what is not public."""
    if name not in _NAMES:
        raise AttributeError(f"module 'goodrate' has no attribute {name!r}; public: {', '.join(_NAMES)}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
