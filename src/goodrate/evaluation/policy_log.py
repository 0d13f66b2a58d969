"""Logs of decisions with their propensities, and what a target policy would do, from tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, read_table
from goodrate.evaluation.off_policy import PolicyValue, off_policy_value
from goodrate.evaluation.reward_model import cross_fitted, encoded

NAMES = ("reward", "propensity", "target_propensity", "action", "predicted", "predicted_target")
TARGET_NAMES = ("action", "probability")
CONTEXT = "__context__"
SUM_TOLERANCE = 1e-4


@dataclass(frozen=True)
class PolicyLog:
    """frame: reward, propensity, target_propensity (f64), and where the file has them action, predicted,
    predicted_target, group, feature:* and context:* columns. probabilities: (C, A) of the target; context, action: (N,)
    places in it; None without a table of the target. skipped: bad rows left out."""

    frame: pl.DataFrame
    skipped: tuple[BadRow, ...] = ()
    probabilities: np.ndarray | None = None
    context: np.ndarray | None = None
    action: np.ndarray | None = None

    def value(self, clip: float | None = None, seed: int = 0) -> PolicyValue:
        """The target's value; doubly robust where the log has predictions or the target is a table."""
        frame = self.frame
        predicted: tuple[np.ndarray, np.ndarray] | tuple[None, None] = (None, None)
        if {"predicted", "predicted_target"} <= {*frame.columns}:
            predicted = frame["predicted"].to_numpy(), frame["predicted_target"].to_numpy()
        elif self.probabilities is not None and self.action is not None and self.context is not None:
            reward = frame["reward"].to_numpy()
            names = [name for name in frame.columns if name.startswith(("feature:", "context:"))]
            design = encoded(frame.select(names), len(frame))
            predicted = cross_fitted(design, self.action, reward, self.probabilities, self.context, seed)
        groups = frame["group"] if "group" in frame.columns else None
        return off_policy_value(
            frame["reward"], frame["propensity"], frame["target_propensity"], predicted=predicted[0],
            predicted_target=predicted[1], clip=clip, groups=groups, seed=seed,
        )  # fmt: skip


def read_policy_log(
    path: str | Path, target: str | Path | None = None, mapping: dict[str, str] | None = None, skip_bad: int = 0,
    features: Sequence[str] = (), group: str | None = None,
) -> PolicyLog:  # fmt: skip
    """The decisions of a table: reward, propensity (with which the log's policy took what it took) and
    target_propensity, or, with a table of the target, action.

    target: a table of action, probability and, where the target depends on them, columns that the log has too, such as
    position; the probabilities of each of their values add up to 1. features: columns that the reward model reads
    beside those. group: a column whose rows are resampled together. mapping: our name -> the log's column. Raises
    FileNotFoundError, or ValueError with file, row, column and what was expected.
    """
    mapping = mapping or {}
    unknown = sorted(set(mapping) - {*NAMES})
    if unknown:
        raise ValueError(f"--map knows {', '.join(NAMES)}; got {unknown[0]!r}")
    column_of = {name: mapping.get(name, name) for name in NAMES}
    wanted = _TargetTable.read(target) if target is not None else None
    shared = list(wanted.contexts) if wanted else []
    extra = {*features, *shared, *([group] if group else [])}
    table = read_table(path, {*column_of.values(), *extra})
    column_of |= {name: name for name in extra}
    needed = ["reward", "propensity", "action" if wanted else "target_propensity", *sorted(extra), *mapping]
    require_columns(table.path, column_of, needed, table.columns)
    present = {name for name in NAMES if column_of[name] in table.frame.columns}
    present -= {"target_propensity"} if wanted else set()
    raw = table.frame
    texts = {name for name in ("action",) if name in present}
    frame = raw.select(
        ROW,
        *(as_text(raw, column_of[n]).str.strip_chars().alias(n) for n in sorted(texts)),
        *(_number(as_text(raw, column_of[n])).alias(n) for n in sorted(present - texts)),
        *(as_text(raw, name).fill_null("").alias(f"context:{name}") for name in shared),
        *(pl.col(name).alias(f"feature:{name}") for name in features if name not in shared),
        *([pl.col(group).alias("group")] if group else []),
    )
    problems = [*_number_problems(frame), *(wanted.problems(frame) if wanted else [])]
    skipped = tolerate(table.path, [*table.problems, *problems], skip_bad)
    frame = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped]))
    if frame.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    return PolicyLog(frame, skipped) if wanted is None else wanted.joined(frame, skipped)


def _number(text: pl.Expr) -> pl.Expr:
    """A number of its text; true is 1, false is 0, as a click is often written."""
    lower = text.str.strip_chars().str.to_lowercase()
    truth = pl.when(lower == "true").then(1.0).when(lower == "false").then(0.0)
    return truth.otherwise(lower.cast(pl.Float64, strict=False))


