"""Where an entity judge starts: the cosine inside the logic, the rule for exclusions, and what training adds to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goodrate.learning.records import Update
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_entity
from goodrate.recipes.entity_learning import ItemLists, LogicScorer
from goodrate.recipes.judge_entity import COSINE, Settings, Setup, set_up, train, write_judge
from goodrate.relevance.entities import WANTS, WHOLE_ITEM, WHOLE_TEXT, Entity, EntityRules
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.entity_start import CONFLICTING, EntityStart, whole_degrees
from goodrate.relevance.entity_verdicts import EntityTable
from goodrate.relevance.judge import open_judge
from goodrate.relevance.overrides import Overrides
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.relevance.soft_logic import TNORMS, Logic, Truth, label_probabilities
from goodrate.scale import FOUR_LEVEL
from test_models_cross_encoder import bert_folder
from test_recipes_judge_entity import ITEMS, pairs_of

COLOURS, THINGS = ("red", "blue", "oak", "steel", "green"), ("lamp", "desk", "chair", "cable")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return bert_folder(tmp_path_factory.mktemp("start") / "encoder")


def pairs() -> list[JudgedPair]:
    """20 queries of a colour and a thing, each with that thing in five colours."""
    return [
        JudgedPair(f"{own} {thing}", {"id": f"{c}-{thing}", "title": f"{c} {thing}"}, label=3 if own == c else 1)
        for own in COLOURS for thing in THINGS for c in COLOURS
    ]  # fmt: skip


def setup_of(encoder: Path, labelled: list[JudgedPair] | None = None, **more: Any) -> tuple[Settings, Setup]:
    labelled = labelled or pairs()
    settings = Settings(model=str(encoder), **{"check_share": 0.4, "layers": None, **more})
    return settings, set_up(settings, [pair.item for pair in labelled], FOUR_LEVEL, labelled)


@pytest.mark.parametrize("tnorm", TNORMS)
@pytest.mark.parametrize("labels", [2, 3, 4])
def test_the_logic_joins_the_degrees_of_a_whole_item_to_its_labels(tnorm: str, labels: int) -> None:
    told = np.random.default_rng(0).dirichlet(np.ones(labels), 50)
    told[0] = np.eye(labels)[0]
    kind, clean, met = whole_degrees(told, Logic(tnorm))
    joined = label_probabilities(Truth(kind, clean, met[:, None], met), labels, Logic(tnorm))
    np.testing.assert_allclose(joined, told, atol=1e-9)
    assert all(((part >= 0) & (part <= 1)).all() for part in (kind, clean, met))


@pytest.mark.parametrize("tnorm", TNORMS)
def test_before_training_it_says_what_the_cosine_says(encoder: Path, tnorm: str) -> None:
    _, setup = setup_of(encoder, tnorm=tnorm)
    assert setup.start is not None
    ours, cosine = setup.judge(), setup.start.judge
    asked = [*pairs(), JudgedPair("red lamp", {"id": "x", "title": "steel desk", "description": "oak " * 90}, label=0)]
    told, expected = ours.assess(asked).probabilities, cosine.assess(asked).probabilities
    np.testing.assert_allclose(told, expected, atol=0.02)  # parts that are neutral to 0.0009, and half floats
    gains = FOUR_LEVEL.expected_gain(expected)
    assert (np.diff(gains[np.argsort(cosine.scores(asked))]) > -1e-9).all()
    far = gains[:, None] - gains[None] > 0.02
    assert far.any() and (ours.scores(asked)[:, None] > ours.scores(asked)[None])[far].all()


def test_what_a_query_excludes_is_in_conflict_with_what_has_it(encoder: Path) -> None:
    _, setup = setup_of(encoder)
    start = setup.start
    assert start is not None
    entities = [
        Entity("detail", "with lid"), Entity("detail", "no lid"), Entity("title", "with lid"), Entity("detail", "cup"),
        Entity(WHOLE_TEXT, "cup with lid"), Entity(WHOLE_TEXT, "cup, no lid"), Entity(WANTS, "lid"),
    ]  # fmt: skip
    told = start.verdicts(["cup without lid"] * len(entities), entities)[:, 1]
    assert (told > 0.4).tolist() == [True, False, False, False, True, False, False]
    assert told[4] == CONFLICTING and told[0] == pytest.approx(CONFLICTING, abs=1e-3)
    assert (start.verdicts(["cup with lid"] * 5, entities[:5])[:, 1] < 0.01).all()
    silent = EntityStart(start.judge, start.logic, "")
    assert silent.verdicts(["cup without lid"], entities[:1])[0, 1] < 0.01 and silent.fingerprint != start.fingerprint
    ours = setup.judge()
    two = [Pair("cup without lid", {"id": name, "title": f"cup {name} lid"}) for name in ("with", "without")]
    lines = [one.text for one in ours.explain(two, [1, 1])]
    assert "whole text: cup with lid 0.50" in lines[0] and "conflicts" not in lines[1]


def test_training_that_held_out_queries_do_not_confirm_leaves_the_start(encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [JudgedPair(one.query, one.item, label=int(rng.integers(0, 4))) for one in pairs()]
    settings, setup = setup_of(encoder, noise, learning_rate=1e-2)
    notes = train(settings, setup, noise, [one.item for one in noise], tmp_path / "run", lambda record: None)
    assert notes[-1].startswith("training added nothing") and notes[-1].endswith(f"the judge is {COSINE}")
    write_judge(tmp_path / "judge", setup)
    assert not (tmp_path / "judge" / "model").exists()
    judge = open_judge(tmp_path / "judge").inner
    assert isinstance(judge, EntityJudge) and isinstance(judge.kept.model, EntityStart)
    np.testing.assert_array_equal(judge.assess(noise).probabilities, setup.judge().assess(noise).probabilities)
    steps = [step.name for step in judge.explain(noise[:1], [3])[0].steps]
    assert steps[0] == "kind" and steps[-2:] == ["wants", "factors"]
    shutil.rmtree(tmp_path / "judge" / "start")
    with pytest.raises(FileNotFoundError, match="start"):
        open_judge(tmp_path / "judge")


def test_what_training_adds_is_served_as_it_was_trained(encoder: Path, tmp_path: Path) -> None:
    """The same probabilities in training, in the folder, and beside others; whole items ask no cross-encoder."""
    settings, setup = setup_of(encoder, check_share=0, epochs=1, learning_rate=1e-2)
    train(settings, setup, pairs(), [one.item for one in pairs()], tmp_path / "run", lambda record: None)
    lists = ItemLists(pairs(), EntityTable(setup.rules), setup.model, queries=1, items=5, seed=0, epochs=1,
                      start=setup.start)  # fmt: skip
    scorer, labels = LogicScorer(setup.model.eval(), setup.card.logic, 4), {}
    for step in range(lists.batches_per_epoch):
        update = lists.next(step)
        assert isinstance(update, Update)
        for batch in update.micro_batches:
            labels[step] = scorer(batch)["logprobs"].detach().exp().numpy()
    write_judge(tmp_path / "judge", setup)
    judge: Any = open_judge(tmp_path / "judge").inner
    served = judge.assess(pairs()).probabilities
    even = 0.98 * served + 0.02 / 4
    found = {tuple(row.round(2)) for rows in labels.values() for row in rows}
    assert all(any(np.allclose(row, other, atol=0.02) for other in found) for row in even)
    assert not np.allclose(served, EntityJudge(setup.start, setup.rules, setup.card).assess(pairs()).probabilities)
    read = [one for one in judge.table.entities if not setup.start.knows(one)]  # type: ignore[union-attr]
    assert read and {one.type for one in judge.table.entities} - {one.type for one in read} == {WHOLE_ITEM, WHOLE_TEXT}


def test_a_whole_item_is_overruled_by_its_type_alone() -> None:
    whole, part = Entity(WHOLE_TEXT, "cup with lid"), Entity("detail", "with lid")
    rule = {"pattern": r"without (?P<what>\w+)", "contains": "{what}", "verdict": "conflict"}
    told = Overrides.model_validate({"override": [rule]}).of("cup without lid", [whole, part])
    assert list(told) == [1]
    named = Overrides.model_validate({"override": [{**rule, "type": WHOLE_TEXT}]})
    assert list(named.of("cup without lid", [whole, part])) == [0]


def test_fields_of_a_whole_item_go_with_its_type() -> None:
    with pytest.raises(ValueError, match="fields of the whole item go with a type 'whole text'"):
        EntityRules(("brand", WHOLE_TEXT))


def test_with_few_queries_nobody_can_tell(tmp_path: Path, encoder: Path) -> None:
    settings = Settings(model=str(encoder))
    setup = set_up(settings, ITEMS, FOUR_LEVEL, pairs_of())
    (said,) = train(settings, setup, pairs_of(), ITEMS, tmp_path, lambda record: None)
    assert "fewer than 8 training queries could be held out" in said and judge_entity.COSINE in said
    assert isinstance(Encoder.load(encoder), Encoder) and not (tmp_path / "metrics.jsonl").exists()
