"""An index follows its catalogue: what is gone from it goes, said before and within a limit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from calling import called
from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.catalog.readers import read_catalog
from goodrate.retrieval.store import Store

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Call goodrate index; gives the exit code and stderr with its wrapping undone."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: object) -> tuple[int, str]:
        code, _, err = called(monkeypatch, capfd, "index", *arguments)
        return code, err

    return call


def feed(path: Path, numbers: range, extra: str = "") -> Path:
    path.write_text("id,title\n" + "".join(f"i{n:02d},lamp {n}\n" for n in numbers) + extra)
    return path


def items(numbers: range) -> Catalog:
    return Catalog(pl.DataFrame({"id": [f"i{n:02d}" for n in numbers], "title": [f"lamp {n}" for n in numbers]}))


def ids(index: Path) -> list[str]:
    return sorted(Store.open(index).all_items().ids)


def state(index: Path) -> dict[str, bytes]:
    return {str(p.relative_to(index)): p.read_bytes() for p in index.rglob("*") if p.is_file()}


def test_what_the_catalogue_lacks_is_counted_previewed_and_removed(run: Run, tmp_path: Path) -> None:
    path, index = feed(tmp_path / "feed.csv", range(40)), tmp_path / "index"
    assert run(path, "--out", index)[0] == 0
    feed(path, range(7, 42))
    code, err = run(path, "--out", index)
    assert code == 0 and "2 added, 0 changed, 33 unchanged; 0 encoded" in err
    assert "7 items of the index are not in feed.csv and stay; --sync removes them" in err and len(ids(index)) == 42
    code, err = run(path, "--out", index, "--sync")
    assert code == 0 and "--sync removes 7 of 42 items (i00, i01, i02, i03, i04, ...)" in err
    assert "0 added, 0 changed, 35 unchanged, 7 removed; 0 encoded" in err and "35 items in" in err
    assert ids(index) == [f"i{n:02d}" for n in range(7, 42)]
    assert [hit.item_id for hit in Store.open(index).search_text("lamp 3", 99) if hit.item_id == "i03"] == []
    code, err = run(path, "--out", index, "--sync")
    assert code == 0 and "35 unchanged, 0 removed" in err and "--sync removes" not in err


def test_more_than_the_limit_is_refused_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    path, index = feed(tmp_path / "feed.csv", range(40)), tmp_path / "index"
    assert run(path, "--out", index)[0] == 0
    before = state(index)
    feed(path, range(9, 45))
    code, err = run(path, "--out", index, "--sync")
    assert code == 2 and state(index) == before
    assert (
        f"--sync would remove 9 of 40 items of {index} (22%) (i00, i01, i02, i03, i04, ...), and --sync-limit is 0.2"
        in err
    )
    assert "if the catalogue is whole: --sync-limit 0.23" in err
    assert run(path, "--out", index, "--sync", "--sync-limit", "0.23")[0] == 0 and len(ids(index)) == 36


def test_a_dry_run_writes_nothing_and_says_what_would_be(run: Run, tmp_path: Path) -> None:
    path, index = feed(tmp_path / "feed.csv", range(40)), tmp_path / "index"
    code, err = run(path, "--out", index, "--dry-run")
    assert code == 0 and not index.exists()
    assert "--dry-run writes nothing: 40 new (i00, i01, i02, i03, i04, ...), 0 changed, 0 not in the catalogue" in err
    assert run(path, "--out", index)[0] == 0
    before = state(index)
    feed(path, range(2, 39), extra="i39,other lamp\nx1,rug\n")
    code, err = run(path, "--out", index, "--dry-run")
    assert "1 new (x1), 1 changed (i39), 2 not in the catalogue (i00, i01); 37 unchanged" in err and code == 0
    assert "items that are not in the catalogue stay; --sync removes them" in err
    assert "--sync removes 2 of 40 items (i00, i01)" in run(path, "--out", index, "--dry-run", "--sync")[1]
    code, err = run(path, "--out", index, "--dry-run", "--sync", "--sync-limit", "0.01")
    assert code == 2 and "2 not in the catalogue (i00, i01)" in err and "--sync would remove 2 of 40" in err
    assert state(index) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    code, err = run(path, "--out", tmp_path / "full", "--dry-run")
    assert code == 2 and "is not empty and holds no index" in err


@pytest.mark.parametrize("more", [("--remove", "a"), ()])
def test_what_makes_no_sense_is_refused(run: Run, tmp_path: Path, more: tuple[str, ...]) -> None:
    path = [feed(tmp_path / "feed.csv", range(3))] if more else []
    for option in ("--sync", "--dry-run"):
        code, err = run(*path, "--out", tmp_path / "index", option, *more)
        assert code == 2 and ("--sync and --dry-run are about a CATALOG" in err or "give a CATALOG" in err)


def test_an_item_whose_row_was_skipped_stays(run: Run, tmp_path: Path) -> None:
    path, index = feed(tmp_path / "feed.csv", range(10)), tmp_path / "index"
    assert run(path, "--out", index)[0] == 0
    feed(path, range(9), extra="i09,\n")
    assert read_catalog(path, skip_bad=1).skipped_ids == ("i09",)
    assert run(path, "--out", index, "--sync", "--skip-bad", 1)[0] == 0 and "i09" in ids(index)
    feed(path, range(9), extra="i09,lamp,9,9\n")
    code, err = run(path, "--out", index, "--sync", "--skip-bad", 1)
    assert (
        code == 2
        and f"--sync: 1 rows of the catalogue could not be read, so it is not known which items of {index}" in err
    )
    assert len(ids(index)) == 10


def test_the_library_syncs_too_and_only_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.create(tmp_path / "s", items(range(10)))
    plan = Index.plan(tmp_path / "s", items(range(1, 12)))
    assert (plan.added, plan.changed, plan.missing.ids, plan.unchanged) == (("i10", "i11"), (), ("i00",), 9)
    told: list[str] = []

    def cut(self: Store, gone: object) -> int:
        assert told == ["--sync removes 1 of 10 items (i00)"] and len(ids(tmp_path / "s")) == 12
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "remove", cut)
        Index.open(tmp_path / "s").add(items(range(1, 12)), sync=True, told=told.append)
    assert len(ids(tmp_path / "s")) == 12  # all that is new is there, and nothing is gone
    report = Index.open(tmp_path / "s").add(items(range(1, 12)), sync=True)
    assert (report.added, report.removed, report.missing) == (0, 1, 0) and "i00" not in ids(tmp_path / "s")
    with pytest.raises(ValueError, match=r"--sync would remove 10 of 11 items .* \(91%\) \(i01, .*--sync-limit 0.91"):
        Index.create(tmp_path / "s", items(range(11, 13)), sync=True)
    assert len(Index.create(tmp_path / "s", items(range(11, 13)), sync=True, sync_limit=0.95)) == 2
    assert Index.open(tmp_path / "s").add(items(range(11, 12))).missing == 1


def test_an_archived_product_of_shopify_leaves_the_index(run: Run, tmp_path: Path) -> None:
    path, index = tmp_path / "products_export.csv", tmp_path / "index"
    rows = [f"mug-{n},Mug {n},M{n},9.00,active" for n in range(8)]
    path.write_text("\n".join(["Handle,Title,Variant SKU,Variant Price,Status", *rows]))
    assert run(path, "--out", index, "--format", "shopify")[0] == 0
    path.write_text(path.read_text().replace("M3,9.00,active", "M3,9.00,archived"))
    code, err = run(path, "--out", index, "--format", "shopify", "--sync")
    assert code == 0 and "1 variants of products that are draft, archived or not published are left out" in err
    assert "--sync removes 1 of 8 items (M3)" in err and "price = variant_price, parent_id = handle" in err
    row = Store.open(index).all_items().frame.row(0, named=True)
    assert (row["id"], row["parent_id"], json.loads(row["attributes"])) == ("M0", "mug-0", {"sku": "M0"})
