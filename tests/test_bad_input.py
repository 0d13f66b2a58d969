"""Wrong input through the real command line: exit code 2, a message that names it, and nothing half-written.

The second half is every reader against files that nobody meant to write: a row there is a command, the name and the
content of the file that it reads, and what its message must say. The readers' own refusals are in
test_catalog_readers.py and test_catalog_judgements.py, those of settings in test_settings.py, filters in
test_retrieval_filters.py, Ctrl-C in test_cli_interrupt.py.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import zstandard

from calling import called
from goodrate import cli, strict_json
from goodrate.catalog.items import Catalog
from goodrate.catalog.readers import read_catalog
from goodrate.models.encoder import Encoder
from goodrate.models.pretrained import got_from_hub
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
        code, _, err = called(monkeypatch, capfd, *arguments)
        return code, err

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
    "cut.csv.gz": (gzip.compress(ITEMS.encode() * 50, mtime=0)[:-30], "is not a whole gzip file"),
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
        ("attributes", [["red"], []], r'row 1, column attributes: expected an object .*found \'\["red"\]\''),
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
        ("lamp", "--where", "price = 'abc'"): "column 'price' is compared with a number, found 'abc'",
        ("lamp", "--where", "nonsense sql"): "filter 'nonsense sql': no column named nonsense",
        ("", "--mode", "lexical"): "the query is empty",
    }.items():
        code, err = run("search", index, *arguments)
        assert code == 2 and message in err and ".rs:" not in err and "Traceback" not in err, err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lamp,a,great\nlamp,b,5\n", "labels.csv: the labels '5', 'great' are on none of the known scales"),
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
        named = ("--judgements", tmp_path / "labels.csv", "--scale", "four_level")
        assert "row 2, column label: expected one of irrelevant" in run("evaluate", tmp_path / "index", *named)[1]
        arguments = (*named, "--skip-bad", "2")
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


DEEP, DIGITS, NAN = "[" * 3000 + "]" * 3000, "9" * 5000, "NaN; JSON has no such number"
LEVELS, TOO_LONG, DOUBLED = "more than 100 levels", "a whole number of 5,000 digits", "occurs twice in one object"
LATIN, WHOLE = (
    "line 1: byte 0xe9 is not UTF-8",
    "row 1, column (the whole row): expected a JSON object: not valid JSON: ",
)
Command = Callable[[Path, Path, Path], tuple[object, ...]]
Row = tuple[str, str, bytes | str, str]
# command -> its arguments, from the folder of good files, the bad file and the place for output.
COMMANDS: dict[str, Command] = {
    "index": lambda good, bad, out: ("index", bad, "--out", out),
    "remove": lambda good, bad, out: ("index", "--out", good / "index", "--remove", f"@{bad}"),
    "contexts": lambda good, bad, out: ("index", beside(bad, good / "items.csv"), "--out", out),
    "evaluate": lambda good, bad, out: ("evaluate", good / "index", "--judgements", bad, "--systems", "lexical"),
    "judge": lambda good, bad, out: ("judge", bad, "--model", good / "judge", "--out", out / "v.csv"),
    "judge ids": lambda good, bad, out: (*COMMANDS["judge"](good, bad, out), "--index", good / "index"),
    "facts": lambda good, bad, out: (*COMMANDS["judge"](good, good / "pairs.csv", out), "--facts", bad),
    "teach": lambda good, bad, out: (
        "teach", good / "labelled.csv", "--teacher", "template", "--out", out / "t.jsonl", "--rules", bad),
    "config": lambda good, bad, out: ("train", "judge_sft", "--config", bad, "--out", out),
    "reasons": lambda good, bad, out: (
        "train", "judge_sft", "--out", out, "--set", f"model={good / 'judge'}", "--set", "fit.updates=1",
        "--set", f"data.catalog={good / 'items.csv'}", "--set", f"data.judgements={good / 'labels.csv'}",
        "--set", f"data.rationales={bad}"),
    "curves": lambda good, bad, out: ("curves", bad.parent, "--out", out / "curves.png"),
}  # fmt: skip


def beside(bad: Path, catalog: Path) -> Path:
    """A good catalogue in the folder of a bad file."""
    return Path(shutil.copy(catalog, bad.parent))


def item(**values: Any) -> str:
    """A line of a catalogue."""
    return json.dumps({"id": "a", "title": "lamp", **values}) + "\n"


def no_text(column: str, found: str, row: int = 1) -> str:
    return f"row {row}, column {column}: expected a text or a number, found {found}"


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


ITEM_ROWS: list[Row] = [
    ("index", "items.csv", "id,title,pri\rce\na,x,1\n", "row 1: no header that can be read: a carriage return inside"),
    ("index", "items.csv", '"id,title\na,x\n', "is not a table separated by"),
    ("index", "items.csv", f"id,title,{'x' * 200_000}\na,x,1\n", "a name of more than 131,072 characters"),
    ("index", "items.csv", "id,title,price\na,x," + DIGITS + "\n", "row 2, column price: expected a number"),
    ("index", "items.csv", 'id,title,attributes\na,x,"{""c"": NaN}"\n', "row 2, column attributes: expected an"),
    ("index", "items.csv", 'id,title,attributes\na,x,"{""c"": 1, ""c"": 2}"\n', f"key 'c' {DOUBLED}"),
    ("index", "items.csv", f'id,title,attributes\na,x,"{{""c"": {DEEP}}}"\n', LEVELS),
    ("index", "items.csv", f'id,title,attributes\na,x,"{{""c"": {DIGITS}}}"\n', TOO_LONG),
    ("index", "items.jsonl", '{"id":"a","title":"x","title":"y"}\n', f"{WHOLE}key 'title' {DOUBLED}"),
    ("index", "items.jsonl", '{"id":"a","title":"x","attributes":{"c":1,"c":2}}\n', f"{WHOLE}key 'c' {DOUBLED}"),
    ("index", "items.jsonl", '{"id":"a","title":"x","c":NaN}\n', f"{WHOLE}{NAN}"),
    ("index", "items.jsonl", '{"id":"a","title":"x","c":[-Infinity]}\n', f"{WHOLE}-Infinity"),
    ("index", "items.jsonl", '{"id":"a","title":"x","c":1e999}\n', f"{WHOLE}the number 1e999 is too large"),
    ("index", "items.jsonl", f'{{"id":{DIGITS},"title":"x"}}\n', f"{WHOLE}{TOO_LONG}"),
    ("index", "items.jsonl", f'{{"id":"a","title":"x","c":{DEEP}}}\n', f"{WHOLE}{LEVELS}"),
    ("index", "items.jsonl", '{"id":"a\\ud800","title":"x"}\n', f"{WHOLE}half of a surrogate pair"),
    ("index", "items.jsonl", '[{"id":"a","title":"x"}]\n', "expected a JSON object, found a list"),
    ("index", "items.jsonl", item() + item(id=[1]), no_text("id", "a list", 2)),
    ("index", "items.jsonl", item(id={}), no_text("id", "an object")),
    ("index", "items.jsonl", item(id=True), no_text("id", "true")),
    ("index", "items.jsonl", item(title=["lamp"]), no_text("title", "a list")),
    ("index", "items.jsonl", item(title=False), no_text("title", "false")),
    ("index", "items.jsonl", item(description=["long", "text"]), no_text("description", "a list")),
    ("index", "items.jsonl", item(brand={"name": "Kira"}), no_text("brand", "an object")),
    ("index", "items.jsonl", item(price=[5]), "row 1, column price: expected a number"),
    ("index", "items.parquet", parquet(id=[True], title=["x"]), no_text("id", "true or false")),
    ("index", "items.parquet", parquet(id=["a", "b"], title=[None, ["x"]]), no_text("title", "a list", 2)),
    ("index", "items.parquet", b"PAR1garbagePAR1", "is not a parquet file"),
    ("index", "items.parquet", parquet(id=["a"], title=["x"])[:-9], "is not a parquet file"),
    ("index", "items.csv.gz", b"", "is empty"),
    ("remove", "ids.txt", b"caf\xe9\n", LATIN),
    ("remove", "ids.txt", "a\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
    ("remove", "ids.txt", b" \n\n", "--remove names no id (file "),
]  # fmt: skip

JUDGED = '{"query":"lamp","item_id":"a","label":"4"'
NESTED = "expected an object such as "
JUDGEMENTS: list[Row] = [
    ("evaluate", "l.csv", "query_id,query,item_id,label\n1,lamp,a,4\n1,lamp,b,1\n1,desk,c,4\n",
     "row 4, column query: expected one text for query_id '1'; row 2 says 'lamp', this one 'desk'"),
    ("evaluate", "l.jsonl", f'{JUDGED},"query":"desk"}}\n', f"{WHOLE}key 'query' {DOUBLED}"),
    ("evaluate", "l.jsonl", '{"query":"lamp","item_id":"a","label":NaN}\n', f"{WHOLE}{NAN}"),
    ("evaluate", "l.jsonl", f'{{"query":"lamp","item_id":"a","label":{DIGITS}}}\n', f"{WHOLE}{TOO_LONG}"),
    ("evaluate", "l.jsonl", f"{DEEP}\n", f"{WHOLE}{LEVELS}"),
    ("evaluate", "l.jsonl", f'{JUDGED},"query_id":[1]}}\n', no_text("query_id", "a list")),
    ("evaluate", "l.jsonl", f'{JUDGED}}}\n{{"query":[],"item_id":"b","label":"4"}}\n', no_text("query", "a list", 2)),
    ("evaluate", "l.jsonl", '{"query":"lamp","item_id":true,"label":"4"}\n', no_text("item_id", "true")),
    ("evaluate", "l.jsonl", '{"query":"lamp","item_id":"a","label":true}\n', no_text("label", "true")),
    ("evaluate", "l.parquet", parquet(query=["lamp"], item_id=[True], label=["4"]), no_text("item_id", "true or f")),
    ("evaluate", "l.json", "", "is empty; expected at least one row"),
    ("evaluate", "l.json", "{}", "an object with the keys none; expected the judgements of a known tool"),
    ("evaluate", "l.json", "3", "is not a list of objects with query and judgments, found a number"),
    ("evaluate", "l.json", "[{", "not valid JSON"),
    ("evaluate", "l.json", DEEP, LEVELS),
    ("evaluate", "l.json", '[{"query":"lamp","judgments":[]},{"query":"desk"}]', f"entry 2 of the list: {NESTED}"),
    ("evaluate", "l.json", '[{"query":"lamp","judgments":[3]}]', f"entry 1 of the list: {NESTED}"),
    ("evaluate", "l.json", '[{"query":"a","query":"b","judgments":[]}]', f"key 'query' {DOUBLED}"),
    ("evaluate", "l.json", '[{"query":["x"],"judgments":[{"item_id":"a","label":4}]}]', no_text("query", "a list")),
    ("evaluate", "l.json", '[{"query":"lamp","judgments":[{"item_id":true,"label":4}]}]', no_text("item_id", "true")),
    ("judge", "p.jsonl", '{"query":["lamp"],"item_text":"x"}\n', no_text("query", "a list")),
    ("judge", "p.jsonl", '{"query":"lamp","item_text":{"a":1}}\n', no_text("item_text", "an object")),
    ("judge", "p.jsonl", '{"query":"lamp","item_text":"x","facts":["a"]}\n', no_text("facts", "a list")),
    ("judge", "p.jsonl", '{"query":"lamp","item_text":"x","context":true}\n', no_text("context", "true")),
    ("judge", "p.jsonl", '{"query":"a","query":"b","item_text":"x"}\n', f"key 'query' {DOUBLED}"),
    ("judge", "p.jsonl", '{"query":"a","item_text":NaN}\n', f"{WHOLE}{NAN}"),
    ("judge", "p.jsonl", f'{{"query":"a","item_text":{DIGITS}}}\n', f"{WHOLE}{TOO_LONG}"),
    ("judge", "p.csv", "query_id,query,item_text\n1,lamp,x\n1,desk,y\n", "row 3, column query: expected one text for"),
    ("judge ids", "p.jsonl", '{"query":"lamp","item_id":[1]}\n', no_text("item_id", "a list")),
    ("judge ids", "p.jsonl", '{"query":"lamp","item_id":true}\n', no_text("item_id", "true")),
]  # fmt: skip

NOTES: list[Row] = [
    ("facts", "facts.jsonl", '{"name":"a","name":"b","fact":"x"}\n', f"row 1: not valid JSON: key 'name' {DOUBLED}"),
    ("facts", "facts.jsonl", f'\n{{"name":"a","fact":{DEEP}}}\n', f"facts.jsonl, row 2: not valid JSON: {LEVELS}"),
    ("facts", "facts.jsonl", f'{{"name":"a","fact":{DIGITS}}}', f"row 1: not valid JSON: {TOO_LONG}"),
    ("facts", "facts.jsonl", '{"name":"a","fact":"x","z":NaN}', f"row 1: not valid JSON: {NAN}"),
    ("facts", "facts.jsonl", '{"name":"a\\ud800","fact":"x"}', "half of a surrogate pair"),
    ("facts", "facts.jsonl", b'{"name":"caf\xe9","fact":"x"}\n', LATIN),
    ("facts", "facts.jsonl", "[]", "row 1: expected {\"name\": text, \"fact\": text}"),
    ("facts", "facts.jsonl", '{"name":"a","fact":"x"}\n{"name":"A","fact":"y"}\n',
     "row 2: name 'A' has two facts: row 1 says 'x'"),
    ("contexts", "contexts.jsonl", '{"id":"a","id":"b","text":"x"}\n', f"{WHOLE}key 'id' {DOUBLED}"),
    ("contexts", "contexts.jsonl", '{"id":[1],"text":"x"}\n', no_text("id", "a list")),
    ("contexts", "contexts.jsonl", '{"id":true,"text":"x"}\n', no_text("id", "true")),
    ("contexts", "contexts.jsonl", '{"id":"a","text":["x"]}\n', no_text("text", "a list")),
    ("contexts", "contexts.jsonl", f'{{"id":"a","text":{DEEP}}}\n', f"{WHOLE}{LEVELS}"),
]  # fmt: skip

BOOK = "scale = 'four_level'\n{top}[columns]\n{columns}\n[[rules]]\nid = {id}\nwhen = {{}}\nlabel = {label}\n{more}\n"


def book(columns: str = "a = ['x']", id: str = "'r'", label: str = "'excellent'", more: str = "", top: str = "") -> str:
    """A rule book of one rule."""
    return BOOK.format(top=top, columns=columns, id=id, label=label, more=more)


TOML: list[Row] = [
    ("config", "own.toml", f"model = {DEEP}", "own.toml: not valid TOML: too many lists or tables in one another"),
    ("config", "own.toml", f"batch_size = {DIGITS}", "own.toml: not valid TOML: a whole number of thousands of digits"),
    ("config", "own.toml", b"model = 'caf\xe9'", LATIN),
    ("config", "own.toml", "model = 'x'".encode("utf-16"), "is UTF-16; expected UTF-8"),
    ("config", "own.toml", "batch_size = true", "own.toml: batch_size: expected a number, got true"),
    ("config", "own.toml", "fit.clip_norm = nan", "own.toml: fit.clip_norm: expected a number, got nan"),
    ("teach", "rules.toml", f"scale = {DEEP}", "rules.toml: not valid TOML: too many lists or tables in one another"),
    ("teach", "rules.toml", f"scale = {DIGITS}", "rules.toml: not valid TOML: a whole number of thousands of digits"),
    ("teach", "rules.toml", b"scale = '\xe9'", LATIN),
    ("teach", "rules.toml", book(id="['r']"), "rule number 1: id must be a text, got ['r']"),
    ("teach", "rules.toml", book(label="['excellent']"), "label must be a label of the scale, got ['excellent']"),
    ("teach", "rules.toml", book(more="because = 3"), "rule number 1: because must be a text, got 3"),
    ("teach", "rules.toml", book(more="becuase = 'x'"), "unknown key 'becuase'; known: id, when, label, because"),
    ("teach", "rules.toml", book(top="sclae = 'x'\n"), "unknown key 'sclae'; known: version, scale, columns, rules"),
    ("teach", "rules.toml", book("".join(f"c{i} = ['x', 'y']\n" for i in range(30))), "1,073,741,824 combinations"),
    ("teach", "rules.toml", book("".join(f"c{i} = ['x']\n" for i in range(70))), "70 columns have 1 combinations"),
]  # fmt: skip

REASON = {"query": "lamp", "item_id": "a", "label": "excellent", "rationale": None, "silver": False, "teacher": "t",
          "rule_book": "x", "failure": None}  # fmt: skip


def reason(**values: Any) -> str:
    """A line of a teacher's file."""
    return json.dumps({**REASON, **values}) + "\n"


