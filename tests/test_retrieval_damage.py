"""Index folders that were cut, overwritten or emptied: one error that names the file, the reason and the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate import cli
from goodrate.catalog.items import Catalog
from goodrate.retrieval import full_text
from goodrate.retrieval.manifest import FORMAT_VERSION
from goodrate.retrieval.store import Store
from goodrate.retrieval.table import IndexDamaged, damage_named

COUNT = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole index, to copy."""
    folder = tmp_path_factory.mktemp("whole") / "index"
    titles = [f"oak lamp {number}" for number in range(COUNT)]
    items = Catalog(pl.DataFrame({"id": [f"i{number}" for number in range(COUNT)], "title": titles}))
    Store.create(folder, "print", 2).upsert(items, np.ones((COUNT, 2), dtype=np.float32))
    return folder


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "index"))


def tampered(index: Path, **fields: object) -> str:
    """store.json with other fields; `...` takes one out."""
    content = {**json.loads((index / "store.json").read_text()), **fields}
    return json.dumps({name: value for name, value in content.items() if value is not ...})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe{}", "is UTF-16; expected UTF-8"),
        ("[" * 100_000, "not valid JSON: more than 100 levels"),
        ("null", "expected a JSON object, found null"),
        ("[]", "expected a JSON object, found a list"),
        ("{}", "format: expected a number, found nothing"),
        ({"dimension": "x"}, "dimension: .* found 'x'"),
        ({"dimension": 2.5}, "dimension: .* found 2.5"),
        ({"dimension": True}, "dimension: .* found True"),
        ({"dimension": 0}, "dimension: .* found 0"),
        ({"dimension": None}, "an index has both an encoder fingerprint and a dimension, or neither"),
        ({"dimension": ...}, "dimension: Field required"),
        ({"fingerprint": 7}, "fingerprint: .* found 7"),
        ({"fingerprint": ...}, "fingerprint: Field required"),
        ({"encoder": ["a"]}, "encoder: .* found \\['a'\\]"),
        ({"encoded_fields": ["colour"]}, "encoded_fields: cannot render field 'colour'; accepted: title"),
        ({"encoded_fields": []}, "encoded_fields: no field to render"),
        ({"encoded_fields": "title"}, "encoded_fields: .* found 'title'"),
        ({"created": 5}, "created: .* found 5"),
        ({"id": None}, "id: .* found None"),
    ],
)
def test_a_manifest_that_cannot_be_used(index: Path, content: object, reason: str) -> None:
    if isinstance(content, dict):
        content = tampered(index, **content)
    (index / "store.json").write_bytes(content if isinstance(content, bytes) else str(content).encode())
    with pytest.raises(ValueError, match=rf"store.json is damaged: {reason}.*; move .* away and make it anew: "):
        Store.open(index)


def test_another_format_is_no_damage(index: Path) -> None:
    for other in (FORMAT_VERSION - 1, FORMAT_VERSION + 1, str(FORMAT_VERSION), None):
        (index / "store.json").write_text(tampered(index, format=other))
        with pytest.raises(ValueError, match=rf"has index format {other!r}; this goodrate reads {FORMAT_VERSION}"):
            Store.open(index)
    (index / "store.json").write_text(tampered(index, format=FORMAT_VERSION, encoded_fields=..., id=..., columns=...))
    assert len(Store.open(index)) == COUNT  # what older versions did not write


def each_file(change: Callable[[Path], object], folder: str) -> Callable[[Path], None]:
    """A way to damage all files of a folder of the table."""

    def damage(index: Path) -> None:
        files = [file for file in (index / "items.lance" / folder).rglob("*") if file.is_file()]
        assert files
        for file in files:
            change(file)

    return damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


DAMAGES = {
    "no table": lambda index: shutil.rmtree(index / "items.lance"),
    "a file for the table": lambda index: (shutil.rmtree(index / "items.lance"), (index / "items.lance").touch()),
    **{
        f"{how.__name__} {folder}": each_file(how, folder)
        for folder in ("data", "_versions")
        for how in (cut, zeroed, Path.unlink)
    },
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_items_are_named_by_every_reader_and_writer(index: Path, damage: Callable[[Path], None]) -> None:
    opened = Store.open(index)
    uses: list[Callable[[Store], object]] = [
        lambda store: store.search_text("lamp", 3), lambda store: store.search_vector(np.ones(2), 3),
        lambda store: store.search_text("lamp", 3, where="price < 5"), lambda store: store.items(["i1"]),
        Store.all_items, Store.vectors, Store.stored_hashes, lambda store: store.remove(["i1"]),
    ]  # fmt: skip
    damage(index)
    for use in uses:
        with pytest.raises(IndexDamaged, match="items.lance is damaged: .*; move .*index away and make it anew: "):
            use(Store.open(index))
    with pytest.raises(IndexDamaged):  # nor does an index that is open go on with what it remembers
        opened.all_items()


def test_a_full_text_that_lacks_one_column_is_built_again(index: Path) -> None:
    store = Store.open(index)
    for column in full_text.INDEXED:
        table = store._opened._table()
        table.drop_index(f"{column}_idx")
        store.refresh()
        assert {entry.columns[0] for entry in table.list_indices()} == set(full_text.INDEXED)


@pytest.mark.parametrize("how", [cut, zeroed, Path.unlink])
def test_a_damaged_full_text_is_mended_by_the_next_writer(index: Path, how: Callable[[Path], None]) -> None:
    each_file(how, "_indices")(index)
    store = Store.open(index)
    with pytest.raises(IndexDamaged, match="any goodrate index --out .*index mends it"):
        store.search_text("lamp", 3)
    assert len(store.search_vector(np.ones(2), 3)) == 3
    assert store.remove(["unknown"]) == 0
    assert len(store.search_text("lamp", COUNT)) == COUNT


# As pyo3 raises them: in a call that waits for its answer, and in a task whose answer is asked for later.
PANICS = [type("PanicException", (BaseException,), {}), type("RustPanic", (Exception,), {})]


@pytest.mark.parametrize("panic", PANICS)
def test_a_panic_of_the_engine_is_damage(tmp_path: Path, panic: type[BaseException]) -> None:
    with pytest.raises(IndexDamaged, match="items.lance is damaged: index out of bounds"), damage_named(tmp_path):
        raise panic("index out of bounds")


def test_a_full_disk_has_its_name_and_a_wrong_question_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device.*items.lance"), damage_named(tmp_path):
        raise RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)")
    with pytest.raises(ValueError, match="^k must be at least 1$"), damage_named(tmp_path):
        raise ValueError("k must be at least 1")


def test_the_command_line_says_it_in_one_line(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for damage in (lambda: (index / "store.json").write_text("[]"), lambda: DAMAGES["cut data"](index)):
        kept = (index / "store.json").read_bytes()
        damage()
        for arguments in (["search", index, "lamp", "--mode", "lexical"], ["index", "--out", index, "--remove", "i1"]):
            monkeypatch.setattr("sys.argv", ["goodrate", *map(str, arguments)])
            with pytest.raises(SystemExit) as done:
                cli.main()
            err = capsys.readouterr().err
            assert done.value.code == 2 and err.count("\n") == 1 and " is damaged: " in err, err
        (index / "store.json").write_bytes(kept)
