"""Several raters: kept, merged by a stated rule, and never merged in silence."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.judgements import frame_judgements, read_judgements
from goodrate.scale import GRADED_0_3

LONG = "query,item_id,label,annotator\nlamp,a,3,x\nlamp,a,0,y\nlamp,a,2,z\nlamp,a,3,v\nlamp,b,1,x\n"
WIDE = "query,item_id,agent_1_rating,agent_2_rating,agent_3_rating,final\nlamp,a,3,0,2,3\nlamp,b,1,,,1\nrug,a,,,,\n"


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path / "labels.csv"


@pytest.mark.parametrize(
    ("rule", "label"),
    # labels 3, 0, 2, 3. Sorted 0 2 3 3: the lower median is 2. Most frequent 3. Mean 2.0. Lowest 0.
    [("median", 2), ("majority", 3), ("mean", 2), ("min", 0), (None, 2)],
)
def test_long_files_are_merged_by_the_rule(tmp_path: Path, rule: str | None, label: int) -> None:
    judged = read_judgements(write(tmp_path, LONG), GRADED_0_3, merge=rule)  # type: ignore[arg-type]
    assert judged.qrels() == {"lamp": {"a": label, "b": 1}}
    report = judged.read.merge
    assert report is not None and (report.rule, report.raters, report.pairs) == (rule or "median", 4, 2)
    assert (report.several, report.differing) == (1, 1)
    assert "4 raters: 1 of 2 pairs have several labels, 1 of them (100.0%) different ones; merged by" in judged.notes[0]
    assert judged.read.ratings is not None and len(judged.read.ratings) == 5


@pytest.mark.parametrize(
    ("labels", "median", "majority", "mean"),
    # two of each: the lower one; 0 and 3 have the mean 1.5, half goes down; 1 1 3 3 has mean 2
    [("03", 0, 0, 1), ("1133", 1, 1, 2), ("013", 1, 0, 1), ("233", 3, 3, 3), ("0003", 0, 0, 1)],
)
def test_ties_go_to_the_lower_label(labels: str, median: int, majority: int, mean: int) -> None:
    frame = pl.DataFrame({"query": ["q"] * len(labels), "item_id": ["a"] * len(labels), "label": list(labels)})
    frame = frame.with_columns(rater=pl.Series([f"r{number}" for number in range(len(labels))]))
    merged = [
        frame_judgements(frame, GRADED_0_3, merge=rule).qrels()["q"]["a"] for rule in ("median", "majority", "mean")
    ]
    assert merged == [median, majority, mean]


def test_wide_files(tmp_path: Path) -> None:
    judged = read_judgements(write(tmp_path, WIDE), raters=["agent_*_rating"])
    assert judged.qrels() == {"lamp": {"a": 2, "b": 1}} and judged.scale == GRADED_0_3
    assert judged.read.unrated == 5 and judged.read.ratings_read == 9
    assert judged.read.merge is not None and (judged.read.merge.raters, judged.read.merge.several) == (3, 1)
    assert judged.select({"none"}).read.ratings is not None and len(judged.select({"none"}).read.ratings) == 0  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"no column 'label'.*each of agent_\*_rating is one rater's: --raters 'agent_\*_"
    ):
        read_judgements(write(tmp_path, WIDE))
    assert read_judgements(write(tmp_path, WIDE), GRADED_0_3, mapping={"label": "final"}).qrels()["lamp"]["a"] == 3
    with pytest.raises(ValueError, match=r"--raters 'who_\*' names no column; columns: query, item_id, agent_1_rating"):
        read_judgements(write(tmp_path, WIDE), raters=["who_*"])
    with pytest.raises(ValueError, match="--raters names one column, 'final'"):
        read_judgements(write(tmp_path, WIDE), raters=["final"])
    with pytest.raises(ValueError, match="leave label and rater out of --map"):
        read_judgements(write(tmp_path, WIDE), raters=["agent_*"], mapping={"label": "final"})


def test_two_labels_of_a_pair_without_raters_are_an_error_or_a_stated_merge(tmp_path: Path) -> None:
    path = write(tmp_path, "query,item_id,label\nlamp,a,3\nlamp,a,0\nlamp,a,3\nlamp,b,2\nlamp,b,2.0\n")
    message = (
        r"row 3, column label: expected one label a pair; row 2 gives another \(--merge median, majority, mean or min"
    )
    with pytest.raises(ValueError, match=message):
        read_judgements(path)
    judged = read_judgements(path, merge="majority")
    assert judged.qrels() == {"lamp": {"a": 3, "b": 2}}  # two of three say 3
    assert "raters without names: 2 of 2 pairs have several labels, 1 of them (50.0%) different" in judged.notes[-1]


def test_equal_repeats_are_counted(tmp_path: Path) -> None:
    judged = read_judgements(write(tmp_path, "query,item_id,label\nlamp,a,3\nlamp,a,3.0\nlamp,b,0\n"))
    assert len(judged) == 2 and judged.notes[-1] == "1 rows say again what another one says"


def test_one_rater_has_one_label_of_a_pair(tmp_path: Path) -> None:
    path = write(tmp_path, "query,item_id,label,rater\nlamp,a,3,x\nlamp,a,0,x\nlamp,b,2,\n")
    with pytest.raises(ValueError) as caught:
        read_judgements(path, GRADED_0_3, merge="median")
    assert "row 3, column label: expected one label a rater and pair; row 2 gives another" in str(caught.value)
    assert "row 4, column rater: expected rater to be filled, found nothing" in str(caught.value)
    assert len(read_judgements(path, GRADED_0_3, skip_bad=2)) == 1