LOGS: list[Row] = [
    ("reasons", "taught.jsonl", reason()[:-2] + ',"query":"z"}\n', f"{WHOLE}key 'query' {DOUBLED}"),
    ("reasons", "taught.jsonl", f'{{"query":{DEEP}}}', f"{WHOLE}{LEVELS}"),
    ("reasons", "taught.jsonl", reason()[:-2] + f',"x":{DIGITS}}}\n', f"{WHOLE}{TOO_LONG}"),
    ("reasons", "taught.jsonl", reason()[:-2] + ',"x":NaN}\n', f"{WHOLE}{NAN}"),
    ("reasons", "taught.jsonl", b"\xe9\n", LATIN),
    ("reasons", "taught.jsonl", reason(query=["lamp"]), "row 1, column query: expected a text, found a list"),
    ("reasons", "taught.jsonl", reason() + reason(item_id=[1]), no_text("item_id", "a list", 2)),
    ("reasons", "taught.jsonl", reason(item_id=True), no_text("item_id", "true")),
    ("reasons", "taught.jsonl", reason(label=True), no_text("label", "true")),
    ("reasons", "taught.jsonl", reason(failure=[1]), no_text("failure", "a list")),
    ("curves", "metrics.jsonl", '{"update":"a","loss":1}\n', "metrics.jsonl: update 'a': expected a whole number"),
    ("curves", "metrics.jsonl", '{"update":[1],"loss":1}\n', "update [1]: expected a whole number"),
    ("curves", "metrics.jsonl", '{"update":null,"loss":1}\n', "update nan: expected a whole number"),
    ("curves", "metrics.jsonl", '{"update":1,"loss":"x"}\n', "metrics.jsonl: 0 numbers to draw"),
    ("curves", "metrics.jsonl", f'{{"update":1,"loss":1{"0" * 400}}}\n', "metrics.jsonl: 0 numbers to draw"),
    ("curves", "metrics.jsonl", b"\xe9\n" + DEEP.encode() + b"\n", "no metrics.jsonl with records"),
    ("curves", "metrics.jsonl", '{"update":1,' + ",".join(f'"n{i}":1' for i in range(300)) + "}\n", "300 numbers"),
]  # fmt: skip

