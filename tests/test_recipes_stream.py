"""The whole recipe with an expert that is a table: seeds, rounds, teaching, the second pass, going on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from goodrate.recipes.span_tagger import TaggerSettings
from goodrate.recipes.stream import Distilled, Settings, corpus_of, distil_tagger, rule_lines
from goodrate.run_folder import RunFolder
from goodrate.understanding.candidates import phrase_texts
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.expert import Cloze
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.words import split_words

TYPES = EntityTypes.model_validate(
    {"types": {"color": {"words": ["color"]}, "material": {"words": ["material"]}}, "none": ["number"]}
)
COLORS, MATERIALS = (
    ("red", "blue", "green", "white", "grey", "teal"),
    ("oak", "glass", "wool", "steel", "brass", "jute"),
)
SETTINGS = Settings(rounds=1, folds=2, kept=1.0, least=2, mentions=2, tagger=TaggerSettings(updates=30))


class Table:
    """Says color, material or number of what it knows, and of everything else that it is a number, more weakly."""

    identity = "table"

    def __init__(self) -> None:
        self.blanks = 0

    def token_of(self, word: str) -> int | None:
        return {"color": 0, "material": 1, "number": 2}.get(word)

    def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
        self.blanks += len(clozes)
        phrases = [c.before.removesuffix(" is a type of ").removesuffix(" is a ").strip() for c in clozes]
        kinds = [0 if p in COLORS else 1 if p in MATERIALS else 2 for p in phrases]
        known = [phrase != "N/A" for phrase in phrases]
        return 4.0 * np.eye(3, dtype=np.float32)[kinds][:, list(tokens)] * np.array(known)[:, None]

    def vectors(self, phrases: Sequence[str]) -> np.ndarray:
        return np.ones((len(phrases), 2), dtype=np.float32)


def distilled(folder: Path, expert: Table, **changes: object) -> Distilled:
    texts = [f"{c} lamp of {m}" for c in COLORS for m in MATERIALS]
    settings = SETTINGS.model_copy(update=changes)
    return distil_tagger(settings, TYPES, corpus_of(split_words(texts), TYPES), expert, RunFolder(folder), "texts")


def texts_of(done: Distilled, seeds: dict[int, int], kind: int) -> set[str]:
    chosen = np.array([phrase for phrase, c in seeds.items() if c == kind], dtype=np.int64)
    return set(phrase_texts(done.corpus.words, done.corpus.spans, chosen))


def test_an_expert_seeds_two_passes(tmp_path: Path) -> None:
    expert = Table()
    done = distilled(tmp_path, expert)
    first = done.seeds[0]
    assert texts_of(done, first, 0) == set(COLORS) and texts_of(done, first, 1) == set(MATERIALS)
    assert len(done.seeds) == 2  # the taught expert names seeds, too, and only true ones
    assert texts_of(done, done.seeds[1], 0) <= set(COLORS) and texts_of(done, done.seeds[1], 1) <= set(MATERIALS)
    assert [(r["pass"], r.get("round")) for r in done.history] == [(1, None), (1, 0), (1, 1), (2, None), (2, 0), (2, 1)]
    label = done.pool.label[done.corpus.spans.example]
    named = phrase_texts(done.corpus.words, done.corpus.spans, np.arange(len(label)))
    seeded = texts_of(done, done.seeds[1], 0)
    assert all(label[named.index(text)] == 0 for text in seeded) and label[named.index("lamp")] == NOTHING
    assert "color: seed 'red'" in list(rule_lines(done.tagger)) or "red" not in seeded

    class Silent(Table):
        def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
            raise AssertionError("what it said is kept")

    again = distilled(tmp_path, Silent())
    assert again.seeds == done.seeds and (again.pool.label == done.pool.label).all()


def test_a_run_is_of_one_expert(tmp_path: Path) -> None:
    distilled(tmp_path, Table(), passes=1, tagger=TaggerSettings(updates=2))
    other = Table()
    other.identity = "another"  # type: ignore[misc]
    with pytest.raises(ValueError, match="expert 'table' -> 'another'"):
        distilled(tmp_path, other, passes=1, tagger=TaggerSettings(updates=2))


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    distilled(tmp_path, Table(), passes=1, tagger=TaggerSettings(updates=2))
    (tmp_path / "pool_1.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"pool_1.npz: not a whole file of this run"):
        distilled(tmp_path, Table(), passes=1, tagger=TaggerSettings(updates=2))


def test_an_expert_that_is_sure_of_nothing_gives_no_seed(tmp_path: Path) -> None:
    class Unsure(Table):
        def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
            return np.zeros((len(clozes), len(tokens)), dtype=np.float32)

    with pytest.raises(ValueError, match="no seed: the expert is sure of no phrase"):
        distilled(tmp_path, Unsure())
    with pytest.raises(ValueError, match="no phrase is there 99 times"):
        distilled(tmp_path / "rare", Table(), least=99)
