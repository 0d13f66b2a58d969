"""What the pages on grading and monitoring show of commands is what benchmarks/grading_walk.py wrote."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def test_the_output_in_the_pages_is_that_of_the_script() -> None:
    written = blocks("benchmarks/results/grading_walk.md")
    shown = [*blocks("docs/grading.md"), *blocks("docs/monitoring.md")]
    assert len(written) == 8 and set(written) <= set(shown)
    # and no other output: what remains are commands alone
    rest = [line for block in set(shown) - set(written) for line in block.splitlines()]
    assert all(line.startswith(("$ goodrate ", "goodrate ", "  --")) for line in rest)