def _number_problems(frame: pl.DataFrame) -> list[BadRow]:
    """Rewards and predictions that are no numbers, propensities that are no probabilities."""
    expected = {
        "reward": (pl.col("reward").is_finite(), "a finite number"),
        "propensity": (pl.col("propensity").is_between(0, 1, closed="right"), "a probability above 0"),
        "target_propensity": (pl.col("target_propensity").is_between(0, 1), "a probability"),
        "predicted": (pl.col("predicted").is_finite(), "a finite number"),
        "predicted_target": (pl.col("predicted_target").is_finite(), "a finite number"),
    }
    return [
        BadRow(row, name, words)
        for name, (right, words) in expected.items()
        if name in frame.columns
        for row in frame.filter(~right.fill_null(False))[ROW]
    ]


def _placed(frame: pl.DataFrame, keys: Sequence[str], contexts: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """The frame with the places of context and action, null where there is none, in its order."""
    if keys:
        frame = frame.join(contexts, on=keys, how="left", maintain_order="left")
    else:
        frame = frame.with_columns(pl.lit(0, dtype=pl.Int64).alias(CONTEXT))
    return frame.join(actions, on="action", how="left", maintain_order="left")


@dataclass(frozen=True)
class _TargetTable:
    """A target policy. contexts: the columns that its probabilities depend on. probabilities: (C, A).

    context_rows: the values of those columns and their place among C; actions: their texts and place among A.
    """

    path: Path
    contexts: tuple[str, ...]
    context_rows: pl.DataFrame
    actions: pl.DataFrame
    probabilities: np.ndarray

    @classmethod
    def read(cls, path: str | Path) -> _TargetTable:
        """Raises ValueError where an action is named twice or probabilities do not add up to 1."""
        every = read_table(path, set(TARGET_NAMES))
        contexts = tuple(name for name in every.columns if name not in TARGET_NAMES)
        table = read_table(path, {*TARGET_NAMES, *contexts})
        require_columns(table.path, {n: n for n in TARGET_NAMES}, TARGET_NAMES, table.columns, option="")
        raw = table.frame
        frame = raw.select(
            ROW, as_text(raw, "action").str.strip_chars().alias("action"),
            as_text(raw, "probability").cast(pl.Float64, strict=False).alias("probability"),
            *(as_text(raw, name).fill_null("").alias(f"context:{name}") for name in contexts),
        )  # fmt: skip
        keys = [f"context:{name}" for name in contexts]
        wrong = frame.filter(~pl.col("probability").is_between(0, 1).fill_null(False))[ROW]
        empty = frame.filter(pl.col("action").fill_null("") == "")[ROW]
        twice = frame.filter(~pl.struct("action", *keys).is_first_distinct())[ROW]
        tolerate(table.path, [
            *table.problems, *(BadRow(row, "probability", "a probability") for row in wrong),
            *(BadRow(row, "action", "an action, found nothing") for row in empty),
            *(BadRow(row, "action", "each action once a context, found it again") for row in twice),
        ], 0)  # fmt: skip
        rows = frame.select(keys).unique(maintain_order=True) if keys else pl.DataFrame({CONTEXT: [0]})
        rows = rows.with_columns(pl.int_range(len(rows)).alias(CONTEXT))
        actions = frame.select("action").unique(maintain_order=True).with_row_index("__action__")
        placed = _placed(frame, keys, rows, actions)
        probabilities = np.zeros((len(rows), len(actions)))
        probabilities[placed[CONTEXT].to_numpy(), placed["__action__"].to_numpy()] = placed["probability"].to_numpy()
        sums = probabilities.sum(axis=1)
        if (np.abs(sums - 1) > SUM_TOLERANCE).any():
            bad = int(np.argmax(np.abs(sums - 1)))
            named = ", ".join(f"{n} {rows[f'context:{n}'][bad]!r}" for n in contexts) or "all rows"
            raise ValueError(f"{table.path}: the probabilities of {named} add up to {sums[bad]:.6g}; expected 1")
        return cls(table.path, contexts, rows, actions, probabilities)

    def _places(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with the places of context and action, null where the table has none."""
        return _placed(frame, [f"context:{name}" for name in self.contexts], self.context_rows, self.actions)

    def problems(self, frame: pl.DataFrame) -> list[BadRow]:
        """Rows of the log whose context the target does not know, or that name no action."""
        placed = self._places(frame)
        unknown = placed.filter(pl.col(CONTEXT).is_null())[ROW]
        nothing = frame.filter(pl.col("action").fill_null("") == "")[ROW]
        named = ", ".join(self.contexts)
        return [
            *(BadRow(row, named, f"a value that {self.path.name} has probabilities for") for row in unknown),
            *(BadRow(row, "action", "an action, found nothing") for row in nothing),
        ]

    def joined(self, frame: pl.DataFrame, skipped: tuple[BadRow, ...]) -> PolicyLog:
        """The log with the target's propensities. An action that the table does not name has probability 0."""
        count = len(self.actions)
        probabilities = np.concatenate([self.probabilities, np.zeros((len(self.probabilities), 1))], axis=1)
        placed = self._places(frame)
        context, action = placed[CONTEXT].to_numpy(), placed["__action__"].fill_null(count).to_numpy()
        chosen = pl.Series("target_propensity", probabilities[context, action])
        return PolicyLog(frame.with_columns(chosen), skipped, probabilities, context, action)
