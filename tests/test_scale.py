"""Scales: those of the package, a user's own from a TOML file, and the one that labels are on."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from calling import called
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.examples.settings import DataSettings
from goodrate.relevance import human_judge
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.rulebook import load_rulebook
from goodrate.scale import ESCI, GRADED_0_3, get_scale, read_scale, scale_entry, tell_scale
from goodrate.settings import load, to_toml

STARS = """name = "stars"
labels = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
gains = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
positive = [7, 8, 9, 10]
aliases = { "Sehr gut" = 10, "-" = 0 }
"""
CLICKS = """name = "clicks"
labels = ["low", "Middle", "high"]
gains = [0, 0.3, 1]
positive = ["high"]
edges = [0.3, 0.7]
range = [0.0, 1.0]
"""


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    (tmp_path / "stars.toml").write_text(STARS)
    return tmp_path / "stars.toml"


def test_a_scale_of_the_user(stars: Path) -> None:
    scale = get_scale(str(stars))
    assert len(scale) == 11 and scale.positive == {"7", "8", "9", "10"}
    assert [scale.index(label) for label in ("10", 10.0, "sehr  GUT", "-", "3.00")] == [10, 10, 10, 0, 3]
    with pytest.raises(ValueError, match="label '11' is not on scale stars; accepted: 0, 1, .*10, Sehr gut, -"):
        scale.index("11")
    assert get_scale(scale_entry(scale)) == scale and scale_entry(ESCI) == "esci"


def test_continuous_grades_are_binned_by_edges(tmp_path: Path) -> None:
    """Edges 0.3 and 0.7: a grade at an edge has the upper label; both ends of the range are in it."""
    (tmp_path / "clicks.toml").write_text(CLICKS)
    scale = read_scale(tmp_path / "clicks.toml")
    grades = {0: 0, "0.29": 0, "0.3": 1, 0.69: 1, "0.70": 2, "1.000": 2, "middle": 1}
    assert {grade: scale.index(grade) for grade in grades} == grades
    (tmp_path / "pairs.csv").write_text("query,item_id,label\nlamp,a,0.93\nlamp,b,0.3\nlamp,c,0\n")
    judged = read_judgements(tmp_path / "pairs.csv", scale)
    assert judged.frame["label"].to_list() == ["high", "Middle", "low"]
    (tmp_path / "pairs.csv").write_text("query,item_id,label\nlamp,a,0.93\nlamp,b,1.01\nlamp,c,nan\n")
    with pytest.raises(ValueError, match=r"row 3, column label: expected one of .*grades from 0 to 1 \(clicks\)"):
        read_judgements(tmp_path / "pairs.csv", scale)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gains = [0, 0.3, 1]", "gains = [0, 1]", r"clicks.toml, gains: expected 3 rising numbers from 0 on"),
        ("gains = [0, 0.3, 1]", "gains = [0, 1, 0.5]", "gains: expected 3 rising numbers"),
        ("gains = [0, 0.3, 1]", "gain = [0, 0.3, 1]", "unknown key 'gain'; a scale has name, labels, gains, positive"),
        ("gains = [0, 0.3, 1]", "", "no key 'gains'"),
        ('["high"]', '["top"]', "positive: expected some of the labels, not all, found .'top'."),
        ('"Middle"', '"LOW"', "labels: expected two or more that differ"),
        ('name = "clicks"', 'name = "esci"', "name: expected a name that is not one of four_level"),
        ("edges = [0.3, 0.7]", "edges = [0.3]", "edges: expected 2 rising numbers in the range, one less than labels"),
        ("edges = [0.3, 0.7]", "edges = [0.7, 1.7]", "edges: expected 2 rising numbers in the range"),
        ("range = [0.0, 1.0]", "", "range: expected a list of numbers, found None"),
        ('"high"', '"1"', "edges: expected labels and aliases that are words, since a number is a grade, found .'1'."),
        (
            "[0.0, 1.0]",
            '[0.0, 1.0]\naliases = { x = "top" }',
            "aliases.x: expected one of low, Middle, high, found 'top'",
        ),
        ("[0.0, 1.0]", '[0.0, 1.0]\naliases = { low = "high" }', "aliases.low: expected a spelling that is no label"),
        ("range =", "range", "clicks.toml: not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_scale_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "clicks.toml").write_text(CLICKS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        get_scale(str(tmp_path / "clicks.toml"))


def test_an_absent_scale_names_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match="no such file: none.toml; known scales: four_level"):
        get_scale("none.toml")
    with pytest.raises(ValueError, match="unknown scale 'stars'; known: four_level, .*or a file of your own"):
        get_scale("stars")


def counts(*labels: object) -> dict[str, int]:
    return {str(label): 1 for label in labels}


def test_labels_tell_the_scale_or_the_candidates_are_named() -> None:
    assert tell_scale(counts(0, 3), "f") == GRADED_0_3  # four_level has no 0, esci no 3
    assert tell_scale(counts(1, 4), "f").name == "four_level"
    assert tell_scale(counts("E", "S"), "f") == tell_scale(counts("100.000", "10.000", "0"), "f") == ESCI
    with pytest.raises(ValueError) as caught:
        tell_scale(counts(1, 2, 3), "r.csv")
    assert str(caught.value) == (
        "r.csv: the labels '1', '2', '3' fit several scales: four_level reads them as irrelevant, mismatch, related; "
        "graded_0_3 reads them as 1, 2, 3; say which (--scale NAME, in training data.scale, in Python scale=)"
    )
    with pytest.raises(ValueError, match="esci reads them as irrelevant, complement; graded_0_3 .*; binary reads"):
        tell_scale(counts(0, 1), "r.csv")
    with pytest.raises(ValueError, match="'0', '1', '10', .* are on none of the known scales .* describe yours"):
        tell_scale(counts(*range(11)), "r.csv")
    assert tell_scale({"excellent": 60, "irrelevant": 40, "exelent": 1}, "f").name == "four_level"  # a wrong row


def test_a_file_without_a_named_scale_says_what_was_told(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("query,item_id,label\nlamp,a,3\nlamp,b,0\n")
    judged = read_judgements(tmp_path / "r.csv")
    assert judged.scale == GRADED_0_3
    assert judged.notes == ("scale graded_0_3, told by the labels (--scale says otherwise)",)
    assert read_judgements(tmp_path / "r.csv", GRADED_0_3).notes == ()
    (tmp_path / "r.csv").write_text("query,item_id,label\nlamp,a,1\nlamp,b,0\n")
    with pytest.raises(ValueError, match="r.csv: the labels '0', '1' fit several scales"):
        read_judgements(tmp_path / "r.csv")


def test_a_judge_keeps_the_scale_whatever_becomes_of_its_file(stars: Path, tmp_path: Path) -> None:
    frame = pl.DataFrame({"query_id": ["1"], "query": ["lamp"], "item_id": ["a"], "label": ["sehr gut"]})
    judged = Judgements(frame, read_scale(stars))
    human_judge.write_human_judge(tmp_path / "judge", judged)
    stars.unlink()
    assert json.loads((tmp_path / "judge" / "judge.json").read_text())["scale"]["aliases"]["Sehr gut"] == "10"
    judge = open_judge(tmp_path / "judge")
    assert judge.scale == judged.scale
    p = judge.probabilities("lamp", [{"id": "a", "title": "lamp"}])
    assert p.shape == (1, 11) and judge.scale.expected_gain(p)[0] == 1.0
    card = read_judge_card(tmp_path / "judge")
    assert card.relevance_scale == judged.scale
    broken = {"kind": "human", "scale": {"name": "x"}}
    (tmp_path / "judge" / "judge.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="judge.json: scale: no key 'labels'"):
        read_judge_card(tmp_path / "judge")


def test_settings_keep_the_content_of_the_file(stars: Path, tmp_path: Path) -> None:
    overrides = [f"scale={stars}", "catalog=c.csv", "judgements=j.csv"]
    settings = load(DataSettings, None, overrides)
    assert (
        get_scale(settings.scale) == read_scale(stars) and JudgeFormat(scale=str(stars)).relevance_scale.name == "stars"
    )
    (tmp_path / "resolved.toml").write_text(to_toml(settings))
    stars.unlink()
    assert load(DataSettings, tmp_path / "resolved.toml", []) == settings
    with pytest.raises(ValueError, match="scale: unknown scale 'five'"):
        load(DataSettings, None, ["scale=five", *overrides[1:]])


def test_a_rule_book_on_a_scale_of_its_own(tmp_path: Path) -> None:
    rules = """columns = { category = ["same", "other"] }
