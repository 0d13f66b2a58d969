"""Judges of the kinds encoder and human: trained, asked, measured and served by the same verbs as a language model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from calling import Run, called
from goodrate.api.serving import open_live
from goodrate.cli.serve import announcement
from goodrate.models.encoder import Encoder
from goodrate.recipes.judge_comparison import WAYS_OUT
from goodrate.relevance.encoder_judge import Card
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.odds import label_probabilities
from goodrate.relevance.pairs import Pair, text_item
from tiny_models import causal_lm, tokenizer_file

NOUNS = ("lamp", "chair", "desk", "steel", "oak", "item", "answer", "query", "facts", "context", "color", "size")
LABELS = ("irrelevant", "mismatch", "related", "excellent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 items, a query for each with four judged items (one of each label), and a random encoder."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("kinds")
    frame = {"id": [f"i{n}" for n in range(12)], "title": [f"red {noun}" for noun in NOUNS], "brand": ["Velto"] * 12}
    pl.DataFrame(frame).write_csv(path / "items.csv")
    rows = [(f"blue {noun}", f"i{(n + k) % 12}", LABELS[3 - k]) for n, noun in enumerate(NOUNS) for k in range(4)]
    pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row").write_csv(path / "labels.csv")
    Encoder.create(tokenizer_file(path), hidden=16, layers=1, heads=2).save(path / "encoder")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call goodrate with arguments; gives (exit code, stdout, stderr with its wrapping undone)."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *arguments)

    return call


def train(run: Run, folder: Path, recipe: str, out: Path, *more: str) -> tuple[int, str, str]:
    """goodrate train on the files of the folder."""
    given = (f"data.catalog={folder / 'items.csv'}", f"data.judgements={folder / 'labels.csv'}", "data.dev_share=0.3")
    return run("train", recipe, "--out", out, *(part for value in (*given, *more) for part in ("--set", value)))


def test_a_cosine_is_fitted_tuned_and_measured_beside_the_constant(run: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = train(run, folder, "judge_encoder", tmp_path / "run", f"encoder={folder / 'encoder'}")
    assert code == 0 and f"model: {tmp_path / 'run' / 'judge'}" in err, err
    card = read_judge_card(tmp_path / "run" / "judge")
    # 12 queries of 4 pairs: 0.6 of them for training, 7; 0.3 for dev, too few to tune on: all are for the table
    assert isinstance(card, Card) and card.labelled_pairs == 7 * 4 and card.temperature == 1.0
    assert card.tuning in err and "temperature and tier threshold are not set: too few labelled pairs" in card.tuning
    (warning,) = card.warnings
    assert "nobody knows whether this judge is better than always irrelevant: dev has 4 queries" in warning
    assert f"WARNING: {warning}" in err
    rows = json.loads((tmp_path / "run" / "dev.json").read_text())
    assert [*rows] == ["judge", "always irrelevant"]
    assert rows["judge"]["pairs"] == rows["always irrelevant"]["pairs"] == 16
    assert rows["always irrelevant"]["accuracy"] == 0.25  # each label once in four pairs
    assert "always irrelevant" in out
    judge = open_judge(tmp_path / "run" / "judge")
    encoder = Encoder.load(folder / "encoder", precision="auto")
    cosine = encoder.encode_queries(["blue lamp"]) @ encoder.encode_items(["red lamp"]).T
    p = label_probabilities(cosine[0], card.slope, card.cuts) ** (1 / card.temperature)
    np.testing.assert_allclose(judge.pair_probabilities([Pair("blue lamp", text_item("red lamp"))]), p / p.sum(), 1e-5)


def test_what_cannot_start_binds_no_folder_and_other_data_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("query,item_id,label\n" + "".join(f"blue {noun},i0,related\n" for noun in NOUNS))
    out, encoder = tmp_path / "run", f"encoder={folder / 'encoder'}"
    code, _, err = train(run, folder, "judge_encoder", out, encoder, f"data.judgements={labels}")
    assert code == 2 and "labels are one; labels that differ are needed" in err
    assert not (out / "data" / "settings.toml").exists() and not (out / "settings.toml").exists()
    assert train(run, folder, "judge_encoder", out, encoder)[0] == 0
    before = (out / "judge" / "judge.json").read_bytes()
    code, _, err = train(run, folder, "judge_encoder", out, encoder, "data.split_seed=1")
    assert code == 2 and "data holds another run (split_seed 0 -> 1)" in err
    code, _, err = train(run, folder, "judge_encoder", out, encoder, 'fields=["title"]')
    assert code == 2 and "holds another run (fields" in err
    assert (out / "judge" / "judge.json").read_bytes() == before
    code, _, err = train(run, folder, "judge_encoder", out, "encoder=./nowhere")
    assert code == 2 and "./nowhere" in err
    assert train(run, folder, "judge_human", tmp_path / "people")[0] == 0
    code, _, err = train(run, folder, "judge_human", tmp_path / "people", "data.split_seed=1")
    assert code == 2 and "data holds another run (split_seed 0 -> 1)" in err


def test_a_cosine_without_labels_says_that_its_tiers_are_a_guess(run: Run, folder: Path, tmp_path: Path) -> None:
    given = (f"encoder={folder / 'encoder'}", "labels=false", 'fields=["title"]')
    code, out, err = train(run, folder, "judge_encoder", tmp_path / "run", *given)
    assert code == 0 and "no label was read: trust the order, not the tiers" in err
    assert out == "" and not (tmp_path / "run" / "dev.json").exists()
    card = read_judge_card(tmp_path / "run" / "judge")
    assert isinstance(card, Card) and (card.labelled_pairs, card.fields, card.temperature) == (0, ("title",), 1.0)
    # The labels of the file change nothing: those of another file give the same card.
    turned = tmp_path / "turned.csv"
    pl.read_csv(folder / "labels.csv").with_columns(label=pl.col("label").reverse()).write_csv(turned)
    assert train(run, folder, "judge_encoder", tmp_path / "other", *given, f"data.judgements={turned}")[0] == 0
    assert read_judge_card(tmp_path / "other" / "judge") == card


@pytest.fixture(scope="module")
def index(folder: Path) -> Path:
    """An index with vectors."""
    from goodrate.api.index import Index
    from goodrate.api.reading import read_catalog

    return Index.create(folder / "index", read_catalog(folder / "items.csv"), folder / "encoder").store.path


def test_a_cosine_is_asked_measured_and_served(run: Run, folder: Path, index: Path, tmp_path: Path) -> None:
    fields = json.loads((index / "store.json").read_text(encoding="utf-8"))["encoded_fields"]
    given = (f"encoder={folder / 'encoder'}", f"fields={json.dumps(fields)}")  # as the index has them
    assert train(run, folder, "judge_encoder", tmp_path / "run", *given)[0] == 0
    judge, out = tmp_path / "run" / "judge", tmp_path / "verdicts.jsonl"
    asked = ("judge", folder / "labels.csv", "--model", judge, "--index", index, "--out", out)
    code, _, err = run(*asked, "--reasons")
    assert code == 0 and "48 pairs: 0 stored, 48 to judge" in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"} and [row["item_id"] for row in rows[:2]] == ["i0", "i1"]
    # "blue lamp" on "red lamp": the cosine, a word that the item has and one that it lacks
    assert rows[0]["reason"].splitlines()[0].startswith("cosine ") and "lamp" in rows[0]["reason"]
    assert "48 stored, 0 to judge" in run(*asked)[2]
    before = read_judge_card(judge)
    code, _, err = run("judge", folder / "labels.csv", "--model", judge, "--index", index, "--calibrate")
    assert code == 0 and "48 labelled pairs, 0 without a verdict" in err
    assert read_judge_card(judge).temperature != before.temperature
    assert "0 stored, 48 to judge" in run(*asked)[2]  # another temperature gives other verdicts
    measured = ("evaluate", index, "--judgements", folder / "labels.csv", "--model", judge, "--json")
    code, out, err = run(*measured, "--systems", "judge")  # 7 queries of 12 for training, 4 for dev, 1 for neither
    assert code == 0 and json.loads(out)["queries"] == 1 and "7 trained on, 4 tuned on. They are left out" in err
    measured = (*measured, "--trained-queries", "keep")
    report = json.loads(run(*measured, "--systems", "dense,hybrid,judge", "--rerank", "dense")[1])
    dense, _, reranked = report["systems"]
    assert reranked["name"] == "dense + judge" and report["labels"]["judge"]["pairs"] == 48
    # both order all 12 items by the cosine of one encoder and one text: expected gain rises with it
    assert report["labels"]["judge"]["failed"] == 0 and dense["metrics"] == reranked["metrics"]
    code, _, err = run(*measured, "--judged-only", "--systems", "judge")
    assert code == 0 and "48 of 48 judgements join" in err
    served, _ = open_live(index, str(judge), verdicts=tmp_path / "served.sqlite")
    assert announcement(len(served), served.judge, "127.0.0.1", 1)[0].startswith("12 items, judge judge, at http://127.0.0.1:1")
    response = served.search("blue lamp", k=3)
    assert response.judged == 12 and all(result.verdict is not None for result in response)
    assert (tmp_path / "served.sqlite").is_file()


def test_a_judge_that_beats_neither_constant_nor_cosine_says_so_wherever_it_is_used(
    run: Run, folder: Path, index: Path, tmp_path: Path
) -> None:
    from fastapi.testclient import TestClient

    import goodrate
    from goodrate.serving.http import create_app

    texts = [f"blue {one} {two}" for one in NOUNS for two in NOUNS if one != two][::2]
    rows = [(text, f"i{(n + k) % 12}", LABELS[0 if n % 9 else k]) for n, text in enumerate(texts) for k in range(4)]
    labels = pl.DataFrame(rows, schema=["query", "item_id", "label"], orient="row")
    labels.write_csv(tmp_path / "labels.csv")
    causal_lm().save(tmp_path / "base")
    given = (f"model={tmp_path / 'base'}", "fit.updates=1", "batch_size=4")
    data = (f"data.judgements={tmp_path / 'labels.csv'}", f"data.baseline={folder / 'encoder'}")
    code, _, err = train(run, folder, "judge_sft", tmp_path / "run", *given, *data)
    card = read_judge_card(tmp_path / "run" / "judge")
    cosine, constant = card.warnings
    assert code == 0 and all(f"WARNING: {warning}" in err for warning in (cosine, constant, WAYS_OUT)), err
    assert cosine.startswith("this judge is worse than encoder: log-loss") and "dev queries), accuracy" in cosine
    assert constant.startswith("this judge is worse than always irrelevant: log-loss")
    told = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert told["warnings"] == [cosine, constant]
    assert [one["rival"] for one in told["comparisons"]] == ["encoder", "always irrelevant"]
    assert told["comparisons"][0]["difference"]["units"] == 20  # all dev queries: 0.3 of 66
    assert "encoder" in json.loads((tmp_path / "run" / "dev.json").read_text())
    judge = tmp_path / "run" / "judge"
    lines = [f"warning: {judge}: {warning}" for warning in card.warnings]
    code, _, err = run("judge", folder / "labels.csv", "--model", judge, "--index", index, "--out", tmp_path / "v.csv")
    assert code == 0 and all(line in err for line in lines)
    code, _, err = run("evaluate", index, "--judgements", folder / "labels.csv", "--model", judge, "--systems", "judge")
    assert code == 0 and all(line in err for line in lines)
    served, _ = open_live(index, str(judge), verdicts=tmp_path / "served.sqlite")
    assert TestClient(create_app(served.pipeline)).get("/healthz").json()["warnings"] == [*card.warnings]
    assert goodrate.open_judge(judge).warnings == card.warnings


def test_people_are_asked_measured_and_served(run: Run, folder: Path, index: Path, tmp_path: Path) -> None:
    code, out, err = train(run, folder, "judge_human", tmp_path / "run")
    assert code == 0 and out == "" and "28 labels of people" in err  # 7 training queries of 4 pairs
    judge = tmp_path / "run" / "judge"
    assert read_judge_card(judge).kind == "human" and (tmp_path / "run" / "versions.json").is_file()
    known = pl.read_parquet(judge / "labels.parquet")
    asked = ("judge", folder / "labels.csv", "--model", judge, "--index", index, "--out", tmp_path / "v.csv")
    code, _, err = run(*asked, "--reasons")
    assert code == 0 and "no verdict: no_label 20" in err  # 48 - 28: unknown, and no low grade
    written = pl.read_csv(tmp_path / "v.csv")
    both = written.filter(status="ok").select("query", "item_id", "label").sort("query", "item_id")
    assert both.equals(known.sort("query", "item_id")) and written.filter(status="no_label")["tier"].null_count() == 20
    measured = ("evaluate", index, "--judgements", folder / "labels.csv", "--model", judge, "--json", "--judged-only")
    report = json.loads(run(*measured, "--systems", "lexical,judge")[1])
    people = report["systems"][1]
    assert people["notes"] == ["20 pairs failed"] and report["labels"]["judge"]["failed"] == 20
    assert report["labels"]["judge"]["accuracy"] == pytest.approx(28 / 48)
    served, _ = open_live(index, str(judge), verdicts=tmp_path / "served.sqlite")
    query = known["query"][0]
    gold = dict(known.filter(query=query).select("item_id", "label").iter_rows())
    verdicts = {result.item["id"]: result.verdict for result in served.search(query.upper(), k=12)}
    assert {item: one.label for item, one in verdicts.items() if one.label is not None} == gold
    assert sum(one.status == "no_label" for one in verdicts.values()) == 12 - 4


def test_an_index_is_the_catalogue_of_a_training(run: Run, folder: Path, index: Path, tmp_path: Path) -> None:
    given = ("--set", f"encoder={folder / 'encoder'}", "--set", f"data.judgements={folder / 'labels.csv'}")
    code, _, err = run("train", "judge_encoder", "--out", tmp_path / "a", *given, "--set", f"data.index={index}")
    assert code == 0, err
    code, _, err = run(
        "train", "judge_encoder", "--out", tmp_path / "b", *given, "--set", f"data.catalog={folder / 'items.csv'}"
    )
    assert code == 0 and "48 of 48 judgements join the catalogue" in err
    assert read_judge_card(tmp_path / "a" / "judge") == read_judge_card(tmp_path / "b" / "judge")
    both = ("--set", f"data.index={index}", "--set", f"data.catalog={folder / 'items.csv'}")
    code, _, err = run("train", "judge_encoder", "--out", tmp_path / "c", *given, *both)
    assert code == 2 and "expected either data.catalog or data.index with data.judgements" in err
    assert not (tmp_path / "c").exists()


def test_serve_names_what_a_judge_cannot_read_before_anything_is_loaded(
    run: Run, folder: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(run, folder, "judge_human", tmp_path / "run")[0] == 0
    monkeypatch.setattr("goodrate.api.encoders.load_encoder", lambda *given: pytest.fail("an encoder is loaded"))
    serve = ("serve", index, "--port", 0)
    judge = ("--model", tmp_path / "run" / "judge")
    cases = {
        ("--contexts", "items"): "texts are given (items), and no judge to read them",
        ("--context-encoder", "e"): "texts are given (e), and no judge to read them",
        (*judge, "--contexts", "items"): "reads none (judge.json, contexts)",
        (*judge, "--context-encoder", "e"): "--context-encoder e finds texts, and none are named",
        (*judge, "--facts", "absent.jsonl"): "--facts: no file absent.jsonl",
        ("--model", tmp_path / "run"): f"that of this run is {tmp_path / 'run' / 'judge'}",
        ("--model", folder / "encoder"): "this is a text encoder. Make a judge of its cosine: goodrate train judge_enc",
    }
    for arguments, message in cases.items():
        code, out, err = run(*serve, *arguments)
        assert code == 2 and out == "" and message in err, (arguments, err)
