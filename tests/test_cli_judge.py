"""goodrate judge: what it writes, what it keeps, and that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from goodrate.api import judging
from goodrate.catalog.items import Catalog
from goodrate.cli import judge as verb
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.lm_judge import Card, write_lm_card
from goodrate.relevance.pair_file import read_pairs
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.tuning import tune
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.store import Store
from tiny_models import causal_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    lm = causal_lm()
    lm.save(folder)
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    write_lm_card(folder, Card(scale="four_level", label_token_ids=tokens, stop_token_id=1, max_new_tokens=4))
    return folder


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """The pairs that reach the model."""
    pairs: list[Pair] = []
    whole = CalibratedJudge.fresh_verdicts
    monkeypatch.setattr(
        CalibratedJudge, "fresh_verdicts", lambda self, given, *how: (pairs.extend(given), whole(self, given, *how))[1]
    )
    return pairs


def text_pair(query: str, text: str) -> Pair:
    return Pair(query, text_item(text))


def run(*arguments: str | Path) -> int | None:
    """The exit code that the command asks for, None for none."""
    return verb.command.main([str(a) for a in arguments], standalone_mode=False)


def pairs_file(folder: Path, count: int = 6) -> Path:
    path = folder / "pairs.csv"
    rows = [f"q{n % 2},lamp {n % 2},red lamp {n}" for n in range(count)]
    path.write_text("\n".join(["query_id,query,item_text", *rows]) + "\n")
    return path


def test_verdicts_in_the_order_of_the_pairs(model: Path, tmp_path: Path) -> None:
    pairs = pairs_file(tmp_path)
    run(pairs, "--model", model, "--out", tmp_path / "v.csv")
    written = pl.read_csv(tmp_path / "v.csv")
    expected = open_judge(model).pair_verdicts([text_pair(f"lamp {n % 2}", f"red lamp {n}") for n in range(6)])
    assert written["item_text"].to_list() == [f"red lamp {n}" for n in range(6)]
    assert written["query_id"].to_list() == ["q0", "q1"] * 3
    assert written["tier"].to_list() == [v.tier for v in expected]
    labels = ("irrelevant", "mismatch", "related", "excellent")
    assert written["label"].to_list() == [v.label for v in expected]
    for row, verdict in zip(written.iter_rows(named=True), expected, strict=True):
        p = verdict.probabilities
        # bf16 of another batch may round differently; a pair is judged in whatever batch it lands in.
        assert [row[f"p_{label}"] for label in labels] == pytest.approx(p, abs=0.02)
        gain = (p[1] + 3 * p[2] + 7 * p[3]) / 7  # gains 0, 1, 3, 7 over the largest
        assert row["expected_gain"] == pytest.approx(gain, abs=0.02)


def test_reasons_as_json_lines(model: Path, tmp_path: Path) -> None:
    run(pairs_file(tmp_path, 2), "--model", model, "--out", tmp_path / "v.jsonl", "--reasons")
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["item_text"] for row in rows] == ["red lamp 0", "red lamp 1"]
    # A random model writes nothing readable: the label stays, the reason's failure has a name.
    assert all(row["status"] == "ok" and row["reason_status"] not in (None, "ok") for row in rows)


def test_interrupted_and_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judging, "FIRST", 2)
    monkeypatch.setattr(judging, "BLOCK", 2)
    pairs, out = pairs_file(tmp_path, 10), tmp_path / "v.csv"
    blocks: list[int] = []
    whole = CalibratedJudge.fresh_verdicts

    def counted(self: CalibratedJudge, pairs: list[Pair], reasons: bool = False) -> list[Verdict]:
        if len(blocks) == 3:
            raise KeyboardInterrupt
        blocks.append(len(pairs))
        return whole(self, pairs, reasons)

    monkeypatch.setattr(CalibratedJudge, "fresh_verdicts", counted)
    assert run(pairs, "--model", model, "--out", out) == 130
    assert blocks == [2, 2, 2] and not out.exists()
    with VerdictStore(tmp_path / "verdicts.sqlite") as store:
        assert store.counts() == {"ok": 6}
    rest: list[int] = []
    monkeypatch.setattr(
        CalibratedJudge, "fresh_verdicts", lambda self, p, r=False: (rest.append(len(p)), whole(self, p, r))[1]
    )
    capsys.readouterr()
    run(pairs, "--model", model, "--out", out)
    assert sum(rest) == 4 and len(pl.read_csv(out)) == 10
    assert "10 pairs: 6 stored, 4 to judge" in capsys.readouterr().err
    before = out.read_bytes()
    rest.clear()
    run(pairs, "--model", model, "--out", out)  # all stored: nothing is judged, the file is the same
    assert sum(rest) == 0 and out.read_bytes() == before


def test_failures_are_not_low_grades(
    model: Path, tmp_path: Path, judged: list[Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"query": "lamp", "item_text": "lamp"}, {"query": "lamp " * 400, "item_text": "lamp"}]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(pairs, "--model", model, "--out", tmp_path / "v.csv")
    written = pl.read_csv(tmp_path / "v.csv")
    assert written["status"].to_list() == ["ok", "prompt_too_long"]
    assert written["label"][1] is None and written["tier"][1] is None and written["expected_gain"][1] is None
    assert "no verdict: prompt_too_long 1" in capsys.readouterr().err
    judged.clear()
    run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--missing")
    assert judged == []
    run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--retry-failed")
    assert judged == [text_pair(("lamp " * 400).strip(), "lamp")]


def test_texts_in_another_form_than_the_judge_reads_are_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(pairs_file(tmp_path, count=8), "--model", model, "--out", tmp_path / "v.csv")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: 8 of 8 (100%) item texts are not in the form that this judge was trained on (listing:" in said
    assert "item ids with --catalog or --index" in said


def test_item_ids_with_a_catalogue_and_facts(
    model: Path, tmp_path: Path, judged: list[Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.csv").write_text("id,title,price\na,red lamp,40\nb,oak chair,90\n")
    (tmp_path / "clicks.csv").write_text("q,sku\ncheaper than Velto,b\nlamp,a\nlamp,gone\n")
    (tmp_path / "facts.jsonl").write_text('{"name": "velto", "fact": "velto : price 50"}\n')
    options = ("--catalog", tmp_path / "items.csv", "--map", "query=q,item_id=sku", "--facts", tmp_path / "facts.jsonl")
    run(tmp_path / "clicks.csv", "--model", model, "--out", tmp_path / "v.csv", *options)
    texts = {("lamp", "red lamp ; price 40", ""), ("cheaper than Velto", "oak chair ; price 90", "velto : price 50")}
    reads = open_judge(model).inner.reads
    assert {(p.query, reads([p.item])[0], p.facts) for p in judged} == texts
    written = pl.read_csv(tmp_path / "v.csv")
    assert written["item_id"].to_list() == ["b", "a", "gone"]
    assert written["status"].to_list() == ["ok", "ok", "unknown_item"]
    assert "1 of 3 rows name an item that is not in the catalogue" in capsys.readouterr().err


@pytest.fixture
def calibrated(model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the judge, and 50 pairs of 12 queries: two without a label, two thirds with the one it would give."""
    folder, pairs = tmp_path / "judge", tmp_path / "dev.csv"
    shutil.copytree(model, folder)
    rows, given = dev_rows(), open_judge(model).pair_probabilities(dev_rows()).argmax(1).tolist()
    labels = ["" if n < 2 else str(1 + (label + (n % 3 == 0)) % 4) for n, label in enumerate(given)]  # "1": an alias
    lines = [f"{pair.query},{pair.item['text']},{label}\n" for pair, label in zip(rows, labels, strict=True)]
    pairs.write_text("query,item_text,label\n" + "".join(lines))
    return folder, pairs


