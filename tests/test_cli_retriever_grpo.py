"""goodrate train retriever_grpo: from judgements to an encoder, judged pairs kept, a stopped run resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_runs
from goodrate.recipes.judge_folder import write_judge
from goodrate.recipes.retriever_runs import RewardSettings
from goodrate.recipes.untrained_members import untrained_judges, write_member
from goodrate.relevance import ensemble_judge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.scale import scale_entry
from goodrate.shop.shop import ShopSettings
from tiny_models import causal_lm, tokenizer_file

SETTINGS = settings_with_data("retriever_grpo")
SHOP = ["data.shop.items=300", "data.shop.queries=60", "data.shop.judged=8"]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    torch.set_num_threads(1)
    write_judge(causal_lm(), JudgeFormat(max_new_tokens=8), tmp_path / "judge")
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "encoder")
    chosen = [f"encoder={tmp_path / 'encoder'}", f"reward.judge={tmp_path / 'judge'}", *SHOP, "fit.updates=3"]
    return [*chosen, "rankings.queries=8", "rankings.candidates=4", "reward.quality=true", "reward.exclusivity=overlap"]


def test_an_encoder_is_trained_measured_and_its_verdicts_are_kept(given: list[str], tmp_path: Path) -> None:
    chosen = settings.load(SETTINGS, None, given)
    seen: list[dict[str, float]] = []
    outcome = run_from_settings("retriever_grpo", chosen, tmp_path / "run", seen.append)
    assert len(seen) == 3 and {"reward/relevance", "reward/quality", "reward/exclusivity"} <= seen[0].keys()
    assert [*outcome.rows] == ["trained", "before", "random order"] and outcome.rows["trained"]["queries"] > 0
    # 3 updates x 8 queries x 4 candidates; the same pair is read once
    assert "asked for 96 pairs" in outcome.notes[-1] and (tmp_path / "run" / "verdicts.sqlite").is_file()
    assert Encoder.load(outcome.folder).dimension == 16
    again = run_from_settings(
        "retriever_grpo", chosen, tmp_path / "run", lambda record: pytest.fail("nothing is left to train")
    )
    assert again.rows == outcome.rows and "asked for 0 pairs" in again.notes[-1]
    other = settings.load(SETTINGS, None, [*given, "data.split_seed=1"])
    with pytest.raises(ValueError, match="data holds another run"):
        run_from_settings("retriever_grpo", other, tmp_path / "run", print)
    other = settings.load(SETTINGS, None, [*given, "reward.worth=gains"])
    with pytest.raises(ValueError, match="reward holds another run .*worth"):
        run_from_settings("retriever_grpo", other, tmp_path / "run", print)


def test_a_judge_that_reads_texts_gets_those_of_the_query(given: list[str], tmp_path: Path) -> None:
    card = tmp_path / "judge" / "judge.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "contexts": 1}))
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=60, judged=8)))
    queries = [query.text for query in retriever_runs.query_examples(data)]
    reader, reward = open_judge(tmp_path / "judge"), RewardSettings(judge=str(tmp_path / "judge"))
    with VerdictStore(tmp_path / "stored.sqlite") as store:
        noted = retriever_runs.judged_relevance(reader, store, data, queries, reward)._judge
    item = data.catalog.to_rows()[0]
    pairs = [noted.pairs(query, [item])[0] for query in queries]
    assert data.contexts is not None
    assert [pair.context for pair in pairs] == [data.contexts.of(query, 1).text for query in queries]
    assert any(pair.context for pair in pairs)
    facts = {text: data.facts[query_id] for query_id, text in data.parts["train"].queries().items()}
    assert [pair.facts for pair in pairs] == [facts[query] for query in queries] and any(pair.facts for pair in pairs)
    with VerdictStore(tmp_path / "stored.sqlite") as store, pytest.raises(ValueError, match="with data.contexts"):
        retriever_runs.judged_relevance(reader, store, replace(data, contexts=None), queries, reward)


def ensemble(given: list[str], tmp_path: Path) -> str:
    """A folder of what `goodrate fit-judge` makes, without a language model, of the shop of `given`."""
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=60, judged=8)))
    start = str(tmp_path / "encoder")
    judges = untrained_judges({start: Encoder.load(start)}, data.catalog, data.scale, fields=("title", "description"))
    cuts = (-1.0, 0.0, 1.0)
    for name, judge in judges.items():
        write_member(tmp_path / "sum" / name, judge, 1.0, cuts, 0)
    each = dict.fromkeys(judges, 1.0)
    card = ensemble_judge.Card(
        scale=scale_entry(data.scale), members=tuple(each), weights=(3.0, 2.0, 1.0), means=(0.5, 0.5, 0.0),
        spreads=tuple(each.values()), slope=1.0, cuts=cuts,
    )  # fmt: skip
    ensemble_judge.write_ensemble_judge(tmp_path / "sum", card)
    return str(tmp_path / "sum")


def test_a_fitted_ensemble_is_a_reward_and_judges_the_items_it_would_judge_elsewhere(
    given: list[str], tmp_path: Path
) -> None:
    folder = ensemble(given, tmp_path)
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=60, judged=8)))
    queries = [query.text for query in retriever_runs.query_examples(data)]
    judge, reward = open_judge(folder), RewardSettings(judge=folder, worth="gains")
    with VerdictStore(tmp_path / "stored.sqlite") as store:
        worth = retriever_runs.judged_relevance(judge, store, data, queries, reward)
        found = worth(np.asarray([0, 0, 1]), np.asarray([3, 200, 3]))
    rows, gains = data.catalog.to_rows(), data.scale.gain_array
    alone = [judge.probabilities(queries[query], [rows[item]])[0] @ gains for query, item in ((0, 3), (0, 200), (1, 3))]
    assert found.tolist() == pytest.approx([gain / gains[-1] for gain in alone], abs=1e-6) and len(set(found)) > 1
    told = [*given, f"reward.judge={folder}", "reward.worth=gains", "loss.objective=listwise", "fit.updates=1"]
    chosen = settings.load(SETTINGS, None, [*told, 'fields=["title", "description"]'])
    outcome = run_from_settings("retriever_grpo", chosen, tmp_path / "run", lambda record: None)
    assert Encoder.load(outcome.folder).item_fields == ("title", "description")
    texts = retriever_runs.item_lines(data, ["title", "description"])
    assert outcome.rows["before"] == retriever_runs.recalls(
        Encoder.load(tmp_path / "encoder"), texts, retriever_runs.good_items(data.parts["dev"])
    )
    with pytest.raises(ValueError, match="cannot render field 'colour'"):
        settings.load(SETTINGS, None, [*told, 'fields=["colour"]'])


def test_texts_for_a_judge_that_reads_none_are_refused(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("id,text\na,lamp means light\n")
    chosen = settings.load(SETTINGS, None, [*given, f"data.contexts={tmp_path / 'texts.csv'}"])
    with pytest.raises(ValueError, match="the judge reads no texts"):
        run_from_settings("retriever_grpo", chosen, tmp_path / "run", print)
    assert not (tmp_path / "run" / "data" / "settings.toml").exists()


def test_quality_is_in_five_levels_and_unknown_is_the_middle() -> None:
    data = load_data(DataSettings(shop=ShopSettings(items=300, queries=40, judged=8)))
    levels = retriever_runs.quality_levels(data)
    ratings = data.catalog.frame["rating"].to_numpy()
    assert sorted(set(levels)) == [0, 0.25, 0.5, 0.75, 1]
    assert (np.diff(levels[np.argsort(ratings, kind="stable")]) >= 0).all()
    frame = data.catalog.frame
    half = frame.with_columns(rating=pl.when(pl.int_range(pl.len()) < 150).then(pl.col("rating")))
    object.__setattr__(data.catalog, "frame", half)
    assert (retriever_runs.quality_levels(data)[150:] == 0.5).all()
    object.__setattr__(data.catalog, "frame", frame.with_columns(rating=pl.lit(None, dtype=pl.Float64)))
    with pytest.raises(ValueError, match="no item of the catalogue has one"):
        retriever_runs.quality_levels(data)
