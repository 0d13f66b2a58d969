"""The shop on disk and the shop command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image

from goodrate.api.shops import example_pairs
from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.cli.shop import command
from goodrate.folder_lock import one_writer
from goodrate.relevance.facts import FactBook
from goodrate.relevance.rationale import parse
from goodrate.scale import FOUR_LEVEL
from goodrate.shop import export
from goodrate.shop.pictures import draw_item, photo_view, picture_share
from goodrate.shop.shop import Shop, ShopSettings, generate

SETTINGS = ShopSettings(items=300, queries=60, judged=12, sessions=2)
SMALL = ["--set", "items=300", "--set", "queries=60", "--set", "judged=12", "--set", "sessions=2"]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate(SETTINGS)


@pytest.fixture(scope="module")
def folder(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.write_shop(shop, tmp_path_factory.mktemp("shop") / "out")


def test_every_file_is_there_and_nothing_else(folder: Path) -> None:
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(export.FILES)
    assert [entry.name for entry in folder.parent.iterdir()] == ["out"]


def test_catalogue_and_judgements_read_back_as_they_were(shop: Shop, folder: Path) -> None:
    catalog = read_catalog(folder / "catalog.parquet")
    assert catalog.content_hash == shop.catalog.content_hash and len(catalog) == 300
    judgements = read_judgements(folder / "judgements.csv", FOUR_LEVEL)
    assert judgements.frame.sort("query_id", "item_id").equals(shop.judgements().frame.sort("query_id", "item_id"))
    report = judgements.join(catalog).join_report
    assert report is not None and (report.pairs, report.joined, report.unknown_items) == (60 * 12, 60 * 12, 0)


def test_queries_carry_split_family_facts_and_context(shop: Shop, folder: Path) -> None:
    frame = pl.read_csv(folder / "queries.csv", schema_overrides={"facts": pl.String})
    assert frame["query"].to_list() == [q.text for q in shop.queries]
    assert frame["facts"].fill_null("").to_list() == [q.facts for q in shop.queries]
    assert frame["context_kind"].to_list() == [c.kind for c in shop.chunks]
    assert frame["split"].value_counts().sort("split")["count"].to_list() == [6, 12, 42]  # dev, test, train of 60


def test_sessions_name_queries_and_items_by_id(shop: Shop, folder: Path) -> None:
    frame = pl.read_parquet(folder / "sessions.parquet")
    assert len(frame) == 42 * 2 * 20  # training queries, sessions, positions
    assert frame["clicked"].dtype == pl.Boolean and frame["clicked"].sum() == shop.sessions["clicked"].sum()
    assert set(frame["item_id"]) <= set(shop.catalog.ids)
    held = shop.sessions
    named = {
        (shop.query_id(q), session, position): shop.catalog.ids[item]
        for q, session, position, item in zip(
            *(held[name].tolist() for name in ("query", "session", "position", "item")), strict=True
        )
    }
    rows = frame.select("query_id", "session", "position", "item_id").rows()
    assert {tuple(place): item for *place, item in rows} == named


def test_sessions_are_impressions_in_order_of_time(shop: Shop, folder: Path) -> None:
    frame = pl.read_parquet(folder / "sessions.parquet")
    assert frame["time"].is_sorted() and str(frame["time"].dtype) == "Datetime(time_unit='ms', time_zone='UTC')"
    pages = frame.group_by("query_id", "session").agg(pl.col("time").n_unique(), pl.col("position").sum())
    assert pages["time"].max() == 1 and pages["position"].unique().to_list() == [210]  # a page at once, places 1 to 20
    texts = dict(shop.query_frame().select("query_id", "query").rows())
    assert [texts[key] for key in frame["query_id"]] == frame["query"].to_list()
    about = json.loads((folder / "shop.json").read_text())
    assert about["examination"][:2] == [1.0, 0.615572] and len(about["examination"]) == 20  # 2 ** -0.7


def test_clicks_follow_utility_and_place(shop: Shop) -> None:
    """Over many sessions a place is clicked as often as its examination times the utility of what stands there."""
    from goodrate.shop.behaviour import examination, simulate_sessions

    query = int(shop.queries_of("train")[0])
    made = simulate_sessions(shop.world, shop.truth(query), np.random.default_rng(5), 4000)
    worth = shop.utility(query)[made["item"]]
    for place in (1, 5, 20):
        here = made["position"] == place
        expected = examination()[place - 1] * worth[here].mean()
        assert made["clicked"][here].mean() == pytest.approx(expected, abs=4 * (expected / 4000) ** 0.5)


def test_rationales_say_the_judged_label(shop: Shop, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "rationales.jsonl").read_text().splitlines()]
    labels = {(q, i): FOUR_LEVEL.index(label) for q, _, i, label in shop.judgement_frame().rows()}
    assert len(rows) == len(labels) == 720
    for row in rows:
        parsed = parse(row["rationale"])
        assert parsed.status == "ok" and parsed.label == labels[row["query_id"], row["item_id"]]


def test_facts_read_back(shop: Shop, folder: Path) -> None:
    book = FactBook.load(folder / "facts.jsonl")
    assert len(book) == 300 + 256  # a name per model, a name per line
    wanted = [q for q in shop.queries if q.facts and q.facts.split(" : ")[0] in q.text]
    assert wanted and all(book.of(q.text) == q.facts for q in wanted)


def test_shop_json_is_enough_to_make_the_shop_again(shop: Shop, folder: Path) -> None:
    about = json.loads((folder / "shop.json").read_text())
    again = generate(ShopSettings(**about["settings"]))
    assert again.queries == shop.queries and (again.labels == shop.labels).all()
    assert about["catalog_hash"] == again.catalog.content_hash and about["rulebook_hash"] == shop.book.hash


def test_the_same_settings_write_the_same_bytes(shop: Shop) -> None:
    assert dict(export.contents(generate(SETTINGS))) == dict(export.contents(shop))


def test_a_shop_without_sessions_is_written(tmp_path: Path) -> None:
    bare = generate(SETTINGS.model_copy(update={"sessions": 0}))
    export.write_shop(bare, tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "sessions.parquet")
    assert (len(frame), frame["query_id"].dtype, frame["clicked"].dtype) == (0, pl.String, pl.Boolean)


def test_a_failure_while_writing_leaves_the_older_shop_whole(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export.write_shop(shop, tmp_path / "out")
    before = {entry.name: entry.read_bytes() for entry in out.iterdir()}

    def broken(made: Shop, _size: int | None) -> Iterator[tuple[str, bytes]]:
        yield "shop.json", b"{}"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "contents", broken)
    with pytest.raises(OSError, match="No space left"):
        export.write_shop(shop, out)
    assert {entry.name: entry.read_bytes() for entry in out.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_holds_nothing_but_a_lock_is_empty(shop: Shop, tmp_path: Path) -> None:
    with one_writer(tmp_path / "out"):
        pass
    export.write_shop(shop, tmp_path / "out")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == sorted(export.FILES)


def test_a_folder_with_other_files_is_refused_and_left_alone(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="'thesis.txt'"):
        export.write_shop(shop, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        export.write_shop(shop, tmp_path / "thesis.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


# ---- the command


def test_the_command_writes_and_replaces(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in ("0", "7"):
        result = CliRunner().invoke(command, ["--out", str(out), "--set", f"seed={seed}", *SMALL])
        assert result.exit_code == 0, result.output
        assert "300 items, 60 queries, 720 judged pairs" in result.output
    assert json.loads((out / "shop.json").read_text())["settings"]["seed"] == 7


def test_show_prints_each_family_with_truth_and_deciding_rule(shop: Shop) -> None:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(command, ["--show", "2", *SMALL])
    assert result.exit_code == 0, result.output
    shown = example_pairs(shop, 2)
    assert list(shown) == ["head", "attribute", "negation", "alternative", "question", "knowledge"]
    for family, pairs in shown.items():
        assert f"{family} ─" in result.output and len(pairs) == 2
        for pair in pairs:
            assert pair["query"] in result.output and f"{pair['label']} " in result.output
            assert pair["rationale"].splitlines()[-1] in result.output and pair["rule"] in result.output
    assert "all_met: it meets everything that was asked for" in result.output


def test_shown_labels_take_turns(shop: Shop) -> None:
    shown = {family: [pair["position"] for pair in pairs] for family, pairs in example_pairs(shop, 8).items()}
    assert len(set(shown["attribute"])) >= 3 and len(set(shown["head"])) >= 3
    assert (shown["head"][0], shown["attribute"][0]) == (3, 2)  # each family begins one label lower


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --out DIR"),
        (["--show", "1", "--set", "itms=300"], "did you mean 'items'"),
        (["--show", "1", "--set", "seed=1000000"], "seed"),
        (["--show", "1", "--set", "items=10"], "items"),
    ],
)
def test_wrong_input_is_one_clear_message(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(command, arguments).exception
    assert isinstance(error, ValueError) and message in str(error)


def test_pictures_go_with_the_shop_and_with_what_they_tell(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "pictured"
    assert CliRunner().invoke(command, ["--out", str(out), *SMALL, "--pictures", "--picture-size", "16"]).exit_code == 0
    names = [f"{item}.png" for item in shop.catalog.ids]
    assert sorted(path.name for path in (out / "images").iterdir()) == names
    items = read_catalog(out / "catalog.parquet", images=out)
    assert items.frame.drop("image").equals(shop.catalog.frame.drop("image"))
    shown = picture_share(shop.world, 0)
    drawn = draw_item(shop.world, 7, size=16, view=photo_view(shop.world, 7), shown=shown[7])
    assert np.array_equal(np.asarray(Image.open(BytesIO(items.picture(7) or b""))), drawn)
    truth = pl.read_csv(out / "pictured.csv")
    assert truth["in_picture"].to_numpy().reshape(shown.shape).tolist() == shown.tolist()
    assert truth["in_text"].to_numpy().reshape(shown.shape).tolist() == shop.world.stated.tolist()
    assert truth.row(12 * 7) == ("p000007", "color", shop.world.taxonomy.values[0][shop.world.values[7, 0]],
                                 bool(shop.world.stated[7, 0]), bool(shown[7, 0]))  # fmt: skip
    assert json.loads((out / "shop.json").read_text())["picture_size"] == 16
    # replaced by a shop without pictures; pictures of others are no older shop
    assert CliRunner().invoke(command, ["--out", str(out), *SMALL]).exit_code == 0
    assert sorted(entry.name for entry in out.iterdir()) == sorted(export.FILES)
    (out / "images").mkdir()
    (out / "images" / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds other files, such as 'images'"):
        export.write_shop(shop, out)
    assert (out / "images" / "holiday.png").read_bytes() == b"mine"
