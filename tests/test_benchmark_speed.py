"""The speed benchmarks' arithmetic and tables, on invented numbers. Nothing here is timed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import chorus_judge  # noqa: E402
import speed  # noqa: E402
from lib import timing  # noqa: E402
from lib.tables import page, page_text  # noqa: E402
from lib.timing import Sample  # noqa: E402

MACHINE = {"cpu": "Toy", "cores": 2, "flags": ["avx512_bf16"], "threads": 1, "omp_num_threads": "1", "nice": 0}


def document(**found: object) -> dict[str, object]:
    """What every result has, and what is found."""
    load = {"before": [0.5, 1.0, 1.0], "after": [1.25, 1.0, 1.0]}
    facts = {"command": "speed x", "started": "2026-01-02T03:04:05+00:00", "commit": "0123456789"}
    return {**facts, "machine": MACHINE, "load": load, **found}


def test_arms_run_in_turn_and_each_round_starts_one_later() -> None:
    ran: list[str] = []

    def arm(name: str) -> Sample:
        ran.append(name)
        return Sample(float(len(ran)), 0.0)

    arms = {name: (lambda name=name: arm(name)) for name in "abc"}
    taken = timing.interleave(arms, rounds=2, warmup=1)
    assert "".join(ran) == "cababcbca"  # warm-up, then two rounds
    assert [sample.wall for sample in taken["a"]] == [4.0, 9.0]  # the warm-up's is not kept


def test_ratios_are_of_pairs_not_of_medians() -> None:
    samples = {"slow": [Sample(2, 4), Sample(9, 9), Sample(4, 8)], "fast": [Sample(1, 1), Sample(3, 3), Sample(4, 2)]}
    found = timing.ratio(samples, "slow", "fast")
    # wall 2/1, 9/3, 4/4; the ratio of the medians would be 4/3
    assert (found["wall"]["median"], found["wall"]["min"], found["wall"]["max"]) == (2.0, 1.0, 3.0)
    assert found["cpu"]["median"] == 4.0  # 4/1, 9/3, 8/2


def test_growth_is_the_exponent() -> None:
    sizes = [1_000, 10_000, 100_000]
    assert timing.growth(sizes, [n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert timing.growth(sizes, [7.0, 7.0, 7.0]) == pytest.approx(0.0)


def test_a_command_that_fails_says_so() -> None:
    with pytest.raises(RuntimeError, match="exited 3: no such shop"):
        timing.command_sample([sys.executable, "-c", "import sys; sys.stderr.write('no such shop'); sys.exit(3)"])


def test_start_table() -> None:
    spread = {"median": 0.25, "min": 0.2, "max": 0.5, "n": 3}
    arm = {"wall": spread, "cpu": spread}
    ratio = {"pass": {"wall": spread, "cpu": {"median": 10.0, "min": 9.0, "max": 12.0}}}
    made = speed.render({"help": document(target_wall=0.5, arms={"goodrate": arm, "pass": arm}, ratios=ratio)})
    assert "on 2 cores of Toy (avx512_bf16; no amx), torch threads 1, nice 0, load 0.5 to 1.2, 2026-01-02" in made
    assert "| `goodrate` | 0.25 (0.2 to 0.5) | < 0.5 | 0.25 (0.2 to 0.5) |  |" in made
    assert "| `pass` | 0.25 (0.2 to 0.5) |  | 0.25 (0.2 to 0.5) | 10 (9 to 12) |" in made
    assert made.endswith("3 runs each, in turn.")


def test_store_table_has_a_column_per_size_in_order_and_the_growth() -> None:
    def stored(items: int, seconds: list[float]) -> dict[str, object]:
        index = [
            {"seconds": {"wall": s, "cpu": s}, "again_seconds": {"wall": 1.0}, "peak_mib": 9, "peak_mib_before": 3}
            for s in seconds
        ]
        latency = {"dense": {"p50": items / 100, "p95": items / 10}}
        checks = {"dense_top_equals_numpy": 1.0}
        run = {"peak_mib": 5, "peak_mib_before": 4, "latency": latency, "checks": checks}
        sizes = {"items": items, "disk_mib": 2.0, "dimension": 8, "k": 10, "queries": 4}
        return document(index=index, search=[run] * len(seconds), **sizes)

    made = speed.render({"store-1000": stored(1000, [40.0, 10.0, 10.0]), "store-100": stored(100, [1.0])})
    assert "|  | 100 | 1,000 | growth | growth, last step |" in made
    assert "| index, wall s | 1 | 10 (10 to 40) | 1.00 | 1.00 |" in made
    assert "| dense, ms p95 | 10 | 100 (100 to 100) | 1.00 | 1.00 |" in made
    assert "in numpy's order for 100.0% of the queries" in made


@pytest.mark.parametrize("experiment", [speed, chorus_judge])
def test_the_page_is_what_the_results_give(experiment: ModuleType) -> None:
    name = experiment.__name__
    text = page_text(f"python benchmarks/{name}.py", experiment.render())
    assert page(name).read_text() == text, f"run: python benchmarks/{name}.py table --write"
