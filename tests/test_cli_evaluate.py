"""goodrate evaluate, run as a user runs it, on an invented index."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calling import called
from goodrate.api.evaluating import metric_names, read_run
from goodrate.catalog.items import Catalog
from goodrate.cli.evaluate import chosen_systems
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import evaluate_systems, footnotes
from goodrate.evaluation.systems import SystemRuns, Task, judge_runs, random_runs
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.judge_card import write_judge_card
from goodrate.relevance.lm_judge import Card
from goodrate.relevance.pairs import Item, Pair, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.query_notes import QueryNotes
from goodrate.relevance.seen_queries import query_key, read_seen, write_seen
from goodrate.retrieval.store import Store
from goodrate.scale import FOUR_LEVEL, GRADED_0_3

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
LABELS = """query,item_id,label
desk lamp,1,excellent
desk lamp,2,irrelevant
desk lamp,3,related
red rug,2,excellent
red rug,3,irrelevant
sofa,3,irrelevant
sofa,gone,excellent
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "index"
    titles = {"1": "oak desk lamp", "2": "red wool rug", "3": "brass lamp"}
    Store.create(folder, None, None).upsert(Catalog(pl.DataFrame({"id": [*titles], "title": [*titles.values()]})), None)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, index: Path):
    """Call goodrate evaluate on the index; gives (exit code, stdout, stderr with its wrapping undone)."""
    labels = tmp_path / "labels.csv"
    labels.write_text(LABELS)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: object) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, "evaluate", index, "--judgements", labels, *arguments)

    return call


def test_judged_lists(run) -> None:
    """Lexical: desk lamp gives 1, 3, then 2 (no common word); red rug 2, 3. Both are ideal. sofa has no gain."""
    code, out, err = run("--judged-only", "--systems", "random,lexical", "--json")
    report = json.loads(out)
    random, lexical = report["systems"]
    assert code == 0 and "6 of 7 judgements join" in err and "1 judged items are not in the catalogue" in err
    assert (report["queries"], report["judged_pairs"], report["single_grade_queries"]) == (3, 6, 1)
    assert lexical["metrics"]["ndcg@10"] == {"value": 1.0, "low": 1.0, "high": 1.0, "units": 2}
    assert lexical["undefined"]["ndcg@10"] == 1 and random["metrics"]["ndcg@10"]["value"] < 1
    against = lexical["against_first"]["ndcg@10"]
    assert against["side_by_side"] == {"good": 2, "same": 0, "bad": 0, "unknown": 1}
    assert against["p"] == 0.5  # two queries, both better: ++ and -- of four patterns
    assert random["against_first"] == {} and random["notes"] == ["mean of 20 random orders"]


def test_whole_index_counts_what_was_not_found_and_not_judged(run) -> None:
    """sofa finds nothing: missing. red rug finds 2 only, desk lamp 1 and 3: all judged."""
    lexical = json.loads(run("--systems", "lexical", "--json")[1])["systems"][0]
    assert lexical["missing_queries"] == 1 and lexical["unjudged_share"] == 0.0
    assert lexical["metrics"]["recall@10"]["value"] == 1.0
    assert lexical["metrics"]["goodrate@10"]["value"] == pytest.approx((1 + 1 + 0) / 3)