ROWS = [*ITEM_ROWS, *JUDGEMENTS, *NOTES, *TOML, *LOGS]


@pytest.fixture(scope="module")
def good(made: Path) -> Path:
    """The good files that the commands need beside the bad one."""
    from goodrate.api.index import Index
    from goodrate.api.reading import read_catalog as read

    Index.create(made / "index", read(made / "items.csv"))
    (made / "labelled.csv").write_text("query,item_text,label\nlamp,red lamp,4\n")
    return made


@pytest.mark.parametrize(("command", "name", "content", "message"), ROWS, ids=range(len(ROWS)))
def test_a_bad_file_is_refused_by_name_and_place(
    run: Run, good: Path, tmp_path: Path, command: str, name: str, content: bytes | str, message: str
) -> None:  # fmt: skip
    bad = tmp_path / "in" / name
    bad.parent.mkdir()
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = files(good)
    code, err = run(*COMMANDS[command](good, bad, tmp_path / "out"))
    assert code == 2 and "Traceback" not in err, err
    assert message in err and (name in err or str(bad.parent) in err), err
    assert not (tmp_path / "out").exists() or not files(tmp_path / "out")
    assert files(good) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"model={DEEP}", "--set model: not valid TOML: too many lists or tables in one another"),
        (f"batch_size={DIGITS}", "--set batch_size: not valid TOML: a whole number of thousands of digits"),
        ("data.catalog=" + "{a=" * 2000 + "1" + "}" * 2000, "--set data.catalog: not valid TOML: too many lists"),
        ("batch_size=true", "--set batch_size=true: batch_size: expected a number, got true"),
        ("fit.clip_norm=nan", "--set fit.clip_norm=nan: fit.clip_norm: expected a number, got nan"),
    ],
    ids=range(5),
)
def test_overrides_that_nobody_meant(run: Run, tmp_path: Path, override: str, message: str) -> None:
    code, err = run("train", "judge_sft", "--out", tmp_path / "run", "--set", override)
    assert code == 2 and message in err and not (tmp_path / "run").exists(), err


