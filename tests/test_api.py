"""The library as a notebook uses it: the examples run as they stand, frames equal files, training goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import goodrate as gr

EXAMPLES = Path(__file__).parents[1] / "examples"
GRADES = {"irrelevant": "0", "mismatch": "1", "related": "2", "excellent": "3"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with catalog.csv and ratings.csv, foreign column names and grades 0 to 3."""
    folder = tmp_path_factory.mktemp("shop")
    made = gr.generate_shop(items=200, queries=100, seed=3)
    made.catalog.frame.rename({"id": "sku", "title": "name"}).with_columns(season=pl.lit("any")).write_csv(
        folder / "catalog.csv"
    )
    made.judgement_frame().with_columns(pl.col("label").replace_strict(GRADES)).write_csv(folder / "ratings.csv")
    return folder


@pytest.fixture(scope="module")
def items(shop: Path) -> gr.Catalog:
    return gr.read_catalog(shop / "catalog.csv", map={"id": "sku", "title": "name"})


@pytest.fixture(scope="module")
def labels(shop: Path, items: gr.Catalog) -> gr.Judgements:
    return gr.read_judgements(shop / "ratings.csv", scale="graded_0_3").join(items)


def run(code: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    out = run(code, tmp_path)
    assert "hybrid + judge" in out and "random" in out and (tmp_path / "runs/grpo/judge/judge.json").is_file()


def test_the_example_of_an_own_judge_runs(tmp_path: Path) -> None:
    out = run((EXAMPLES / "own_judge.py").read_text(encoding="utf-8"), tmp_path)
    assert "lexical + FunctionJudge" in out and "the title has" in out


def test_import_loads_nothing_heavy_and_lists_its_names() -> None:
    code = "import sys, goodrate as gr; print(sorted(gr.__all__) == dir(gr), *{m.split('.')[0] for m in sys.modules})"
    same, *modules = run(code, Path.cwd()).split()
    heavy = {"torch", "transformers", "polars", "numpy", "lancedb", "pydantic", "sklearn"}
    assert same == "True" and not heavy & set(modules)
    with pytest.raises(AttributeError, match="no attribute 'Indx'; public: "):
        _ = gr.Indx


def test_frames_are_read_as_files_are(shop: Path, items: gr.Catalog, labels: gr.Judgements) -> None:
    frame = pl.read_csv(shop / "catalog.csv")
    same = gr.read_catalog(frame, map={"id": "sku", "title": "name"})
    assert same.content_hash == items.content_hash
    assert json.loads(items.frame["attributes"][0])["season"] == "any"  # a column that is not ours is an attribute
    ratings = gr.read_judgements(pl.read_csv(shop / "ratings.csv"), scale="graded_0_3").join(same)
    assert ratings.frame.equals(labels.frame) and ratings.join_report == labels.join_report
    pandas = pytest.importorskip("pandas")
    again = gr.read_catalog(pandas.DataFrame(frame.to_dict(as_series=False)), map={"id": "sku", "title": "name"})
    assert again.content_hash == items.content_hash


def test_bad_frames_name_row_column_and_expectation() -> None:
    with pytest.raises(ValueError, match=r"frame, row 2, column title: expected title to be filled"):
        gr.read_catalog(pl.DataFrame({"id": ["a", "b"], "title": ["lamp", ""]}))
    with pytest.raises(ValueError, match=r"frame has no column 'id'; .*sku"):
        gr.read_catalog(pl.DataFrame({"sku": ["a"], "title": ["lamp"]}))
    with pytest.raises(ValueError, match="expected a polars or pandas frame, found list"):
        gr.read_catalog([{"id": "a"}])
    with pytest.raises(ValueError, match=r"frame, row 1, column label: expected one of .*graded_0_3"):
        gr.read_judgements(pl.DataFrame({"query": ["q"], "item_id": ["a"], "label": ["7"]}), scale="graded_0_3")


def test_parts_share_no_query_and_a_catalogue_is_cut_by_slices(labels: gr.Judgements, items: gr.Catalog) -> None:
    parts = labels.split(0.8, 0.1, 0.1)
    texts = [set(part.queries().values()) for part in parts]
    assert sum(map(len, parts)) == len(labels) and not texts[0] & texts[1] and not texts[1] & texts[2]
    assert [set(p.queries().values()) for p in labels.split(0.8, 0.1, 0.1)] == texts  # the same for the same seed
    assert items[2:4].ids == items.ids[2:4] and next(iter(items))["id"] == items.ids[0]
    with pytest.raises(TypeError, match="cut with a slice"):
        items[0]  # type: ignore[index]


def test_an_index_is_created_updated_searched_and_reranked(items: gr.Catalog, tmp_path: Path) -> None:
    index = gr.Index.create(tmp_path / "idx", items[:100])
    assert len(index) == 100 and index.modes == ("lexical",) and index.name == "lexical"
    assert len(gr.Index.create(tmp_path / "idx", items)) == 200  # brought up to date
    title = items.frame["title"][150]
    results = index.search(title, k=3)
    first = results[0].item["id"]
    assert results[0].verdict is None and results[0].item["title"] in str(results) and len(results) == 3

    def hates_the_first(query: str, rows: list) -> list[list[float]]:
        return [[1.0, 0, 0, 0] if row["id"] == first else [0, 0, 0, 1.0] for row in rows]

    reranked = index.rerank(gr.FunctionJudge(hates_the_first, "graded_0_3", "1"), depth=3)
    again = reranked.search(title, k=3)
    assert [one.item["id"] for one in again] == [one.item["id"] for one in (results[1], results[2], results[0])]
    assert [one.verdict.tier for one in again if one.verdict] == ["Good", "Good", "Bad"]
    assert index.remove([first]) == 1 and first not in {one.item["id"] for one in index.search(title, k=3)}
    with pytest.raises(ValueError, match="only mode lexical is possible"):
        index.in_mode("dense")


def test_evaluation_says_what_it_measured(items: gr.Catalog, labels: gr.Judgements, tmp_path: Path) -> None:
    index = gr.Index.create(tmp_path / "idx", items)
    gains = labels.qrels()

    def knows(query: str, rows: list) -> np.ndarray:
        query_id = next(name for name, text in labels.queries().items() if text == query)
        return np.eye(4)[[gains[query_id].get(row["id"], 0) for row in rows]]

    oracle = index.rerank(gr.FunctionJudge(knows, "graded_0_3", "oracle"))
    found = gr.evaluate([index, oracle, "random"], labels, metrics=["ndcg@10"], judged_only=True)
    assert found["FunctionJudge"]["ndcg@10"] == 1 > found["lexical"]["ndcg@10"] > found["random"]["ndcg@10"]
    assert found.labels and found.labels["judge"]["accuracy"] == 1 and "ndcg@10" in str(found)
    other = index.rerank(gr.FunctionJudge(lambda q, rows: np.eye(4)[[0] * len(rows)], "four_level", "1"))
    assert "labels are not compared: the judge's are on scale four_level" in str(
        gr.evaluate([other], labels, metrics=["ndcg@10"], judged_only=True)
    )
    with pytest.raises(KeyError, match="no system 'x'; measured: lexical, FunctionJudge, random"):
        found["x"]
    with pytest.raises(ValueError, match="evaluate needs an index"):
        gr.evaluate(["random"], labels)


def test_training_from_frames_resumes_and_refuses_other_data(
    items: gr.Catalog, labels: gr.Judgements, tmp_path: Path
) -> None:
    train, dev, _ = labels.split(0.8, 0.1, 0.1)
    budget = {"model": "nano", "batch_size": 4, "fit": {"updates": 2}, "out": tmp_path / "run"}
    judge = gr.train("judge_sft", train, items, dev=dev, **budget)
    assert judge.scale.name == "graded_0_3" and judge.folder == tmp_path / "run" / "judge"
    verdicts = judge.judge("red lamp", items[:2])
    again = gr.train("judge_sft", train, items, dev=dev, **budget)  # done: the same judge
    assert again.judge("red lamp", items[:2]) == verdicts
    assert gr.open_judge(tmp_path / "run" / "judge").judge("red lamp", items[:2]) == verdicts
    with pytest.raises(ValueError, match="holds another run"):
        gr.train("judge_sft", dev, items, dev=train, **budget)
    with pytest.raises(ValueError, match="queries are in train and in dev"):
        gr.train("judge_sft", train, items, dev=train, **{**budget, "out": tmp_path / "other"})
    with pytest.raises(ValueError, match=r"unknown setting 'modle'; did you mean 'model'"):
        gr.train("judge_sft", train, items, modle="nano", out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"unknown recipe 'judge_stf'; did you mean 'judge_sft'"):
        gr.train("judge_stf", train, items, out=tmp_path / "other")
    with pytest.raises(ValueError, match="train needs judgements and items"):
        gr.train("judge_sft", out=tmp_path / "other")


def test_a_reranking_judge_is_told_what_the_index_knows(items: gr.Catalog, tmp_path: Path) -> None:
    index = gr.Index.create(tmp_path / "idx", items)
    (tmp_path / "idx" / "facts.jsonl").write_text('{"name": "velto 3", "fact": "velto 3 : price 40"}\n')
    labels = gr.generate_shop(items=200, queries=100, seed=3).judgements()
    from goodrate.relevance.human_judge import write_human_judge

    write_human_judge(tmp_path / "people", labels)
    reranked = index.rerank(gr.open_judge(tmp_path / "people"))
    assert reranked.judge is not None
    assert reranked.judge.pairs("cheaper than velto 3", items[:1])[0].facts == "velto 3 : price 40"
    (tmp_path / "none.jsonl").write_text("")
    own = gr.open_judge(tmp_path / "people", facts=tmp_path / "none.jsonl")
    assert index.rerank(own).judge.pairs("velto 3", items[:1])[0].facts == ""  # type: ignore[union-attr]
