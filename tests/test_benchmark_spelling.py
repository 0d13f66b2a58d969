"""The typing errors that the spelling benchmark makes up, and the corrector that it compares with."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import polars as pl
import pytest
from rapidfuzz.distance import OSA

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import spelling as benchmark  # noqa: E402
from goodrate.retrieval.rewriting.spelling import SpellingIndex  # noqa: E402
from lib.typo_maker import KINDS, misspelt, misspelt_twice  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_every_kind_is_one_edit_and_follows_from_the_seed(kind: str) -> None:
    words = ["lamp", "laptop", "coffee", "zzzzzb", "waterproof"] * 20
    typed = [misspelt(word, kind, random.Random(n)) for n, word in enumerate(words)]
    assert typed == [misspelt(word, kind, random.Random(n)) for n, word in enumerate(words)]
    assert {OSA.distance(word, other) for word, other in zip(words, typed, strict=True)} == {1}
    longer = {"drop": -1, "insert": 1}.get(kind, 0)
    assert {len(other) - len(word) for word, other in zip(words, typed, strict=True)} == {longer}


def test_two_errors_change_the_word() -> None:
    typed = [misspelt_twice("lamp", random.Random(n)) for n in range(50)]
    assert all(0 < OSA.distance("lamp", other) <= 3 for other in typed) and len(set(typed)) > 30


def test_shares_add_up_and_words_stand_beside_one_of_their_title() -> None:
    titles = ["brass lamp", "oak table"] * 10
    index = SpellingIndex.build((title, 1.0) for title in titles)
    pairs = [("lamp", "lmap"), ("lamp", "lampqq"), ("table", "tabel"), ("oak", "brass")]
    found = benchmark.shares(index.correct, pairs)
    assert found == {"right": 0.5, "wrong": 0.0, "untouched": 0.5, "sure right": 0.5, "sure wrong": 0.0}
    assert benchmark.shares(benchmark.nearest(index), pairs)["right"] == 0.75
    beside = benchmark.among_others(pl.DataFrame({"title": titles}), ["lamp", "table", "sofa"], random.Random(0))
    assert [meant for meant, _ in beside] == ["brass lamp", "oak table"]
    assert all(typed.split()[0] == meant.split()[0] for meant, typed in beside)
