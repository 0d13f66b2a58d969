"""A real (random, tiny) judge behind the pipeline: kept verdicts, facts, item form, reasons; all over HTTP."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from goodrate.catalog.items import Catalog
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.relevance.context import ContextFinder, ContextText
from goodrate.relevance.facts import FactBook
from goodrate.relevance.judge import Judge, JudgeCard, Pair, write_judge_card
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.retrieval.store import Store
from goodrate.serving.http import create_app
from goodrate.serving.kept import KeptVerdicts
from goodrate.serving.loading import load_pipeline
from serving_shop import CATALOGUE
from tiny_models import causal_lm

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "tiny-judge"
    model = causal_lm()
    model.save(folder)
    ids = tuple(model.encode(digit)[0] for digit in "1234")
    end = model.tokenizer.eos_token_id
    write_judge_card(folder, JudgeCard("four_level", ids, stop_token_id=end, max_new_tokens=12))
    return folder


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Judge:
    return Judge.load(judge_folder, precision="fp32")


def test_verdicts_are_kept_and_the_same_from_the_store(judge: Judge, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        kept = KeptVerdicts(judge, "tiny", store)
        first = kept.verdicts("red lamp", ["lamp ; color red", "chair"])
        assert [verdict.cached for verdict in first] == [False, False]
        again = kept.verdicts("red lamp", ["chair", "lamp ; color blue", "lamp ; color red"])
        assert [verdict.cached for verdict in again] == [True, False, True]
        assert (replace(again[2], cached=False), replace(again[0], cached=False)) == (first[0], first[1])
        assert sum(first[0].probabilities) == pytest.approx(1) and first[0].tier in ("Good", "Mid", "Bad")


def test_a_reason_is_decoded_once_and_the_verdict_stays(judge: Judge, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        kept = KeptVerdicts(judge, "tiny", store)
        verdict = kept.verdicts("red lamp", ["lamp"])[0]
        told = kept.explain("red lamp", "lamp")
        assert verdict.reason is None and told.reason is not None and not told.cached
        assert (told.label, told.probabilities) == (verdict.label, verdict.probabilities)
        assert told.reason_status not in (None, "ok")  # random weights write no five steps
        assert kept.explain("red lamp", "lamp").cached


def test_facts_reach_the_judge(judge: Judge) -> None:
    facts = FactBook.create([("velto", "velto : price 40")])
    plain, told = KeptVerdicts(judge, "tiny"), KeptVerdicts(judge, "tiny", facts=facts)
    assert plain.verdicts("cheaper than velto", ["lamp"]) != told.verdicts("cheaper than velto", ["lamp"])
    assert plain.verdicts("red lamp", ["lamp"]) == told.verdicts("red lamp", ["lamp"])


def test_the_item_form_is_the_judges(judge: Judge) -> None:
    assert KeptVerdicts(judge, "tiny").item_texts(CATALOGUE)[4] == (
        "Red kettle ; brand Brumm ; category kettles ; price 35 ; litres 1.5 ; Boils water."
    )
    text_judge = Judge(judge.model, replace(judge.card, item_form="text"))
    # running text leaves the price out
    assert KeptVerdicts(text_judge, "tiny").item_texts(CATALOGUE)[4] == (
        "Red kettle ; brand Brumm ; category kettles ; litres 1.5 ; Boils water."
    )


def test_index_and_judge_over_http(judge_folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    Store.create(index, None, None).upsert(Catalog(CATALOGUE), None)
    pipeline = load_pipeline(index, str(judge_folder), verdicts=index / "verdicts.sqlite")
    client = TestClient(create_app(pipeline))
    assert client.get("/healthz").json()["judge"] == "tiny-judge"
    first, second = (client.get("/search", params={"query": "running shoes"}).json() for _ in range(2))
    assert first["judged"] + first["failed"] == first["retrieved"] == second["cached"] and first["cached"] == 0
    assert [result["item_id"] for result in first["results"]] == [result["item_id"] for result in second["results"]]
    told = client.get("/explain", params={"query": "running shoes", "item_id": first["results"][0]["item_id"]}).json()
    assert told["verdict"]["label"] == first["results"][0]["verdict"]["label"]
    reranked = client.post("/v1/rerank", json={"query": "shoes", "documents": ["shoes", "kettle"]}).json()["results"]
    assert sorted(one["index"] for one in reranked) == [0, 1]
    assert reranked[0]["relevance_score"] >= reranked[1]["relevance_score"] > 0


def test_a_judge_that_reads_texts_gets_those_of_the_query(judge: Judge) -> None:
    finder = ContextFinder([ContextText("a", "mopix demands red"), ContextText("b", "lamp deal")])
    reading = Judge(judge.model, replace(judge.card, contexts=1))
    told = KeptVerdicts(reading, "tiny", contexts=finder).verdicts("mopix", ["lamp"])[0]
    expected = reading.judge([Pair("mopix", "lamp", context="mopix demands red")])[0]
    assert told.context == "mopix demands red" and told.probabilities == expected.probabilities
    assert KeptVerdicts(reading, "tiny", contexts=finder).verdicts("zzz", ["lamp"])[0].context is None
    plain = KeptVerdicts(judge, "tiny", contexts=finder).verdicts("mopix", ["lamp"])[0]
    assert plain.context is None and plain.probabilities != told.probabilities


def test_a_server_refuses_texts_for_a_judge_that_reads_none(judge_folder: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", None, None)
    store.upsert(Catalog(CATALOGUE), None)
    with pytest.raises(ValueError, match="reads none"):
        load_pipeline(tmp_path / "index", str(judge_folder), contexts="items")
    with pytest.raises(ValueError, match="no judge to read them"):
        load_pipeline(tmp_path / "index", contexts="items")


def test_a_server_finds_texts_by_words_or_with_an_encoder(judge_folder: Path, tmp_path: Path) -> None:
    card = json.loads((judge_folder / "judge.json").read_text())
    reader, index, encoder = tmp_path / "reader", tmp_path / "index", tmp_path / "encoder"
    shutil.copytree(judge_folder, reader)
    (reader / "judge.json").write_text(json.dumps({**card, "contexts": 1}))
    Store.create(index, None, None).upsert(Catalog(CATALOGUE), None)
    (tmp_path / "texts.csv").write_text("id,text\na,mopix demands red\n")
    Encoder.create(nano_folder() / "tokenizer.json", 16, 1).save(encoder)
    for given, name in ((None, "contexts"), (str(encoder), f"contexts-{Encoder.load(encoder).fingerprint[:12]}")):
        pipeline = load_pipeline(index, str(reader), contexts=str(tmp_path / "texts.csv"), context_encoder=given)
        assert pipeline.judge is not None and (index / name).is_dir()
        assert pipeline.judge.verdicts("mopix shoes", ["lamp"])[0].context == "mopix demands red"
