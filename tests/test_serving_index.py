"""Opening what a server needs: queries on one thread, everything warm, nothing stored by the warming up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from goodrate.api.index import Index
from goodrate.api.serving import WARM_UP, warm_up
from goodrate.catalog.items import Catalog
from goodrate.models.encoder import Encoder
from goodrate.relevance.judge import open_judge
from goodrate.relevance.lm_judge import Card, write_lm_card
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.retrieval.indexing import index_catalog
from goodrate.retrieval.query_encoder import SingleQueryEncoder
from goodrate.retrieval.store import Store
from serving_shop import CATALOGUE
from tiny_models import causal_lm, tokenizer_file


@pytest.fixture
def three_threads():
    """Three torch threads, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Counting:
    """An encoder that notes how many threads it may use."""

    fingerprint, dimension = "f", 2

    def __init__(self) -> None:
        self.threads: list[int] = []

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        self.threads.append(torch.get_num_threads())
        if texts == ["bad"]:
            raise ValueError(texts)
        return np.zeros((len(texts), 2), dtype=np.float32)

    encode_items = encode_queries


def test_a_query_is_encoded_on_one_thread_and_batches_keep_theirs(three_threads: None) -> None:
    encoder = Counting()
    single = SingleQueryEncoder(encoder)
    single.encode_queries(["lamp"])
    with pytest.raises(ValueError):
        single.encode_queries(["bad"])
    single.encode_items(["lamp"])
    assert encoder.threads == [1, 1, 3] and torch.get_num_threads() == 3


def test_everything_has_answered_once_and_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2)
    encoder.save(tmp_path / "encoder")
    store = Store.create(tmp_path / "index", encoder.fingerprint, encoder.dimension, str(tmp_path / "encoder"))
    index_catalog(store, Catalog(CATALOGUE), encoder)
    lm = causal_lm()
    lm.save(tmp_path / "judge")
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    write_lm_card(
        tmp_path / "judge", Card(scale="four_level", label_token_ids=tokens, stop_token_id=1, max_new_tokens=4)
    )
    asked: list[list[str]] = []
    whole = Encoder.encode_queries
    monkeypatch.setattr(Encoder, "encode_queries", lambda self, texts: (asked.append(texts), whole(self, texts))[1])
    with VerdictStore(tmp_path / "verdicts.sqlite") as verdicts:
        judge = open_judge(tmp_path / "judge", store=verdicts)
        judged: list[str] = []
        assess = judge.inner.assess
        monkeypatch.setattr(
            judge.inner, "assess", lambda pairs: (judged.extend(pair.query for pair in pairs), assess(pairs))[1]
        )
        index = Index.open(tmp_path / "index").rerank(judge)
        warm_up(index)
        assert {text for texts in asked for text in texts} == {"warm up"} == {WARM_UP} == set(judged)
        assert verdicts.counts() == {}
        answer = index.search("red shoes", k=5)
        assert (len(answer.results), answer.judged, answer.cached) == (5, 5, 0)
        assert sum(verdicts.counts().values()) == 5