def dev_rows() -> list[Pair]:
    return [text_pair(f"lamp {n % 12}", f"lamp {n}") for n in range(50)]


def test_calibration_is_written_into_the_card(
    model: Path, calibrated: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, pairs = calibrated
    run(pairs, "--model", folder, "--calibrate")
    before, after = read_judge_card(model), read_judge_card(folder)
    labels = [int(label) - 1 for label in pl.read_csv(pairs)["label"].drop_nulls().to_list()]
    expected = tune(open_judge(model), dev_rows()[2:], labels)
    former = {"temperature": before.temperature, "beta_cum": before.beta_cum}
    changed = {"temperature": expected.temperature, "tuning": expected.basis, "previous": former}
    assert after == replace(before, **changed)
    assert after.temperature != before.temperature and after.beta_cum == 0.5
    said = " ".join(capsys.readouterr().err.split())
    assert "48 labelled pairs" in said and "tier threshold (beta_cum) stays 0.50: it takes 200 pairs of 20" in said


def test_calibration_without_enough_labels_writes_nothing(calibrated: tuple[Path, Path]) -> None:
    folder, pairs = calibrated
    card = (folder / "judge.json").read_bytes()
    head = "query,item_text,label\n"
    cases = {
        head + "lamp,lamp,1\nlamp,lamp,E4\n": r"dev.csv, row 3, column label: expected a label of the scale",
        "query,item_text\nlamp,lamp\n": "needs a column label",
        head + "lamp,lamp,1\nlamp,chair,1\n": "it takes 40 pairs of 10 queries .* these are 2 of 1, 0 of another label",
        head + "".join(f"lamp {n % 12},lamp {n},1\n" for n in range(60)): "these are 60 of 12, 0 of another label",
        head + "".join(f"lamp {n % 12},lamp,{1 + 3 * (n % 2)}\n" for n in range(60)): "say nothing of these labels",
        head + "".join(f"lamp,lamp {n},{1 + n % 4}\n" for n in range(60)): "these are 60 of 1, 45 of another label",
    }
    for text, message in cases.items():
        pairs.write_text(text)
        with pytest.raises(ValueError, match=message):
            run(pairs, "--model", folder, "--calibrate")
        assert (folder / "judge.json").read_bytes() == card
    with pytest.raises(ValueError, match="give --out FILE"):
        run(pairs, "--model", folder)


def test_a_card_that_names_tokens_the_model_lacks_is_refused(calibrated: tuple[Path, Path], tmp_path: Path) -> None:
    folder, pairs = calibrated
    path = folder / "judge.json"
    whole = json.loads(path.read_text())
    for change in ({"label_token_ids": [1, 2, 3, 10**6]}, {"stop_token_id": 10**6}):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(ValueError, match=rf"judge.json: {next(iter(change))} 1000000: the model has tokens 0 to"):
            run(pairs, "--model", folder, "--out", tmp_path / "v.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,item_id\nlamp,a\n", "give --catalog FILE or --index DIR"),
        ("q,item_text\nlamp,a\n", "no column 'query'"),
        ("query,item_text\nlamp,\n", "row 2, column item_text: expected a text"),
    ],
)
def test_wrong_pairs_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(path)


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("query,item_text\nlamp,\nchair,oak\n")
    table = read_pairs(path, skip_bad=1)
    assert table.pairs == [text_pair("chair", "oak")] and [p.row for p in table.skipped] == [2]
    with pytest.raises(ValueError, match="none of the item ids"):
        path.write_text("query,item_id\nlamp,a\n")
        read_pairs(path, find_items=lambda ids: {})


