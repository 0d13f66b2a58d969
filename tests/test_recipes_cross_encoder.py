"""A cross-encoder as a judge: trained, resumed, opened and asked; silver pairs by hand; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from calling import Run, called
from goodrate.learning.fit import FitSettings
from goodrate.models.cross_encoder import CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_cross_encoder
from goodrate.recipes.judge_cross_encoder import Settings
from goodrate.recipes.silver_pairs import (
    Neighbourhood,
    PretrainSettings,
    SilverSettings,
    cosine_grades,
    silver_items,
    title_words,
)
from goodrate.relevance.cross_encoder_judge import Card
from goodrate.relevance.encoder_judge import Card as EncoderCard
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.pairs import JudgedPair, Pair, text_item
from goodrate.scale import FOUR_LEVEL
from test_models_cross_encoder import bert_folder, cross_encoder

torch.set_num_threads(1)
COLOURS, THINGS = ("red", "blue", "oak", "steel"), ("lamp", "desk", "chair", "cable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 items; a query for each colour and thing with four judged items; a random encoder."""
    path = tmp_path_factory.mktemp("cross")
    titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    items = {"id": [f"i{n}" for n in range(16)], "title": titles, "description": ["for a desk"] * 16}
    pl.DataFrame(items).write_csv(path / "items.csv")
    rows = [
        (f"{own} {thing}", f"i{4 * c + THINGS.index(thing)}", "excellent" if colour == own else "mismatch")
        for own in COLOURS
        for thing in THINGS
        for c, colour in enumerate(COLOURS)
    ]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(path / "labels.csv")
    bert_folder(path / "encoder")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


def train(run: Run, folder: Path, out: Path, *more: str) -> tuple[int, str, str]:
    """goodrate train judge_cross_encoder on the files of the folder."""
    given = (
        f"model={folder / 'encoder'}", f"data.catalog={folder / 'items.csv'}", "max_tokens=24", "queries=4",
        f"data.judgements={folder / 'labels.csv'}", "data.dev_share=0.3", "fit.precision=fp32", "fit.updates=4",
    )  # fmt: skip
    options = [part for value in (*given, *more) for part in ("--set", value)]
    return run("train", "judge_cross_encoder", "--out", out, *options)


def test_it_is_trained_measured_opened_and_asked(run: Run, folder: Path, tmp_path: Path) -> None:
    more = ("silver.random=1", "silver.skip=1", "pretrain.queries=6", "pretrain.depth=12", "start_fields=null")
    code, _, err = train(run, folder, tmp_path / "run", *more)
    assert code == 0 and f"model: {tmp_path / 'run' / 'judge'}" in err, err
    card = read_judge_card(tmp_path / "run" / "judge")
    assert isinstance(card, Card) and (card.kind, card.max_tokens) == ("cross_encoder", 24)
    assert card.fields == ("title", "description") and card.labelled_pairs % 4 == 0 and card.labelled_pairs > 0
    rows = json.loads((tmp_path / "run" / "dev.json").read_text())
    assert set(rows) == {"judge", "encoder", next(name for name in rows if name.startswith("always "))}
    judge = open_judge(tmp_path / "run" / "judge")
    long = "desk " * 30
    verdicts = judge.judge("red lamp", ["red lamp", "oak chair " + long]) + judge.judge(long, ["red lamp"])
    assert [one.status for one in verdicts] == ["ok", "ok", "prompt_too_long"]
    assert [one.item_cut for one in verdicts] == [False, True, False] and verdicts[2].label is None
    p = judge.pair_probabilities([Pair("red lamp", text_item("red lamp"))])
    assert p.sum() == pytest.approx(1) and verdicts[0].probabilities == pytest.approx(p[0], abs=1e-6)
    assert list(verdicts[0].probabilities) != pytest.approx(list(verdicts[1].probabilities), abs=1e-4)
    (why,) = judge.judge("red lamp", ["red desk"], reasons=True)
    assert why.explanation is not None
    assert [step.name for step in why.explanation.steps] == ["cross_encoder", "shared", "lacking"]
    assert why.explanation.steps[0].line == f"{why.label} {max(why.probabilities):.3f}"


