"""The application with everything that it can have, over an invented catalogue, for whoever tries its description.

python tests/faults/api_server.py PORT
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

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


if __name__ == "__main__":
    import uvicorn

    with tempfile.TemporaryDirectory() as made:
        uvicorn.run(whole_app(Path(made)), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