[scale]
name = "two"
labels = ["nein", "ja"]
gains = [0, 1]
positive = ["ja"]
[[rules]]
id = "same"
label = "Ja"
when = { category = ["same"] }
[[rules]]
id = "other"
label = "nein"
when = { category = ["other"] }
"""
    (tmp_path / "rules.toml").write_text(rules)
    book = load_rulebook(tmp_path / "rules.toml")
    assert book.scale.labels == ("nein", "ja") and [book.scale.index(rule.label) for rule in book.rules] == [1, 0]


def test_a_language_models_judge_on_a_scale_of_the_user(stars: Path, tmp_path: Path) -> None:
    """Its labels are the digits from 1; eleven labels are too many for them, binned they are not."""
    from goodrate.recipes.judge_folder import open_policy, write_judge
    from tiny_models import causal_lm

    (tmp_path / "clicks.toml").write_text(CLICKS)
    write_judge(causal_lm(), JudgeFormat(scale=str(tmp_path / "clicks.toml")), tmp_path / "judge")
    scale = read_scale(tmp_path / "clicks.toml")
    (tmp_path / "clicks.toml").unlink()
    assert len(read_judge_card(tmp_path / "judge").label_token_ids) == 3  # type: ignore[attr-defined]
    assert open_policy(tmp_path / "judge")[1].relevance_scale == open_judge(tmp_path / "judge").scale == scale
    with pytest.raises(ValueError, match="label '10' of the 11 of scale stars is 2 tokens .* or train judge_encoder"):
        write_judge(causal_lm(), JudgeFormat(scale=str(stars)), tmp_path / "other")


def test_training_and_measuring_on_a_scale_of_the_user(
    stars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """judge_human has the labels of the training queries, 5 of 8 here: of 16 pairs it knows 10, and rightly."""
    queries = ["desk lamp", "red rug", "oak bed", "glass vase", "tea pot", "door mat", "wall clock", "bath towel"]
    items = [f"{n},{query} {n}" for n, query in enumerate(queries * 2)]
    (tmp_path / "items.csv").write_text("id,title\n" + "\n".join(items) + "\n")
    rows = [f"{query},{n},{10 - n}\n{query},{n + 8},{n / 2}" for n, query in enumerate(queries)]
    rows = [row.replace(".5", "") for row in rows]
    (tmp_path / "labels.csv").write_text("query,item_id,label\n" + "\n".join(rows) + "\n")

    def goodrate(*arguments: object) -> str:
        code, out, err = called(monkeypatch, capsys, *arguments)
        assert code == 0, err
        return out

    index, run = tmp_path / "index", tmp_path / "run"
    goodrate("index", tmp_path / "items.csv", "--out", index)
    data = {"index": index, "judgements": tmp_path / "labels.csv", "scale": stars, "dev_share": 0.3}
    goodrate("train", "judge_human", *(f"--set=data.{key}={value}" for key, value in data.items()), "--out", run)
    given = ("--judgements", tmp_path / "labels.csv", "--scale", stars, "--model", run / "judge", "--systems", "judge")
    report = json.loads(goodrate("evaluate", index, *given, "--judged-only", "--json"))
    judge = report["labels"]["judge"]
    assert (report["scale"], judge["pairs"], judge["failed"], judge["accuracy"]) == ("stars", 16, 6, 10 / 16)
    assert read_judge_card(run / "judge").relevance_scale == read_scale(stars)
