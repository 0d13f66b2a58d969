"""The verbs index and search, run as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calling import called
from goodrate.api.encoders import load_encoder
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
    monkeypatch.setattr("goodrate.api.encoders.load_encoder", lambda path, *how: LetterEncoder(path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *arguments)

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

    monkeypatch.setattr("goodrate.api.encoders.load_encoder", load_encoder)  # the real one
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


@pytest.fixture
def real_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small encoder in tmp_path/shop/encoder that is loaded as users' are; the working folder is tmp_path/shop."""
    from goodrate.models.encoder import Encoder
    from tiny_models import tokenizer_file

    monkeypatch.setattr("goodrate.api.encoders.load_encoder", load_encoder)
    (tmp_path / "shop").mkdir()
    (tmp_path / "elsewhere").mkdir()
    Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2).save(tmp_path / "shop" / "encoder")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop" / "encoder"


def searched(run, index: object, *more: object) -> tuple[int, str]:
    """Exit code and messages of a search by meaning, which needs the encoder."""
    code, _, err = run("search", index, "lamp", "--mode", "dense", "--json", *more)
    return code, err


def test_an_index_finds_its_encoder_from_everywhere_and_after_both_moved(
    run, feed: Path, tmp_path: Path, real_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("index", feed, "--out", "index", "--encoder", "encoder", "--map", "id=sku,title=name")[0] == 0
    assert json.loads(Path("index/store.json").read_text())["encoder"] == "../encoder"
    assert searched(run, "index") == (0, "")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert searched(run, "../shop/index") == searched(run, tmp_path / "shop" / "index") == (0, "")
    (tmp_path / "shop").rename(tmp_path / "moved")
    assert searched(run, tmp_path / "moved" / "index") == (0, "")
    (tmp_path / "moved" / "encoder").rename(tmp_path / "away")
    code, err = searched(run, "../moved/index")
    assert code == 2 and f"the encoder of ../moved/index is not found: there is no {tmp_path}/moved/encoder" in err
    assert "say where it lies with --encoder PATH" in err
    assert searched(run, "../moved/index", "--encoder", tmp_path / "away") == (0, "")


def test_an_encoder_far_away_is_remembered_absolutely_and_an_older_index_looks_from_the_working_folder(
    run, feed: Path, tmp_path: Path, real_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "elsewhere" / "index"
    assert run("index", feed, "--out", index, "--encoder", "encoder", "--map", "id=sku,title=name")[0] == 0
    manifest = json.loads((index / "store.json").read_text())
    assert manifest["encoder"] == str(real_encoder)
    (index / "store.json").write_text(json.dumps(manifest | {"encoder": "encoder"}))
    assert searched(run, index) == (0, "")
    real_encoder.rename(index / "encoder")  # the index's own comes first
    monkeypatch.chdir(tmp_path)
    assert searched(run, index) == (0, "")
    (index / "encoder").rename(tmp_path / "away")
    code, err = searched(run, index)
    assert code == 2 and "encoder: no such folder" in err and "say where it lies with --encoder PATH" in err


def test_where_an_encoder_lies_as_a_manifest_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from goodrate.retrieval.manifest import encoder_place, remembered_place

    monkeypatch.chdir(tmp_path)
    index = tmp_path / "runs" / "index"
    for place, said in {
        "runs/index/encoder": "./encoder", "runs/encoder": "../encoder", "runs/a/b": "../a/b",
        "far": str(tmp_path / "far"),
    }.items():  # fmt: skip
        (tmp_path / place).mkdir(parents=True)
        assert remembered_place(Path("runs/index"), place) == remembered_place(index, tmp_path / place) == said
        assert encoder_place(index, said) == str(tmp_path / place)
    assert remembered_place(index, "sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert encoder_place(index, "sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert remembered_place(index, object()) is None
    with pytest.raises(FileNotFoundError, match=f"there is no {index}/gone and no {tmp_path}/gone$"):
        encoder_place(index, "./gone")


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
    assert code == 2 and "no column named color" in err and "columns: price, rating (number), id, title, brand" in err
    assert "only mode lexical is possible" in run("search", index, "lamp", "--mode", "dense")[2]


def test_bad_rows_are_listed_even_when_tolerated(run, feed: Path, tmp_path: Path) -> None:
    feed.write_text(FEED + "4,cheap lamp,free,Kira\n")
    arguments = ("index", feed, "--out", tmp_path / "index", "--map", "id=sku,title=name")
    code, _, err = run(*arguments)
    assert code == 2 and "feed.csv, row 5, column price: expected a number such as 19.99, found 'free'" in err
    code, _, err = run(*arguments, "--skip-bad", 1)
    assert code == 0 and "1 bad rows left out" in err and "row 5, column price" in err and "3 added" in err


def test_how_prices_were_read_is_said_asked_and_shown(run, tmp_path: Path) -> None:
    path, index = tmp_path / "feed.csv", tmp_path / "index"
    path.write_text("id;title;price\n1;oak lamp;1.299\n2;red rug;5\n")
    code, _, err = run("index", path, "--out", index)
    assert code == 2 and not index.exists()
    assert f"{path}, column price: '1.299' (row 2) is 1.299 with a decimal point and 1299 with a decimal comma" in err
    code, _, err = run("index", path, "--out", index, "--decimal", "comma", "--currency", "eur")
    assert code == 0 and "price: decimal comma, EUR; '1.299' is 1299.00" in err
    assert "1,299.00 EUR" in run("search", index, "oak")[1]
    (item,) = json.loads(run("search", index, "oak", "--json")[1])["results"]
    assert (item["price"], item["currency"]) == (1299.0, "EUR")
    code, _, err = run("index", path, "--out", index, "--currency", "euros")
    assert code == 2 and "unknown currency 'euros'; expected an ISO 4217 code such as EUR" in err


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


def test_facets_and_filters_on_attributes(run, tmp_path: Path) -> None:
    path = tmp_path / "lamps.jsonl"
    rows = [
        {"id": str(n), "title": "lamp", "brand": brand, "price": 10.0 * n, "colour": colour}
        for n, (brand, colour) in enumerate([("HP", "Red"), ("hp", "red"), ("HP", ["Red", "blue"]), ("Kira", "green")])
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert run("index", path, "--out", tmp_path / "index")[0] == 0
    code, out, _ = run("search", tmp_path / "index", "lamp", "--facets", "--where", "attributes.colour = 'RED'")
    assert code == 0 and "HP 3" in out and "counted over 3 items" in out and "Colour" not in out  # all three are red
    asked = ("--facet", "attributes.colour", "--facet", "brand")
    code, out, _ = run("search", tmp_path / "index", "lamp", *asked, "--json")
    document = json.loads(out)
    colours, brands = document["facets"]
    assert [(value["value"], value["count"]) for value in colours["values"]] == [("Red", 3), ("blue", 1), ("green", 1)]
    assert brands["values"][0] == {"value": "HP", "count": 3, "where": "brand = 'HP'"} and document["counted"] == 4
    code, _, err = run("search", tmp_path / "index", "lamp", "--facet", "attributes.color")
    assert code == 2 and "no facet 'attributes.color'; the nearest: attributes.colour" in err
    code, _, err = run("search", tmp_path / "index", "lamp", "--where", "colour = 'red'")
    assert code == 2 and "no column named colour" in err and "the nearest: attributes.colour" in err
