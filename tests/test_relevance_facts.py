"""The fact book: look-up by whole words, the shop's facts given back exactly, bad files."""

from __future__ import annotations

from pathlib import Path

import pytest

from goodrate.relevance.facts import FactBook, to_jsonl
from goodrate.shop.export import fact_entries
from goodrate.shop.queries import (
    ALTERNATIVE_CUES,
    BELOW_CUES,
    FILLERS,
    KNOWLEDGE_CUES,
    MAY_CUES,
    NOT_CUES,
    QUESTION_CUES,
)
from goodrate.shop.shop import Shop, ShopSettings, generate

ENTRIES = [
    ("velto 3", "velto 3 : price 40"),
    ("velto", "velto : jacket , material wool"),
    ("kira", "kira : made in Porto"),
]


def test_longest_names_first_and_names_inside_names() -> None:
    book = FactBook.create(ENTRIES)
    assert book.of("cheaper than velto 3") == "velto 3 : price 40 ; velto : jacket , material wool"
    assert book.of("velto 4") == "velto : jacket , material wool"
    assert book.of("kira or velto") == "kira : made in Porto ; velto : jacket , material wool"


def test_only_whole_words_count_and_case_and_spaces_do_not() -> None:
    book = FactBook.create(ENTRIES)
    assert book.of("veltos 3 kirana") == ""
    assert book.of("velto 33") == "velto : jacket , material wool"
    assert book.of("  VELTO\t3 ") == book.of("velto 3")
    assert book.of("") == "" and FactBook.create([]).of("velto 3") == ""


def test_a_name_that_occurs_twice_is_told_once() -> None:
    assert FactBook.create(ENTRIES).of("kira kira") == "kira : made in Porto"


def test_the_number_of_look_ups_does_not_grow_with_the_number_of_names() -> None:
    class Counting(dict[str, str]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            Counting.asked += 1
            return super().__contains__(key)

    many = Counting({f"name{i} {i}": "x" for i in range(1000)})
    assert FactBook(many, (2, 1)).of("one two three four") == ""
    assert Counting.asked == 3 + 4  # bigrams and single words of four words


def test_load_reads_what_was_written_and_a_missing_file_is_an_empty_book(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(to_jsonl(ENTRIES) + "\n", encoding="utf-8")
    assert FactBook.load(path) == FactBook.create(ENTRIES) and len(FactBook.load(path)) == 3
    assert FactBook.load(tmp_path / "none.jsonl").of("velto 3") == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"name": "a", "fact": "b"', "row 2: not valid JSON"),
        ('{"name": "a"}', "row 2: .*'fact' is missing"),
        ('{"name": 3, "fact": "b"}', "row 2: .*'name' is missing or no text"),
        ('["a", "b"]', "row 2"),
        ('{"name": "Velto", "fact": "velto : kettle"}', "row 2: name 'Velto' has two facts: row 1 says"),
    ],
)
def test_a_bad_file_names_file_and_row(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(to_jsonl([ENTRIES[1]]) + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"facts.jsonl.*{message}"):
        FactBook.load(path)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(ShopSettings(items=1500, queries=600))


def known_words(shop: Shop) -> set[str]:
    """Every word that the query writer can type without an error, numbers apart."""
    cues = [*FILLERS, *MAY_CUES, *NOT_CUES, *BELOW_CUES, *ALTERNATIVE_CUES, *QUESTION_CUES, *KNOWLEDGE_CUES]
    names = [*shop.world.brands, *shop.world.lines, *(q.term for q in shop.queries)]
    return {word for text in [*cues, *names, *shop.world.taxonomy.words()] for word in text.split()}


def test_the_shops_book_gives_every_querys_own_facts(shop: Shop) -> None:
    book, known = FactBook.create(fact_entries(shop.world)), known_words(shop)
    clean = [q for q in shop.queries if all(word in known or word.isdigit() for word in q.text.split())]
    assert len(clean) > 0.9 * len(shop.queries)  # 5 in 100 texts are mistyped
    assert [q.text for q in clean if book.of(q.text) != q.facts] == []
    assert sum(bool(q.facts) for q in clean) > 40


def test_a_mistyped_name_gives_no_wrong_fact(shop: Shop) -> None:
    book = FactBook.create(fact_entries(shop.world))
    assert {q.text for q in shop.queries if book.of(q.text) not in (q.facts, "")} == set()


def test_a_number_that_two_models_of_a_line_share_gets_no_fact() -> None:
    # 2 brands x 4 lines, 800 items: 100 models a line and 90 numbers, so each line has 10 numbers twice.
    from goodrate.shop.world import make_world

    world = make_world(0, num_items=800, num_brands=2)
    entries = fact_entries(world)
    assert len(entries) == 8 * 80 + 8
    assert len({name for name, _ in entries}) == len(entries)
