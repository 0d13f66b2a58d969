"""The application with everything that it can have, over an invented catalogue, for whoever tries its description.

python tests/faults/api_server.py PORT [entities]     entities: with a judge of entities
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

sys.path[:0] = [str(Path(__file__).parents[1])]

from entity_shop import LABELS, entity_pipeline  # noqa: E402
from goodrate.catalog.judgements import frame_judgements  # noqa: E402
from goodrate.scale import FOUR_LEVEL  # noqa: E402
from goodrate.serving.http import create_app  # noqa: E402
from goodrate.serving.parts import Parts  # noqa: E402
from goodrate.serving.pipeline import SearchPipeline  # noqa: E402
from goodrate.serving.workbench.grading import Grading, QueuedPair  # noqa: E402
from goodrate.serving.workbench.store import Workbench  # noqa: E402
from serving_shop import FakeSearcher, FakeStore, fake_judge  # noqa: E402


def whole_app(folder: Path) -> Any:
    """A judge with a store of verdicts, a workbench with a queue of pairs."""
    workbench = Workbench(folder / "team")
    grading = Grading(workbench)
    grading.set_up(FOUR_LEVEL, None)
    grading.add([QueuedPair("red shoes", "a4", "Road shoes", "top"), QueuedPair("red shoes", "a1", "kettle", "top")])
    pipeline = SearchPipeline(FakeStore(), FakeSearcher(), fake_judge(folder / "verdicts.sqlite"))
    return create_app(pipeline, Parts(workbench=workbench))


def entity_app(folder: Path) -> Any:
    """A judge of entities, which editors overrule: an app of its own, since there is one judge in each."""
    (folder / "judge").mkdir()
    labels = pl.DataFrame(LABELS, schema=["query", "item_id", "label"], orient="row")
    parts = Parts(workbench=Workbench(folder / "team"), labels=frame_judgements(labels, FOUR_LEVEL))
    return create_app(entity_pipeline(folder / "judge"), parts)


if __name__ == "__main__":
    import uvicorn

    with tempfile.TemporaryDirectory() as made:
        made_app = entity_app if sys.argv[2:] == ["entities"] else whole_app
        uvicorn.run(made_app(Path(made)), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
