"""Choose how an index is searched on judgements, and keep the choice only where it beats the default."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.retrieval.search import Searcher, TextsReadOnce

if TYPE_CHECKING:
    from goodrate.api.index import Index
    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.choosing import Choice
    from goodrate.evaluation.significance import Interval
    from goodrate.evaluation.systems import Task
    from goodrate.retrieval.search_settings import SearchSettings
    from goodrate.scale import RelevanceScale

# From words alone to next to meaning alone: whichever half of a hybrid search is the better one is among them.
DENSE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0, 4.0, 8.0, 100.0)
ATTRIBUTE_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
METRIC = "ndcg@10"
Tick = Callable[[], None]


@dataclass(frozen=True)
class Tuned:
    """What was chosen and how sure that is. candidates[0] is the default.

    means: of each candidate over all queries. choice: see evaluation.choosing. before: the settings that the index had;
    settings: those that it has after it (the best ones where choosing pays, else the defaults); written: whether they
    were written. fields: encoder fields -> the metric with them minus that with the index's own fields.
    """

    metric: str
    queries: int
    candidates: tuple[SearchSettings, ...]
    means: tuple[float, ...]
    choice: Choice
    before: SearchSettings
    settings: SearchSettings
    written: bool
    fields: dict[str, Interval]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The outcome in words."""
        at, gain = self.choice.best, self.choice.difference
        shown = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        verdict = "kept" if self.choice.is_better else "not kept: the interval holds 0, the defaults stay"
        lines = [
            f"{self.metric} of {self.queries:,} queries: default {self.means[0]:.4f}, best {self.means[at]:.4f}",
            f"best on all queries: {described(self.candidates[at])}",
            f"chosen without the query, minus default: {shown}; {verdict}",
        ]
        if self.before != self.settings:
            done = "is now" if self.written else "would be"
            lines.append(
                f"the index was searched with {described(self.before)}; it {done} with {described(self.settings)}"
            )
        return [*lines, *(self._field_line(name, one) for name, one in self.fields.items())]

    def _field_line(self, name: str, gain: Interval) -> str:
        way = f"; make the index anew with --encode {name}" if gain.low > 0 else "; no better beyond its interval"
        return f"encoder fields {name}: {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}){way}"

    def as_dict(self) -> dict[str, Any]:
        """All numbers as JSON."""
        named = [one.model_dump() | {self.metric: mean} for one, mean in zip(self.candidates, self.means, strict=True)]
        return {
            "metric": self.metric, "queries": self.queries, "candidates": named, "best": self.choice.best,
            "difference": self.choice.difference.as_dict(), "is_better": self.choice.is_better,
            "before": self.before.model_dump(), "settings": self.settings.model_dump(), "written": self.written,
            "fields": {name: one.as_dict() for name, one in self.fields.items()},
        }  # fmt: skip

    def table(self, most: int = 8) -> Any:
        """The default and the best candidates (rich)."""
        from rich.table import Table

        table = Table(box=None)
        for head in ("dense weight", "attribute weight", "floor", self.metric, "minus default"):
            table.add_column(head, justify="right")
        order = sorted(range(1, len(self.means)), key=lambda at: (-self.means[at], at))[:most]
        for at in (0, *order):
            one = self.candidates[at]
            named = (f"{one.dense_weight:g}", f"{one.attribute_weight:g}", "yes" if one.floor else "no")
            table.add_row(*named, f"{self.means[at]:.4f}", f"{self.means[at] - self.means[0]:+.4f}")
        return table


def described(settings: SearchSettings) -> str:
    """Settings in one line."""
    floor = "a floor" if settings.floor else "no floor"
    return f"dense weight {settings.dense_weight:g}, attribute weight {settings.attribute_weight:g}, {floor}"


def tune(
    index: Index, judgements: Judgements, *, metric: str = METRIC, judged_only: bool = False, folds: int = 5,
    fields: Sequence[Sequence[str]] = (), dry_run: bool = False, seed: int = 0, tick: Tick | None = None,
) -> Tuned:  # fmt: skip
    """Choose the weights of an index on judgements by cross-validation over groups of alike queries.

    judged_only: order the judged lists instead of searching the whole index. fields: fields of an item that the encoder
    could read instead; each is encoded into a passing index and measured, never written. The choice is written into the
    index where its held-out gain over the defaults lies above 0 with its whole interval; else the defaults are.
    dry_run: nothing is written. Raises ValueError when no judged item is in the index or there are too few queries.
    """
    from goodrate.evaluation.choosing import choose, dealt
    from goodrate.retrieval.search_settings import SearchSettings, read_settings

    task, scale = _task(index, judgements, judged_only)
    candidates = candidates_of(index)
    of_query = dealt(list(task.queries.values()), folds, seed)
    values = measured(index, task, scale, candidates, metric, tick or (lambda: None))
    choice = choose(values, of_query, seed=seed)
    settings = candidates[choice.best] if choice.is_better else SearchSettings()
    gains = _field_gains(index, task, scale, settings, metric, fields, seed) if fields else {}
    before = read_settings(index.store.path)
    written = not dry_run and settings != before
    if written:
        index.use_settings(settings)
    means = tuple(float(np.nanmean(row)) for row in values)
    return Tuned(metric, values.shape[1], candidates, means, choice, before, settings, written, gains)


