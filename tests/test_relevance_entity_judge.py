"""The entity judge with a model that is known: what is asked of it, what is kept, reasons, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goodrate.relevance.entities import Entity, EntityRules
from goodrate.relevance.entity_judge import Card, EntityJudge, open_kind, write_entity_judge
from goodrate.relevance.entity_verdicts import EntityCache, fill, pair_key
from goodrate.relevance.judge import CalibratedJudge, stored_verdicts, verdict_keys
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.overrides import Overrides, read_overrides
from goodrate.relevance.pairs import Pair
from goodrate.relevance.verdict_store import VerdictStore

RULES = EntityRules(("brand", "color"), frozenset(), "structured")
CARD = Card(scale="four_level", types=RULES.types, sources="structured")
# support and conflict by what is asked: nothing else is known of anything
KNOWN = {
    ("red lamp", "category: lamps"): (0.9, 0.0), ("red lamp", "category: lighting"): (0.5, 0.0),
    ("red lamp", "color: red"): (0.8, 0.0), ("red lamp", "color: blue"): (0.0, 0.75),
    ("red lamp", "wants: color"): (0.5, 0.0), ("no lid", "color: lid"): (0.5, 0.0),
    ("red lamp", "category: rugs"): (0.0, 0.0),
}  # fmt: skip


class KnownModel:
    """Stands for a cross-encoder: verdicts by text, and what it was asked."""

    fingerprint = "known"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def verdicts(self, queries: Sequence[str], entities: Sequence[Entity]) -> np.ndarray:
        asked = list(zip(queries, map(str, entities), strict=True))
        self.asked += asked
        return np.asarray([KNOWN.get(one, (0.0, 0.0)) for one in asked])


def item(name: str, category: str = "Home > Lighting > Lamps", **attributes: Any) -> dict[str, Any]:
    return {"id": name, "title": name, "category": category, "brand": "", "attributes": attributes}


def judge(cache: EntityCache | None = None, overrides: Overrides = Overrides(), **card: Any) -> Any:  # noqa: B008
    model = KnownModel()
    return model, EntityJudge(model, RULES, replace(CARD, **card), cache, overrides)


RED, BLUE, BARE = item("a", color="Red"), item("b", color="blue"), item("c")


def test_labels_by_hand() -> None:
    _, ours = judge()
    # M = 1 - 0.1 * 0.5 = 0.95. red: W = 1 - 0.5 * 0.2 = 0.9; blue: N = 0.25, W = 0.5; no color: W = 1 - 0.5 * 0.5
    rows = ours.assess([Pair("red lamp", one) for one in (RED, BLUE, BARE)]).probabilities
    assert rows[0] == pytest.approx([0.05, 0, 0.095, 0.855], abs=2e-3)
    assert rows[1] == pytest.approx([0.05, 0.95 * 0.75, 0.95 * 0.125, 0.95 * 0.125], abs=2e-3)
    assert rows[2] == pytest.approx([0.05, 0, 0.95 * 0.25, 0.95 * 0.75], abs=2e-3)
    _, esci = judge(constraints_conflict=False)
    assert esci.assess([Pair("red lamp", BLUE)]).probabilities[0] == pytest.approx(
        [0.05, 0, 0.95 * (1 - 0.5 * 0.25), 0.95 * 0.5 * 0.25], abs=2e-3
    )


def test_queries_side_by_side_are_as_alone() -> None:
    pairs = [Pair(query, one) for one in (RED, BLUE, BARE) for query in ("red lamp", "Red  LAMP", "no lid", "rug")]
    together = judge()[1].assess(pairs).probabilities
    alone = np.concatenate([judge()[1].assess([pair]).probabilities for pair in pairs])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[0], together[1])  # one normal form
    assert judge()[1].assess([]).probabilities.shape == (0, 4)


def test_an_item_that_says_nothing_is_a_failure_and_no_low_grade() -> None:
    _, ours = judge()
    found = ours.assess([Pair("red lamp", item("", category="")), Pair("red lamp", RED)])
    assert found.status == ("no_entities", "ok") and np.isnan(found.probabilities[0]).all()
    verdicts = CalibratedJudge(ours).judge("red lamp", [item("", category=""), RED])
    assert verdicts[0].label is None and verdicts[1].label == "excellent"


def test_a_query_that_cannot_be_read_is_a_failure_and_is_not_kept(tmp_path: Path) -> None:
    cache = EntityCache(tmp_path / "qe.sqlite")
    model, ours = judge(cache)
    model.verdicts = lambda queries, entities: np.full((len(queries), 2), np.nan)
    assert ours.assess([Pair("x" * 9999, RED)]).status == ("prompt_too_long",)
    assert len(cache) == 0


def test_a_new_item_costs_only_its_unseen_entities() -> None:
    model, ours = judge()
    ours.assess([Pair("red lamp", RED)])
    assert sorted(model.asked) == sorted(
        ("red lamp", text) for text in ("category: lamps", "category: lighting", "color: red", "wants: brand",
                                        "wants: color")
    )  # fmt: skip
    ours.assess([Pair("red lamp", BLUE), Pair("red lamp", item("d", color="blue"))])
    assert model.asked[5:] == [("red lamp", "color: blue")]
    ours.assess([Pair("red lamp", item("e", "Home > Lighting > Lamps", color="red"))])
    assert len(model.asked) == 6 == ours.kept.calls


def test_kept_verdicts_are_those_that_were_computed(tmp_path: Path) -> None:
    pairs = [Pair("red lamp", one) for one in (RED, BLUE, BARE)]
    first, ours = judge(EntityCache(tmp_path / "qe.sqlite"))
    computed = ours.assess(pairs).probabilities
    second, again = judge(EntityCache(tmp_path / "qe.sqlite"))
    np.testing.assert_array_equal(again.assess(pairs).probabilities, computed)
    assert second.asked == [] and again.kept.read == len(first.asked)
    ours.kept.forget()
    np.testing.assert_array_equal(ours.assess(pairs).probabilities, computed)
    np.testing.assert_array_equal(judge()[1].assess(pairs).probabilities, computed)  # none kept


def test_the_key_is_query_type_entity_and_model() -> None:
    keys = {pair_key(query, Entity(type_, text), model) for query in "ab" for type_ in "tu" for text in "xy"
            for model in "mn"}  # fmt: skip
    assert len(keys) == 16 and {len(key) for key in keys} == {16}


def test_known_queries_are_filled_in_bulk(tmp_path: Path) -> None:
    model, ours = judge(EntityCache(tmp_path / "qe.sqlite"))
    assert fill(ours.kept, ["red lamp", "no lid", "red lamp"], [RED, BLUE]) == 2 * (4 + 2) == len(model.asked)
    ours.assess([Pair("no lid", BLUE), Pair("red lamp", RED)])
    assert len(model.asked) == 12
    (tmp_path / "other").write_text("no table" * 900)
    with pytest.raises(ValueError, match="other"):
        EntityCache(tmp_path / "other")


def test_reasons_are_what_the_label_was_made_of() -> None:
    _, ours = judge()
    why = ours.explain([Pair("red lamp", BLUE), Pair("red lamp", BARE)], [1, 3])
    assert why[0].text.split("\n") == [
        "kind category: lamps 0.90 ; category: lighting 0.50", "conflicts color: blue 0.75",
        "wants color 0.50, met to 0.50", "factors kind 0.950 ; no conflict 0.250 ; all wanted 0.500",
    ]  # fmt: skip
    assert "wants color 0.50, not stated, counts as 0.75" in why[1].text
    assert why[0].steps[-1].text.endswith("mismatch by the product logic")
    assert ours.explain([], []) == []


def test_overriding_changes_only_pairs_with_that_entity() -> None:
    rules = Overrides.model_validate({"override": [
        {"query": "Red Lamp", "type": "colour", "entity": "Blue", "verdict": "support", "note": "sold as red"},
    ]})  # fmt: skip
    pairs = [Pair("red lamp", one) for one in (RED, BLUE, BARE)] + [Pair("no lid", BLUE)]
    _, ours = judge()
    before, theirs = ours.assess(pairs).probabilities, ours.overruled(rules)
    after = theirs.assess(pairs).probabilities
    assert [bool((one != other).any()) for one, other in zip(before, after, strict=True)] == [False, True, False, False]
    assert after[1] == pytest.approx([0.05, 0, 0, 0.95], abs=2e-3)
    assert "color: blue (overruled: sold as red) 1.00" in theirs.explain(pairs[1:2], [3])[0].text
    np.testing.assert_array_equal(ours.assess(pairs).probabilities, before)
    assert verdict_keys(CalibratedJudge(ours), pairs) != verdict_keys(CalibratedJudge(theirs), pairs)


def test_a_class_of_overrides() -> None:
    rules = Overrides.model_validate({"override": [
        {"pattern": r"\b(?:without|no) (?P<what>\w+)", "contains": "{what}", "verdict": "conflict"},
    ]})  # fmt: skip
    entities = [Entity("detail", text) for text in ("lids", "with lid", "no lid", "without lid", "box")]
    assert sorted(rules.of("Box no LID", entities)) == [0, 1]
    assert rules.of("box with lid", entities) == {}
    assert rules.applied("box no lid", entities, np.full((5, 2), 0.5))[:, 1].tolist() == [1, 1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('verdict = "against"\nquery = "x"\nentity = "y"', "override.1.verdict: Input should be 'support'"),
        ('verdict = "support"\nentity = "y"', "override.1: give query or pattern"),
        ('verdict = "support"\nquery = "y"', "override.1: say which entities"),
        ('verdict = "support"\nquery = "y"\nentity = "a"\ncontains = "a"', "give entity or contains, not both"),
        ('verdict = "support"\npattern = "("\nentity = "a"', "pattern '\\(' is no regular expression"),
        ('verdict = "support"\npattern = "x"\nentity = "{what}"', "{what} is no group of the pattern"),
        ('verdict = "support"\nquery = "x"\nentitty = "a"', "override.1.entitty: Extra inputs"),
        ("verdict =", "not valid TOML"),
    ],
)
def test_a_wrong_file_of_overrides(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "o.toml"
    path.write_text(f"[[override]]\n{text}\n")
    with pytest.raises(ValueError, match=f"o.toml.*{told}"):
        read_overrides(path)
    with pytest.raises(FileNotFoundError, match="no such file.*overrid"):
        read_overrides(tmp_path / "none.toml")


def test_stored_verdicts_are_taken_over(tmp_path: Path) -> None:
    model, ours = judge()
    with VerdictStore(tmp_path / "v.sqlite") as store:
        pairs = [Pair("red lamp", RED)]
        first = stored_verdicts(CalibratedJudge(ours), store, pairs, reasons=True)
        model.asked.clear()
        again = stored_verdicts(CalibratedJudge(ours), store, pairs, reasons=True)
    assert again[0].cached and model.asked == [] and again[0].explanation == first[0].explanation


def test_the_card(tmp_path: Path) -> None:
    write_entity_judge(tmp_path, CARD, EntityRules(("brand", "color"), frozenset({"b a", "a b"})))
    assert read_judge_card(tmp_path) == CARD
    assert (tmp_path / "phrases.json").read_text() == '[\n"a b",\n"b a"\n]\n'
    with pytest.raises(ValueError, match="scale of 5 labels; an entity judge gives 2, 3 or 4: bin them"):
        stars = {"name": "stars", "labels": list("12345"), "gains": [0, 1, 2, 3, 4], "positive": ["5"]}
        Card(scale=stars, types=())
    with pytest.raises(ValueError, match="tnorm 'min' is not one of product"):
        Card(scale="esci", types=(), tnorm="min")
    (tmp_path / "phrases.json").write_text("{}")
    with pytest.raises(ValueError, match="phrases.json: expected a JSON list"):
        open_kind(tmp_path, CARD)