def test_items_of_a_catalogue_with_names_of_its_own(model: Path, tmp_path: Path, judged: list[Pair]) -> None:
    (tmp_path / "feed.csv").write_text("sku,name,price\na,red lamp,40\nb,oak chair,90\n")
    (tmp_path / "clicks.csv").write_text("q,sku\nlamp,a\nlamp,b\n")
    options = ("--catalog", tmp_path / "feed.csv", "--map", "query=q,item_id=sku", "--out", tmp_path / "v.csv")
    with pytest.raises(ValueError, match="feed.csv.*no column 'id'"):
        run(tmp_path / "clicks.csv", "--model", model, *options)
    with pytest.raises(ValueError, match="--catalog-map names 'id' twice: 'sku' and 'name'"):
        run(tmp_path / "clicks.csv", "--model", model, *options, "--catalog-map", "id=sku,id=name")
    run(tmp_path / "clicks.csv", "--model", model, *options, "--catalog-map", "id=sku,title=name")
    assert {(p.item["id"], p.item["title"], p.item["price"]) for p in judged} == {
        ("a", "red lamp", 40.0), ("b", "oak chair", 90.0),
    }  # fmt: skip
    assert pl.read_csv(tmp_path / "v.csv")["item_id"].to_list() == ["a", "b"]