def _task(index: Index, judgements: Judgements, judged_only: bool) -> tuple[Task, RelevanceScale]:
    """The queries with their judgements."""
    from goodrate.evaluation.systems import Task

    judgements.require_one_kind()
    joined = judgements.join(index.items)
    return Task(joined.queries(), joined.qrels(), judged_only), joined.scale


def candidates_of(index: Index) -> tuple[SearchSettings, ...]:
    """The default, and what there is beside it: only the attribute weight where there are no vectors."""
    from goodrate.retrieval.search_settings import SearchSettings

    default = SearchSettings()
    dense = DENSE_WEIGHTS if index.encoder else (default.dense_weight,)
    weights = [(attributes, meaning) for attributes in ATTRIBUTE_WEIGHTS for meaning in dense]
    grid = [SearchSettings(dense_weight=meaning, attribute_weight=attributes) for attributes, meaning in weights]
    grid += [SearchSettings(floor=False)] if index.encoder else []
    return (default, *(one for one in grid if one != default))


def measured(
    index: Index, task: Task, scale: RelevanceScale, candidates: Sequence[SearchSettings], metric: str, tick: Tick
) -> np.ndarray:
    """The metric of each candidate on each query (C, Q). tick: called after each candidate."""
    from goodrate.evaluation.metrics import evaluate_run
    from goodrate.evaluation.report import numbers
    from goodrate.evaluation.systems import search_runs

    searcher = Recalling(index)
    rows = []
    for settings in candidates:
        searcher.settings = settings
        run = search_runs(task, searcher, index.modes[0]).runs[0]
        rows.append(numbers(evaluate_run(run, task.qrels, scale, [metric], task.judged_only), metric))
        tick()
    return np.array(rows)


class Recalling(Searcher):
    """A searcher that asks each channel once: other weights change the sum, not what was found.

    Its `settings` may be replaced between searches. as_typed: see Searcher; None = as the index.
    """

    def __init__(self, index: Index, as_typed: bool | None = None) -> None:
        as_typed = index.as_typed if as_typed is None else as_typed
        super().__init__(index.store, index.encoder, as_typed=as_typed, words=index.words)
        self._found: dict[tuple[Any, ...], Any] = {}

    def read(self, query: str, ignore: Any = ()) -> Any:
        """See Searcher."""
        return self._once(("read", query, *ignore), lambda: super(Recalling, self).read(query, ignore))

    def _text_hits(self, query: str, k: int, where: str | None) -> Any:
        key = ("text", self.settings.attribute_weight, query, k, where)
        return self._once(key, lambda: super(Recalling, self)._text_hits(query, k, where))

    def _near(self, query: str, k: int, where: str | None) -> Any:
        key = ("near", self.settings.floor, query, k, where)
        return self._once(key, lambda: super(Recalling, self)._near(query, k, where))

    def _hits(self, channel: str, query: str, k: int, where: str | None) -> Any:
        if channel != "identifier":
            return super()._hits(channel, query, k, where)
        key = ("identifier", query, k, where)
        return self._once(key, lambda: super(Recalling, self)._hits(channel, query, k, where))

    def _covering(self, query: str, texts: TextsReadOnce) -> Any:
        cover = super()._covering(query, texts)
        if cover is None:
            return None
        known: dict[str, dict[str, float]] = self._once(("shares", query), lambda: {"lexical": {}, "synonym": {}})

        def covered(ids: Sequence[str]) -> Any:
            new = [item for item in ids if item not in known["lexical"]]
            for name, shares in cover(new).items() if new else ():
                known[name].update(shares)
            return known

        return covered

    def _once(self, key: tuple[Any, ...], ask: Callable[[], Any]) -> Any:
        if key not in self._found:
            self._found[key] = ask()
        return self._found[key]


def _field_gains(
    index: Index, task: Task, scale: RelevanceScale, settings: SearchSettings, metric: str,
    fields: Sequence[Sequence[str]], seed: int,
) -> dict[str, Interval]:  # fmt: skip
    """What other encoder fields would change, each in an index that is thrown away."""
    from goodrate.api.index import Index
    from goodrate.evaluation.significance import paired_bootstrap_difference
    from goodrate.retrieval.store import Store

    if index.encoder is None:
        raise ValueError(f"{index.store.path} has no encoder; fields are what an encoder reads")
    own = measured(index, task, scale, [settings], metric, lambda: None)[0]
    gains = {}
    for named in fields:
        with tempfile.TemporaryDirectory() as folder:
            encoder, language = index.encoder, index.store.manifest.language
            store = Store.create(Path(folder) / "index", encoder.fingerprint, encoder.dimension, None, named, language)
            other = Index(store, encoder, as_typed=index.as_typed)
            other.add(index.items)
            values = measured(other, task, scale, [settings], metric, lambda: None)[0]
        gains[",".join(named)] = paired_bootstrap_difference(values, own, seed)
    return gains
