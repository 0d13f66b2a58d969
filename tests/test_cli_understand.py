"""goodrate understand: from a catalogue to entities, rules, a page and attributes to filter by; resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import goodrate as gr
from calling import called
from goodrate.api.understanding import item_texts
from goodrate.retrieval.store import Store
from goodrate.understanding.entities import enriched, entity_table
from goodrate.understanding.page import html_page, parts
from goodrate.understanding.tagger import Tagger

COLORS, MATERIALS = (
    ["red", "blue", "green", "black", "white", "yellow", "violet", "teal"],
    ["oak", "leather", "glass", "steel", "wool", "brass"],
)
TYPES = """
[types.color]
seeds = ["red", "blue", "green", "black"]
[types.material]
seeds = ["oak", "leather", "glass", "steel"]
"""
FAST = ("--set", "rounds=2", "--set", "folds=2", "--set", "tagger.updates=50", "--set", "kept=1.0")


def catalogue(path: Path, items: int = 120) -> Path:
    """Titles of one of two forms; one has no word and one has one."""
    rng = np.random.default_rng(0)
    drawn = [(rng.choice(COLORS), rng.choice(MATERIALS), rng.choice(["lamp", "chair", "desk"])) for _ in range(items)]
    titles = [f"The {p} made of {m} in {c}" if n % 2 else f"{p} in {c}" for n, (c, m, p) in enumerate(drawn)]
    titles += ["!!", "lamp"]
    pl.DataFrame({"id": [f"i{n}" for n in range(len(titles))], "title": titles, "color": ["own"] * len(titles)}
                 ).write_csv(path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue, a types file, queries and what was found."""
    folder = tmp_path_factory.mktemp("understand")
    catalogue(folder / "items.csv")
    (folder / "types.toml").write_text(TYPES, encoding="utf-8")
    overrides = FAST[1::2]
    items = gr.read_catalog(folder / "items.csv")
    gr.understand(items, folder / "found", types=folder / "types.toml", queries=["lamp in teal", "лампа"],
                  overrides=overrides)  # fmt: skip
    return folder


def test_entities_are_in_their_texts(shop: Path) -> None:
    table = pl.read_parquet(shop / "found" / "entities.parquet")
    items = gr.read_catalog(shop / "items.csv").frame
    joined = table.join(items, on="id")
    assert (joined["title"].str.slice(joined["start"], joined["end"] - joined["start"]) == joined["text"]).all()
    seeds = table.filter(pl.col("by") == "seed")
    assert set(seeds["text"]) <= {*COLORS[:4], *MATERIALS[:4]} and len(seeds) > 50
    red = table.filter(pl.col("text") == "red")
    assert set(red["type"]) == {"color"} and set(red["by"]) == {"seed"}
    queries = pl.read_parquet(shop / "found" / "queries.parquet")
    assert set(queries["field"]) <= {"query"} and set(queries["id"]) <= {"lamp in teal", "лампа"}


def test_what_is_found_can_be_filtered_by(shop: Path, tmp_path: Path) -> None:
    found = gr.read_catalog(shop / "found" / "catalog.parquet")
    store = Store.create(tmp_path / "index", None, None)
    store.upsert(found, None)
    hits = store.search_text("lamp chair desk", 500, "attributes.found_color = 'red'")
    assert {hit.item_id for hit in hits} == set(found.frame.filter(pl.col("title").str.contains("in red"))["id"])
    red = found.frame.filter(pl.col("title").str.contains("in red"))["attributes"]
    assert len(red) and red.str.contains('"found_color":"red"').all() and red.str.contains('"color":"own"').all()
    again = enriched(found.frame, pl.read_parquet(shop / "found" / "entities.parquet"), ["color", "material"])
    assert again["attributes"].to_list() == found.frame["attributes"].to_list()  # replaced, not doubled