def test_it_learns_the_order_and_the_labels_of_its_queries(tmp_path: Path) -> None:
    """Colours count, things do not: half of the pairs are good."""
    model = cross_encoder(tmp_path / "start")
    pairs = [
        JudgedPair(f"{own} {thing}", {"id": f"{colour}", "title": f"{colour} {thing}"}, label=3 * (own == colour))
        for own in COLOURS[:2]
        for thing in THINGS
        for colour in COLOURS[:2]
    ]
    settings = Settings(
        model="", max_tokens=24, learning_rate=2e-3, epochs=200, fields=["title"], fit=FitSettings(precision="fp32"),
        start_fields=None, layers=None,
    )  # fmt: skip
    task, lost = judge_cross_encoder.task_of(settings, model, pairs, FOUR_LEVEL, None, {})
    lists = task.lists
    assert lost == 0 and [len(one.graded) for one in lists] == [2] * 8
    records: list[dict[str, Any]] = []
    assert judge_cross_encoder.train(settings, model, task, FOUR_LEVEL, tmp_path / "run", records.append) is None
    assert records[-1]["labels"] < 0.2 < records[0]["labels"] and records[-1]["order"] < 0.1 < records[0]["order"]
    tokens = [pair.tokens for one in lists for pair in one.graded]
    assert model.numbers(tokens).argmax(axis=1).tolist() == [pair.label for pair in pairs]