JUNK: dict[str, tuple[bytes, str]] = {
    "list": (b"[]", ""), "null": (b"null", ""), "number": (b"3", ""), "text": (b'"x"', ""), "cut": (b'{"a": ', ""),
    "empty": (b"", ""), "latin": (b'{"a": "\xe9"}', ""), "deep": (DEEP.encode(), ""),
    "digits": (f'{{"max_position_embeddings": {DIGITS}, "max_seq_length": 1, "format": 1}}'.encode(), ""),
}  # fmt: skip
CONFIGS = {
    "encoder": ("config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
                "config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json"),
    "judge": ("config.json", "judge.json", "tokenizer.json", "tokenizer_config.json"),
    "index": ("store.json",),
}  # fmt: skip
FOLDERS = [(kind, name, junk) for kind, names in CONFIGS.items() for name in names for junk in JUNK]


def reading(good: Path, folder: Path, out: Path) -> tuple[object, ...]:
    """The command that reads a folder of its name."""
    return {
        "encoder": ("index", good / "items.csv", "--out", out, "--encoder", folder),
        "judge": ("judge", good / "pairs.csv", "--model", folder, "--out", out / "v.csv"),
        "index": ("search", folder, "lamp"),
    }[folder.name]


@pytest.mark.parametrize(("kind", "name", "junk"), FOLDERS, ids=["-".join(row) for row in FOLDERS])
def test_a_folder_with_one_file_replaced_is_refused_by_name(
    run: Run, good: Path, tmp_path: Path, kind: str, name: str, junk: str
) -> None:  # fmt: skip
    folder = tmp_path / kind
    shutil.copytree(good / kind, folder)
    (folder / name).write_bytes(JUNK[junk][0])
    code, err = run(*reading(good, folder, tmp_path / "out"))
    assert code == 2 and str(folder) in err and "Traceback" not in err, err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "name", "values", "message"),
    [
        ("encoder", "config.json", {"hidden_size": "x"}, "not a model that can be read"),
        ("encoder", "config.json", {"num_attention_heads": 0}, "not a model that can be read"),
        ("encoder", "config.json", {"vocab_size": 5}, "its weights have other shapes than its config.json says"),
        ("encoder", "config.json", {"num_hidden_layers": 3}, "the weights lack 'encoder.layer.1."),
        ("encoder", "modules.json", [], "expected a list of modules, found a list without any"),
        ("encoder", "modules.json", [{"path": ""}], "a module needs the texts type and path"),
        ("encoder", "sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length: expected a whole number"),
        ("encoder", "config_sentence_transformers.json", {"prompts": [1]}, "prompts: expected an object of texts"),
        ("encoder", "config_sentence_transformers.json", {"prompts": {"query": 3}}, "prompts.query: expected a text"),
        ("encoder", "config_sentence_transformers.json", {"truncate_dim": 99}, "truncate_dim 99: the vectors have 16"),
        (
            "encoder",
            "config_sentence_transformers.json",
            {"truncate_dim": "x"},
            "truncate_dim: expected a whole number",
        ),
        ("encoder", "1_Pooling/config.json", {"pooling_mode": [1]}, "pooling '[1]' is not one of mean, cls, lasttoken"),
        ("encoder", "tokenizer_config.json", {"pad_token": None}, "pad_token None is no token of the network"),
        ("encoder", "tokenizer_config.json", {"pad_token": "nope"}, "pad_token 'nope' is no token of the network"),
        ("judge", "config.json", {"intermediate_size": 7}, "its weights have other shapes than its config.json says"),
        ("judge", "config.json", {"hidden_act": "nope"}, "not a model that can be read (KeyError: 'nope')"),
        ("judge", "config.json", {"model_type": "nope"}, "not a model that can be read"),
    ],
)
def test_a_folder_with_one_value_changed(
    run: Run, good: Path, tmp_path: Path, kind: str, name: str, values: Any, message: str
) -> None:  # fmt: skip
    folder = tmp_path / kind
    shutil.copytree(good / kind, folder)
    old = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**old, **values} if isinstance(values, dict) else values))
    code, err = run(*reading(good, folder, tmp_path / "out"))
    assert code == 2 and str(folder) in err and message in err and "Traceback" not in err, err


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """The weights of a folder, changed."""

    def damage(file: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return damage


def as_bin(content: Any) -> Callable[[Path], None]:
    """A .bin file in place of the weights."""

    def damage(file: Path) -> None:
        file.unlink()
        other = file.with_name("pytorch_model.bin")
        other.write_bytes(content) if isinstance(content, bytes) else torch.save(content, other)

    return damage


@pytest.mark.parametrize("kind", ["encoder", "judge"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b""), "the weights are not whole"),
        (lambda file: file.write_bytes(b"junk" * 100), "the weights are not whole"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "the weights are not whole"),
        (weights(lambda all: {k: v[..., :-1].contiguous() for k, v in all.items()}), "weights have other shapes"),
        (weights(lambda all: dict(list(all.items())[:-3])), "the weights lack "),
        (weights(lambda all: {f"x.{k}": v for k, v in all.items()}), "the weights lack "),
        (as_bin(b"junk" * 99), "not a model that can be read"),
        (as_bin([1]), "not a model that can be read"),
    ],
    ids=range(8),
)
def test_weights_that_are_not_those_of_the_model(
    run: Run, good: Path, tmp_path: Path, kind: str, damage: Callable, message: str
) -> None:  # fmt: skip
    folder = tmp_path / kind
    shutil.copytree(good / kind, folder)
    damage(folder / "model.safetensors")
    code, err = run(*reading(good, folder, tmp_path / "out"))
    assert code == 2 and f"{folder}: " in err and message in err and "Traceback" not in err, err


