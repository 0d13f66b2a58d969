"""The verbs index and search, run as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from goodrate import cli
from goodrate.api.index import load_encoder
from goodrate.cli.terminal import parse_mapping
from goodrate.relevance.facts import FactBook

FEED = "sku,name,price,brand\n1,oak desk lamp,20,Kira\n2,red wool rug,50,Velto\n3,[bold]brass[/bold] lamp,35,Kira\n"


class LetterEncoder:
    """A fake for models.encoder.Encoder: letter counts, normalised."""

    dimension = 26

    def __init__(self, path: str) -> None:
        self.fingerprint = f"letters-{Path(path).name}"

    def encode_items(self, texts: list[str]) -> np.ndarray:
        letters = "abcdefghijklmnopqrstuvwxyz"
        counts = np.array([[text.count(letter) for letter in letters] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    encode_queries = encode_items


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call goodrate with arguments; gives (exit code, stdout, stderr with its wrapping undone)."""
    monkeypatch.setattr("goodrate.api.index.load_encoder", lambda path, *how: LetterEncoder(path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["goodrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return done.value.code or 0, out, " ".join(err.split())

    return call


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.csv"
    path.write_text(FEED)
    return path


def test_index_search_update_remove(run, feed: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    code, _, err = run("index", feed, "--out", index, "--map", "id=sku,title=name")
    assert code == 0 and "3 added, 0 changed, 0 unchanged; 0 encoded" in err
    code, out, _ = run("search", index, "lamp", "--where", "price < 30", "--json")
    document = json.loads(out)
    assert code == 0 and [row["id"] for row in document["results"]] == ["1"]
    assert document["results"][0]["channels"]["lexical"]["rank"] == 1
    feed.write_text(FEED.replace("50", "45"))
    assert "0 added, 1 changed, 2 unchanged" in run("index", feed, "--out", index, "--map", "id=sku,title=name")[2]
    assert "removed 1 of 2 ids; 2 items left" in run("index", "--out", index, "--remove", "2,77")[2]
    code, out, _ = run("search", index, "lamp")
    assert "[bold]brass[/bold] lamp" in out and "35.00" in out  # markup in a title is text
    assert "nothing found for sofa" in run("search", index, "sofa")[1]


def test_an_index_of_cut_vectors_is_searched_with_cut_vectors(
    run, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.store import Store
    from tiny_models import tokenizer_file

    monkeypatch.setattr("goodrate.api.index.load_encoder", load_encoder)  # the real one
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "encoder")
    index, told = tmp_path / "index", ("--map", "id=sku,title=name")
    wanted = ("--encoder", tmp_path / "encoder", "--dimensions", 4)
    assert "3 encoded" in run("index", feed, "--out", index, *told, *wanted)[2]
    assert Store.open(index).dimension == 4
    code, out, _ = run("search", index, "oak desk lamp", "--mode", "dense", "--json")
    assert code == 0 and len(json.loads(out)["results"]) == 3
    assert "3 unchanged; 0 encoded" in run("index", feed, "--out", index, *told)[2]
    code, _, err = run("index", feed, "--out", index, *told, "--dimensions", 8)
    assert code == 2 and "has vectors of 4 floats; for 8 make another index" in err
    code, _, err = run("index", feed, "--out", tmp_path / "words", *told, "--dimensions", 8)
    assert code == 2 and "give one with --encoder" in err


def test_an_encoder_is_remembered_and_another_refused(run, feed: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    arguments = ("index", feed, "--out", index, "--map", "id=sku,title=name")
    assert "3 encoded" in run(*arguments, "--encoder", "hub/one")[2]
    assert "0 encoded" in run(*arguments)[2]  # the remembered encoder, nothing to do
    rows = json.loads(run("search", index, "lamp", "--json")[1])["results"]
    assert len(rows) == 3 and set(rows[0]["channels"]) == {"lexical", "dense"}
    code, _, err = run(*arguments, "--encoder", "hub/two")
    assert code == 2 and "made with encoder letters-one (hub/one), not with encoder letters-two" in err
    assert run("search", index, "lamp", "--encoder", "hub/two")[0] == 2


def test_wrong_use_exits_2_with_one_clear_message(run, feed: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    cases = {
        ("index", "--out", index): "give a CATALOG to index, or --remove IDS",
        ("index", "nowhere.csv", "--out", index): "no such file: nowhere.csv",
        (
            "index",
            feed,
            "--out",
            index,
        ): "no column 'id'; nearest: 'sku' (--map id=sku, in training --set data.",
        ("index", feed, "--out", index, "--map", "id:sku"): "--map expects OURS=THEIRS",
        ("index", feed, "--out", index, "--map", "id=sku,id=name"): "--map names 'id' twice: 'sku' and 'name'",
        ("index", feed, "--out", feed.parent, "--map", "id=sku,title=name"): "is not empty and holds no index",
        ("index", "--out", index, "--remove", "1"): "no index in",
        ("search", index, "lamp"): "no index in",
    }
    for arguments, message in cases.items():
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and message in err, (arguments, err)
        assert "Traceback" not in err and not index.exists()
    run("index", feed, "--out", index, "--map", "id=sku,title=name")
    code, _, err = run("search", index, "lamp", "--where", "color = 'red'")
    assert code == 2 and "no column named color; columns: id, title, brand, category, price, rating" in err
    assert "only mode lexical is possible" in run("search", index, "lamp", "--mode", "dense")[2]


def test_bad_rows_are_listed_even_when_tolerated(run, feed: Path, tmp_path: Path) -> None:
    feed.write_text(FEED + "4,cheap lamp,free,Kira\n")
    arguments = ("index", feed, "--out", tmp_path / "index", "--map", "id=sku,title=name")
    code, _, err = run(*arguments)
    assert code == 2 and "feed.csv, row 5, column price: expected a number such as 19.99, found 'free'" in err
    code, _, err = run(*arguments, "--skip-bad", 1)
    assert code == 0 and "1 bad rows left out" in err and "row 5, column price" in err and "3 added" in err


def test_facts_beside_the_catalogue_go_into_the_index(run, feed: Path, tmp_path: Path) -> None:
    index, facts = tmp_path / "index", feed.parent / "facts.jsonl"
    arguments = ("index", feed, "--out", index, "--map", "id=sku,title=name")
    facts.write_text('{"name": "velto 3"}\n')
    code, _, err = run(*arguments)
    assert code == 2 and "facts.jsonl, row 1: expected" in err and not index.exists()
    facts.write_text('{"name": "velto 3", "fact": "velto 3 : price 40"}\n')
    code, _, err = run(*arguments)
    assert code == 0 and f"facts on names in queries: {facts}" in err
    assert FactBook.load(index / "facts.jsonl").of("cheaper than velto 3") == "velto 3 : price 40"
    facts.unlink()
    assert "facts on names" not in run(*arguments)[2] and (index / "facts.jsonl").is_file()  # it keeps what it has


def test_mapping_text() -> None:
    assert parse_mapping(None) is None
    assert parse_mapping("id=a b,title = c=d") == {"id": "a b", "title": "c=d"}
    with pytest.raises(ValueError, match="expects OURS=THEIRS"):
        parse_mapping("id=")
    with pytest.raises(ValueError, match="--map names 'id' twice: 'sku' and 'ean'"):
        parse_mapping("id=sku,title=name,id=ean")
    with pytest.raises(ValueError, match="--catalog-map names 'id' twice"):
        parse_mapping("id=sku, id =sku", "--catalog-map")
