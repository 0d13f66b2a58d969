"""Agreement of raters: numbers that are known from elsewhere, and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from calling import called
from goodrate.evaluation.agreement import agreement, disagreements
from goodrate.scale import GRADED_0_3, get_scale

FIVE = get_scale({"name": "five", "labels": [1, 2, 3, 4, 5], "gains": [0, 1, 2, 3, 4], "positive": [5]})
# Data C of Krippendorff (1980), as R's irr and DescTools print it: four raters, twelve units, gaps.
UNITS = (
    "1 1 - 1 / 2 2 3 2 / 3 3 3 3 / 3 3 3 3 / 2 2 2 2 / 1 2 3 4 / "
    "4 4 4 4 / 1 1 2 1 / 2 2 2 2 / - 5 5 5 / - - 1 1 / - - 3 -"
)


def ratings(units: str) -> pl.DataFrame:
    rows = [
        (f"q{unit}", "text", "item", label, f"r{rater}")
        for unit, labels in enumerate(units.split("/"))
        for rater, label in enumerate(labels.split())
        if label != "-"
    ]
    return pl.DataFrame(rows, schema=["query_id", "query", "item_id", "label", "rater"], orient="row")


def test_krippendorffs_own_example() -> None:
    """irr's kripp.alpha gives 0.743 nominal and 0.815 ordinal."""
    found = agreement(ratings(UNITS), FIVE)
    assert found.alpha["nominal"].value == pytest.approx(0.743, abs=5e-4)
    assert found.alpha["ordinal"].value == pytest.approx(0.815, abs=5e-4)
    assert (found.ratings, found.by_raters) == (41, {1: 1, 2: 1, 3: 2, 4: 8})
    assert (found.several, found.differing) == (11, 3)  # units 2, 6 and 8
    low, high = found.alpha["ordinal"].low, found.alpha["ordinal"].high
    assert low < 0.815 < high and found.alpha == agreement(ratings(UNITS), FIVE).alpha


def test_cohens_kappa_by_hand() -> None:
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: 0.7 agree, chance 0.25 + 0.25, kappa (0.7 - 0.5) / 0.5 = 0.4."""
    cells = ["1 1"] * 20 + ["1 0"] * 5 + ["0 1"] * 10 + ["0 0"] * 15
    two = agreement(ratings("/".join(cells)), get_scale("binary")).rater_pairs[0]
    assert (two.raters, two.pairs, two.same) == (("r0", "r1"), 50, pytest.approx(0.7))
    assert two.kappa == {
        name: pytest.approx(0.4) for name in ("none", "linear", "quadratic")
    }  # two labels: all the same


def test_weights_count_how_far_apart_labels_are() -> None:
    """0/0, 3/3, 0/3, 0/1: observed distance linear 4/4 = 1, expected over the marginals (3 0s, 1 3; 0 1 3 3) / 16.

    0 with 0, 1, 3, 3 is 7, three times 21; 3 with them is 3 + 2 + 0 + 0 = 5: 26 / 16. Kappa 1 - 1 / (26 / 16).
    """
    two = agreement(ratings("0 0 / 3 3 / 0 3 / 0 1"), GRADED_0_3).rater_pairs[0]
    assert two.kappa["linear"] == pytest.approx(1 - 16 / 26)


def test_one_label_throughout_has_no_kappa_and_raters_apart_are_counted() -> None:
    found = agreement(ratings("2 2 - / 2 2 - / - - 2"), FIVE)
    assert [value != value for value in found.rater_pairs[0].kappa.values()] == [True] * 3
    assert found.alpha["ordinal"].value != found.alpha["ordinal"].value and found.unshared == 2
    with pytest.raises(ValueError, match="none of the 2 pairs has two labels"):
        agreement(ratings("2 - / - 2"), FIVE)


def test_the_pairs_furthest_apart_come_first() -> None:
    table = disagreements(ratings("1 1 / 1 5 / 3 4 / 2 2 / 1 3 5 / 2 3"), FIVE)
    assert table["query_id"].to_list() == ["q1", "q4", "q2", "q5"]  # 1 5 lies further apart than 1 3 5
    assert table.columns[3:] == ["spread", "labels", "label of r0", "label of r1", "label of r2"]
    assert table.row(1)[3:] == (4, 3, "1", "3", "5") and table.row(2)[3:] == (1, 2, "3", "4", None)
    unnamed = disagreements(ratings("1 5 / 2 2").drop("rater"), FIVE)
    assert unnamed.rows() == [("q0", "text", "item", 4, 2, "1; 5")]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "120")
        return called(monkeypatch, capsys, "agreement", *arguments)

    return call


def test_the_verb(run, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("query,item_id,a1,a2\nlamp,x,3,3\nlamp,y,0,3\nrug,x,1,0\nrug,y,2,\n")
    out_file = tmp_path / "out" / "apart.csv"
    code, out, err = run(labels, "--raters", "a1,a2", "--out", out_file)
    assert code == 0 and "2 of 3 pairs (66.7%) have different labels" in out and "Krippendorff's alpha, ordinal" in out
    assert "4 pairs by number of labels: 1 with 1, 3 with 2" in out and "1 of 8 ratings are blank" in err
    written = pl.read_csv(out_file)
    assert written["item_id"].to_list() == ["y", "x"] and written["spread"].to_list() == [3, 1]
    report = json.loads(run(labels, "--raters", "a?", "--json")[1])
    assert report["cohen_kappa"][0]["raters"] == ["a1", "a2"] and report["pairs_with_different_labels"] == 2
    labels.write_text("query,item_id,label\nlamp,x,3\nlamp,y,0\n")
    code, out, err = run(labels)
    assert code == 2 and out == "" and "one label a pair and no raters: give a file with a column rater" in err
    assert "--out apart.txt: expected a name that ends in .csv" in run(labels, "--out", "apart.txt")[2]
