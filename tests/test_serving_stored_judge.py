"""A real (random, tiny) judge behind an index: stored verdicts, facts, texts, item form, reasons; all over HTTP."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from goodrate.api.index import Index
from goodrate.api.serving import open_live
from goodrate.catalog.items import Catalog
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.relevance.context import ContextFinder, ContextText
from goodrate.relevance.facts import FactBook
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge, open_judge
from goodrate.relevance.lm_judge import Card, LmJudge, write_lm_card
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.query_notes import QueryNotes
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.retrieval.store import Store
from goodrate.serving.http import create_app
from serving_shop import CATALOGUE
from tiny_models import causal_lm

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "tiny-judge"
    model = causal_lm()
    model.save(folder)
    ids = tuple(model.encode(digit)[0] for digit in "1234")
    end = model.tokenizer.eos_token_id
    write_lm_card(folder, Card(scale="four_level", label_token_ids=ids, stop_token_id=end, max_new_tokens=12))
    return folder


@pytest.fixture(scope="module")
def lm(judge_folder: Path) -> LmJudge:
    return LmJudge.load(judge_folder, precision="fp32")


@pytest.fixture(scope="module")
def judge(lm: LmJudge) -> CalibratedJudge:
    return calibrated_judge(lm, lm.card)


def reading(lm: LmJudge) -> CalibratedJudge:
    """The same model as a judge that reads one retrieved text."""
    card = replace(lm.card, contexts=1)
    return calibrated_judge(LmJudge(lm.model, card), card)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    Store.create(tmp_path / "index", None, None).upsert(Catalog(CATALOGUE), None)
    return tmp_path / "index"


def test_verdicts_are_stored_and_the_same_from_the_store(judge: CalibratedJudge, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        stored = replace(judge, store=store)
        first = stored.judge("red lamp", ["lamp ; color red", "chair"])
        assert [verdict.cached for verdict in first] == [False, False]
        again = stored.judge("red lamp", ["chair", "lamp ; color blue", "lamp ; color red"])
        assert [verdict.cached for verdict in again] == [True, False, True]
        assert (replace(again[2], cached=False), replace(again[0], cached=False)) == (first[0], first[1])
        assert sum(first[0].probabilities) == pytest.approx(1) and first[0].tier in ("Good", "Mid", "Bad")


def test_a_reason_is_decoded_once_and_the_verdict_stays(judge: CalibratedJudge, tmp_path: Path) -> None:
    with VerdictStore(tmp_path / "v.sqlite") as store:
        stored = replace(judge, store=store)
        verdict = stored.judge("red lamp", ["lamp"])[0]
        told = stored.judge("red lamp", ["lamp"], reasons=True)[0]
        assert verdict.reason is None and told.reason is not None and not told.cached
        assert (told.label, told.probabilities) == (verdict.label, verdict.probabilities)
        assert told.explanation is not None
        assert told.explanation.status not in (None, "ok")  # random weights write no five steps
        again = stored.judge("red lamp", ["lamp"], reasons=True)[0]
        assert again == replace(told, cached=True)


def test_facts_reach_the_judge(judge: CalibratedJudge) -> None:
    facts = FactBook.create([("velto", "velto : price 40")])
    plain, told = judge, judge.with_notes(QueryNotes(facts.of))
    assert plain.judge("cheaper than velto", ["lamp"]) != told.judge("cheaper than velto", ["lamp"])
    assert plain.judge("red lamp", ["lamp"]) == told.judge("red lamp", ["lamp"])


def test_the_item_form_is_the_judges(lm: LmJudge) -> None:
    rows = CATALOGUE.to_dicts()
    assert lm.reads(rows)[4] == "Red kettle ; brand Brumm ; category kettles ; price 35 ; litres 1.5 ; Boils water."
    text_judge = LmJudge(lm.model, replace(lm.card, item_form="text"))
    # running text leaves the price out
    assert text_judge.reads(rows)[4] == "Red kettle ; brand Brumm ; category kettles ; litres 1.5 ; Boils water."


def test_index_and_judge_over_http(judge_folder: Path, index: Path) -> None:
    judge = open_judge(judge_folder, store=VerdictStore(index / "verdicts.sqlite"))
    client = TestClient(create_app(Index.open(index).rerank(judge).pipeline))
    assert client.get("/healthz").json()["judge"] == "tiny-judge"
    first, second = (client.get("/search", params={"query": "running shoes"}).json() for _ in range(2))
    assert first["judged"] + first["failed"] == first["retrieved"] == second["cached"] and first["cached"] == 0
    assert [result["item_id"] for result in first["results"]] == [result["item_id"] for result in second["results"]]
    top = first["results"][0]
    told = client.get("/explain", params={"query": "running shoes", "item_id": top["item_id"]}).json()
    assert told["verdict"]["label"] == top["verdict"]["label"]
    item = next(row for row in Index.open(index).items.to_rows() if row["id"] == top["item_id"])
    same = judge.judge("running shoes", [item])[0].as_dict(judge.scale)
    assert same["cached"] and same["probabilities"] == top["verdict"]["probabilities"]
    reranked = client.post("/v1/rerank", json={"query": "shoes", "documents": ["shoes", "kettle"]}).json()["results"]
    assert sorted(one["index"] for one in reranked) == [0, 1]
    assert reranked[0]["relevance_score"] >= reranked[1]["relevance_score"] > 0


def test_a_judge_that_reads_texts_gets_those_of_the_query(lm: LmJudge, judge: CalibratedJudge) -> None:
    finder = ContextFinder([ContextText("a", "mopix demands red"), ContextText("b", "lamp deal")])
    reader = reading(lm)
    noted = reader.with_notes(QueryNotes(context=lambda query: finder.line(query, reader.contexts)))
    told = noted.judge("mopix", ["lamp"])[0]
    expected = reader.pair_verdicts([Pair("mopix", text_item("lamp"), context="mopix demands red")])[0]
    assert told.context == "mopix demands red" and told == expected
    assert noted.judge("zzz", ["lamp"])[0].context is None
    plain = judge.judge("mopix", ["lamp"])[0]
    assert plain.context is None and plain.probabilities != told.probabilities


def test_a_server_refuses_texts_that_no_judge_reads(judge_folder: Path, index: Path) -> None:
    judge = open_judge(judge_folder)
    with pytest.raises(ValueError, match="reads none"):
        Index.open(index).notes(judge, contexts="items")
    with pytest.raises(ValueError, match=r"texts are given \(items\), and no judge to read them"):
        open_live(index, contexts="items")


def test_an_index_tells_its_judge_the_facts_and_texts_that_lie_in_it(lm: LmJudge, index: Path) -> None:
    (index / "facts.jsonl").write_text('{"name": "mopix", "fact": "mopix : price 40"}\n')
    (index / "contexts.jsonl").write_text('{"id": "a", "text": "mopix demands red"}\n')
    reader, plain = Index.open(index).rerank(reading(lm)).judge, Index.open(index).rerank(calibrated_judge(lm, lm.card))
    assert reader is not None and plain.judge is not None
    assert reader.pairs("mopix", ["lamp"]) == [
        Pair("mopix", text_item("lamp"), "mopix : price 40", "mopix demands red")
    ]
    # it reads no texts: those of the index are not for it
    assert plain.judge.pairs("mopix", ["lamp"]) == [Pair("mopix", text_item("lamp"), "mopix : price 40")]
    own = calibrated_judge(lm, lm.card, notes=QueryNotes())
    told = Index.open(index).rerank(own).judge
    assert told is not None and told.pairs("mopix", ["lamp"]) == [Pair("mopix", text_item("lamp"))]


def test_an_index_finds_texts_by_words_or_with_an_encoder(judge_folder: Path, index: Path, tmp_path: Path) -> None:
    card = json.loads((judge_folder / "judge.json").read_text())
    folder, encoder = tmp_path / "reader", tmp_path / "encoder"
    shutil.copytree(judge_folder, folder)
    (folder / "judge.json").write_text(json.dumps({**card, "contexts": 1}))
    (tmp_path / "texts.csv").write_text("id,text\na,mopix demands red\n")
    Encoder.create(nano_folder() / "tokenizer.json", 16, 1).save(encoder)
    judge = open_judge(folder)
    for given, name in ((None, "contexts"), (str(encoder), f"contexts-{Encoder.load(encoder).fingerprint[:12]}")):
        opened = Index.open(index)
        notes = opened.notes(judge, contexts=str(tmp_path / "texts.csv"), context_encoder=given)
        assert (index / name).is_dir()
        pipeline = opened.rerank(judge.with_notes(notes)).pipeline
        assert pipeline.judge_items("mopix shoes", ["lamp"])[0].context == "mopix demands red"
