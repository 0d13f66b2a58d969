"""A server over the invented catalogue of the tests, with its judge and an encoder of three floats: prints its address.

It runs in the environment of goodrate, while the clients run in theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[2]


class CountingEncoder:
    """Vectors (characters, 1 for a query, words) / length, and a tokenizer of words."""

    dimension = 3

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return _vectors(texts, 1.0)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        return _vectors(texts, 0.0)

    def tokenizer(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * len(text.split()) for text in texts]}


def _vectors(texts: list[str], query: float) -> np.ndarray:
    import numpy as np

    rows = np.asarray([[len(text), query, len(text.split())] for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    """Serve until the process ends."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
    from goodrate.api.serving import listen, server
    from goodrate.serving.access import access_for
    from goodrate.serving.parts import Parts
    from goodrate.serving.text_encoder import TextEncoder
    from serving_shop import fake_judge, fake_pipeline

    with listen("127.0.0.1", 0) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        parts = Parts(encoder=TextEncoder("counting", CountingEncoder()), access=access_for("127.0.0.1", None, False))
        server(fake_pipeline(fake_judge()), parts).run(sockets=[listener])


if __name__ == "__main__":
    main()
