"""Types as data, words with their places, candidate phrases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from goodrate.understanding.candidates import find_spans, frequent_phrases, phrase_texts, phrases_of
from goodrate.understanding.entity_types import read_types, require_words
from goodrate.understanding.words import joined_words, split_words

GOOD = '[types.color]\nwords = ["color"]\n'


def phrases(texts: list[str], **options: object) -> set[str]:
    words = split_words(texts)
    spans = find_spans(words, **options)  # type: ignore[arg-type]
    return set(phrase_texts(words, spans, spans.phrase))


def test_the_types_that_ship_are_valid() -> None:
    types = read_types("products")
    assert types.names == ("product_type", "brand", "material", "color", "size")
    assert types.label_words()[-1] == ("question", 5)  # the class after the last is "no entity"
    require_words(types, "products")


def test_the_example_is_valid() -> None:
    types = read_types(Path(__file__).parents[1] / "examples" / "types.toml")
    assert types.names == ("product_type", "material", "color") and types.types["color"].seeds[0] == "red"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "types"),
        ("[types]\n", "no type"),
        ('[types.Color]\nwords = ["color"]', "type 'Color'"),
        ("[types.color]\nwords = []", "type 'color' has no label words and no seeds"),
        ('[types.color]\nwords = ["shade"]\n[types.dye]\nwords = ["Shade"]', "'shade' is among the words of 'color'"),
        ('none = ["color"]\n' + GOOD, "'color' is among the words of 'color' and of 'none'"),
        ('[types.color]\nseeds = ["red", ""]', "an empty text among its seeds"),
        ('templates = ["{phrase} is a {word}."]\n' + GOOD, "expected two"),
        ('templates = ["{word} {phrase}", "{phrase} is a {word}."]\n' + GOOD, "after it {word}"),
        ('templates = ["{phrase} is {word}", "{phrase} of {txt} {word}"]\n' + GOOD, "after it {word}"),
        ('[types.color]\nword = ["color"]', "word"),
    ],
)
def test_a_types_file_that_cannot_be_used_is_told_why(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "types.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="types") as error:
        read_types(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_types_without_words_need_no_words_until_an_expert_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "types.toml"
    path.write_text('[types.color]\nseeds = ["red"]\n', encoding="utf-8")
    with pytest.raises(ValueError, match="type 'color' has no label words"):
        require_words(read_types(path), str(path))
    with pytest.raises(FileNotFoundError, match="no types file"):
        read_types(tmp_path / "none.toml")


def test_words_know_their_places_in_any_script() -> None:
    text = "ＬＥＤ Lamp™ 40.5cm, l'oreal/R&B 日本製 лампа"
    words = split_words(["", text, "   ", "a"])
    shown = [text[s:e] for s, e, t in zip(words.start, words.end, words.text, strict=True) if t == 1]
    assert shown == ["ＬＥＤ", "Lamp", "40.5cm", ",", "l'oreal", "/", "R&B", "日本製", "лампа"]
    assert words.vocabulary[int(words.word[0])] == "led"  # normal form: full-width letters are letters
    assert words.begin.tolist() == [0, 0, 9, 9, 10]


def test_tokens_of_others_keep_their_number() -> None:
    words = joined_words([["T", "-", "shirt"], [], ["™", "x"]])
    assert words.texts.to_list() == ["T - shirt", "", "™ x"]
    assert words.begin.tolist() == [0, 3, 3, 5] and words.start.tolist() == [0, 2, 4, 0, 2]


def test_candidates_are_parts_of_chunks() -> None:
    # "of" and "," end chunks; a hyphen stands inside a phrase and never at its end
    assert phrases(["mug of red oak , big"]) == {"mug", "red", "oak", "red oak", "big"}
    assert phrases(["beta - blocker -"]) == {"beta", "blocker", "beta - blocker"}
    assert phrases(["a b c d e"], max_width=2, function_words=["c"]) == {"b", "d", "e", "d e"}


def test_titles_without_words_have_no_candidates() -> None:
    for texts in ([], ["", "  "], ["the of", "!!"]):
        words = split_words(texts)
        spans = find_spans(words)
        assert len(spans) == 0 and len(frequent_phrases(words, spans, 1, 5)) == 0
    assert phrases(["lamp"]) == {"lamp"}


def test_words_that_stand_together_are_a_parent() -> None:
    # npmi of (stainless, steel): always together, so 1; of (red, stainless): log(24 * 1 / 16) / log 24 = 0.13
    words = split_words(
        ["red stainless steel mug", "blue stainless steel pan", "grey stainless steel lid", "steel"] * 2
    )
    spans = find_spans(words, npmi=0.5, pairs=3)
    found = phrases_of(words, spans, ["stainless steel", "Stainless", "steel", "lamp"])
    assert set(found) == {"stainless steel", "Stainless", "steel"}
    inside = np.flatnonzero((spans.phrase == found["steel"]) & (spans.text == 0))
    assert spans.phrase[spans.parent[inside]].tolist() == [found["stainless steel"]]
    alone = np.flatnonzero((spans.phrase == found["steel"]) & (spans.text == 3))
    assert spans.parent[alone].tolist() == alone.tolist()
    asked = phrase_texts(words, spans, frequent_phrases(words, spans, 2, 50))
    # "stainless" is never alone; "steel" is, twice; "red stainless steel mug" is a whole chunk, twice
    assert "stainless" not in asked and {"stainless steel", "steel", "mug", "red stainless steel mug"} <= set(asked)
    assert asked[0] == "stainless steel"  # six times
