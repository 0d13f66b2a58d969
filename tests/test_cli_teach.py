"""goodrate teach: what it writes, refuses and remembers; and that a judge is trained on what it wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from chat_server import chat_server
from goodrate import settings
from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.cli import main, teach
from goodrate.examples.data import TrainingData
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.examples.taught_reasons import TaughtReasons
from goodrate.recipes.judge_folder import write_judge
from goodrate.recipes.judge_runs import cited_book, policy_prompts
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair, text_item
from goodrate.relevance.rationale import Rationale, parse
from goodrate.relevance.rulebook import load_rulebook
from goodrate.teaching.chat_endpoint import Patience
from tiny_models import causal_lm

RIGHT = "4\nwants lamp\nfound lamp\ncategory lamp : lamp same\nchecks none\nverdict all_met\n"
KINDS = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def run(*arguments: object) -> int | None:
    """The exit code that the command asks for, None for none."""
    return teach.command.main([str(a) for a in arguments], standalone_mode=False)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Labels and catalogue: ten kinds, a red and a blue item of each, two queries a kind."""
    items = [
        {"id": f"{kind}-{colour}", "title": f"Velto {kind}", "price": 40, "color": colour}
        for kind in KINDS
        for colour in ("red", "blue")
    ]
    labels = [
        {"query": f"red {kind} {cue}".strip(), "item_id": f"{kind}-{colour}", "label": label}
        for kind in KINDS
        for cue in ("", "under 50")
        for colour, label in (("red", "excellent"), ("blue", "mismatch"))
    ]
    pl.DataFrame(items).write_csv(tmp_path / "items.csv")
    pl.DataFrame(labels).write_csv(tmp_path / "labels.csv")
    return tmp_path / "labels.csv", tmp_path / "items.csv"


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_per_row_with_steps_or_a_failure(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, items = files
    more = "red lamp,gone,excellent\nred lamp,lamp-red,\nlamp for camping,lamp-red,4\n"
    labels.write_text(labels.read_text() + more)
    run(labels, "--teacher", "template", "--catalog", items, "--out", tmp_path / "r.jsonl")
    lines = written(tmp_path / "r.jsonl")
    assert len(lines) == 43 and lines[3] == {
        "query": "red lamp under 50", "item_id": "lamp-blue", "label": "mismatch",
        "rationale": {
            "category": "lamp", "found_category": "lamp", "relation": "same", "rule": "requirement_failed",
            "wants": [{"attribute": "color", "value": "red", "strength": "must"},
                      {"attribute": "price", "value": "50", "strength": "below"}],
            "found": ["blue", "40"], "checks": ["conflict", "match"],
        },
        "silver": True, "teacher": "template", "rule_book": load_rulebook().hash, "failure": None,
    }  # fmt: skip
    assert [(line["item_id"], line["label"], line["failure"]) for line in lines[40:]] == [
        ("gone", None, "unknown_item"), ("lamp-red", None, "no_label"), ("lamp-red", "excellent", "words_unread")
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "40 of 43 rows have a reason (silver)" in said
    assert "no reason: words_unread 1, unknown_item 1, no_label 1" in said


def test_texts_without_a_catalogue(tmp_path: Path) -> None:
    rows = [("red lamp", "Velto lamp ; price 40 ; color red", 4), ("lamp", "Sono lamp ; color blue", 4)]
    pl.DataFrame(rows, schema=["q", "item_text", "grade"], orient="row").write_csv(tmp_path / "pairs.csv")
    mapping = ("--map", "query=q,label=grade")
    run(tmp_path / "pairs.csv", "--teacher", "template", "--out", tmp_path / "r.jsonl", *mapping)
    lines = written(tmp_path / "r.jsonl")
    assert [line["item_text"] for line in lines] == [text for _, text, _ in rows] and "item_id" not in lines[0]
    assert [line["rationale"]["rule"] for line in lines] == ["all_met", "all_met"]


def foreign(folder: Path) -> tuple[Path, Path]:
    """The same labels and catalogue with other column names, and labels from 0 to 3."""
    grades = {"excellent": 3, "mismatch": 1}
    labels = pl.read_csv(folder / "labels.csv").with_columns(pl.col("label").replace_strict(grades))
    labels.rename({"item_id": "docid", "label": "rating"}).write_csv(folder / "ratings.csv")
    items = pl.read_csv(folder / "items.csv").rename({"id": "sku", "title": "name"})
    items.write_csv(folder / "feed.csv")
    return folder / "ratings.csv", folder / "feed.csv"


def test_a_graded_scale_and_a_catalogue_with_names_of_its_own(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, items = foreign(files[0].parent)
    given = (labels, "--teacher", "template", "--catalog", items, "--out", tmp_path / "r.jsonl")
    given += ("--map", "item_id=docid,label=rating")
    with pytest.raises(ValueError, match=r"feed.csv.*no column 'id'"):
        run(*given, "--scale", "graded_0_3")
    with pytest.raises(ValueError, match="--catalog-map names 'id' twice"):
        run(*given, "--scale", "graded_0_3", "--catalog-map", "id=sku,id=name")
    with pytest.raises(ValueError, match="the rule book gives 4 labels .four_level., scale wands has 3"):
        run(*given, "--scale", "wands", "--catalog-map", "id=sku,title=name")
    with pytest.raises(ValueError, match="unknown scale 'stars'"):
        run(*given, "--scale", "stars", "--catalog-map", "id=sku,title=name")
    assert not (tmp_path / "r.jsonl").exists()
    run(*given, "--scale", "graded_0_3", "--catalog-map", "id=sku,title=name")
    lines = written(tmp_path / "r.jsonl")
    assert {(line["label"], line["rationale"]["rule"]) for line in lines} == {
        ("3", "all_met"), ("1", "requirement_failed"),
    }  # fmt: skip
    assert {line["rule_book"] for line in lines} == {load_rulebook().hash}  # its rules by place on the other scale


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "oracle", "--out", "r.jsonl"], "--teacher oracle: expected one of template, facts, endpoint"),
        (["--teacher", "template", "--out", "r.csv"], "--out r.csv: expected a name that ends in .jsonl"),
        (["--teacher", "endpoint", "--out", "r.jsonl"], "asking an endpoint needs --url"),
        (["--teacher", "endpoint", "--out", "r.jsonl", "--url", "http://x/v1"], "asking an endpoint needs --model"),
        (
            ["--teacher", "endpoint", "--out", "r.jsonl", "--url", "x", "--model", "m"],
            "--url x: expected an address that begins with http:// or https://",
        ),
        (
            ["--teacher", "endpoint", "--out", "r.jsonl", "--url", "http://x", "--model", "m", "--key-env", "NO_SUCH"],
            "--key-env NO_SUCH: that environment variable is not set",
        ),
        (
            ["--teacher", "endpoint", "--out", "r.jsonl", "--url", "http://x", "--model", "m", "--max-cost", "1"],
            "--max-cost needs --price-prompt and --price-answer",
        ),
        (["--teacher", "template", "--out", "r.jsonl", "--rules", "no.toml"], "no.toml"),
        (["--teacher", "template", "--out", "r.jsonl"], "has item ids and no column 'item_text': give --catalog"),
    ],
)
def test_bad_options_exit_2_and_write_nothing(
    files: tuple[Path, Path], arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["goodrate", "teach", str(files[0]), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv", "labels.csv"]


def test_bad_rows_name_file_row_and_column(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, items = files
    out = tmp_path / "r.jsonl"
    labels.write_text(labels.read_text() + "red lamp,lamp-red,nice\n")
    with pytest.raises(ValueError, match=r"labels.csv, row 42, column label: expected a label of the scale; .*'nice'"):
        run(labels, "--teacher", "template", "--catalog", items, "--out", out)
    labels.write_text("query,item_id\nlamp,lamp-red\n")
    with pytest.raises(ValueError, match="no row has a label; name its column with --map label=COLUMN"):
        run(labels, "--teacher", "template", "--catalog", items, "--out", out)
    assert not out.exists()
    labels.write_text("query,item_id,label\ncamping,lamp-red,4\n")
    with pytest.raises(ValueError, match=r"no pair got a reason \(words_unread 1\)"):
        run(labels, "--teacher", "template", "--catalog", items, "--out", out)
    assert written(out)[0]["failure"] == "words_unread"  # the file says of each why


def test_an_endpoint_is_asked_up_to_its_cap_and_then_no_more(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, items = files
    monkeypatch.setenv("BIG_KEY", "secret")
    right = [line for line in labels.read_text().splitlines() if not line.endswith("mismatch")][:6]
    labels.write_text("\n".join(right) + "\n")  # five excellent pairs
    with chat_server(lambda body, number: RIGHT) as server:
        given = (
            labels,
            "--teacher",
            "endpoint",
            "--catalog",
            items,
            "--out",
            tmp_path / "r.jsonl",
            "--url",
            server.url,
        )
        given += ("--model", "big", "--key-env", "BIG_KEY", "--concurrency", 1, "--max-answer-tokens", 50)
        # 650 tokens an answer; more is reserved for a request than it costs, so 2000 is enough for two and not for four
        run(*given, "--max-tokens-total", 2000)
        first = written(tmp_path / "r.jsonl")
        asked = len(server.requests)
        assert 1 <= asked <= 3 and set(server.keys) == {"Bearer secret"}
        assert [line["failure"] for line in first] == [None] * asked + ["cost_cap"] * (5 - asked)
        said = " ".join(capsys.readouterr().err.split())  # the console breaks lines
        assert f"{5 - asked} pairs were not asked to the end; raise it and give the same command again" in said
        assert "secret" not in said + (tmp_path / "r.jsonl").read_text()
        run(*given, "--price-prompt", 2, "--price-answer", 8)
        assert len(server.requests) == 5
        # 5 answers of 600 + 50 tokens: (3000 x 2 + 250 x 8) / 10^6 = 0.008
        assert "3,000 prompt and 250 answer tokens, cost 0.008" in " ".join(capsys.readouterr().err.split())
        whole = (tmp_path / "r.jsonl").read_bytes()
        run(*given)
        assert len(server.requests) == 5 and (tmp_path / "r.jsonl").read_bytes() == whole
    lines = written(tmp_path / "r.jsonl")
    assert {line["teacher"] for line in lines} == {"endpoint:big"} and all(line["rationale"] for line in lines)
    assert (tmp_path / "verdicts.sqlite").is_file()


def test_an_endpoint_that_is_down_exits_2(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.teaching.chat_endpoint.Patience", lambda timeout: Patience(2, 0.01, timeout))
    with chat_server(lambda body, number: (500, {})) as server:
        given = ("--teacher", "endpoint", "--catalog", files[1], "--out", tmp_path / "r.jsonl", "--url", server.url)
        with pytest.raises(ValueError, match=r"no pair got a reason \(endpoint_down 3\d, http_500 \d"):
            run(files[0], *given, "--model", "big")


def test_an_interrupted_run_keeps_what_was_answered(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from goodrate.teaching import asking

    labels, items = files
    labels.write_text("query,item_id,label\nlamp,lamp-red,4\nlamp,lamp-blue,4\n")
    gathered = asking._gathered

    def stopped(*arguments: Any) -> None:
        gathered(*arguments)
        raise KeyboardInterrupt

    with chat_server(lambda body, number: RIGHT) as server:
        given = (labels, "--teacher", "endpoint", "--catalog", items, "--url", server.url, "--model", "big")
        monkeypatch.setattr(asking, "_gathered", stopped)
        assert run(*given, "--out", tmp_path / "r.jsonl") == 130 and not (tmp_path / "r.jsonl").exists()
        monkeypatch.setattr(asking, "_gathered", gathered)
        run(*given, "--out", tmp_path / "r.jsonl")
        assert len(server.requests) == 2 and len(written(tmp_path / "r.jsonl")) == 2


# ---- training on it


def taught(files: tuple[Path, Path], out: Path) -> dict[str, Any]:
    """Data settings with the reasons of the template."""
    labels, items = files
    run(labels, "--teacher", "template", "--catalog", items, "--out", out)
    return {"catalog": str(items), "judgements": str(labels), "rationales": str(out)}


def test_reasons_meet_training_pairs(files: tuple[Path, Path], tmp_path: Path) -> None:
    given = taught(files, tmp_path / "r.jsonl")
    data = load_data(DataSettings(**given, dev_share=0.2, test_share=0.2))
    pairs = data.training_pairs()
    assert len(pairs) == 24 and all(p.reason and p.reason.label == p.label and p.weight == 0.5 for p in pairs)
    # 40 reasons, 24 of training pairs
    assert data.notes[-2:] == (
        "24 of 24 training pairs have a reason (24 silver)", "16 reasons match no training pair"
    )  # fmt: skip
    assert all(pair.reason is None and pair.weight == 1.0 for pair in data.pairs("dev"))
    quarter = load_data(DataSettings(**given, silver_weight=0.25))
    assert {pair.weight for pair in quarter.pairs("train")} == {0.25}


def test_gold_reasons_weigh_one_and_other_labels_are_left_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    given = taught(files, path)
    lines = written(path)
    gold = [{**line, "silver": False} for line in lines if line["label"] == "mismatch"]
    other = [{**line, "label": "related"} for line in lines if line["label"] == "excellent"]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*gold, *other]))
    data = load_data(DataSettings(**given, dev_share=0.2, test_share=0.2))
    weights = {(pair.label, pair.weight, pair.reason is None) for pair in data.pairs("train")}
    assert weights == {(1, 1.0, False), (3, 1.0, True)}
    assert data.notes[-3] == "12 of 24 training pairs have a reason (0 silver)"
    assert data.notes[-1] == "12 reasons are of another label than the judgement"


def test_reasons_that_cannot_be_used(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    given = taught(files, path)
    lines = written(path)

    def refused(changed: list[dict[str, Any]]) -> str:
        path.write_text("".join(json.dumps(line) + "\n" for line in changed))
        with pytest.raises(ValueError) as raised:
            load_data(DataSettings(**given))
        return str(raised.value)

    assert "none of the 40 reasons" in refused([{**line, "item_id": "x"} for line in lines])
    assert "query 'red lamp' and item 'x'" in refused([{**line, "item_id": "x"} for line in lines])
    assert "all 32 reasons that match are of another label" in refused([{**line, "label": "related"} for line in lines])
    assert "holds no reason, only failures" in refused([{**line, "rationale": None} for line in lines])
    assert "cites several rule books: a, b" in refused([{**lines[n], "rule_book": "ab"[n % 2]} for n in range(4)])
    with pytest.raises(FileNotFoundError, match="write it with: goodrate teach"):
        load_data(DataSettings(**{**given, "rationales": str(tmp_path / "absent")}))


def test_weights_reach_the_examples() -> None:
    steps = Rationale(3, "lamp", (), "lamp", (), "same", (), "all_met")
    pair = JudgedPair("lamp", text_item("lamp"), label=3, reason=steps, weight=0.5)
    (prompt,), _ = judge_prompts(causal_lm(), [pair], JudgeFormat(max_new_tokens=64), label_completions=True)
    assert prompt.weight == 0.5 and parse(prompt.completion or "").rationale == steps


def test_a_judge_is_trained_on_taught_reasons(files: tuple[Path, Path], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    causal_lm().save(tmp_path / "base")
    data = taught(files, tmp_path / "r.jsonl")
    given = ["fit.updates=2", "batch_size=4", f"model={tmp_path / 'base'}", "format.max_new_tokens=64"]
    given += [f"data.{name}={path}" for name, path in data.items()]
    chosen = settings.load(settings_with_data("judge_sft"), None, given)
    outcome = run_from_settings("judge_sft", chosen, tmp_path / "run")
    assert read_judge_card(outcome.folder).rule_book_hash == load_rulebook().hash
    assert "32 of 32 training pairs have a reason (32 silver)" in outcome.notes


def test_a_judge_on_a_graded_scale_is_trained_on_reasons_and_an_index(files: tuple[Path, Path], tmp_path: Path) -> None:
    from goodrate.cli import index

    torch.set_num_threads(1)
    causal_lm().save(tmp_path / "base")
    labels, items = foreign(files[0].parent)
    index.command.main(
        [str(items), "--out", str(tmp_path / "index"), "--map", "id=sku,title=name"], standalone_mode=False
    )
    mapping = ("--map", "item_id=docid,label=rating", "--scale", "graded_0_3", "--index", tmp_path / "index")
    run(labels, "--teacher", "template", "--out", tmp_path / "r.jsonl", *mapping)
    given = ["fit.updates=2", "batch_size=4", f"model={tmp_path / 'base'}", "format.max_new_tokens=64"]
    given += ["data.scale=graded_0_3", "format.scale=graded_0_3", f"data.rationales={tmp_path / 'r.jsonl'}"]
    given += [f"data.index={tmp_path / 'index'}", f"data.judgements={labels}"]
    given += ["data.judgements_map.item_id=docid", "data.judgements_map.label=rating"]
    chosen = settings.load(settings_with_data("judge_sft"), None, given)
    outcome = run_from_settings("judge_sft", chosen, tmp_path / "run")
    card = read_judge_card(outcome.folder)
    assert (card.scale, card.rule_book_hash) == ("graded_0_3", load_rulebook().hash)
    assert "32 of 32 training pairs have a reason (32 silver)" in outcome.notes


def test_the_book_of_taught_reasons_must_be_at_hand(files: tuple[Path, Path]) -> None:
    own = Path(__file__).parents[1] / "examples" / "rules.toml"
    book, package = load_rulebook(own).hash, load_rulebook().hash
    plain = load_data(DataSettings(judgements=str(files[0]), catalog=str(files[1])))

    def citing(rule_book: str) -> TrainingData:
        return replace(plain, taught=TaughtReasons({}, rule_book, ()))

    assert cited_book(JudgeFormat(), citing(package)) == package
    assert cited_book(JudgeFormat(rule_book=own), citing(book)) == book
    with pytest.raises(
        ValueError, match=f"data.rationales cites rule book {book}: name its file with format.rule_book"
    ):
        cited_book(JudgeFormat(), citing(book))
    with pytest.raises(ValueError, match=f"the book of data.rationales {package}"):
        cited_book(JudgeFormat(rule_book=own), citing(package))


def test_steps_and_judge_have_to_follow_one_book(files: tuple[Path, Path], tmp_path: Path) -> None:
    path, judge, out = tmp_path / "r.jsonl", str(tmp_path / "judge"), tmp_path / "run"
    about = DataSettings(**taught(files, path))
    lines = written(path)
    form = JudgeFormat(order="reason_first", rule_book_hash=load_rulebook().hash, max_new_tokens=64)
    write_judge(causal_lm(), form, Path(judge))

    def refused(changed: list[dict[str, Any]]) -> str:
        path.write_text("".join(json.dumps(line) + "\n" for line in changed))
        with pytest.raises(ValueError) as raised:
            policy_prompts(judge, load_data(about), out)
        return str(raised.value)

    assert f"rule book deadbeef0000, the judge {judge} {form.rule_book_hash}" in refused(
        [{**line, "rule_book": "deadbeef0000"} for line in lines]
    )
    lines[0]["rationale"]["rule"] = "no_such_rule"
    message = refused(lines)
    assert f"{path}: 1 reasons state a rule" in message and message.endswith("found 'no_such_rule'")
    assert repr(lines[0]["query"]) in message
    assert not (out / "data" / "settings.toml").exists()  # what cannot start binds no folder


def test_bad_rows_of_reasons_are_tolerated_when_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    given = taught(files, path)
    path.write_text(path.read_text() + "[1]\n")
    with pytest.raises(ValueError, match=r"r.jsonl has 1 bad row .*data.skip_bad = N"):
        load_data(DataSettings(**given))
    assert load_data(DataSettings(**given, skip_bad=1)).notes[-1] == "1 bad rows of reasons skipped"
