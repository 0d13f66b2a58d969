"""goodrate next-labels: pairs that a search finds and nobody labelled, as a table that comes back as it went."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

import goodrate as gr
from calling import Run, called
from goodrate.api.judging import ItemSource, read_pair_file
from goodrate.catalog.spreadsheet_cells import marked, unmarked
from goodrate.models.encoder import Encoder
from goodrate.recipes.encoder_baseline import encoder_card
from goodrate.relevance.encoder_judge import write_encoder_judge
from goodrate.scale import FOUR_LEVEL
from tiny_models import tokenizer_file

NOUNS = ("lamp", "chair", "desk", "steel", "oak", "item", "answer", "query", "facts", "context", "color", "size")
FORMULAS = {"-i3": "=HYPERLINK(1) red steel", "@i4": "+red oak"}  # ids and titles that a spreadsheet would compute
IDS = ["i0", "i1", "i2", "-i3", "@i4", *(f"i{n}" for n in range(5, 12))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 items, some with awkward ids and titles, a random encoder, and its cosine as a judge."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("next")
    titles = [FORMULAS.get(name, f"red {noun}") for name, noun in zip(IDS, NOUNS, strict=True)]
    pl.DataFrame({"id": IDS, "title": titles}).write_csv(path / "items.csv")
    Encoder.create(tokenizer_file(path), hidden=16, layers=1, heads=2).save(path / "encoder")
    loaded = Encoder.load(path / "encoder", precision="auto")
    write_encoder_judge(path / "judge", encoder_card(str(path / "encoder"), loaded, FOUR_LEVEL))
    pl.DataFrame({"query": ["red lamp", "-red oak", "zzz"], "count": [1, 5, 9]}).write_csv(path / "queries.csv")
    pl.DataFrame({"query": ["Red  lamp"] * 2, "item_id": ["i0", "-i3"], "label": ["excellent", "mismatch"]}).write_csv(
        path / "labels.csv"
    )
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: called(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize("way", ["random", "unsure", "diverse", "unsure_diverse"])
def test_the_table_holds_unlabelled_pairs_and_comes_back_as_it_went(
    run: Run, folder: Path, tmp_path: Path, way: str
) -> None:
    out = tmp_path / "to_label.csv"
    verb = (
        "next-labels", folder / "judge", "--catalog", folder / "items.csv", "--queries", folder / "queries.csv",
        "--judgements", folder / "labels.csv", "--way", way, "--per-query", 8,
    )  # fmt: skip
    code, _, err = run(*verb, "-n", 50, "--out", out)
    assert code == 0, err
    # both queries find all 12 items by "red", of which "red lamp" has two labels, written otherwise
    assert "16 pairs of 2 queries, picked from 22 (2 labelled ones left out); nothing was found for 1 queries" in err
    assert "fewer than the 50 asked for" in err
    written = pl.read_csv(out, infer_schema=False)
    assert written.columns == [
        "query", "item_id", "title", "label", "judge_label", "judge_good", "judge_unsure", "why",
    ]  # fmt: skip
    assert written["label"].null_count() == 16
    assert not any(str(cell)[0] in "=+-@" for row in written.rows() for cell in row if cell)
    assert {"'-red oak"} < set(written["query"]) and set(written["why"].str.split("; ").list.last()) == {
        "a query with labels", "a query without labels",
    }  # fmt: skip
    pairs = read_pair_file(out, ItemSource(folder / "items.csv"))
    assert pairs.unknown_items == 0
    back = {(pair.query, pair.item["id"]) for pair in pairs.pairs if pair is not None}
    assert {"@i4", "-i3"} & {item for _, item in back} and {query for query, _ in back} == {"red lamp", "-red oak"}
    assert not {("red lamp", "i0"), ("red lamp", "-i3")} & back
    filled = tmp_path / "filled.csv"
    written.with_columns(label=pl.lit("related")).write_csv(filled)
    labels = gr.read_judgements(filled, scale="four_level").frame
    assert set(labels.select("query", "item_id").rows()) == back
    code, _, err = run(*verb, "-n", 5, "--out", tmp_path / "less.csv")
    assert code == 0 and pl.read_csv(tmp_path / "less.csv", infer_schema=False).rows() == written.head(5).rows()


def test_it_searches_an_index_and_asks_the_judge_once(folder: Path, tmp_path: Path) -> None:
    index = gr.Index.create(tmp_path / "index", pl.read_csv(folder / "items.csv"), folder / "encoder")
    judge = gr.open_judge(folder / "judge")
    told: list[tuple[int, int]] = []
    given = {"index": index, "depth": 4, "count": 6, "verdicts": tmp_path / "v.sqlite"}
    found = gr.next_labels(judge, ["red lamp", "red oak"], **given, progress=lambda *done: told.append(done))
    assert (len(found), found.candidates, found.labelled, found.silent) == (6, 8, 0, 0) and told == [(8, 8)]
    again = gr.next_labels(judge, ["red lamp", "red oak"], **given, progress=lambda *done: told.append(done))
    assert again.frame.equals(found.frame) and told == [(8, 8)]  # all verdicts were kept
    other = gr.next_labels(judge, ["red lamp", "red oak"], **given, way="random", seed=1)
    assert len(other) == 6 and set(other.frame.columns) == set(found.frame.columns)
    found.write(tmp_path / "pairs.parquet")
    assert pl.read_parquet(tmp_path / "pairs.parquet").equals(found.frame)


def test_wrong_input_says_what_is_expected(run: Run, folder: Path, tmp_path: Path) -> None:
    judge, items = gr.open_judge(folder / "judge"), pl.read_csv(folder / "items.csv")
    for given, message in (
        ({}, "items .a catalogue. or index"), ({"items": items, "way": "clever"}, "expected one of random, unsure"),
        ({"items": items, "count": 0}, "expected 1 or more"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            gr.next_labels(judge, ["red"], **given)
    with pytest.raises(ValueError, match="no pair is left to label: 0 are labelled, 1 queries find nothing"):
        gr.next_labels(judge, ["zzz"], items)
    verb = ("next-labels", folder / "judge", "--queries", folder / "queries.csv")
    code, _, err = run(*verb, "--out", tmp_path / "x.csv")
    assert code == 2 and "give --catalog FILE or --index DIR" in err
    code, _, err = run(*verb, "--catalog", folder / "items.csv", "--out", tmp_path / "x.txt")
    assert code == 2 and "expected a name that ends in .csv, .jsonl or .parquet" in err
    assert not list(tmp_path.glob("x*"))


def test_marks_go_on_and_off() -> None:
    cells = ["=1", "'=1", "''+2", "'quoted'", "-", "\ttab", "lamp", None, "5-4", "@home"]
    frame = pl.DataFrame({"a": cells, "n": range(len(cells))})
    assert not [cell for cell in marked(frame)["a"] if cell and cell[0] in "=+-@\t"]
    assert unmarked(marked(frame), Path("x.CSV"), ["a", "b"]).equals(frame)
    assert unmarked(frame, Path("x.jsonl"), ["a"]).equals(frame)  # no spreadsheet wrote it