def test_an_index_brings_items_facts_and_texts(model: Path, tmp_path: Path, judged: list[Pair]) -> None:
    reader, index = tmp_path / "reader", tmp_path / "index"
    shutil.copytree(model, reader)
    write_lm_card(reader, replace(read_judge_card(model), contexts=1))  # type: ignore[arg-type]
    Store.create(index, None, None).upsert(Catalog(pl.DataFrame({"id": ["a"], "title": ["red lamp"]})), None)
    (index / "facts.jsonl").write_text('{"name": "velto", "fact": "velto : price 50"}\n')
    (index / "contexts.jsonl").write_text('{"id": "t", "text": "velto makes lamps"}\n')
    (tmp_path / "pairs.csv").write_text("query,item_id\nlamp of Velto,a\n")
    given = (tmp_path / "pairs.csv", "--out", tmp_path / "v.csv", "--index", index, "--model")
    run(*given, reader)
    assert [(p.item["title"], p.facts, p.context) for p in judged] == [
        ("red lamp", "velto : price 50", "velto makes lamps")
    ]
    judged.clear()
    run(*given, model)  # a judge that reads none is not told of them
    assert [(p.facts, p.context) for p in judged] == [("velto : price 50", None)]
    with pytest.raises(ValueError, match="give --catalog or --index, not both"):
        run(*given, model, "--catalog", tmp_path / "items.csv")


def test_wrong_options_are_named_before_anything_is_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.relevance.judge.open_judge", lambda folder: pytest.fail("a model is loaded"))
    pairs = pairs_file(tmp_path)
    with pytest.raises(ValueError, match="ends in .csv or .jsonl"):
        run(pairs, "--model", model, "--out", tmp_path / "v.xlsx")
    with pytest.raises(FileNotFoundError, match="judge.json: no such file; a judge is a folder with a judge.json"):
        run(pairs, "--model", tmp_path, "--out", tmp_path / "v.csv")
    shutil.copytree(model, tmp_path / "judge")  # as a training run leaves it
    with pytest.raises(FileNotFoundError, match="that of this run is .*judge$"):
        run(pairs, "--model", tmp_path, "--out", tmp_path / "v.csv")
    with pytest.raises(ValueError, match="--context-encoder e finds texts, and none are named"):
        run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--context-encoder", "e")
    with pytest.raises(ValueError, match="no column 'titel'"):
        run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--map", "titel=x")
    with pytest.raises(ValueError, match=r"texts are given \(t.csv\), and the judge .* reads none"):
        run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--contexts", "t.csv")
    with pytest.raises(FileNotFoundError, match="--facts: no file f.jsonl"):
        run(pairs, "--model", model, "--out", tmp_path / "v.csv", "--facts", "f.jsonl")
    with pytest.raises(FileNotFoundError, match="no such file: .*gone.csv"):
        run(tmp_path / "gone.csv", "--model", model, "--out", tmp_path / "v.csv")
