"""What benchmarks/cost.py counts: every CPU second once, under the innermost part, and the plan made of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import cost  # noqa: E402
from goodrate.retrieval import search as searching  # noqa: E402
from goodrate.retrieval.store import Store  # noqa: E402


def test_a_part_does_not_count_what_the_parts_inside_it_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 21.0])  # rest begins, inner begins and ends, rest ends; then page
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    meter = cost.Meter()
    with meter.part("rest"):
        assert meter.wrapped("inner", lambda value: value + 1)(1) == 2
    with meter.part("page"):
        pass
    assert dict(meter.seconds) == {"inner": [3.0], "rest": [7.0], "page": [1.0]}


def test_the_plan_multiplies_the_largest_index() -> None:
    shard = {
        "items": 100_000, "indexing": 360.0, "bytes": {"data": 2e8, "indices": 1e8},
        "queries": {"hybrid": {"all": 90.0}},
    }  # fmt: skip
    lines = cost.plan_table(shard).splitlines()
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    # 10,000 indexes of 3 KB an item; 10 queries a second of 900 CPU seconds; 250,000 core hours at 0.04 $
    assert cells == ["1,000,000,000", "10,000", "3,000", "69", "1,000", "9,000", "10,000"]


def test_a_search_is_counted_by_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "WARM", 1)
    made, whole = cost.Generated(60), searching.fused
    cost.filled(made, tmp_path / "index")
    texts, vectors = made.queries()
    found = cost.searched(Store.open(tmp_path / "index"), cost.Known(texts, vectors), texts[:3])
    assert {"lexical", "identifiers", "vector", "fusion", "items", "page", "rest"} < found["hybrid"].keys()
    assert "vector" not in found["lexical"] and "lexical" not in found["dense"] and "facets" in found["hybrid, facets"]
    for parts in found.values():
        assert parts["all"] == pytest.approx(sum(v for name, v in parts.items() if name != "all"), rel=0.02)
    assert searching.fused is whole
    assert cost.on_disk(tmp_path / "index")["data"] > 60 * 384 * 4  # the vectors alone
