"""The recipe judge_entity: it learns through the logic, resumes, and its folder is a judge for all verbs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from calling import Run, called
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_entity
from goodrate.recipes.entity_learning import ItemLists, LogicScorer
from goodrate.recipes.entity_lift import entity_shares, stated_pairs
from goodrate.recipes.judge_entity import Settings, set_up, train
from goodrate.relevance.entities import Entity, EntityRules
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.entity_model import CONFLICT, NEUTRAL, SUPPORT, CrossEncoderVerdicts
from goodrate.relevance.entity_verdicts import EntityTable
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import JudgedPair
from goodrate.scale import FOUR_LEVEL, own_scale
from tiny_models import tokenizer_file

NOUNS, COLORS = ("lamp", "chair", "desk", "rug"), ("red", "blue", "oak")
ITEMS: list[dict[str, Any]] = [
    {"id": f"{noun}-{color}-{n}", "title": f"{color} {noun}", "category": f"Home > {noun}s", "brand": "Kira",
     "description": "", "attributes": json.dumps({"color": color})}
    for noun in NOUNS for color in COLORS for n in range(2)
]  # fmt: skip


def pairs_of(colors: tuple[str, ...] = COLORS) -> list[JudgedPair]:
    """Another noun is irrelevant, another color a mismatch."""
    made = []
    for noun in NOUNS:
        for color in colors:
            for item in ITEMS:
                told = item["id"].split("-")
                label = 0 if told[0] != noun else 3 if told[1] == color else 1
                made.append(JudgedPair(f"{color} {noun}", item, label=label))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("entity")
    pl.DataFrame(ITEMS).write_csv(path / "items.csv")
    rows = [(pair.query, pair.item_id, FOUR_LEVEL.labels[pair.label]) for pair in pairs_of()]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(path / "labels.csv")
    Encoder.create(tokenizer_file(path), hidden=32, layers=1, heads=2).save(path / "encoder")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *arguments)

    return call


def settings(folder: Path, **more: Any) -> Settings:
    """Of a model that starts from nothing, unless `more` says otherwise."""
    return Settings(model=str(folder / "encoder"), **{"learning_rate": 1e-2, "start_fields": None, **more})


def trained(folder: Path, out: Path, seen: list[float] | None = None, **more: Any) -> EntityJudge:
    chosen = settings(folder, **more)
    setup = set_up(chosen, ITEMS, FOUR_LEVEL)
    losses = [] if seen is None else seen
    train(chosen, setup, pairs_of(), ITEMS, out, lambda record: losses.append(record["nll"]))
    return EntityJudge(CrossEncoderVerdicts(setup.model), setup.rules, setup.card)


def test_labels_of_items_teach_verdicts_on_entities(folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    ours = trained(folder, tmp_path, losses, pretrain=0, epochs=20, fit={"updates": 100})
    gold = [pair.label for pair in pairs_of()]
    shares = np.bincount(gold) / len(gold)
    entropy = -sum(share * np.log(share) for share in shares if share)
    assert np.mean(losses[-10:]) < 0.9 * entropy  # what a constant can reach
    assert (ours.assess(pairs_of()).probabilities.argmax(axis=1) == gold).mean() > max(shares)


def test_every_entity_gets_a_gradient_through_the_product(folder: Path) -> None:
    chosen = settings(folder)
    setup = set_up(chosen, ITEMS, FOUR_LEVEL)
    best = [pair for pair in pairs_of() if pair.label == 3]  # the worst label hangs on the kind alone
    lists = ItemLists(best, EntityTable(setup.rules), setup.model, queries=1, items=4, seed=0, epochs=1)
    update = lists.next(0)
    assert update is not None
    batch = update.micro_batches[0]
    states: list[torch.Tensor] = []
    setup.model.register_forward_hook(lambda *given: (given[-1].retain_grad(), states.append(given[-1]))[0])
    outputs = LogicScorer(setup.model.eval(), setup.card.logic, 4)(batch)
    assert outputs["logprobs"].detach().exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    update.terms[0].loss(outputs, batch).sum().backward()
    asked = torch.cat([batch["place"][batch["group"] >= 0], batch["wants"]]).unique()
    assert states[0].grad is not None and bool((states[0].grad[asked].abs().sum(dim=1) > 0).all())
    assert lists.read < lists.asked  # an entity that items share is read once


def test_stated_pairs_by_hand() -> None:
    rules = EntityRules(("color",), frozenset(), "structured")
    catalog = entity_shares([rules.of(item) for item in ITEMS])
    assert catalog[Entity("color", "red")] == pytest.approx(9 / 25)
    own = [pair for pair in pairs_of() if pair.query == "red lamp"]
    told = {(one.entity.type, one.entity.text): one.state for one in stated_pairs(own, rules, catalog, best=3)}
    # lamps: 6 of 24 items, both best ones: lift 1 / (7 / 25); red: lift 1 / (9 / 25) is below 3
    assert told[("category", "lamps")] == SUPPORT and told[("color", "red")] == NEUTRAL
    assert told[("category", "chairs")] == CONFLICT and told[("color", "blue")] == NEUTRAL
    assert told[("category", "home")] == NEUTRAL and told[("wants", "color")] == NEUTRAL
    few = [pair for pair in own if pair.item["id"].endswith("0")]
    kept = {one.entity.text for one in stated_pairs(few, rules, catalog, best=3)}
    assert kept == {"home"}  # three lamps and four red items are no evidence
    assert stated_pairs([pair for pair in own if pair.label < 3], rules, catalog, best=3) == []


def test_a_stopped_run_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    once = trained(folder, tmp_path / "a", fit={"updates": 6})

    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 4:
            raise Stop

    chosen = settings(folder, fit={"updates": 6, "checkpoint_updates": 2})
    for progress in (stop, lambda record: None):
        setup = set_up(chosen, ITEMS, FOUR_LEVEL)
        try:
            train(chosen, setup, pairs_of(), ITEMS, tmp_path / "b", progress)
        except Stop:
            continue
    assert CrossEncoderVerdicts(setup.model).fingerprint == once.kept.model.fingerprint


def given(folder: Path, *more: str) -> list[str]:
    named = (f"model={folder / 'encoder'}", f"data.catalog={folder / 'items.csv'}", "data.dev_share=0.3",
             f"data.judgements={folder / 'labels.csv'}", "fit.updates=4", "pretrain=1", "check_share=0", *more)  # fmt: skip
    return [part for value in named for part in ("--set", value)]


def test_train_judge_and_overrule(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, shown, err = run("train", "judge_entity", "--out", out, *given(folder))
    assert code == 0, err
    assert "category alone" in shown and "query-entity pairs" in err
    assert run("train", "judge_entity", "--out", out, *given(folder))[0] == 0  # done: nothing is computed anew
    judge = out / "judge"
    pl.DataFrame({"query": ["red lamp", "red lamp"], "item_id": ["lamp-red-0", "rug-blue-0"]}).write_csv(
        tmp_path / "pairs.csv"
    )
    asked = ("judge", tmp_path / "pairs.csv", "--model", judge, "--out", tmp_path / "v.csv", "--catalog",
             folder / "items.csv", "--reasons")  # fmt: skip
    assert run(*asked)[0] == 0
    before = list(csv.DictReader((tmp_path / "v.csv").open()))
    assert "factors kind" in before[0]["reason"]
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[override]]\nquery = "red lamp"\ntype = "category"\nentity = "rugs"\nverdict = "support"\n'
        '[[override]]\nquery = "red lamp"\nentity = "blue"\nverdict = "neutral"\n'
    )
    labels = ("--judgements", folder / "labels.csv", "--catalog", folder / "items.csv")
    code, shown, err = run("overrule", judge, rules, *labels, "--preview")
    assert code == 0 and "of 288 judged pairs change" in shown and "nothing is saved" in err, err
    assert not (judge / "overrides.toml").exists()
    code, shown, err = run("overrule", judge, rules, *labels, "--json")
    told = json.loads(shown)
    assert code == 0 and told["changed"] >= 2 and told["overrides"] == 2, err
    assert json.loads((judge / "overrides.jsonl").read_text())["effect"] == told
    assert run(*asked)[0] == 0
    after = list(csv.DictReader((tmp_path / "v.csv").open()))
    assert after[0] == before[0] and after[1] != before[1]  # stored under another identity, and judged anew
    assert "category: rugs (overruled) 1.00" in after[1]["reason"]
    assert len(open_judge(judge).inner.overrides.override) == 2  # type: ignore[attr-defined]


def test_what_cannot_be_overruled(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text('{"kind": "human", "scale": "four_level"}')
    rules = tmp_path / "rules.toml"
    rules.write_text('[[override]]\nquery = "a"\nentity = "b"\nverdict = "support"\n')
    assert "of kind 'human'; only one of kind 'entity'" in run("overrule", tmp_path, rules)[2]
    assert "give --judgements and --catalog" in run("overrule", tmp_path, rules, "--preview")[2]
    assert "of kind 'human'" in run("overrule", tmp_path, rules, "--judgements", folder / "labels.csv", "--catalog",
                                    folder / "items.csv")[2]  # fmt: skip
    assert "together" in run("overrule", tmp_path, rules, "--judgements", folder / "labels.csv")[2]


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    stars = own_scale(
        {"name": "stars", "labels": list("12345"), "gains": [0, 1, 2, 3, 4], "positive": ["5"]}, "stars.toml"
    )
    with pytest.raises(ValueError, match="scale stars has 5 labels; an entity judge gives 2, 3 or 4: bin them"):
        set_up(settings(folder), ITEMS, stars)
    setup = set_up(settings(folder), ITEMS, FOUR_LEVEL)
    silent = {"id": "x", "title": "", "description": "", "category": "", "brand": "", "attributes": "{}"}
    with pytest.raises(ValueError, match="no training pair has an entity: items need a title"):
        train(settings(folder, pretrain=0), setup, [JudgedPair("lamp", silent, label=3)], ITEMS, tmp_path, print)
    ours = EntityJudge(CrossEncoderVerdicts(setup.model), setup.rules, setup.card)
    odd = [
        silent, {**silent, "title": "lamp"}, {**silent, "title": "赤いランプ"}, {**silent, "title": "x" * 300},
        {**silent, "attributes": json.dumps({f"key {n}": "v" * 300 for n in range(5000)}), "title": "lamp"},
    ]  # fmt: skip
    for query in ("lamp", "赤い", "лампа", "", "x" * 5000):
        found = ours.assess([JudgedPair(query, item) for item in odd])
        assert found.status[0] == "no_entities"
        assert set(found.status[1:]) == {"prompt_too_long" if len(query) > 1000 else "ok"}
    assert judge_entity.JUDGE_ENTITY.settings is Settings