def test_table_plot_and_dropped_queries(run, tmp_path: Path) -> None:
    picture = tmp_path / "systems.png"
    code, out, err = run("--judged-only", "--single-grade", "drop", "--plot", picture)
    assert code == 0 and "1 of 3 queries have one grade only and are left out" in err
    assert "2 queries, 5 judged pairs" in out and "1.000" in out and "goodrate@10" in out
    assert "gains: irrelevant=0, mismatch=1, related=3, excellent=7" in out
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_same_command_gives_the_same_numbers(run) -> None:
    first, again, other = (run("--judged-only", "--json", "--seed", seed)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_wrong_use_exits_2_with_one_clear_message(run, tmp_path: Path) -> None:
    empty = tmp_path / "one.csv"
    empty.write_text("query,item_id,label\nlamp,1,related\n")
    cases = {
        ("--systems", "bm25"): "unknown system 'bm25'; accepted: random, lexical, dense, hybrid, rules, judge",
        ("--systems", "dense"): "dense cannot run: the index has no vectors",
        ("--systems", "judge"): "judge cannot run: give its folder with --model",
        ("--systems", ","): "--systems names none",
        ("--scale", "stars"): "unknown scale 'stars'",
        ("--scale", "graded_0_3"): "one of 0, 1, 2, 3 (graded_0_3), found 'excellent'",
        ("--contexts", empty): "--contexts is for the system judge, which is not measured",
        ("--systems", "lexical", "--model", tmp_path): "--model is for the system judge",
        ("--systems", "lexical", "--context-encoder", "e"): "--context-encoder is for the system judge",
        ("--judged-only", "--model", tmp_path, "--rerank", "lexical"): "with --judged-only nothing is",
        ("--single-grade", "maybe"): "'maybe' is not one of 'keep', 'drop'",
        ("--plot", "a.txt"): "expected a name that ends in .png, .svg or .pdf",
        ("--judgements", "nowhere.csv"): "no such file: nowhere.csv",
        ("--judgements", empty, "--single-grade", "drop"): "every query has one grade only",
    }
    for arguments, message in cases.items():
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and message in err, (arguments, err)


def test_choice_of_systems_and_metrics() -> None:
    assert chosen_systems(None, True, Path("j")) == ["random", "lexical", "dense", "hybrid", "judge"]
    assert chosen_systems("hybrid, lexical,hybrid", True, None) == ["hybrid", "lexical"]
    assert metric_names(5, False) == ["ndcg@5", "mrr@5", "recall@5", "recall@100", "goodrate@5"]
    assert "recall@100" in metric_names(100, False) and len(set(metric_names(100, False))) == 4


class LengthJudge:
    """A fake Judge: the longer the item's text or title, the better; an empty one is a failure. Remembers its pairs."""

    scale = FOUR_LEVEL
    identity = {"fake": "length"}

    def __init__(self) -> None:
        self.asked: list[Pair] = []

    def reads(self, items: Sequence[Item]) -> list[str]:
        return [str(item.get("text", item.get("title"))) for item in items]

    def position(self, text: str) -> int:
        return len(text)

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        self.asked += pairs
        texts = self.reads([pair.item for pair in pairs])
        rows = [np.eye(4)[self.position(text)] if text else np.full(4, np.nan) for text in texts]
        return Assessment.of(np.asarray(rows))


def test_a_judge_orders_and_its_failures_are_counted_not_graded() -> None:
    task = Task({"q": "lamp"}, {"q": {"a": 0, "b": 3, "c": 1}}, judged_only=True)
    rows = {item: text_item(text) for item, text in {"a": "", "b": "xxx", "c": "x"}.items()}
    ordered = judge_runs(task, CalibratedJudge(LengthJudge()), rows)
    assert ordered.runs[0]["q"] == [("a", -1.0), ("b", 1.0), ("c", pytest.approx(1 / 7))]  # gain 1 of 7
    assert ordered.notes == ("1 pairs failed",)
    assert ordered.labels == {("q", "a"): -1, ("q", "b"): 3, ("q", "c"): 1}


def test_a_judge_reads_what_is_known_of_the_query() -> None:
    inner = LengthJudge()
    notes = QueryNotes(facts=lambda query: f"fact of {query}", context=lambda query: f"text of {query}")
    task = Task({"q": "lamp"}, {"q": {"b": 3}}, judged_only=True)
    judge_runs(task, CalibratedJudge(inner, notes=notes), {"b": text_item("x")})
    assert inner.asked == [Pair("lamp", text_item("x"), "fact of lamp", "text of lamp")]


def test_a_judge_reranks_the_head_and_leaves_the_tail_in_order() -> None:
    """60 candidates, 50 are judged: the long one at place 50 rises to the top, the rest stay below all judged ones."""
    candidates = {"q": [(f"i{n:02}", 100.0 - n) for n in range(60)], "none": []}
    texts = {item: "x" for item, _ in candidates["q"]} | {"i49": "xxx", "i50": "xxx"}
    rows = {item: text_item(text) for item, text in texts.items()}
    task = Task({"q": "lamp", "none": "?"}, {"q": {"i49": 3}, "none": {"i49": 3}})
    judged = judge_runs(task, CalibratedJudge(LengthJudge()), rows, candidates)
    order = sorted(judged.runs[0]["q"], key=lambda pair: (-pair[1], pair[0]))
    assert [item for item, _ in order][:2] == ["i49", "i00"] and [item for item, _ in order][49:52] == [
        "i48", "i50", "i51",
    ]  # fmt: skip
    table = evaluate_run(judged.runs[0], task.qrels, FOUR_LEVEL, ["ndcg@10"])
    assert table["missing"].to_list() == [False, True]


def test_random_orders_reach_the_expected_ndcg() -> None:
    """One good item among two: nDCG is 1 or 1 / log2(3), on average 0.815; the input's order changes nothing."""
    qrels = {f"q{n}": {"a": 3, "b": 0} for n in range(100)}
    task = Task({query: query for query in qrels}, qrels, judged_only=True)
    runs = random_runs(task, [], seed=1).runs
    mean = np.mean([evaluate_run(run, qrels, GRADED_0_3, ["ndcg"])["ndcg"].mean() for run in runs])
    assert mean == pytest.approx((1 + 1 / np.log2(3)) / 2, abs=0.02)
    turned = Task(dict(reversed(task.queries.items())), qrels, judged_only=True)
    assert random_runs(turned, [], seed=1).runs[3]["q7"] == runs[3]["q7"]


def test_footnotes_name_what_was_left_out() -> None:
    task = Task({"q": "q", "r": "r"}, {"q": {"a": 0}, "r": {"a": 3, "b": 0}})
    report = evaluate_systems([SystemRuns("mine", [{"q": [("a", 1.0)]}])], task, GRADED_0_3, ["ndcg@10"], k=10)
    text = "\n".join(footnotes(report))
    assert "1 queries have one grade only" in text and "left out of its mean: ndcg@10 1." in text
    assert "mine: 1 queries without a result; they count 0" in text
    assert report.systems[0].metrics["ndcg@10"].value == 0.0


def fake_judge(
    folder: Path, monkeypatch: pytest.MonkeyPatch, inner: LengthJudge, contexts: int = 0
) -> tuple[str, Path]:
    """The option --model with a folder that is opened as this judge."""
    write_judge_card(folder, Card(scale="four_level", label_token_ids=(1, 2, 3, 4), contexts=contexts))
    opened = CalibratedJudge(inner, contexts=contexts, name=folder.name, folder=folder)
    monkeypatch.setattr("goodrate.relevance.judge.open_judge", lambda given: opened)
    return "--model", folder


class ThirteenLetters(LengthJudge):
    """Label 3 for 13 letters or more, else 0."""

    def position(self, text: str) -> int:
        return 3 if len(text) >= 13 else 0


def test_a_judge_that_reads_texts_gets_them_and_another_refuses(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inner = ThirteenLetters()
    given = ("--judged-only", "--systems", "judge", *fake_judge(tmp_path / "j", monkeypatch, inner, contexts=1))
    (tmp_path / "texts.csv").write_text("id,text\na,lamp means light\n")
    assert run(*given, "--contexts", tmp_path / "texts.csv")[0] == 0
    assert {(pair.query, pair.context) for pair in inner.asked} == {
        ("desk lamp", "lamp means light"), ("red rug", None), ("sofa", None),
    }  # fmt: skip
    assert "judged without a text; this judge reads some: --contexts FILE" in run(*given)[2]
    fake_judge(tmp_path / "j", monkeypatch, inner)
    code, _, err = run(*given, "--contexts", tmp_path / "texts.csv")
    assert code == 2 and "reads none (judge.json, contexts)" in err


def test_the_facts_and_texts_of_the_index_are_told_and_named_facts_have_to_be_there(
    run, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inner = ThirteenLetters()
    given = ("--judged-only", "--systems", "judge", *fake_judge(tmp_path / "j", monkeypatch, inner, contexts=1))
    (index / "facts.jsonl").write_text('{"name": "rug", "fact": "rug : of wool"}\n')
    (index / "contexts.jsonl").write_text('{"id": "t", "text": "sofa means couch"}\n')
    try:
        code, _, err = run(*given)
    finally:
        (index / "facts.jsonl").unlink()
        (index / "contexts.jsonl").unlink()
    assert code == 0 and "judged without a text" not in err
    assert {(pair.query, pair.facts, pair.context) for pair in inner.asked} == {
        ("desk lamp", "", None), ("red rug", "rug : of wool", None), ("sofa", "", "sofa means couch"),
    }  # fmt: skip
    code, _, err = run(*given, "--facts", tmp_path / "absent.jsonl")
    assert code == 2 and "--facts: no file" in err


def test_labels_of_a_judge_stand_beside_the_constant(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The judge says label 3 for 13 letters or more, else 0: right on 1 (excellent), 2 / lamp wrong, and so on."""
    given = ("--judged-only", "--systems", "judge", *fake_judge(tmp_path / "mine", monkeypatch, ThirteenLetters()))
    report = json.loads(run(*given, "--json")[1])
    labels = report["labels"]
    # titles: "oak desk lamp" 13 -> 3, "red wool rug" 12 -> 0, "brass lamp" 10 -> 0; gold 3 0 2, 3 0, 0
    assert labels["judge"]["accuracy"] == pytest.approx(4 / 6)
    assert labels["always irrelevant"]["accuracy"] == pytest.approx(3 / 6)
    assert [system["name"] for system in report["systems"]] == ["mine"]  # a judge on judged lists, by its name
    out = run(*given)[1]
    assert "labels, judge: accuracy 0.667" in out and "labels, always irrelevant: accuracy 0.500" in out


def test_the_judge_reranks_what_it_is_told_to(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """desk lamp finds 1 and 3, red rug 2, sofa nothing. The judge has 1 above 3; nothing else is judged."""
    inner = ThirteenLetters()
    given = ("--systems", "lexical,judge", *fake_judge(tmp_path / "mine", monkeypatch, inner))
    lexical, judge = json.loads(run(*given, "--rerank", "lexical", "--json")[1])["systems"]
    assert (lexical["name"], judge["name"]) == ("lexical", "lexical + mine")
    assert {(pair.query, pair.item["id"]) for pair in inner.asked} == {
        ("desk lamp", "1"), ("desk lamp", "3"), ("red rug", "2"),
    }  # fmt: skip
    assert judge["metrics"]["ndcg@10"] == lexical["metrics"]["ndcg@10"]
    inner.asked.clear()
    run(*given, "--depth", 1)
    assert sorted(pair.item["id"] for pair in inner.asked) == ["1", "2"]  # the first result of each query
    code, out, err = run(*given, "--rerank", "dense")
    assert code == 2 and out == "" and "only mode lexical is possible" in err
    assert "--rerank is for the system judge" in run("--systems", "lexical", "--rerank", "lexical")[2]


def test_what_joins_is_said_before_a_judge_is_opened(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = ("--judged-only", "--systems", "judge", *fake_judge(tmp_path / "mine", monkeypatch, LengthJudge()))

    def broken(folder: Path) -> CalibratedJudge:
        raise ValueError("these weights are not whole")

    monkeypatch.setattr("goodrate.relevance.judge.open_judge", broken)
    code, _, err = run(*given)
    assert code == 2 and err.index("6 of 7 judgements join the catalogue") < err.index("these weights are not whole")


def test_queries_that_the_judge_has_seen_are_left_out_for_all_systems_or_told(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = ("--judged-only", "--systems", "lexical,judge")
    judge = fake_judge(tmp_path / "mine", monkeypatch, ThirteenLetters())
    # "Lamps desk" is "desk lamp" in another order and number; nobody has seen "sofa"
    write_seen(tmp_path / "mine", {"train": ["Lamps desk", "kettle"], "dev": ["red rug 2"]})
    code, out, err = run(*given, *judge, "--json")
    report = json.loads(out)
    assert code == 0 and report["queries"] == 1 and report["labels"]["judge"]["pairs"] == 1
    assert report["seen_queries"] == {"train": 1, "dev": 1, "dropped": True}
    told = (
        f"2 of 3 queries, or ones nearly the same, were in the data of the judge ({tmp_path / 'mine'}): 1 trained on, "
    )
    assert told + "1 tuned on. They are left out for all systems" in err
    assert "--trained-queries keep measures them too" in " ".join(run(*given, *judge)[1].split())
    code, out, err = run(*given, *judge, "--json", "--trained-queries", "keep")
    report = json.loads(out)
    assert code == 0 and report["queries"] == 3 and report["seen_queries"] == {"train": 1, "dev": 1, "dropped": False}
    assert "They are measured too: on new queries the judge is worse than this" in err
    report = json.loads(run("--judged-only", "--systems", "lexical", "--json")[1])
    assert report["queries"] == 3 and "seen_queries" not in report  # no judge, nothing seen
    write_seen(tmp_path / "mine", {"train": ["desk lamp", "red rug", "sofa"], "dev": []})
    code, out, err = run(*given, *judge)
    assert code == 2 and out == "" and "3 of 3 queries" in err and "Give labels of other queries" in err
    (tmp_path / "mine" / "trained_on.json").write_text("[]")
    code, _, err = run(*given, *judge)
    assert code == 2 and f"{tmp_path / 'mine' / 'trained_on.json'}: expected {{train, dev}}" in err


def test_what_a_judge_has_seen_is_what_it_and_those_before_it_have(tmp_path: Path) -> None:
    write_seen(tmp_path, {"train": ["desk lamp"], "dev": ["red rug", "desk lamps"]})
    assert read_seen(tmp_path) == {query_key("desk lamp"): "train", query_key("red rug"): "dev"}
    (tmp_path / "next").mkdir()
    write_seen(tmp_path / "next", {"train": ["red rug"], "dev": ["sofa", "desk lamp"]}, read_seen(tmp_path))
    assert read_seen(tmp_path / "next") == {
        query_key("red rug"): "train", query_key("sofa"): "dev", query_key("desk lamp"): "train",
    }  # fmt: skip
    assert read_seen(tmp_path / "absent") == {}
    assert "lamp" not in (tmp_path / "trained_on.json").read_text()


def trec(rows: str) -> str:
    """Lines "query / item item ..." as a tabbed run, scores falling."""
    lines = []
    for line in rows.strip().split("\n"):
        query, _, items = line.partition(" / ")
        lines += [f"{query}\tQ0\t{item}\t{n}\t{9 - n}.5\tsolr" for n, item in enumerate(items.split(), start=1)]
    return "\n".join(lines) + "\n"


def test_another_engines_run_is_scored_beside_ours(run, tmp_path: Path) -> None:
    """desk lamp: 2 (irrelevant), x (unknown), 1 (excellent): 7 / 2 of 7 + 3 / log2(3); red rug: 2 first, 1."""
    (tmp_path / "engine.trec").write_text(trec("Desk  LAMP / 2 x 1\nred rug / 2 3\nkettle / 1"))
    code, out, err = run("--systems", "lexical", "--run", tmp_path / "engine.trec", "--json")
    lexical, engine = json.loads(out)["systems"]
    assert code == 0 and (lexical["name"], engine["name"]) == ("lexical", "engine")
    desk = (7 / 2) / (7 + 3 / np.log2(3))
    assert engine["metrics"]["ndcg@10"]["value"] == pytest.approx((desk + 1) / 2)
    assert engine["notes"] == [
        "1 of its queries are not judged",
        "1 of its items are not in the index (1 of 5 results); they keep their places, unjudged",
    ]
    assert engine["missing_queries"] == 1 and engine["unjudged_share"] == pytest.approx((1 / 3 + 0) / 2)
    assert engine["against_first"]["ndcg@10"]["side_by_side"]["bad"] == 1
    names = [one["name"] for one in json.loads(run("--systems", "engine,lexical", "--run", tmp_path / "engine.trec",
                                                   "--json")[1])["systems"]]  # fmt: skip
    assert names == ["engine", "lexical"]


def test_a_run_on_judged_lists_gets_what_it_lacks_at_the_end(run, tmp_path: Path) -> None:
    """desk lamp: 3, then 1 and 2 which the run lacks, by id: (3 + 7 / log2(3)) / (7 + 3 / log2(3))."""
    (tmp_path / "engine.trec").write_text(trec("desk lamp / x 3\nred rug / 2 3"))
    given = ("--judged-only", "--systems", "lexical", "--run", tmp_path / "engine.trec", "--json")
    engine = json.loads(run(*given)[1])["systems"][1]
    desk = (3 + 7 / np.log2(3)) / (7 + 3 / np.log2(3))
    assert engine["metrics"]["ndcg@10"]["value"] == pytest.approx((desk + 1) / 2)
    assert "2 judged items are not in its results; they come last" in engine["notes"]


def test_queries_of_a_run_are_joined_by_id(run, tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("7 0 1 3\n7 0 2 0\n8 0 2 3\n8 0 3 1\n")
    (tmp_path / "topics.tsv").write_text("7\tdesk lamp\n8\tred rug\n")
    (tmp_path / "a.run.txt").write_text("7 Q0 1 1 2.0 t\n7 Q0 2 2 1.0 t\n8 Q0 3 1 0.9 t\n8 Q0 2 2 0.1 t\n")
    given = ("--judgements", tmp_path / "qrels.txt", "--queries", tmp_path / "topics.tsv", "--systems", "lexical")
    code, out, err = run(*given, "--run", tmp_path / "a.run.txt", "--json")
    engine = json.loads(out)["systems"][1]
    assert code == 0 and "read as trec" in err and engine["name"] == "a.run"
    red = (1 + 7 / np.log2(3)) / (7 + 1 / np.log2(3))
    assert engine["metrics"]["ndcg@10"]["value"] == pytest.approx((1 + red) / 2)
    code, out, err = run(*given[:2], "--systems", "lexical")
    assert code == 2 and "has query ids ('7', '8') and no query texts" in err


def test_every_querys_numbers(run, tmp_path: Path) -> None:
    (tmp_path / "engine.trec").write_text(trec("desk lamp / 2 x 1\nred rug / 2 3"))
    given = ("--systems", "random,lexical", "--run", tmp_path / "engine.trec", "--per-query")
    assert run(*given, tmp_path / "all.csv")[0] == run(*given, tmp_path / "all.parquet")[0] == 0
    table = pl.read_csv(tmp_path / "all.csv")
    assert table.columns[:6] == ["query_id", "query", "system", "results", "judged_results", "judged_items"]
    assert len(table) == 9 and table["system"].to_list()[:3] == ["random", "lexical", "engine"]
    desk = table.filter(pl.col("query") == "desk lamp", pl.col("system") == "engine").row(0, named=True)
    assert (desk["results"], desk["judged_results"], desk["judged_items"]) == (3, 2, 3)
    assert desk["ndcg@10"] == pytest.approx((7 / 2) / (7 + 3 / np.log2(3)))
    sofa = table.filter(pl.col("query") == "sofa", pl.col("system") == "engine").row(0, named=True)
    assert (sofa["results"], sofa["judged_results"], sofa["ndcg@10"]) == (0, 0, None)
    assert pl.read_parquet(tmp_path / "all.parquet")["mrr@10"].to_list() == table["mrr@10"].to_list()


def test_the_page_of_changed_queries(run, tmp_path: Path) -> None:
    """lexical has desk lamp 1 3 and red rug 2; the engine turns desk lamp round and is equal on red rug."""
    (tmp_path / "engine.trec").write_text(trec("desk lamp / <b>x</b> 2 1\nred rug / 2 3"))
    page = tmp_path / "pages" / "page.html"
    given = ("--systems", "lexical", "--run", tmp_path / "engine.trec", "--changes", page)
    assert (done := run(*given))[0] == 0, done
    html = page.read_text()
    assert "engine against lexical" in html and html.count("<details") == 1 and "red rug" not in html
    assert 'class="worse-query" open' in html and "0 better, 1 worse" in html
    desk = (7 / 2) / (7 + 3 / np.log2(3))
    assert f"1.000 → {desk:.3f}" in html and f"{desk - 1:+.3f}" in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html and "<b>x" not in html and "oak desk lamp" in html
    assert "not in the index" in html and ">excellent<" in html and ">unjudged<" in html
    assert "3 in engine" in html and "from 1</span>" in html  # item 1 is first in lexical and third in engine
    assert "http" not in html and "<script" not in html and "<link" not in html  # nothing from elsewhere


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("desk lamp Q0 1 1 2.0 t\n", "row 1, column (the whole row): expected 6 fields (query id, Q0, item id"),
        ("a Q0 1 1 x t\n", "row 1, column score: expected a number, found 'x'"),
        ("a Q0 1 1 nan t\n", "row 1, column score: expected a number, found 'nan'"),
        ("a Q0 1 1 2 t\na Q0 1 2 1 t\n", "row 2, column item_id: expected an item once a query; it is in row 1 too"),
        ("9 Q0 1 1 2.0 t\n", "none of its 1 queries is judged, by id or text: the run names ['9'], the judgements"),
    ],
)
def test_what_is_wrong_with_a_run_is_named(run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "engine.trec").write_text(text)
    code, out, err = run("--systems", "lexical", "--run", tmp_path / "engine.trec")
    assert code == 2 and out == "" and message in err and "engine.trec" in err


def test_wrong_use_of_runs_and_pages(run, tmp_path: Path) -> None:
    (tmp_path / "engine.trec").write_text(trec("desk lamp / 2 1"))
    (tmp_path / "hybrid.trec").write_text(trec("desk lamp / 2 1"))
    engine = ("--run", tmp_path / "engine.trec")
    cases = {
        ("--run", "absent.trec"): "no such file: absent.trec",
        (*engine, *engine): "'engine' is the name of another system; rename the file",
        ("--run", tmp_path / "hybrid.trec"): "'hybrid' is the name of another system",
        (*engine, "--systems", "solr"): "accepted: random, lexical, dense, hybrid, rules, judge, engine",
        (*engine, "--changes", "a.html"): "--compare OLD,NEW, two of random, lexical, engine",
        (*engine, "--changes", "a.html", "--compare", "random,engine"): "random is a mean of many orders",
        ("--compare", "random,lexical"): "--changes, which is not given",
        ("--changes", "a.txt"): "expected a name that ends in .html",
        ("--per-query", "a.txt"): "expected a name that ends in .csv or .parquet",
    }
    for arguments, message in cases.items():
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and message in err, (arguments, err)


def test_scores_count_and_ranks_break_their_ties(tmp_path: Path) -> None:
    lines = "q Q0 a 1 1.0 t\nq Q0 b 2 3.0 t\nr Q0 d 2 0 t\nr Q0 c 1 0 t\nr Q0 e 3 0 t\n"
    (tmp_path / "one.run").write_text("qid q0 docid rank score tag\n" + lines)
    opened = read_run(tmp_path / "one.run")
    assert opened.frame.rows() == [("q", "b", 1), ("q", "a", 2), ("r", "c", 1), ("r", "d", 2), ("r", "e", 3)]
    assert (opened.name, opened.contradicting) == ("one", 1)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_of_changed_queries_in_chromium(run, tmp_path: Path) -> None:
    """Nothing is wider than a phone, the two lists lie side by side or below one another, and the filter filters."""
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "engine.trec").write_text(trec("desk lamp / long-" + "x" * 200 + " 2 1\nred rug / 3 2\nsofa / 3"))
    page_file = tmp_path / "page.html"
    run("--systems", "lexical", "--run", tmp_path / "engine.trec", "--changes", page_file)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for width, beside in ((1280, True), (390, False)):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            old, new = (box.bounding_box() for box in page.locator("details").first.locator("section").all())
            assert (old["y"] == new["y"]) == beside
            assert page.locator("details:visible").count() == 2
            page.get_by_text("Up (0)").click()
            assert page.locator("details:visible").count() == 0
            page.get_by_text("Down (2)").click()
            assert page.locator("details:visible").count() == 2
            loaded = page.evaluate("performance.getEntriesByType('resource').length")
            assert loaded == 0  # the page itself is no resource
        browser.close()
