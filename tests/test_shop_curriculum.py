"""The curriculum: world seeds apart from every evaluation, and no judgement in any document."""

from __future__ import annotations

import itertools
import re

import pytest
from pydantic import ValidationError

from goodrate.relevance.rationale import parse
from goodrate.relevance.rulebook import load_rulebook
from goodrate.shop.curriculum import BASE_SEEDS, GATE_SEEDS, SKILL_STEPS, Curriculum, Document, stream
from goodrate.shop.shop import ShopSettings

BOOK = load_rulebook()


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    curriculum = Curriculum(BASE_SEEDS[3])
    return [curriculum.draw() for _ in range(600)]


def test_base_gate_and_evaluation_seeds_are_disjoint() -> None:
    assert not set(BASE_SEEDS) & set(GATE_SEEDS)
    evaluation_end = 1_000_000  # ShopSettings refuses anything from here on
    assert min(*BASE_SEEDS, *GATE_SEEDS) >= evaluation_end
    ShopSettings(seed=evaluation_end - 1)
    for seed in (evaluation_end, BASE_SEEDS[0], GATE_SEEDS[0], -1):
        with pytest.raises(ValidationError, match="seed"):
            ShopSettings(seed=seed)


def test_gate_worlds_have_names_that_base_worlds_lack() -> None:
    base, gate = Curriculum(BASE_SEEDS[0]).world, Curriculum(GATE_SEEDS[0]).world
    assert not {*base.brands, *base.lines} & {*gate.brands, *gate.lines}


def test_no_document_says_a_label_or_a_rule(documents: list[Document]) -> None:
    rules = {rule.id for rule in BOOK.rules}
    for document in documents:
        text = "".join(document.read) + document.say
        lines = text.split("\n")
        assert not [line for line in lines if re.fullmatch(r"\s*\d\s*", line)], text
        assert "verdict" not in text and not rules & set(re.findall(r"\w+", text))
        assert not set(BOOK.scale.labels) & set(document.say.split())


def test_no_document_can_be_parsed_as_a_judgement(documents: list[Document]) -> None:
    assert {parse(d.say, order).label for d in documents for order in ("label_first", "reason_first")} == {None}


def test_documents_say_only_skill_steps_and_the_columns_of_the_rule_book(documents: list[Document]) -> None:
    assert set(SKILL_STEPS) == {"wants", "found", "category", "checks"}
    pairs = [d for d in documents if d.read[0].startswith("query: ")]
    starts = {line.split(" ")[0] for d in pairs for line in d.say.splitlines()}
    assert len(pairs) > 200 and starts == {*SKILL_STEPS, "status"}
    told = [dict(part.split() for part in d.say[7:].strip().split(" ; ")) for d in pairs if d.skill == "status"]
    assert told and all(set(columns) == set(BOOK.columns) for columns in told)
    assert all(value in BOOK.columns[name] for columns in told for name, value in columns.items())


def test_lines_end_and_nothing_is_empty(documents: list[Document]) -> None:
    assert all(d.say.endswith("\n") and d.say.strip() and all(d.read) for d in documents)


def test_the_stream_is_the_same_each_time_and_resumes_by_world() -> None:
    once = list(itertools.islice(stream(BASE_SEEDS, per_world=5), 10))
    assert once == list(itertools.islice(stream(BASE_SEEDS, per_world=5), 10))
    assert once[5:] == list(itertools.islice(stream(BASE_SEEDS, per_world=5, start=1), 5))
    assert once[:5] != once[5:]
