"""Reasons of facts: what is read of a pair, which rule follows, what is refused, and that a judge learns from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.cli import teach
from goodrate.recipes.judge_folder import open_policy
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair, Pair, text_item
from goodrate.relevance.rationale import CHECKS, FACT_STEPS, FACTS, WORD_FACT, Rationale, contradicts, parse, write
from goodrate.relevance.reason_words import steps_of_text
from goodrate.relevance.rulebook import BOOKS, named_rulebook
from goodrate.teaching.fact_reading import CHARACTERS, FactReader
from goodrate.teaching.fact_teacher import FactTeacher, columns, kind_of
from tiny_models import causal_lm

IRRELEVANT, COMPLEMENT, SUBSTITUTE, EXACT = range(4)


def row(title: str, brand: str = "", price: float | None = None, description: str = "") -> dict[str, Any]:
    return {"id": title, "title": title, "brand": brand, "price": price, "description": description}


ITEMS = [
    row("Trellor steel water bottle with straw", "Trellor", 19.0),
    row("Trellor steel water bottle, no straw, 500 ml", "Trellor", 29.0),
    row("Vimmel garden chairs", "Vimmel", 60.0),
    row("Vimmel garden table", "Vimmel", 90.0),
    row("Brush for water bottles", "Vimmel", 5.0),
    row("Trellor XK-4410 filter cartridge", "Trellor", 9.0),
    row("Orange juice maker", "Kello"),
    row("Orange paint", "Orange"),
    row("Orange curtain", "Kello"),
]
READER = FactReader(ITEMS)
TEACHER = FactTeacher(named_rulebook("esci"), READER)


def facts(query: str, place: int) -> dict[tuple[str, str], str]:
    return {(kind, value): check for kind, value, check in READER.read([Pair(query, ITEMS[place])])[0].facts}


@pytest.mark.parametrize(
    ("query", "place", "expected"),
    [
        ("Garden Chair", 2, {("word", "garden"): "match", ("word", "chair"): "match"}),  # plurals and case are one word
        ("the garden bench", 2, {("word", "garden"): "match", ("word", "bench"): "unknown"}),
        ("vimmel chair", 2, {("brand", "vimmel"): "match", ("word", "chair"): "match"}),
        ("trellor chair", 2, {("brand", "trellor"): "conflict", ("word", "chair"): "match"}),
        ("orange curtain", 8, {("word", "orange"): "match", ("word", "curtain"): "match"}),  # mostly no brand
        ("filter xk4410", 5, {("word", "filter"): "match", ("identifier", "xk4410"): "match"}),
        ("filter xk-4420", 5, {("word", "filter"): "match", ("identifier", "xk4420"): "conflict"}),
        ("filter zz-4420", 5, {("word", "filter"): "match", ("identifier", "zz4420"): "unknown"}),
        ("bottle without straw", 0, {("word", "bottle"): "match", ("without", "straw"): "conflict"}),
        ("bottle without straw", 1, {("word", "bottle"): "match", ("without", "straw"): "match"}),
        ("chair without straw", 2, {("word", "chair"): "match", ("without", "straw"): "unknown"}),
        ("bottle 500 ml", 1, {("word", "bottle"): "match", ("measure", "500 ml"): "match"}),
        ("bottle 750 ml", 1, {("word", "bottle"): "match", ("measure", "750 ml"): "conflict"}),
        ("chair under 50", 2, {("word", "chair"): "match", ("price", "under 50"): "conflict"}),
        ("chair under 80", 2, {("word", "chair"): "match", ("price", "under 80"): "match"}),
        ("curtain under 80", 8, {("word", "curtain"): "match", ("price", "under 80"): "unknown"}),
    ],
)
def test_facts_of_a_pair(query: str, place: int, expected: dict[tuple[str, str], str]) -> None:
    assert facts(query, place) == expected


def test_only_the_beginning_that_a_judge_reads_is_read() -> None:
    long = row("Lamp", description=f"{'plain ' * 60}velvet")
    assert len(READER.text(long)) <= CHARACTERS and READER.text(long).endswith("plain")
    (read,) = READER.read([Pair("plain velvet lamp", long)])
    assert {value: check for _, value, check in read.facts} == {"plain": "match", "velvet": "unknown", "lamp": "match"}
    (bare,) = READER.read([Pair("plain lamp", text_item("a plain lamp"))])
    assert bare.share == 1.0 and not bare.behind


@pytest.mark.parametrize(
    ("query", "place", "label", "rule"),
    [
        ("garden chair", 2, EXACT, "as_asked"),
        ("garden chair", 5, IRRELEVANT, "other_category"),
        ("bottle without straw", 0, SUBSTITUTE, "excluded_value"),
        ("bottle without straw", 1, EXACT, "as_asked"),
        ("water bottle", 4, COMPLEMENT, "accessory_goes_with"),  # "for" stands before its words
        ("water bottle 750 ml", 1, SUBSTITUTE, "other_quantity"),
        ("chair under 50", 2, SUBSTITUTE, "requirement_failed"),
    ],
)
def test_a_rule_that_follows_is_written_for_its_label_alone(query: str, place: int, label: int, rule: str) -> None:
    for gold in range(4):
        (one,) = TEACHER.teach([JudgedPair(query, ITEMS[place], label=gold)])
        if gold != label:
            assert (one.rationale, one.failure) == (None, "label_disagrees")
            continue
        assert one.rationale is not None and one.silver and one.rationale.rule == rule
        assert {(kind, value): check for kind, value, check in one.rationale.facts} == facts(query, place)
        labels = {rule.id: TEACHER.book.scale.index(rule.label) for rule in TEACHER.book.rules}
        assert contradicts(parse(write(one.rationale)), labels) is False


def test_what_the_facts_leave_open_has_no_reason() -> None:
    open_kind = JudgedPair("vimmel garden bench", ITEMS[3], label=EXACT)
    empty = JudgedPair("the best for me", ITEMS[2], label=EXACT)
    assert [one.failure for one in TEACHER.teach([open_kind, empty])] == ["kind_open", "no_words"]


def test_books_by_their_columns() -> None:
    (read,) = READER.read([Pair("trellor chair 750 ml", ITEMS[2])])
    shop, grades = named_rulebook("shop"), named_rulebook("graded_0_3")
    assert columns(read, "same", shop) == {
        "category": "same", "must": "conflict", "may": "none", "not": "none", "alternative": "none"
    }  # fmt: skip
    assert columns(read, "same", grades)["brand"] == "conflict" and columns(read, "same", grades)["must"] == "match"
    assert kind_of(READER.read([Pair("garden chair", ITEMS[2])])[0]) == "same"


def test_a_book_that_facts_cannot_fill_is_refused(tmp_path: Path) -> None:
    text = BOOKS["esci"].read_text().replace('fits = ["none", ', 'colour = ["none", ').replace("fits =", "colour =")
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ValueError, match="facts cannot fill column 'colour'"):
        FactTeacher(named_rulebook(tmp_path / "own.toml"), READER)
    (tmp_path / "own.toml").write_text(BOOKS["esci"].read_text().replace('"accessory", "other"]', '"accessory"]', 1)
                                       .replace('category = ["other"]', 'category = ["accessory"]', 1))  # fmt: skip
    with pytest.raises(ValueError):
        FactTeacher(named_rulebook(tmp_path / "own.toml"), READER)


word = st.text("abcdefghij0123", min_size=1, max_size=6)
stated = st.one_of(
    st.tuples(st.just(WORD_FACT), word, st.sampled_from(CHECKS)),
    st.tuples(st.sampled_from(sorted(FACTS)), st.lists(word, min_size=1).map(" ".join), st.sampled_from(CHECKS)),
)  # fmt: skip


@given(st.lists(stated, min_size=1, max_size=8), st.integers(0, 3), st.sampled_from(["label_first", "reason_first"]))
def test_a_reason_of_facts_is_read_back(given_facts: list[tuple[str, str, str]], label: int, order: str) -> None:
    rationale = Rationale.of_facts(label, given_facts, "as_asked")
    parsed = parse(write(rationale, order), order)
    assert (parsed.status, parsed.rationale) == ("ok", rationale)
    assert sorted(rationale.facts) == sorted(given_facts)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("1\nhas lamp\nverdict x", "ok"),
        ("1\nhas\nverdict x", "bad_has"),
        ("1\nhas lamp ; chair\nverdict x", "bad_has"),
        ("1\nlacks colour: red\nverdict x", "bad_lacks"),
        ("1\nagainst brand:\nverdict x", "bad_against"),
        ("1\nhas lamp", "missing_verdict"),
        ("1\nhas lamp\nverdict x y", "bad_verdict"),
        ("1\nhas lamp\nmore\nverdict x", "trailing_text"),
        ("1\nhas lamp\nhas chair\nverdict x", "trailing_text"),
        ("1\nhas lamp\nverdict x\ncategory a : b same", "trailing_text"),
        ("1\nwants lamp\nfound lamp\ncategory lamp : lamp same\nchecks none\nhas lamp\nverdict x", "trailing_text"),
        ("1\nverdict x", "missing_wants"),
    ],
)
def test_every_failure_of_a_reason_of_facts_has_a_name(text: str, status: str) -> None:
    parsed = parse(text)
    assert parsed.status == status and parsed.label == 0
    assert (parsed.rationale is None) == (status not in ("ok", "trailing_text"))


def test_a_reason_of_facts_in_words() -> None:
    text = "has water bottle ; brand: trellor\nlacks steel\nagainst without: straw\nverdict excluded_value"
    steps = steps_of_text(text, {"excluded_value": "it has what was excluded"})
    assert [(step.name, step.text) for step in steps] == [
        ("has", "water, bottle, brand trellor"), ("lacks", "steel"), ("against", "without straw"),
        ("verdict", "it has what was excluded"),
    ]  # fmt: skip
    assert set(FACT_STEPS) == {"has", "lacks", "against"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Labels from 0 to 3 and a catalogue without categories: twelve kinds, two items of each."""
    kinds = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock", "vase", "rug"]
    items = [{"id": f"{kind}-{n}", "title": f"Velto {kind} {n}00"} for kind in kinds for n in (1, 2)]
    others = dict(zip(kinds, kinds[1:] + kinds[:1], strict=True))
    labels = [
        {"query": f"{kind}", "item_id": f"{of}-{n}", "label": label}
        for kind in kinds
        for of, label in ((kind, 3), (others[kind], 0))
        for n in (1, 2)
    ]
    pl.DataFrame(items).write_csv(tmp_path / "items.csv")
    pl.DataFrame(labels).write_csv(tmp_path / "labels.csv")
    return tmp_path / "labels.csv", tmp_path / "items.csv"


