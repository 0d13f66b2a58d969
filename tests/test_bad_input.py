"""Wrong input through the real command line: exit code 2, a message that names it, and nothing half-written.

The readers' own refusals are in test_catalog_readers.py and test_catalog_judgements.py, those of settings in
test_settings.py, filters in test_retrieval_store.py, Ctrl-C in test_cli_interrupt.py.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from goodrate import cli
from goodrate.catalog.readers import read_catalog
from goodrate.models.encoder import Encoder
from goodrate.relevance.lm_judge import Card, write_lm_card
from goodrate.retrieval.store import Store
from tiny_models import causal_lm, tokenizer_file

Run = Callable[..., tuple[int, str]]
WORDS = ("lamp", "desk", "chair", "sofa", "kettle", "radio", "tent", "spoon", "glove", "clock", "scarf", "rug")
ITEMS = "id,title,price\na,red lamp,5\nb,blue desk,7\nc,oak chair,9\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, judgements, pairs, a file in the way, an encoder, and a judge that is also a base."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "items.csv").write_text(ITEMS)
    (folder / "labels.csv").write_text("query,item_id,label\n" + "".join(f"{q},a,4\n" for q in WORDS))
    (folder / "pairs.csv").write_text("query,item_text\nlamp,red lamp\n")
    (folder / "file").write_text("kept\n")
    Encoder.create(tokenizer_file(folder), hidden=16, layers=1, heads=2).save(folder / "encoder")
    lm = causal_lm()
    lm.save(folder / "judge")
    tokens = tuple(lm.encode(digit)[0] for digit in "1234")
    card = Card(scale="four_level", label_token_ids=tokens, stop_token_id=1, max_new_tokens=4)
    write_lm_card(folder / "judge", card)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Call goodrate with arguments; gives the exit code and stderr with its wrapping undone."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["goodrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
            sys.exit(0)
        return int(done.value.code or 0), " ".join(capfd.readouterr().err.split())

    return call


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


CATALOGUES: dict[str, tuple[bytes, str]] = {
    "missing id column.csv": (b"docid,title\na,x\n", "no column 'id'; nearest: 'docid'"),
    "missing id.csv": (b"id,title\n,x\nb,y\n", "row 2, column id: expected id to be filled"),
    "twice.csv": (b"id,title\na,x\na,y\n", "row 3, column id: expected a unique id; 'a' is also in row 2"),
    "empty title.csv": (b"id,title\na, \n", "row 2, column title: expected title to be filled"),
    "latin.csv": (b"id,title\na,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
    "bytes.jsonl": (b'{"id":"a","title":"\xff"}\n', "line 1: byte 0xff is not UTF-8"),
    "ragged.csv": (b"id,title\na,x,1\nb\n", "row 2, column (the whole row): expected 2 fields, found 3"),
    "no json.jsonl": (b'{"id":"a","title":"x"}\nno\n', "row 2, column (the whole row): expected a JSON object"),
    "no object.jsonl": (b'{"id":"a","title":"x"}\n3\n', "row 2, column (the whole row): expected a JSON object, found"),
    "minus.csv": (b"id,title,price\na,x,-1\n", "row 2, column price: expected a number such as 19.99, found '-1'"),
    "infinite.jsonl": (b'{"id":"a","title":"x","price":Infinity}\n', "row 1, column (the whole row): expected a JSON"),
    "text price.csv": (b"id,title,price\na,x,cheap\n", "row 2, column price: expected a number"),
    "header.csv": (b"id,title\n", "has no rows; columns: id, title"),
    "nothing.csv": (b"", "is empty; expected at least one row"),
    "nothing.parquet": (b"", "is empty; expected at least one row"),
    "cut.csv.gz": (gzip.compress(ITEMS.encode() * 50)[:-30], "is not a whole gzip file"),
    "cut.csv.zst": (zstandard.ZstdCompressor().compress(ITEMS.encode() * 50)[:-5], "is not a whole zstd file"),
}  # fmt: skip


def test_a_wrong_catalogue_leaves_the_index_as_it_was(run: Run, made: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert run("index", made / "items.csv", "--out", index)[0] == 0
    before = files(index)
    for name, (content, message) in CATALOGUES.items():
        (tmp_path / name).write_bytes(content)
        code, err = run("index", tmp_path / name, "--out", index)
        assert code == 2 and message in err and name in err and "Traceback" not in err, (name, err)
    (tmp_path / "folder.csv").mkdir()
    code, err = run("index", tmp_path / "folder.csv", "--out", index)
    assert code == 2 and "folder.csv is a folder; expected a file that ends in .csv, .tsv" in err
    assert files(index) == before


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("price", [[1.0], [2.0]], r"column price: expected texts or numbers, found List\(Float64\)"),
        ("price", [{"v": 1}, None], r"row 1, column price: expected a number .*found '\{\"v\":1\}'"),
        ("title", [[1], [2]], r"column title: expected texts or numbers, found List\(Int64\)"),
        ("id", [{"v": 1}, {"v": 2}], "row 1, column id: expected a text or a number, found an object"),
        ("id", [b"\xff", b"b"], "column id: expected texts or numbers, found Binary"),
        ("id", [1.0, float("nan")], "row 2, column id: expected id to be filled"),
        ("description", [[{"v": 1}], []], "column description: expected texts or numbers, found List"),
        ("attributes", [["red"], []], r'row 1, column attributes: expected an object .*found \'red\''),
        ("price", [True, False], "row 1, column price: expected a number"),
    ],
)  # fmt: skip
def test_parquet_columns_of_a_wrong_type(tmp_path: Path, column: str, values: list, message: str) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"id": ["a", "b"], "title": ["x", "y"], column: values}).write_parquet(path)
    with pytest.raises(ValueError, match=message) as caught:
        read_catalog(path)
    assert str(path) in str(caught.value)


def test_bytes_in_parquet_are_text_where_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    columns = {"id": [b"a"], "title": [b"lamp"], "color": [b"red"], "image": [b"\xff"], "more": [{"raw": b"\xff"}]}
    pl.DataFrame(columns).write_parquet(path)
    row = read_catalog(path).frame.row(0, named=True)
    assert (row["id"], row["title"], row["attributes"]) == ("a", "lamp", '{"color":"red"}')


def test_a_description_of_ten_megabytes_is_indexed(run: Run, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("id,title,description\na,red lamp," + "steel " * 1_700_000 + "\n")
    assert run("index", path, "--out", tmp_path / "index", "--encoder", made / "encoder")[0] == 0
    assert [hit.item_id for hit in Store.open(tmp_path / "index").search_text("steel", 5)] == ["a"]


def without_tokenizer(folder: Path) -> None:
    for path in [*folder.glob("tokenizer*"), *folder.glob("special*")]:
        path.unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "mod')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_tokenizer, "no tokenizer there; expected a tokenizer.json"),
        (cut_weights, "the weights are not whole"),
        (cut_tokenizer, "its tokenizer files cannot be read"),
    ],
)
def test_damaged_model_folders(run: Run, made: Path, tmp_path: Path, damage: Callable, message: str) -> None:
    for kind in ("encoder", "judge"):
        shutil.copytree(made / kind, tmp_path / kind)
        damage(tmp_path / kind)
    data = ("--set", f"data.catalog={made / 'items.csv'}", "--set", f"data.judgements={made / 'labels.csv'}")
    commands = {
        "encoder": ("index", made / "items.csv", "--out", tmp_path / "out", "--encoder", tmp_path / "encoder"),
        "judge": ("judge", made / "pairs.csv", "--out", tmp_path / "out.csv", "--model", tmp_path / "judge"),
        # A base that cannot be read must not bind the folder to data that may be changed next.
        "judge ": ("train", "judge_sft", "--out", tmp_path / "run", "--set", f"model={tmp_path / 'judge'}", *data),
    }
    for kind, command in commands.items():
        code, err = run(*command)
        assert code == 2 and f"{tmp_path / kind.strip()}: " in err and message in err and "Traceback" not in err, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "judge"]


def test_a_model_that_is_nowhere_is_named(run: Run, made: Path, tmp_path: Path) -> None:
    for name, message in (("nobody-has-this", "the Hugging Face hub "), ("./x", "./x: no such folder")):
        code, err = run("index", made / "items.csv", "--out", tmp_path / "index", "--encoder", name)
        assert code == 2 and name in err and message in err and not (tmp_path / "index").exists()


def test_an_out_that_is_a_file_stays(run: Run, made: Path) -> None:
    file = made / "file"
    for out in (file, file / "inside"):
        commands = (
            ("index", made / "items.csv", "--out", out),
            ("train", "judge_sft", "--out", out),
            ("shop", "--out", file, "--set", "items=200", "--set", "queries=30"),
            ("judge", made / "pairs.csv", "--model", made / "judge", "--out", file / "verdicts.csv"),
            ("evaluate", made / "nowhere", "--judgements", made / "labels.csv", "--plot", file / "plot.png"),
        )
        for command in commands:
            code, err = run(*command)
            assert code == 2 and f"{file} is a file" in err and "Traceback" not in err, (command, err)
    assert file.read_text() == "kept\n"


def test_searches_that_cannot_be(run: Run, made: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    run("index", made / "items.csv", "--out", index)
    assert "the query is empty" in run("search", index, " ")[1]
    for arguments, message in {
        ("lamp", "-k", "0"): "greater than or equal to 1",
        ("lamp", "-k", "100000000000"): "less than or equal to 1000000",
        ("lamp", "--where", "price = 'abc'"): "--where \"price = 'abc'\": Received literal",
        ("lamp", "--where", "nonsense sql"): "--where 'nonsense sql': Expected",
        ("", "--mode", "lexical"): "the query is empty",
    }.items():
        code, err = run("search", index, *arguments)
        assert code == 2 and message in err and ".rs:" not in err and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lamp,a,great\nlamp,b,5\n", "row 2, column label: expected one of irrelevant"),
        ("lamp,x,4\n", "none of the 1 judged items is in the catalogue"),
        ("lamp,a,4\nlamp,x,1\n", "1 of 2 judgements join the catalogue; 1 judged items are not in the catalogue"),
    ],
)
def test_judgements(run: Run, made: Path, tmp_path: Path, content: str, message: str) -> None:
    run("index", made / "items.csv", "--out", tmp_path / "index")
    (tmp_path / "labels.csv").write_text("query,item_id,label\n" + content)
    code, err = run("evaluate", tmp_path / "index", "--judgements", tmp_path / "labels.csv", "--systems", "lexical")
    assert message in err and code == (0 if "of 2" in message else 2)
    if "great" in content:  # every row may be left out, but then there is nothing to measure
        arguments = ("--judgements", tmp_path / "labels.csv", "--skip-bad", "2")
        assert "labels.csv has no usable row" in run("evaluate", tmp_path / "index", *arguments)[1]
    code, err = run("evaluate", tmp_path / "index", "--judgements", made / "items.csv")
    advice = "name it with --map query=COLUMN, in training --set data.judgements_map.query=COLUMN"
    assert code == 2 and err.endswith(f"no column 'query'; {advice}; columns: id, title, price")


def test_settings_of_a_training_run(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    for content, more, message in (
        ('modle = "nano"', (), "own.toml: unknown setting 'modle'; did you mean 'model'? known: model, "),
        ("batch_size = 'many'", (), "batch_size: Input should be a valid integer"),
        ("batch_size = 3", ("--set", "model"), "--set 'model': expected key=value"),
        ("batch_size = 3", ("--set", "fit.updats=2"), "did you mean 'fit.updates'? known in fit: fit.updates, "),
    ):
        config.write_text(content)
        code, err = run("train", "judge_sft", "--config", config, "--out", tmp_path / "run", *more)
        assert code == 2 and message in err and not (tmp_path / "run").exists(), err