@pytest.mark.parametrize("killed", ["pretrain", "labels"])
def test_a_killed_run_ends_as_one_that_was_not(folder: Path, tmp_path: Path, killed: str) -> None:
    import goodrate as gr

    items, labels = gr.read_catalog(folder / "items.csv"), gr.read_judgements(folder / "labels.csv", scale="four_level")
    settings: dict[str, Any] = {
        "model": str(folder / "encoder"), "max_tokens": 24, "queries": 4, "silver": {"skip": 1},
        "pretrain": {"queries": 6, "depth": 12}, "start_fields": None, "fit": {"updates": 4, "precision": "fp32", "checkpoint_updates": 1},
    }  # fmt: skip
    seen: list[int] = []

    def stop(record: dict[str, Any]) -> None:
        seen.append(record["update"])
        stage = seen.count(1)  # the updates of a stage are counted from 1
        if record["update"] == 2 and stage == (1 if killed == "pretrain" else 2):
            raise KeyboardInterrupt

    with pytest.warns(UserWarning):
        whole = gr.train("judge_cross_encoder", labels, items, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        gr.train("judge_cross_encoder", labels, items, out=tmp_path / "cut", progress=stop, **settings)
    assert not (tmp_path / "cut" / "judge").exists()
    with pytest.warns(UserWarning):
        gr.train("judge_cross_encoder", labels, items, out=tmp_path / "cut", **settings)
    for name in ("model.safetensors", "head.safetensors", "judge.json"):
        assert (tmp_path / "cut" / "judge" / name).read_bytes() == (whole.folder / name).read_bytes(), name


def made(folder: Path, colours: bool, **more: Any) -> tuple[Any, Any, list[JudgedPair], Settings]:
    """A model, what it starts from, pairs of 24 queries (labels by colour, or none that anything tells) and settings."""
    encoder = Encoder.load(bert_folder(folder), precision="fp32")
    names = [f"{colour} {thing}" for colour in (*COLOURS, "green", "steel red") for thing in THINGS]
    rng = np.random.default_rng(0)
    pairs = [
        JudgedPair(query, {"id": f"i{colour}", "title": f"{colour} {query.split()[-1]}"},
                   label=3 * (query.startswith(colour)) if colours else int(rng.integers(0, 4)))
        for query in names for colour in (*COLOURS, "green")
    ]  # fmt: skip
    chosen = {"max_tokens": 24, "fields": ["title"], "layers": None, "queries": 4, "check_share": 0.4, "epochs": 20, **more}
    settings = Settings(model=str(folder), fit={"updates": 60, "precision": "fp32", "evaluate_every": 20}, **chosen)
    model = CrossEncoder(encoder, 4, 24)
    model.silence()
    return model, judge_cross_encoder.started(settings, pairs, FOUR_LEVEL), pairs, settings


def trained(settings: Settings, model: Any, task: Any, out: Path, progress: Any = lambda record: None) -> str:
    """What the recipe does and says."""
    best = judge_cross_encoder.train(settings, model, task, FOUR_LEVEL, out, progress)
    return judge_cross_encoder.settled(model, task, best)


def test_before_the_first_update_it_is_the_calibrated_cosine(tmp_path: Path) -> None:
    model, start, pairs, _ = made(tmp_path / "encoder", colours=True)
    card = Card(scale="four_level", max_tokens=24, fields=("title",))
    judge_cross_encoder.write_cross_encoder_judge(tmp_path / "judge", card, model, start)
    ours: Any = open_judge(tmp_path / "judge").inner
    np.testing.assert_allclose(ours.assess(pairs).probabilities, start.assess(pairs).probabilities, atol=1e-7)
    cosines = start.cosines(pairs[:5])
    assert (np.argsort(ours.scores(pairs[:5])) == np.argsort(cosines)).all() and "start" in ours.identity
    with torch.no_grad():
        ours.model.head.bias[3] = 1.0
    more = np.log(ours.assess(pairs).probabilities / start.assess(pairs).probabilities)
    np.testing.assert_allclose(more[:, 3] - more[:, 0], 1.0, atol=1e-5)  # its numbers are added to logits
    shutil.rmtree(tmp_path / "judge" / "start")
    assert open_judge(tmp_path / "judge").inner.start is None  # type: ignore[attr-defined]


def test_what_held_out_queries_do_not_confirm_is_not_kept(tmp_path: Path) -> None:
    """Labels that nothing tells: the judge is the cosine, and the recipe says so."""
    model, start, pairs, settings = made(tmp_path / "encoder", colours=False, learning_rate=1e-3)
    task, _ = judge_cross_encoder.task_of(settings, model, pairs, FOUR_LEVEL, start, {})
    assert not {one.query for one in task.checked} & {query for query in _queries_of(task, pairs)}
    records: list[dict[str, Any]] = []
    said = trained(settings, model, task, tmp_path / "run", records.append)
    assert said.startswith("training added nothing") and said.endswith(f"the judge is {judge_cross_encoder.COSINE}")
    assert sum("held_out_loss" in one for one in records) == 3
    judge_cross_encoder.write(tmp_path / "judge", Card(scale="four_level", max_tokens=24), model, start)
    judge = open_judge(tmp_path / "judge")
    assert isinstance(judge.inner, EncoderJudge)
    np.testing.assert_allclose(judge.inner.scores(pairs), start.scores(pairs), atol=1e-6)


def _queries_of(task: Any, pairs: list[JudgedPair]) -> list[str]:
    """The queries that are trained on, by how many lists there are and what is not checked."""
    rest = [one.query for one in pairs if one.query not in {pair.query for pair in task.checked}]
    assert len(task.lists) == len(set(rest))
    return rest


def test_what_held_out_queries_confirm_is_kept(tmp_path: Path) -> None:
    model, start, pairs, settings = made(tmp_path / "encoder", colours=True, learning_rate=2e-3)
    task, _ = judge_cross_encoder.task_of(settings, model, pairs, FOUR_LEVEL, start, {})
    before = task.losses(model).mean()
    said = trained(settings, model, task, tmp_path / "run")
    assert "which are kept" in said and task.losses(model).mean() < 0.8 * before
    few, _ = judge_cross_encoder.task_of(settings, model, pairs[:40], FOUR_LEVEL, start, {})
    assert few.alone
    assert "fewer than 8 training queries could be held out" in trained(settings, model, few, tmp_path / "none")


def test_a_killed_run_with_a_start_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """The best state is among what a checkpoint holds."""

    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 40:
            raise Stop

    ends = []
    for out, sittings in (("whole", [None]), ("cut", [stop, None])):
        for progress in sittings:
            model, start, pairs, settings = made(tmp_path / "encoder", colours=True, learning_rate=2e-3)
            settings.fit.checkpoint_updates = 10
            task, _ = judge_cross_encoder.task_of(settings, model, pairs, FOUR_LEVEL, start, {})
            try:
                said = trained(settings, model, task, tmp_path / out, progress or (lambda record: None))
            except Stop:
                continue
        ends.append((said, model.head.weight.detach().numpy().tobytes()))
    assert ends[0] == ends[1]


def test_layers_below_are_not_trained(tmp_path: Path) -> None:
    model = cross_encoder(tmp_path / "start")
    layers = len(model.network.encoder.layer)
    model.freeze_below(1)
    free = {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    assert free and all(f"layer.{layers - 1}." in name for name in free) and model.head.weight.requires_grad


def test_what_cannot_start_binds_no_folder_and_other_settings_are_refused(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for more, told in (
        (("model=./nowhere",), "./nowhere: no such folder"),
        (("max_tokens=900",), "max_tokens 900: expected 1 to 64, what the encoder reads"),
        (("max_tokens=12",), "max_tokens = 12 leaves no room for an item in any of"),
        (("fields=['colour']",), "colour"),
        (("pretrain.queries=6",), "pretrain teaches a cosine's grades, which start_fields starts at"),
        (("silver.random=0", "silver.hard=0"), "silver: random and hard are both 0"),
    ):
        code, _, err = train(run, folder, out, *more)
        assert code == 2 and told in err, err
        assert not (out / "settings.toml").exists() and not (out / "judge").exists()
    assert train(run, folder, out, "check_share=0")[0] == 0
    code, _, err = train(run, folder, out, "check_share=0", "order=lambda")
    assert code == 2 and "holds another run (order" in err
    (out / "judge" / "head.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="head.safetensors: no such file"):
        open_judge(out / "judge")
    card = json.loads((out / "judge" / "judge.json").read_text())
    (out / "judge" / "judge.json").write_text(json.dumps({**card, "max_tokens": 0}))
    with pytest.raises(ValueError, match="judge.json: max_tokens 0: expected a whole number from 1"):
        open_judge(out / "judge")


class PlaneVectors:
    """Stands for an encoder: item n of 40 lies n steps round a quarter of the circle, every query at its start."""

    precision = "fp32"

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return np.asarray([[1.0, 0.0]] * len(texts))

    def encode_items(self, texts: list[str]) -> np.ndarray:
        angles = np.asarray([int(text) for text in texts]) * np.pi / 80
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def plane() -> Neighbourhood:
    encoder: Any = PlaneVectors()
    card = EncoderCard(
        scale="four_level", encoder="e", fingerprint="f", slope=10.0, cuts=(3.0, 5.0, 8.0), fields=("title",)
    )
    items = [{"id": f"i{n}", "title": str(n)} for n in range(40)]
    return Neighbourhood(items, EncoderJudge(encoder, card))


def test_silver_items_were_never_judged_and_hard_ones_lie_behind_the_nearest() -> None:
    judged = {"lamp": {"i6", "i7"}, "desk": {f"i{n}" for n in range(30)}}
    found = silver_items(judged, plane(), SilverSettings(random=0, hard=1, skip=4, depth=8), seed=0)
    assert sorted(int(item["title"]) for item in found["lamp"]) == [4, 5, 8, 9, 10, 11]  # ranks 4 to 11, less judged
    assert found["desk"] == []  # all of these were judged
    both = silver_items(judged, plane(), SilverSettings(random=1, hard=1, skip=4, depth=8), seed=0)
    assert set(map(str, both["desk"])) <= {str(item) for item in plane().items[30:]} and len(both["desk"]) == 8
    assert not {item["id"] for item in both["lamp"]} & judged["lamp"] and 6 < len(both["lamp"]) <= 14
    again = silver_items(judged, plane(), SilverSettings(random=1, hard=1, skip=4, depth=8), seed=0)
    assert again == both != silver_items(judged, plane(), SilverSettings(skip=4, depth=8), seed=1)


def test_cosine_grades_are_the_odds_of_the_card() -> None:
    settings = PretrainSettings(near=2, far=2, random=1, depth=20)
    grades = cosine_grades(["lamp", "desk"], plane(), settings, seed=0)
    places = [int(pair.item["title"]) for pair in grades.pairs if pair.query == "lamp"]
    assert all(place < 10 for place in places[:2]) and all(10 <= place < 20 for place in places[2:4])
    cosine = np.cos(places[0] * np.pi / 80)
    least = [1 / (1 + np.exp(cut - 10 * cosine)) for cut in (3.0, 5.0, 8.0)]
    expected = [1 - least[0], least[0] - least[1], least[1] - least[2], least[2]]
    assert grades.targets[0] == pytest.approx(expected, abs=1e-9)


def test_title_words_are_runs_of_words_of_titles() -> None:
    items = [{"id": str(n), "title": title} for n, title in enumerate(["red lamp for a desk", "", "oak", "oak"])]
    queries = title_words(items, 10, seed=0)
    assert "oak" in queries and len(queries) == len(set(queries)) == 2
    other = next(query for query in queries if query != "oak")
    assert other in "red lamp for a desk" and 1 <= len(other.split()) <= 4
    assert len(title_words(items, 1, seed=0)) == 1


def test_a_large_catalogue_is_drawn_from() -> None:
    hood = plane()
    drawn = Neighbourhood.drawn(hood.items, hood.cosine, 10, seed=0)
    places = [int(item["title"]) for item in drawn.items]
    assert len(places) == 10 and places == sorted(places) and drawn.nearest(["lamp"], 3).tolist() == [[0, 1, 2]]
    assert Neighbourhood.drawn(hood.items, hood.cosine, 40, seed=0).items is hood.items