def test_an_encoder_of_nan_is_named(run: Run, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "encoder", tmp_path / "encoder")
    weights(lambda all: {k: v * float("nan") for k, v in all.items()})(tmp_path / "encoder" / "model.safetensors")
    code, err = run(*reading(good, tmp_path / "encoder", tmp_path / "out"))
    assert code == 2 and f"{tmp_path / 'encoder'}: vectors of NaN or infinity" in err


def test_a_table_of_many_columns_is_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(4000)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join([f"id,title,{','.join(names)}", f"a,lamp,{','.join(names)}", f"b,desk,{',' * 3999}"]))
    start = time.perf_counter()
    first, second = read_catalog(path).frame["attributes"]
    assert json.loads(first) == dict(zip(names, names, strict=True)) and second == "{}"
    assert time.perf_counter() - start < 15  # 28 s before columns were joined in parts; 2 s here


@pytest.fixture(scope="module")
def trained(good: Path) -> tuple[Path, tuple[object, ...]]:
    """A run of two updates with its checkpoint, and the command that goes on with it."""
    out = good / "run"
    data = (f"data.catalog={good / 'items.csv'}", f"data.judgements={good / 'labels.csv'}", f"model={good / 'judge'}")
    settings = ("fit.updates=2", "fit.checkpoint_updates=1", *data)
    command = ("train", "judge_sft", "--out", out, *(part for value in settings for part in ("--set", value)))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as done:
        patch.setattr(sys, "argv", ["goodrate", *map(str, command)])
        cli.main()
        sys.exit(0)
    assert not done.value.code
    return out, command


