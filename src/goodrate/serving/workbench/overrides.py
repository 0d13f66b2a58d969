"""Overrides of a served judge of entities: what they would change on judged pairs, and saving them for all searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.catalog.judgements import Judgements, frame_judgements
from goodrate.models.asker import require_asker
from goodrate.models.worker import EXPLAINING
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.override_effect import Effect, effect, meant_by
from goodrate.relevance.override_file import OverrideFile, override_id, without
from goodrate.relevance.overrides import Override, Overrides
from goodrate.relevance.pairs import JudgedPair
from goodrate.scale import RelevanceScale
from goodrate.serving.judge_desk import BATCH, JudgeDesk
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import NoJudge
from goodrate.serving.workbench.grading import LABEL, Grading, NoQueue

NO_LABELS = pl.DataFrame(schema={"query": pl.String, "item_id": pl.String, "place": pl.Int64})


@dataclass(frozen=True)
class Preview:
    """What a change would do. effect: None where no label speaks of its queries. labels: all that are there, and of
    them: those of its queries (meant) whose item the index lacks (gone). source: where the labels are from.
    """

    effect: Effect | None
    labels: int
    gone: int
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in words too."""
        told = self.effect.lines() if self.effect else [self._nothing()]
        if self.gone:
            told.append(f"left out: {self.gone:,} labels of items that the index does not have")
        numbers = asdict(self.effect) if self.effect else None
        return {"effect": numbers, "labels": self.labels, "source": self.source, "lines": told}

    def _nothing(self) -> str:
        if self.labels:
            return f"none of the {self.labels:,} labels ({self.source}) is of a query that this speaks of"
        return "there are no labels to count on: start with --judgements FILE, or grade pairs in the workbench"


@dataclass(frozen=True)
class PreviewLabels:
    """The labels to count on. given: a file's; None: what people have graded in the workbench."""

    given: Judgements | None
    grading: Grading

    def of(self, scale: RelevanceScale) -> tuple[pl.DataFrame, str]:
        """query, item_id and label's place on the scale, one row a pair; and where they are from."""
        found = self.given or self._graded(scale)
        source = "the file of --judgements" if self.given else "grades of the workbench"
        if found is None:
            return NO_LABELS, source
        return found.frame.select("query", "item_id").with_columns(place=pl.Series(found.label_indices())), source

    def _graded(self, scale: RelevanceScale) -> Judgements | None:
        """The grades; none where there is no queue, nobody has graded, or the queue is on another scale."""
        try:
            if self.grading.scheme().scale.labels != scale.labels:
                return None
        except NoQueue:
            return None
        rows = [row for row in self.grading.votes() if row["kind"] == LABEL]
        names = {"query": "query", "item_id": "item_id", "label": "label", "rater": "rater_key"}
        frame = pl.DataFrame([{ours: row[own] for ours, own in names.items()} for row in rows])
        return frame_judgements(frame, scale, merge="median") if rows else None


