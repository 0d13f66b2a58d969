"""Choosing settings by cross-validation, and goodrate tune as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import goodrate as gr
from goodrate import cli
from goodrate.api.tuning import candidates_of, measured
from goodrate.catalog.splits import query_folds
from goodrate.evaluation.choosing import choose, dealt
from goodrate.evaluation.systems import Task, search_runs
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.search_settings import SETTINGS_FILE, SearchSettings, read_settings
from goodrate.scale import FOUR_LEVEL

WORDS = [
    "amber", "birch", "coral", "denim", "ebony", "fawn", "grape", "hazel", "ivory", "jade", "khaki", "lilac", "maroon",
    "navy", "olive", "peach",
]  # fmt: skip


FIVE = [query % 5 for query in range(40)]


def test_a_choice_is_measured_on_queries_that_had_no_part_in_it() -> None:
    draw = np.random.default_rng(1)
    noise = draw.random((50, 40))  # fifty settings that differ by luck alone: the best looks better by 0.1
    choice = choose(noise, FIVE)
    assert noise[choice.best].mean() > noise[0].mean() + 0.05
    assert not choice.is_better and choice.difference.low < 0 < choice.difference.high
    better = np.vstack([noise[0], noise[0] + 0.2])
    assert choose(better, FIVE).picks == (1,) * 5 and choose(better, FIVE).is_better
    # Each query's value is that of the candidate which the other folds chose.
    assert choice.held_out.tolist() == [noise[choice.picks[fold], query] for query, fold in enumerate(FIVE)]


def test_ties_are_the_defaults_and_what_is_undefined_does_not_count() -> None:
    # Candidate 1 is perfect for two queries of one fold alone, so whoever is measured on them did not choose it.
    values = np.zeros((2, 20))
    values[1, :2] = 1
    choice = choose(values, [query // 2 % 5 if query > 1 else 0 for query in range(20)])
    assert choice.held_out.sum() == 0 and choice.best == 1
    assert choose(np.full((3, 12), 0.5), [0, 1, 2] * 4, default=2).best == 2
    undefined = np.array([[0.1, np.nan] * 6, [0.3, np.nan] * 6])
    assert choose(undefined, [0, 0, 1, 1] * 3).best == 1


def test_alike_queries_are_in_one_fold_and_few_groups_are_refused() -> None:
    queries = [f"{word} {thing}" for word in WORDS for thing in ("lamp", "lamps")]
    folds = dealt(queries, 4, seed=3)
    assert folds[::2] == folds[1::2] and sorted(folds.count(fold) for fold in range(4)) == [8, 8, 8, 8]
    assert folds == [query_folds(queries, 4, 3)[query] for query in queries]  # dealt as everywhere else
    assert len(set(dealt(queries, 99))) == 16
    with pytest.raises(ValueError, match="9 groups of queries: it takes 10 at least"):
        dealt(WORDS[:9])


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Items whose colour stands in an attribute, beside items that mention it in a long title."""
    rows = [
        {"id": f"r{n}", "title": "lamp", "description": "", "attributes": json.dumps({"shade": word})}
        for n, word in enumerate(WORDS)
    ]
    talk = "lamp with a shade and a cord and a switch that looks well beside {} things in a hall or a room of the house"
    rows += [
        {"id": f"w{n}", "title": "lamp", "description": talk.format(word), "attributes": "{}"}
        for n, word in enumerate(WORDS)
    ]
    gr.Index.create(tmp_path / "index", pl.DataFrame(rows))
    labels = [
        f"lamp {word},{item}{n},{label}\n" for n, word in enumerate(WORDS) for item, label in (("r", 4), ("w", 1))
    ]
    (tmp_path / "labels.csv").write_text("query,item_id,label\n" + "".join(labels), encoding="utf-8")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.argv", ["goodrate", "tune", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code


def test_what_beats_the_default_is_written_and_searched_with(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (shop / "index", "--judgements", shop / "labels.csv")
    assert gr.Index.open(shop / "index").search("lamp jade", 1)[0].item["id"].startswith("w")
    run(monkeypatch, *asked, "--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["is_better"] and not told["written"] and told["difference"]["low"] > 0
    assert not (shop / "index" / SETTINGS_FILE).exists()
    run(monkeypatch, *asked)
    out = capsys.readouterr().out
    assert "attribute weight 1" in out and "; kept" in out and "it is now with" in out
    assert read_settings(shop / "index").attribute_weight == 1.0
    assert gr.Index.open(shop / "index").search("lamp jade", 1)[0].item["id"] == f"r{WORDS.index('jade')}"


def test_what_is_no_better_is_not_kept_and_the_defaults_come_back(shop: Path) -> None:
    index = gr.Index.open(shop / "index")
    index.use_settings(SearchSettings(attribute_weight=0.1))
    index.search("lamp jade")
    # Labels that the default already has in the right order: nothing can be better.
    labels = (shop / "labels.csv").read_text().replace(",r", ",x").replace(",w", ",r").replace(",x", ",w")
    (shop / "turned.csv").write_text(labels, encoding="utf-8")
    judgements = gr.read_judgements(shop / "turned.csv")
    tuned = gr.tune(index, judgements, judged_only=True)
    assert tuned.settings == SearchSettings() == read_settings(index.store.path) and tuned.written
    assert "not kept: the interval holds 0" in str(tuned) and index.searcher.settings == SearchSettings()
    with pytest.raises(ValueError, match="has no encoder; fields are what an encoder reads"):
        gr.tune(index, judgements, fields=[["title"]])


class Letters:
    """A fake encoder: letter counts, normalised."""

    fingerprint, dimension = "letters", 26

    def encode_items(self, texts: list[str]) -> np.ndarray:
        counts = np.array([[text.count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    encode_queries = encode_items


def test_recalled_channels_rank_as_a_searcher_does_and_fields_are_only_measured(tmp_path: Path) -> None:
    from goodrate.retrieval.store import Store

    items = pl.DataFrame({"id": [f"i{n}" for n in range(16)], "title": [f"{word} lamp" for word in WORDS]})
    index = gr.Index(Store.create(tmp_path / "index", "letters", 26), Letters())
    index.add(items)
    queries = {f"q{n}": f"{word} light" for n, word in enumerate(WORDS)}
    qrels = {f"q{n}": {f"i{n}": 3, f"i{(n + 1) % 16}": 0} for n in range(16)}
    task, few = Task(queries, qrels), candidates_of(index)[:4]
    values = measured(index, task, FOUR_LEVEL, few, "mrr@10", lambda: None)
    for settings, row in zip(few, values, strict=True):
        one = Searcher(index.store, index.encoder, words=index.words, settings=settings)
        run = search_runs(task, one, "hybrid").runs[0]
        right = [1 / (1 + [item for item, _ in run[f"q{n}"]].index(f"i{n}")) for n in range(16)]
        assert row == pytest.approx(right)
    frame = pl.DataFrame({
        "query_id": list(queries), "query": list(queries.values()), "item_id": [f"i{n}" for n in range(16)],
        "label": [4] * 16,
    })  # fmt: skip
    tuned = gr.tune(index, gr.read_judgements(frame), fields=[["title"]], dry_run=True)
    assert tuned.fields["title"].value == 0 and "encoder fields title: +0.0000" in str(tuned)