Payload = dict[str, Any]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw, payload: b"", "EOFError"),
        (lambda raw, payload: b"junk" * 50, "KeyError"),
        (lambda raw, payload: raw[: len(raw) // 2], "PytorchStreamReader failed"),
        (lambda raw, payload: [1], "TypeError"),
        (lambda raw, payload: {"model": {}}, "KeyError: 'parts'"),
        (lambda raw, payload: {**payload, "facts": {}}, "it lacks the model, parts or facts of a run"),
        (lambda raw, payload: {**payload, "parts": {}}, "checkpoint.pt: holds [], this run has ['optimizer0'"),
        (lambda raw, payload: {**payload, "model": {"x": torch.zeros(1)}}, "the checkpoint is of another model"),
        (
            lambda raw, payload: {**payload, "model": {k: v[..., :-1] for k, v in payload["model"].items()}},
            "loading st",
        ),
        (lambda raw, payload: {**payload, "parts": dict.fromkeys(payload["parts"], [1])}, "list"),
    ],
    ids=range(10),
)
def test_a_checkpoint_that_was_cut_or_changed(
    run: Run, trained: tuple[Path, tuple], damage: Callable[[bytes, Payload], object], message: str
) -> None:
    out, command = trained
    file = out / "checkpoint.pt"
    whole = file.read_bytes()
    damaged = damage(whole, torch.load(file, weights_only=True))
    try:
        file.write_bytes(damaged) if isinstance(damaged, bytes) else torch.save(damaged, file)
        (out / "result.json").unlink(missing_ok=True)
        code, err = run(*command)
    finally:
        file.write_bytes(whole)
    assert code == 2 and f"{file}: " in err and message in err and "Traceback" not in err, err