class LiveOverrides:
    """The overrides of the judge that is served. labels: what changes are counted on."""

    def __init__(self, current: Callable[[], SearchPipeline], labels: PreviewLabels) -> None:
        self._current, self._labels = current, labels

    def listed(self, most: int = 100) -> dict[str, Any]:
        """The overrides with their ids, in their order, the newest lines of the log, and the types of entities."""
        judge, inner, file = self._judge()
        rules = file.read()
        each = [{"id": override_id(one), **one.model_dump()} for one in rules.override]
        return {
            "judge": judge.name, "types": list(inner.rules.types), "overrides": each, "log": file.lines(most),
        }  # fmt: skip

    def entities(self, query: str, item_id: str) -> list[dict[str, Any]]:
        """The entities of an item with what is said of each under a query, the strongest first."""
        pipeline = self._current()
        judge, inner, _ = self._judge()
        pairs = judge.pairs(query, [pipeline.item(item_id)])
        reading = pipeline.desk.worker.call(lambda: inner.read(pairs), EXPLAINING)
        numbers = reading.numbers[0][reading.numbers[0] >= 0].tolist()
        named = [inner.table.entities[number] for number in numbers]
        said = inner.overrides.of(query, named)
        found = [
            {
                "type": one.type, "text": one.text, "support": round(float(reading.evidence.support[0, at]), 3),
                "conflict": round(float(reading.evidence.conflict[0, at]), 3),
                "override": override_id(said[at]) if at in said else None,
            }
            for at, one in enumerate(named)
        ]  # fmt: skip
        return sorted(found, key=lambda one: -max(one["support"], one["conflict"]))

    def preview(self, one: Override | None = None, remove: str | None = None) -> Preview:
        """What adding an override, or taking one away by its id, changes on judged pairs. Nothing is saved."""
        _, inner, file = self._judge()
        return self._preview(inner, *_changed(file.read(), one, remove))

    def add(self, one: Override, by: str, **more: Any) -> tuple[Preview, str]:
        """Save an override, for every search from here on; what it changed, and its id. more: for the log."""
        _, inner, file = self._judge()
        before, after = _changed(file.read(), one, None)
        told = self._preview(inner, before, after)
        self._use(file.add(before, one, by, told.effect, **more))
        return told, override_id(one)

    def remove(self, key: str, by: str, **more: Any) -> Preview:
        """Take an override away; what that changed. more: for the log. Raises UnknownOverride."""
        _, inner, file = self._judge()
        before, after = _changed(file.read(), None, key)
        told = self._preview(inner, before, after)
        self._use(file.remove(before, key, by, told.effect, **more))
        return told

    def _judge(self) -> tuple[CalibratedJudge, EntityJudge, OverrideFile]:
        """The judge of entities. Raises NoJudge for a server without one."""
        judge = self._current().need_judge()
        if not isinstance(judge.inner, EntityJudge) or judge.folder is None:
            raise NoJudge(f"{judge.name} is no judge of entities; overrides are for one of kind entity (--model JUDGE)")
        return judge, judge.inner, OverrideFile(judge.folder)

    def _preview(self, inner: EntityJudge, before: Overrides, after: Overrides) -> Preview:
        pipeline = self._current()
        frame, source = self._labels.of(inner.scale)
        asked = [query for query in frame["query"].unique(maintain_order=True) if meant_by(query, before, after)]
        meant = frame.filter(pl.col("query").is_in(asked))
        pairs = _pairs(pipeline, meant)
        told = None
        if pairs:
            told = effect(inner.overruled(before), inner.overruled(after), pairs, _in_turns(pipeline.desk))
        return Preview(told, len(frame), len(meant) - len(pairs), source)

    def _use(self, rules: Overrides) -> None:
        """Judge by these from the next request on; servers that watch the file do so on their own."""
        pipeline = self._current()
        judge = pipeline.judge
        if judge is not None and isinstance(judge.inner, EntityJudge) and judge.inner.overrides != rules:
            pipeline.judge = replace(judge, inner=judge.inner.overruled(rules))


def _changed(before: Overrides, one: Override | None, remove: str | None) -> tuple[Overrides, Overrides]:
    if remove is not None:
        return before, without(before, remove)
    assert one is not None
    return before, Overrides(override=(*before.override, one))


def _pairs(pipeline: SearchPipeline, labels: pl.DataFrame) -> list[JudgedPair]:
    """The labelled pairs of items that the index holds."""
    store = pipeline.store
    ids = labels["item_id"].unique().to_list()
    there = sorted(store.matching(ids, None)) if ids else []
    rows: dict[str, dict[str, Any]] = {row["id"]: row for row in store.items(there).to_dicts()} if there else {}
    return [JudgedPair(query, rows[item], label=place) for query, item, place in labels.iter_rows() if item in rows]


def _in_turns(desk: JudgeDesk) -> Callable[[EntityJudge, Sequence[JudgedPair]], np.ndarray]:
    """Judges a few pairs at a time, after all that searches wait for, and no more once who asked has left."""

    def assess(judge: EntityJudge, pairs: Sequence[JudgedPair]) -> np.ndarray:
        parts = []
        for start in range(0, len(pairs), BATCH):
            require_asker()
            part = pairs[start : start + BATCH]
            parts.append(desk.worker.call(lambda part=part: judge.assess(part).probabilities, EXPLAINING))  # type: ignore[misc]
        return np.concatenate(parts)

    return assess


def override_file(judge: CalibratedJudge | None) -> Path | None:
    """The file of a judge's overrides, to be watched; None for another kind."""
    if judge is None or judge.folder is None or not isinstance(judge.inner, EntityJudge):
        return None
    return OverrideFile(judge.folder).path