def test_rules_are_readable_and_the_page_shows_who_found_what(shop: Path) -> None:
    rules = (shop / "found" / "rules.txt").read_text(encoding="utf-8")
    assert "color: seed 'red'" in rules and "# material: 4 seeds" in rules
    page = (shop / "found" / "page.html").read_text(encoding="utf-8")
    assert 'title="seed">' in page and 'mark.color {' in page
    assert "&lt;b&gt;" in html_page([{"id": "1", "parts": list(parts("<b>", []))}], "")


def test_a_run_that_was_killed_ends_as_one_that_was_not(shop: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from goodrate.recipes import stream

    items = gr.read_catalog(shop / "items.csv")
    whole, trained, calls = stream.trained, stream.trained, []

    def killed(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "trained", killed)
    with pytest.raises(KeyboardInterrupt):
        gr.understand(items, tmp_path / "found", types=shop / "types.toml", overrides=FAST[1::2])
    monkeypatch.setattr(stream, "trained", trained)
    gr.understand(items, tmp_path / "found", types=shop / "types.toml", overrides=FAST[1::2])
    for name in ("tagger/model.safetensors", "tagger/tagger.json", "rules.txt", "metrics.jsonl", "entities.parquet"):
        assert (tmp_path / "found" / name).read_bytes() == (shop / "found" / name).read_bytes(), name
    with pytest.raises(ValueError, match="holds another run"):
        gr.understand(items[:50], tmp_path / "found", types=shop / "types.toml", overrides=FAST[1::2])


def test_a_tagger_is_applied_without_learning(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    options = ("--tagger", shop / "found" / "tagger", "--out", tmp_path / "new")
    code, out, err = called(monkeypatch, capsys, "understand", shop / "items.csv", *options)
    assert code == 0 and "color" in out and "entities in 122 items" in err
    old, new = (pl.read_parquet(folder / "entities.parquet") for folder in (shop / "found", tmp_path / "new"))
    assert new.equals(old)


def test_texts_without_words_have_no_entities(shop: Path) -> None:
    tagger = Tagger.load(shop / "found" / "tagger")
    assert len(entity_table(tagger, ["a", "b"], ["title", "title"], ["", "  "])) == 0
    assert len(entity_table(tagger, [], [], [])) == 0
    table = entity_table(tagger, ["c"], ["title"], ["red"])
    assert table.select("start", "end", "text", "type", "by").rows() in ([(0, 3, "red", "color", "seed")], [])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "expected types to distil a tagger for, or the folder of a tagger"),
        (("--types", "products", "--tagger", "t"), "and not both"),
        (("--types", "products"), "type 'product_type' has no seeds; without an expert"),
        (("--types", "none.toml"), "no types file none.toml"),
        (("--tagger", "nothing"), "no tagger.json there"),
        (("--types", "products", "--fields", "name"), "expected some of title, description"),
        (("--types", "types.toml", "--set", "round=3"), "rounds"),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...],
    told: str,
) -> None:  # fmt: skip
    catalogue(tmp_path / "items.csv", 4)
    (tmp_path / "types.toml").write_text(TYPES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, err = called(monkeypatch, capsys, "understand", "items.csv", "--out", "found", *options)
    assert code == 2 and told in err


@pytest.mark.parametrize(("titles", "told"), [([" ", " "], "every text of the catalogue is empty"),
                                              (["the of"], "hold no candidate phrase"),
                                              (["lamp"] * 5, "no seed")])  # fmt: skip
def test_catalogues_that_teach_nothing_are_refused(tmp_path: Path, titles: list[str], told: str) -> None:
    (tmp_path / "types.toml").write_text(TYPES, encoding="utf-8")
    frame = pl.DataFrame({"id": [str(n) for n in range(len(titles))], "title": titles})
    with pytest.raises(ValueError, match=told):
        gr.understand(gr.Catalog(frame), tmp_path / "found", types=tmp_path / "types.toml")


def test_every_field_of_every_item_is_a_text() -> None:
    items = gr.Catalog(pl.DataFrame({"id": ["a", "b"], "title": ["x", "y"], "description": ["p", ""]}))
    assert item_texts(items, ("title", "description")) == (
        ["a", "a", "b", "b"], ["title", "description"] * 2, ["x", "p", "y", ""],
    )  # fmt: skip