def test_the_hub_that_gives_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import errors

    answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/api/models/a/b"))
    lost = errors.LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub")
    lost.__cause__ = httpx.ConnectError("[Errno -2] Name or service not known")
    for error, message in (
        (lost, "cannot be reached and its cache lacks it (ConnectError: [Errno -2] Name or service not known)"),
        (errors.RepositoryNotFoundError("404", response=answer), "the Hugging Face hub has no such repository"),
        (errors.GatedRepoError("403", response=answer), "it is gated: accept its terms at https://huggingface.co/a/b"),
        (errors.OfflineModeIsEnabled("offline"), "is not asked (HF_HUB_OFFLINE is set) and its cache lacks it"),
        (errors.HFValidationError("Cannot have -- or .."), "no hub id either: those read NAME or OWNER/NAME"),
        (errors.EntryNotFoundError("no config.json"), "the repository https://huggingface.co/a/b has no files of a m"),
    ):
        wrapped = OSError("We could not load it")  # as transformers wraps what the hub's client raises
        wrapped.__cause__ = error
        with pytest.raises(FileNotFoundError, match="^a/b: no such folder, and ") as caught, got_from_hub("a/b"):
            raise wrapped
        assert message in str(caught.value), (error, caught.value)
    with pytest.raises(FileNotFoundError, match="./nowhere: no such folder; expected a sentence-transformers folder"):
        Encoder.load("./nowhere")


def test_what_is_printed_as_json_is_json(
    run: Run, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index whose attributes hold NaN, as older versions wrote them; a metric that is no number."""
    items = Catalog(pl.DataFrame({"id": ["a"], "title": ["red lamp"], "attributes": ['{"weight":NaN}']}))
    Store.create(tmp_path / "index", None, None).upsert(items, None)
    labels = tmp_path / "labels.csv"
    labels.write_text("query,item_id,label\nred lamp,a,4\n")
    for command in (
        ("search", tmp_path / "index", "lamp", "--json"),
        ("evaluate", tmp_path / "index", "--judgements", labels, "--systems", "lexical", "--json"),
    ):
        monkeypatch.setattr(sys, "argv", ["goodrate", *map(str, command)])
        with pytest.raises(SystemExit) as done:
            cli.main()
            sys.exit(0)
        assert not done.value.code
        strict_json.parse(capfd.readouterr().out)
