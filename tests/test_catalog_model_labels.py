"""Labels that a model made are told apart from people's: read, left out, measured and trained on as one asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import goodrate as gr
from calling import called
from goodrate.api.agreeing import rater_agreement
from goodrate.api.judging import ItemSource, read_pair_file
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import frame_data, load_data
from goodrate.recipes.judge_ensemble import JUDGE_ENSEMBLE
from goodrate.recipes.judge_human import JUDGE_HUMAN
from goodrate.recipes.judge_human import Settings as HumanSettings
from goodrate.scale import GRADED_0_3

ROWS = [
    ("red lamp", "a", 3, "Ann"),
    ("red lamp", "b", 0, "Ann"),
    ("red lamp", "a", 2, "model:big"),
    ("red lamp", "c", 1, "model:big"),
    ("oak chair", "a", 0, " Model:small"),
    ("oak chair", "c", 3, "model:big"),
]


def file_of(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    path = folder / "labels.csv"
    pl.DataFrame(rows, schema=["query", "item_id", "label", "rater"], orient="row").write_csv(path)
    return path


def labels_of(judgements: Judgements) -> dict[tuple[str, str], str]:
    return {(query, item): label for query, item, label in judgements.frame.select("query", "item_id", "label").rows()}


def test_people_alone_are_read_unless_said(tmp_path: Path) -> None:
    read = read_judgements(file_of(tmp_path, ROWS), GRADED_0_3)
    assert labels_of(read) == {("red lamp", "a"): "3", ("red lamp", "b"): "0"} and read.models == ()
    told = "4 labels made by model:big, Model:small are left out (--labels-by"
    assert any(note.startswith(told) for note in read.notes)


def test_a_models_alone(tmp_path: Path) -> None:
    read = read_judgements(file_of(tmp_path, ROWS), GRADED_0_3, labels_by="model")
    assert labels_of(read) == {
        ("red lamp", "a"): "2", ("red lamp", "c"): "1", ("oak chair", "a"): "0", ("oak chair", "c"): "3",
    }  # fmt: skip
    assert read.models == ("model:big", "Model:small") and len(read.of_people()) == 0
    assert any(
        "4 pairs are labelled by model:big, Model:small, not by people; 2 labels of people" in n for n in read.notes
    )


def test_any_takes_a_models_where_no_person_labelled_and_counts_them_apart(tmp_path: Path) -> None:
    read = read_judgements(file_of(tmp_path, ROWS), GRADED_0_3, labels_by="any")
    # a person labelled (red lamp, a) and (red lamp, b); of a model's four, the first is left out
    assert labels_of(read)["red lamp", "a"] == "3" and len(read) == 5
    assert labels_of(read.of_people()) == {("red lamp", "a"): "3", ("red lamp", "b"): "0"}
    told = (
        "3 pairs are labelled by model:big, Model:small and 2 by people; 1 labels of a model are left out where people"
    )
    assert any(note.startswith(told) for note in read.notes)
    assert read.select({"oak chair"}).models and not read.select({"oak chair"}).of_people().models
    items = gr.read_catalog(pl.DataFrame({"id": ["a", "c"], "title": ["lamp", "chair"]}))
    joined = read.join(items)
    assert len(joined) == 4 and len(joined.of_people()) == 1
    with pytest.raises(
        ValueError, match="these labels are people's and those of model:big, Model:small, and no report mixes"
    ):
        joined.require_one_kind()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    made = file_of(tmp_path, ROWS[2:])
    with pytest.raises(
        ValueError, match=r"labels.csv: all 4 labels are made by model:big, Model:small, not by people"
    ):
        read_judgements(made, GRADED_0_3)
    with pytest.raises(ValueError, match=r"no label is made by a model: no rater's name begins with 'model:'"):
        read_judgements(file_of(tmp_path, ROWS[:2]), GRADED_0_3, labels_by="model")
    with pytest.raises(ValueError, match="labels_by 'robots': expected one of people, model, any"):
        read_judgements(made, GRADED_0_3, labels_by="robots")  # type: ignore[arg-type]
    plain = tmp_path / "plain.csv"
    plain.write_text("query,item_id,label\nlamp,a,3\n")
    assert read_judgements(plain, GRADED_0_3).read.models is None


def test_raters_in_columns_are_told_apart_too(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("query,item_id,Ann,Bob,model:big\nlamp,a,3,3,0\nlamp,b,0,1,3\n")
    read = read_judgements(path, GRADED_0_3, raters=["Ann", "Bob", "model:*"])
    assert labels_of(read) == {("lamp", "a"): "3", ("lamp", "b"): "0"}


def test_agreement_has_the_model_in_pairs_of_raters_and_people_alone_in_alpha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("lamp", str(n), n % 4) for n in range(8)]
    rows = [(*pair, rater) for pair in pairs for rater in ("Ann", "Bob")]
    wrong = [(query, item, 3 - label, "model:big") for query, item, label in pairs]
    found = rater_agreement(read_judgements(file_of(tmp_path, [*rows, *wrong]), GRADED_0_3, labels_by="any"))
    assert found.models == ("model:big",) and found.differing == 0 and found.alpha["ordinal"].value == 1.0
    assert {two.raters: two.same for two in found.rater_pairs}[("Ann", "model:big")] == 0.0
    one_person = file_of(tmp_path, [row for row in [*rows, *wrong] if row[3] != "Bob"])
    code, out, _ = called(monkeypatch, capsys, "agreement", one_person, "--scale", "graded_0_3")
    assert code == 0 and "models among the raters: model:big; first, people alone" in out and "alpha" not in out


# ---- measuring


@pytest.fixture
def index(tmp_path: Path) -> gr.Index:
    items = pl.DataFrame({"id": ["a", "b", "c"], "title": ["red lamp", "blue lamp", "oak chair"]})
    return gr.Index.create(tmp_path / "idx", gr.read_catalog(items))


def test_a_report_says_whose_labels_it_measures_against_and_never_mixes_them(tmp_path: Path, index: gr.Index) -> None:
    path = file_of(tmp_path, ROWS)
    by_people = gr.evaluate(["lexical"], gr.read_judgements(path, "graded_0_3"), index=index, judged_only=True)
    assert by_people.labels_by == () and "labels_by" not in by_people.as_dict() and "made by" not in str(by_people)
    made = gr.read_judgements(path, "graded_0_3", labels_by="model")
    by_model = gr.evaluate(["lexical"], made, index=index, judged_only=True)
    assert by_model.as_dict()["labels_by"] == ["model:big", "Model:small"]
    assert by_model.footnotes()[0] == "measured against labels made by model:big, Model:small, not by people"
    with pytest.raises(ValueError, match="no report mixes them"):
        gr.evaluate(["lexical"], gr.read_judgements(path, "graded_0_3", labels_by="any"), index=index)


def test_the_command_leaves_a_models_labels_out_unless_told(
    tmp_path: Path, index: gr.Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("evaluate", index.store.path, "--judged-only", "--scale", "graded_0_3", "--judgements")
    path = file_of(tmp_path, ROWS)
    code, out, err = called(monkeypatch, capsys, *given, path)
    assert code == 0 and "4 labels made by model:big" in err and "made by" not in out
    code, out, err = called(monkeypatch, capsys, *given, path, "--labels-by", "model")
    assert code == 0 and "measured against labels made by model:big" in " ".join(out.split())
    made = file_of(tmp_path, ROWS[2:])
    code, out, err = called(monkeypatch, capsys, *given, made)
    assert code == 2 and "labels.csv: all 4 labels are made by model:big" in err and "--labels-by" in err
    code, out, err = called(
        monkeypatch, capsys, "tune", index.store.path, "--scale", "graded_0_3", "--judgements", made
    )
    assert code == 2 and "not by people" in err


def test_a_pair_file_says_that_its_labels_are_a_models(tmp_path: Path) -> None:
    table = read_pair_file(file_of(tmp_path, ROWS), ItemSource(), {"item_text": "item_id"})
    assert table.models == ("Model:small", "model:big")


# ---- training


def training_file(folder: Path) -> tuple[Path, Path]:
    """Twenty queries: people labelled every pair of the even ones, a model those of all."""
    kinds = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]
    queries = [f"{colour} {kind}" for kind in kinds for colour in ("red", "blue")]
    pl.DataFrame({"id": kinds, "title": kinds}).write_csv(folder / "items.csv")
    rows = [
        (query, item, int(query.endswith(item)) * 3, rater)
        for place, query in enumerate(queries)
        for item in kinds[:4]
        for rater in (("Ann", "model:big") if place % 2 == 0 else ("model:big",))
    ]
    return folder / "items.csv", file_of(folder, rows)


def test_training_takes_both_and_measures_on_people(tmp_path: Path) -> None:
    items, labels = training_file(tmp_path)
    given = {"catalog": str(items), "judgements": str(labels), "scale": "graded_0_3", "dev_share": 0.3}
    people, both, model = (load_data(DataSettings(**given, labels_by=by)) for by in ("people", "any", "model"))
    assert sum(map(len, people.parts.values())) == 40 and not people.parts["train"].models
    assert both.parts["train"].models == ("model:big",) and both.parts["dev"].models == () and both.label_warnings == ()
    assert len(both.parts["train"]) > len(both.parts["train"].of_people()) > 0
    # 40 pairs of people, 40 of the other queries by the model, whose labels of people's pairs are left out
    told = "40 pairs are labelled by model:big and 40 by people; 40 labels of a model are left out where"
    assert any(note.startswith(told) for note in both.notes)
    assert len(model.parts["dev"].of_people()) == 0
    assert model.label_warnings == (
        "tuned and measured on labels made by model:big, not by people: its numbers are agreement with it",
    )


def test_a_judge_of_folds_and_a_judge_of_people_take_one_kind(tmp_path: Path) -> None:
    items, labels = training_file(tmp_path)
    given = {"catalog": str(items), "judgements": str(labels), "scale": "graded_0_3", "dev_share": 0.3}
    both = load_data(DataSettings(**given, labels_by="any"))
    with pytest.raises(ValueError, match="no report mixes them"):
        JUDGE_ENSEMBLE.run(JUDGE_ENSEMBLE.settings(encoders=["none"]), both, tmp_path / "out", print)
    with pytest.raises(ValueError, match=r"takes none of a model \(model:big\)"):
        JUDGE_HUMAN.run(HumanSettings(), both, tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


def test_frames_in_memory_are_measured_on_people_too(tmp_path: Path) -> None:
    items, labels = training_file(tmp_path)
    catalog = gr.read_catalog(items)
    read = gr.read_judgements(labels, "graded_0_3", labels_by="any")
    train, dev = read.split(0.5, 0.5)
    data = frame_data(train, dev, catalog)
    assert data.parts["train"].models and not data.parts["dev"].models and len(data.parts["dev"]) > 0
