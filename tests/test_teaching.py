"""Teachers: what they write, what they refuse to write, what they pay, and that nothing is paid twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from goodrate.relevance.pairs import Item, JudgedPair, text_item
from goodrate.relevance.rationale import Rationale, Want, write
from goodrate.relevance.rulebook import load_rulebook
from goodrate.scale import FOUR_LEVEL
from goodrate.teaching.answer_store import AnswerStore
from goodrate.teaching.asking import DOWN_AFTER, Asker
from goodrate.teaching.budget import Budget, Prices
from goodrate.teaching.chat_endpoint import Answer, ChatEndpoint, Patience, Unanswered, prompt_size
from goodrate.teaching.endpoint_teacher import EndpointTeacher
from goodrate.teaching.query_reading import Lexicon
from goodrate.teaching.taught_file import TaughtLine, read_taught, to_jsonl
from goodrate.teaching.teacher import Taught, TruthTeacher
from goodrate.teaching.teacher_prompt import graded, messages
from goodrate.teaching.template_teacher import TemplateTeacher, columns, relations
from goodrate.teaching.typed_item import from_listing, from_row, typed_item

BOOK = load_rulebook()
IRRELEVANT, MISMATCH, RELATED, EXCELLENT = range(4)
RIGHT = (
    "4\nwants lamp ; color red must\nfound desk lamp ; color red\ncategory lamp : desk lamp same\n"
    "checks color match\nverdict all_met\n"
)
HASTY = Patience(tries=3, first_wait=0.01, timeout=60.0)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# ---- the items and words of the template


def row(title: str, **fields: Any) -> dict[str, Any]:
    return {"title": title, "brand": "", "category": "", "price": None, "attributes": {}, "description": "", **fields}


ITEMS = [
    row("Velto 3 desk lamp", brand="Kira", price=40.0, attributes={"color": "red", "dimmable": True}),
    row("Sono lamp", brand="Bort", price=60.0, attributes={"color": "dark blue"}),
    row("Sono 9 lamp shade", brand="Bort", price=10.0, attributes={"color": "red"}),
    row("Velto oak desk lamp", brand="Kira", attributes={"material": "oak", "dimmable": False}),
    row("Mira 7 chair", brand="Kira", price=90.0, attributes={"color": "red", "material": "oak"}),
    row("Mira 8 chairs", brand="Bort", price=80.0),
    row("Tula lamp shades", brand="Bort", price=12.0),
]
QUERIES = ["lamp", "desk lamp", "chair", "lamp shade"]


def lexicon() -> Lexicon:
    return Lexicon.of([typed_item(item) for item in ITEMS], QUERIES)


def taught(query: str, item: Item, label: int, facts: str = "") -> Taught:
    teacher = TemplateTeacher(BOOK, lexicon())
    return teacher.teach([JudgedPair(query, item, facts, label=label)])[0]


def text_pair(query: str, text: str, label: int, facts: str = "") -> JudgedPair:
    return JudgedPair(query, text_item(text), facts, label=label)


def test_fields_of_a_row_and_of_its_listing_are_the_same() -> None:
    from goodrate.relevance.listing import listing

    given = row("Velto 3 desk lamp", brand="Kira", category="Home > Lamps", price=40.5, attributes={"color": "red"})
    assert from_row(given) == from_listing(listing(given))
    assert from_row(given).kind == ("lamps",) and from_row(given).price == 40.5
    assert from_row(row("a", attributes={"Arm length": ["2 m", "3 m"]})).attributes == {
        "arm_length": (("2", "m"), ("3", "m"))
    }


def test_the_words_of_a_catalogue() -> None:
    words = lexicon()
    assert words.brands == {("kira",), ("bort",)}
    # yes/no attributes are asked for by their name, also where an item says no
    assert words.values == {
        ("red",): "color", ("oak",): "material", ("dark", "blue"): "color", ("dimmable",): "dimmable"
    }  # fmt: skip
    # ends of two names or more that stand in a query; "oak desk lamp" ends one name, "velto" none
    assert words.kinds == {("lamp",), ("desk", "lamp"), ("chair",), ("lamp", "shade"), ("shade",)}
    assert [words.kind_of(typed_item(item)) for item in ITEMS[:3]] == [("desk", "lamp"), ("lamp",), ("lamp", "shade")]


@pytest.mark.parametrize(
    ("query", "kind", "wants", "unread"),
    [
        ("Red desk lamps under 50", ("desk", "lamps"), ["color red must", "price 50 below"], ()),
        ("kira lamp preferably dark blue", ("lamp",), ["brand kira must", "color dark blue may"], ()),
        ("lamp without oak red", ("lamp",), ["color red must", "material oak not"], ()),
        ("buy a dimmable lamp if possible red", ("lamp",), ["color red may", "dimmable dimmable must"], ()),
        ("velto chair", ("chair",), ["text velto must"], ()),
        ("lamp for camping trips", ("lamp",), [], ("camping", "trips")),
        ("red", (), ["color red must"], ()),
    ],
)
def test_a_query_read(query: str, kind: tuple[str, ...], wants: list[str], unread: tuple[str, ...]) -> None:
    reading = lexicon().read(query)
    told = [f"{want.attribute} {want.value} {want.strength}" for want in reading.wants]
    assert (reading.kind, told, reading.unread, reading.alternative) == (kind, wants, unread, False)


def test_facts_tell_what_a_cheaper_alternative_is() -> None:
    reading = lexicon().read("cheaper than Velto 3", "velto 3 : price 40 ; velto : lamp , material oak")
    assert reading.kind == ("lamp",) and reading.alternative and reading.unread == ()
    assert reading.wants == (Want("material", "oak", "must"), Want("price", "40", "below"))


def test_a_template_reason_in_full() -> None:
    one = taught("red desk lamp without oak under 50", ITEMS[0], RELATED)
    assert one.rationale is not None and one.silver and one.failure is None
    # color is told and equal, oak is not told, 40 < 50: the exclusion is unknown
    assert write(one.rationale) == (
        "3\nwants desk lamp ; color red must ; material oak not ; price 50 below\n"
        "found desk lamp ; color red ; material none ; price 40\ncategory desk lamp : desk lamp same\n"
        "checks color match ; material unknown ; price match\nverdict exclusion_unknown\n"
    )


@pytest.mark.parametrize(
    ("query", "item", "label", "relation", "rule"),
    [
        ("red lamp", 0, EXCELLENT, "same", "all_met"),  # a desk lamp is a lamp
        ("red lamp", 1, MISMATCH, "same", "requirement_failed"),
        ("blue lamp", 1, EXCELLENT, "same", "all_met"),  # dark blue is blue; "blue" is a loose word of the catalogue
        ("oak lamp", 1, RELATED, "same", "requirement_unknown"),
        ("lamp preferably red", 1, RELATED, "same", "preference_failed"),
        ("lamp not oak", 3, MISMATCH, "same", "excluded_value"),
        ("dimmable lamp", 3, MISMATCH, "same", "requirement_failed"),  # dimmable: no
        ("lamp under 50", 3, RELATED, "same", "requirement_unknown"),  # no price
        ("lamp", 2, IRRELEVANT, "accessory", "accessory_only"),  # a lamp shade begins like a lamp and is none
        ("lamp", 4, IRRELEVANT, "other", "other_category"),
        ("chair", 1, MISMATCH, "sibling", "sibling_only"),
        ("chair", 1, EXCELLENT, "same", "all_met"),  # other words for one kind: only the label can tell
        ("red chair", 1, MISMATCH, "same", "requirement_failed"),  # a sibling that fails would be irrelevant
    ],
)
def test_relations_and_rules(query: str, item: int, label: int, relation: str, rule: str) -> None:
    one = taught(query, ITEMS[item], label)
    assert one.rationale is not None, one.failure
    assert (one.rationale.relation, one.rationale.rule, one.rationale.label) == (relation, rule, label)


@pytest.mark.parametrize(
    ("query", "item", "label", "failure"),
    [
        ("red lamp", 1, EXCELLENT, "label_disagrees"),  # it is blue, whatever the label says: nothing is invented
        ("lamp", 0, IRRELEVANT, "label_disagrees"),
        ("lamp for camping", 0, EXCELLENT, "words_unread"),
        ("red", 0, EXCELLENT, "no_wanted_kind"),
    ],
)
def test_what_cannot_be_matched_has_a_name(query: str, item: int, label: int, failure: str) -> None:
    assert taught(query, ITEMS[item], label) == Taught(None, True, failure)


def test_an_item_without_a_kind_or_a_reference_price() -> None:
    assert taught("lamp", row("Velto 3"), EXCELLENT).failure == "no_item_kind"
    facts = "velto 3 : price 40 ; velto : lamp"
    assert taught("cheaper than velto 3", ITEMS[3], EXCELLENT, facts).failure == "no_reference_price"
    one = taught("cheaper than velto 3", ITEMS[1], MISMATCH, facts).rationale
    assert one is not None and one.rule == "not_cheaper"  # 60 is not below 40


def test_relations_that_words_leave_open() -> None:
    assert relations(("lamps",), ("desk", "lamp")) == ("same",)
    assert relations(("lamp",), ("lamp", "shade"))[0] == "accessory"
    assert set(relations(("lamp",), ("chair",))) == {"same", "sibling", "accessory", "other"}


def test_columns_take_the_worst_check() -> None:
    reading = lexicon().read("red dimmable lamp under 50 without oak")  # color, dimmable, material, price
    told = columns(reading, "same", ["match", "unknown", "conflict", "match"], tells_alternatives=True)
    assert told == {"category": "same", "must": "unknown", "may": "none", "not": "conflict", "alternative": "none"}


def test_rule_books_that_a_template_can_and_cannot_fill(tmp_path: Path) -> None:
    own = Path(__file__).parents[1] / "examples" / "rules.toml"
    with pytest.raises(ValueError, match="column 'product' of the rule book; it knows category, must"):
        TemplateTeacher(load_rulebook(own), lexicon())
    small = tmp_path / "rules.toml"
    rules = [("other_kind", '{ category = ["other"] }', "irrelevant"), ("kind", "{}", "excellent")]
    text = 'scale = "four_level"\n[columns]\ncategory = ["same", "other"]\n'
    small.write_text(text + "".join(f'[[rules]]\nid = "{i}"\nwhen = {w}\nlabel = "{n}"\n' for i, w, n in rules))
    teacher = TemplateTeacher(load_rulebook(small), lexicon())
    # the book does not tell accessories apart: they count as other
    one = teacher.teach([JudgedPair("lamp", ITEMS[2], label=IRRELEVANT)])[0].rationale
    assert one is not None and (one.relation, one.rule) == ("other", "other_kind")


def test_template_reasons_on_the_shop_are_mostly_the_true_ones() -> None:
    from goodrate.shop.shop import ShopSettings, generate

    shop = generate(ShopSettings(items=600, queries=60, judged=20))
    items = [dict(record) for record in shop.records]
    words = Lexicon.of([typed_item(item) for item in items], [f"{query.text} {query.facts}" for query in shop.queries])
    true = [shop.rationale(q, i) for q, chosen in enumerate(shop.judged_items) for i in chosen.tolist()]
    pairs = [
        JudgedPair(shop.queries[q].text, items[i], shop.queries[q].facts, label=int(shop.labels[q, i]))
        for q, chosen in enumerate(shop.judged_items)
        for i in chosen.tolist()
    ]
    written = TemplateTeacher(BOOK, words).teach(pairs)
    both = [(one.rationale, truth) for one, truth in zip(written, true, strict=True) if one.rationale]
    assert len(both) > 0.4 * len(pairs)
    assert all(one.label == truth.label for one, truth in both)
    assert sum(one.rule == truth.rule for one, truth in both) > 0.85 * len(both)


def test_the_truth_is_gold_and_wrong_labels_are_refused() -> None:
    true = Rationale(EXCELLENT, "lamp", (), "lamp", (), "same", (), "all_met")
    teacher = TruthTeacher(lambda query, item_id: {("lamp", "a"): true}[query, item_id])
    done: list[int] = []
    pairs = [JudgedPair("lamp", {"id": i, "title": "lamp"}, label=label) for label, i in ((3, "a"), (2, "a"), (3, "b"))]
    assert teacher.teach(pairs, done.append) == [
        Taught(true, False), Taught(None, False, "label_disagrees"), Taught(None, False, "unknown_pair")
    ]  # fmt: skip
    assert done == [1, 2, 3]


# ---- the file


def test_the_file_goes_there_and_back(tmp_path: Path) -> None:
    one = taught("red desk lamp without oak under 50", ITEMS[0], RELATED).rationale
    lines = [
        TaughtLine("red lamp", "a", "related", one, True, "template", BOOK.hash),
        TaughtLine("lamp", "", None, None, True, "template", BOOK.hash, "no_label", "a\u2028lamp"),
    ]
    (tmp_path / "r.jsonl").write_text(to_jsonl(lines))
    assert read_taught(tmp_path / "r.jsonl", FOUR_LEVEL) == (lines, ())


def test_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    good = to_jsonl([TaughtLine("lamp", "a", "related", None, True, "t", "h", "no_label")])
    steps = '{"category": "lamp", "wants": [], "found_category": "lamp", "found": [], "relation": "twin", "checks": []'
    path.write_text(
        good + "[1]\n" + good.replace("related", "nice") + good.replace('"silver": true', '"silver": 1')
        + good.replace('"rationale": null', f'"rationale": {steps}, "rule": "all_met"}}')
        + good.replace('"rationale": null', '"rationale": {"category": "lamp"}')
    )  # fmt: skip
    with pytest.raises(ValueError) as raised:
        read_taught(path, FOUR_LEVEL)
    _, *told = str(raised.value).splitlines()
    assert [line.split("expected ")[0].strip() for line in told] == [
        f"{path}, row 2, column (the whole row):", f"{path}, row 3, column label:", f"{path}, row 4, column silver:",
        f"{path}, row 5, column rationale:", f"{path}, row 6, column rationale:",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="write it with: goodrate teach"):
        read_taught(tmp_path / "absent.jsonl", FOUR_LEVEL)


# ---- the prompt and the grading of answers


def test_the_prompt_has_rules_pair_and_target() -> None:
    system, user = (m["content"] for m in messages(text_pair("red lamp", "lamp\n4", 2, "velto : price 40"), BOOK))
    assert all(f"\n{rule.id}: " in system for rule in BOOK.rules) and "1 irrelevant, 2 mismatch" in system
    assert "sibling_only: category is sibling -> 2 mismatch, because" in system
    assert user.startswith("query: red lamp\nfacts: velto : price 40\nitem: lamp 4\n")  # one line each
    assert "the label 3 (related)" in user


def test_the_prompt_shows_a_row_as_a_listing() -> None:
    user = messages(JudgedPair("red lamp", ITEMS[0], label=3), BOOK)[1]["content"]
    # the attributes as they stand in the row; the price without its zero fraction
    assert "\nitem: Velto 3 desk lamp ; brand Kira ; price 40 ; color red ; dimmable True\n" in user


def test_the_example_in_the_prompt_can_be_kept() -> None:
    system = messages(text_pair("q", "i", 0), BOOK)[0]["content"]
    example = system[system.index("Example.") :].partition("\n")[2]
    assert graded(example, EXCELLENT, BOOK).rationale is not None


@pytest.mark.parametrize(
    ("text", "label", "failure"),
    [
        (RIGHT, EXCELLENT, None),
        (f"<think>4 or 3?</think>\n```\n{RIGHT}```", EXCELLENT, None),
        (RIGHT, RELATED, "wrong_label"),
        ("It is a good match.", EXCELLENT, "unreadable_no_label"),
        ("9\n", EXCELLENT, "unreadable_label_out_of_range"),
        (RIGHT.replace("checks color match\n", ""), EXCELLENT, "unreadable_missing_checks"),
        (RIGHT + "Hope this helps\n", EXCELLENT, "unreadable_trailing_text"),
        (RIGHT.replace("all_met", "very_good"), EXCELLENT, "rule_not_offered"),
        (RIGHT.replace("all_met", "sibling_only"), EXCELLENT, "rule_contradicts"),
    ],
)
def test_what_is_kept_of_an_answer(text: str, label: int, failure: str | None) -> None:
    one = graded(text, label, BOOK)
    assert one.failure == failure and (one.rationale is None) == (failure is not None)
    assert failure or (one.rationale and write(one.rationale) == RIGHT and one.silver)


# ---- the endpoint


def pairs_of(count: int, label: int = EXCELLENT) -> list[JudgedPair]:
    return [text_pair(f"red lamp {n}", "desk lamp ; color red", label) for n in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "verdicts.sqlite") as opened:
        yield opened


def teacher_of(server: ChatServer, store: AnswerStore, budget: Budget | None = None, **options: Any) -> EndpointTeacher:
    endpoint = ChatEndpoint(server.url, "big", options.pop("key", ""), options.pop("max_answer_tokens", 100), HASTY)
    return EndpointTeacher(BOOK, Asker(endpoint, store, budget, options.pop("concurrency", 1)))


def test_right_answers_are_kept_and_never_asked_again(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT) as server:
        done: list[int] = []
        teacher = teacher_of(server, store, key="secret", concurrency=3)
        pairs = [*pairs_of(4), *pairs_of(2)]  # equal pairs are asked once
        first = teacher.teach(pairs, done.append)
        assert [one.rationale and write(one.rationale) for one in first] == [RIGHT] * 6
        assert len(server.requests) == 4 and done[-1] == 6
        assert set(server.keys) == {"Bearer secret"} and set(server.paths) == {"/v1/chat/completions"}
        assert {(b["model"], b["temperature"], b["max_tokens"]) for b in server.requests} == {("big", 0.0, 100)}
        # 4 answers of 600 + 50 tokens
        assert (teacher.asker.budget.prompt, teacher.asker.budget.completion) == (2400, 200)
        again = teacher_of(server, store)
        assert again.teach(pairs) == first and len(server.requests) == 4
        assert (
            again.asker.budget.tokens == 2600 and again.asker.requests == 0
        )  # what was paid before counts, nothing is paid now


def test_a_changed_label_item_or_model_is_asked_anew(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT) as server:
        teacher_of(server, store).teach(pairs_of(1))
        teacher_of(server, store).teach([text_pair("red lamp 0", "desk lamp ; color blue", EXCELLENT)])
        other = EndpointTeacher(BOOK, Asker(ChatEndpoint(server.url, "small", "", 100, HASTY), store))
        other.teach(pairs_of(1))
        assert [body["model"] for body in server.requests] == ["big", "big", "small"]


def test_a_wrong_label_is_tried_four_times_and_remembered(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT) as server:
        teacher = teacher_of(server, store)
        assert teacher.teach(pairs_of(1, RELATED)) == [Taught(None, True, "wrong_label")]
        assert [body["temperature"] for body in server.requests] == [0.0, 0.7, 0.7, 0.7]
        assert teacher_of(server, store).teach(pairs_of(1, RELATED))[0].failure == "wrong_label"
        assert len(server.requests) == 4  # the failure was paid for too


def test_malformed_text_then_a_right_answer(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT if number == 2 else "sorry") as server:
        assert teacher_of(server, store).teach(pairs_of(1))[0].rationale is not None
        assert len(server.requests) == 3


def test_an_answer_that_was_cut_off(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT, finish="length") as server:
        assert teacher_of(server, store).teach(pairs_of(1))[0].failure == "cut_off"


def test_busy_then_ready_waits_as_it_is_told(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT if number else (429, {"Retry-After": "0.3"})) as server:
        start = time.perf_counter()
        assert teacher_of(server, store).teach(pairs_of(1))[0].rationale is not None
        assert len(server.requests) == 2 and time.perf_counter() - start >= 0.3


def test_waits_double(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda body, number: (503, {})) as server:
        endpoint = ChatEndpoint(server.url, "big", patience=Patience(tries=5, first_wait=30.0))
        waits: list[float] = []
        monkeypatch.setattr(endpoint.stop, "wait", lambda seconds: waits.append(seconds))
        with pytest.raises(Unanswered, match="http_503"):
            endpoint.complete([{"role": "user", "content": "hi"}], 0.0)
        assert waits == [0.0, 30.0, 60.0, 60.0, 60.0] and len(server.requests) == 5  # never over a minute


def test_a_server_that_is_down_is_left_alone_and_asked_again_next_time(store: AnswerStore) -> None:
    with chat_server(lambda body, number: (500, {})) as server:
        failures = [one.failure for one in teacher_of(server, store).teach(pairs_of(6))]
        assert failures == ["http_500"] * DOWN_AFTER + ["endpoint_down"] * 3
        assert len(server.requests) == DOWN_AFTER * HASTY.tries
        server.script = lambda body, number: RIGHT
        assert all(one.rationale for one in teacher_of(server, store).teach(pairs_of(6)))


def test_timeouts_and_lost_connections_have_names(store: AnswerStore) -> None:
    def slow(body: dict[str, Any], number: int) -> str:
        time.sleep(0.4)
        return RIGHT

    with chat_server(slow) as server:
        endpoint = ChatEndpoint(server.url, "big", patience=Patience(tries=2, first_wait=0.01, timeout=0.1))
        with pytest.raises(Unanswered, match="timeout"):
            endpoint.complete([{"role": "user", "content": "hi"}], 0.0)
    gone = ChatEndpoint(server.url, "big", patience=Patience(tries=2, first_wait=0.01))
    with pytest.raises(Unanswered, match="connection"):
        gone.complete([{"role": "user", "content": "hi"}], 0.0)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_address_or_model_ends_at_once(store: AnswerStore, status: int) -> None:
    with chat_server(lambda body, number: (status, {})) as server:
        with pytest.raises(ValueError, match=rf"{server.url} answers {status} for model 'big': told to fail"):
            teacher_of(server, store, key="secret").teach(pairs_of(3))
        assert len(server.requests) <= 2


def test_a_request_that_is_refused_is_not_repeated(store: AnswerStore) -> None:
    with chat_server(lambda body, number: (400, {})) as server:
        assert teacher_of(server, store).teach(pairs_of(1)) == [Taught(None, True, "http_400")]
        assert len(server.requests) == 1


def test_the_cap_on_tokens_stops_before_it_is_passed_and_goes_on_when_raised(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT) as server:
        pairs = pairs_of(5)
        # a request reserves its guessed prompt and 100 answer tokens, and costs 650: room for two and for no third
        reserved = prompt_size(messages(pairs[0], BOOK)) + 100
        cap = 1300 + reserved - 1
        teacher = teacher_of(server, store, Budget(max_tokens=cap))
        failures = [one.failure for one in teacher.teach(pairs)]
        assert failures == [None, None, "cost_cap", "cost_cap", "cost_cap"] and teacher.asker.unasked == 3
        assert teacher.asker.budget.tokens == 1300 <= cap and len(server.requests) == 2
        teacher_of(server, store, Budget(max_tokens=cap)).teach(pairs)
        assert len(server.requests) == 2  # the same cap: nothing more is paid
        assert all(one.rationale for one in teacher_of(server, store).teach(pairs)) and len(server.requests) == 5


def test_the_cap_on_money() -> None:
    budget = Budget(max_cost=0.01, prices=Prices(prompt=2.0, completion=8.0))
    assert budget.reserve(1000, 500)  # 0.002 + 0.004
    assert not budget.reserve(1000, 500)  # would be 0.012
    budget.settle((1000, 500), (1000, 250))  # 0.002 + 0.002
    assert budget.cost == pytest.approx(0.004) and budget.reserve(1000, 500)
    with pytest.raises(ValueError, match="needs the prices"):
        Budget(max_cost=1.0)


def test_a_server_that_does_not_count_tokens(store: AnswerStore) -> None:
    with chat_server(lambda body, number: RIGHT, usage=None) as server:
        teacher = teacher_of(server, store)
        teacher.teach(pairs_of(1))
        # a third of the bytes, and one more
        expected = len(RIGHT.encode()) // 3 + 1
        assert teacher.asker.estimated == 1 and teacher.asker.budget.completion == expected
        assert teacher.asker.budget.prompt == prompt_size(messages(pairs_of(1)[0], BOOK))


def test_answers_share_the_file_of_the_verdicts(tmp_path: Path) -> None:
    from goodrate.relevance.verdict_store import VerdictStore

    path = tmp_path / "verdicts.sqlite"
    with VerdictStore(path) as verdicts, AnswerStore(path) as answers:
        answers.put("k", 0, Answer("a", 1, 2))
        answers.put("k", 0, Answer("b", 1, 2))  # the first one stays
        answers.put("k", 1, Answer("c", 3, 4, "length", True))
        assert answers.get("k", 0) == Answer("a", 1, 2) and answers.get("k", 1) == Answer("c", 3, 4, "length", True)
        assert answers.get("k", 2) is None and answers.spent(["k", "k", "other"]) == (4, 6)
        assert verdicts.counts() == {}
    (tmp_path / "text").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(ValueError, match="is not a verdict store"):
        AnswerStore(tmp_path / "text")