def test_from_a_shops_files_to_a_judge_that_learned_the_reasons(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, items = files
    given_files = [str(labels), "--teacher", "facts", "--rules", "graded_0_3", "--catalog", str(items)]
    teach.command.main([*given_files, "--out", str(tmp_path / "r.jsonl")], standalone_mode=False)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    rules = {(line["label"], line["rationale"]["rule"]) for line in lines}
    assert rules == {("3", "as_asked"), ("0", "other_category")}
    assert {line["teacher"] for line in lines} == {"facts"} and all(line["silver"] for line in lines)
    assert JudgeFormat(rule_book="graded_0_3").rule_book == BOOKS["graded_0_3"]  # type: ignore[arg-type]
    causal_lm("qwen3").save(tmp_path / "model")
    data = {"catalog": str(items), "judgements": str(labels), "scale": "graded_0_3", "dev_share": 0.4,
            "rationales": str(tmp_path / "r.jsonl")}  # fmt: skip
    settings = settings_with_data("judge_sft").model_validate(
        {"model": str(tmp_path / "model"), "format": {"scale": "graded_0_3", "template": "facts", "max_new_tokens": 16,
         "rule_book": "graded_0_3"}, "fit": {"updates": 1}, "batch_size": 4, "data": data}
    )  # fmt: skip
    done = run_from_settings("judge_sft", settings, tmp_path / "run", lambda record: None)
    assert any("training pairs have a reason" in note for note in done.notes)
    _, form, rules = open_policy(tmp_path / "run" / "judge")
    assert form.template == "facts" and rules["as_asked"] == 3
