"""Two systems for live traffic: answered together by team draft, and what the clicks say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api.systems import open_systems, read_system

if TYPE_CHECKING:
    import polars as pl

    from goodrate.evaluation.interleaving import Preference
    from goodrate.serving.interleaving import Interleaving
    from goodrate.serving.workbench.store import Workbench


def open_interleaving(a: str, b: str | None, workbench: Workbench | None) -> Interleaving | None:
    """System B (api.systems.read_system) beside A, which is called so in the log; None for no B.

    workbench: its folder is that of the log, and its overrules count for B too. Raises ValueError without one, and as
    read_system.
    """
    from goodrate.api.serving import live, warm_up
    from goodrate.serving.interleaving import Interleaving
    from goodrate.serving.traffic_log import TrafficLog
    from goodrate.serving.workbench.overrules import Overrules

    if b is None:
        return None
    if workbench is None:
        raise ValueError(f"--interleave {b} is logged, and there is no folder for the log: --workbench DIR")
    one = read_system(b)
    if one.name == a:
        raise ValueError(f"--interleave {b}: both systems are called {a!r}; give this one another name (name = ...)")
    asked = {"mode": one.mode, "judge_ms": one.judge_ms, "group_by": one.group_by}
    settings = {**asked, "depth": one.depth, "with_rules": one.rules != "off"}
    opened = open_systems(one)[0]
    warm_up(opened)
    pipeline = live(opened)
    pipeline.current().overrules = Overrules(workbench).of_query
    return Interleaving((a, one.name), pipeline.current, TrafficLog(workbench.folder), settings)


@dataclass(frozen=True)
class Interleaved:
    """What clicks say of two systems. a, b: their names. unread: lines of the log that cannot be read."""

    a: str
    b: str
    preference: Preference
    unread: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        return {"a": self.a, "b": self.b, **self.preference.as_dict(), "unread_lines": self.unread}

    def lines(self) -> list[str]:
        """The report in words."""
        found = self.preference
        ignored = f"; {found.ignored:,} clicks on what was not shown are left out" if found.ignored else ""
        one = self.unread == 1
        unread = (
            f"{self.unread:,} line{'' if one else 's'} of the log cannot be read and {'is' if one else 'are'} left out"
        )
        return [
            f"B ({self.b}) against A ({self.a}): preference {found.value.bracketed()} "
            f"over {found.sessions:,} sessions with clicks (0 = none, +0.5 = always B)",
            f"B wins {found.b_wins:,}, ties {found.ties:,}, A wins {found.a_wins:,} of {found.impressions:,} lists that"
            f" were shown; {found.clicks:,} clicked items{ignored}",
            f"sign test over sessions: p = {found.p:.3g}",
            *([unread] if self.unread else []),
        ]


def interleaved_report(folder: str | Path, b: str | None = None, seed: int = 0) -> Interleaved:
    """What the clicks in a log say. folder: holds queries.jsonl and events.jsonl. b: the name of the second system,
    where the log has several.

    Raises FileNotFoundError without a log, ValueError naming the file for lines that cannot be read, for several
    experiments where none is named, and without clicks.
    """
    import polars as pl

    from goodrate.evaluation.interleaving import preference

    shown, unread = _shown(Path(folder))
    pairs = shown.select("a", "b").unique().sort("a", "b").rows()
    chosen = [pair for pair in pairs if b in (None, pair[1])]
    if len(chosen) != 1:
        named = ", ".join(f"{second} against {first}" for first, second in pairs)
        raise ValueError(f"{folder} has the experiments {named}; name the second system of one with --name")
    first, second = chosen[0]
    own = shown.filter((pl.col("a") == first) & (pl.col("b") == second))
    others = shown.filter((pl.col("a") != first) | (pl.col("b") != second))
    clicks, unread_events = _clicks(Path(folder))
    clicks = clicks.join(others, on="query_id", how="anti")
    if clicks.is_empty():
        raise ValueError(f"{folder}: nobody has clicked yet (POST /ubi/events with action_name click)")
    return Interleaved(first, second, preference(own, clicks, seed), unread + unread_events)


def _shown(folder: Path) -> tuple[pl.DataFrame, int]:
    """The lists that were interleaved: query_id, session, items, teams, a, b; and the unread lines."""
    import polars as pl

    from goodrate.serving.traffic_log import QUERIES

    texts = pl.List(pl.String)
    draft = pl.Struct({"a": pl.String, "b": pl.String, "teams": texts})
    attributes = pl.Struct({"session_id": pl.String, "interleaving": draft})
    schema = {
        "query_id": pl.String, "client_id": pl.String, "query_response_hit_ids": texts, "query_attributes": attributes,
    }  # fmt: skip
    rows, unread = _read(folder / QUERIES, schema)
    drafted = pl.col("query_attributes").struct.field("interleaving").struct
    session = pl.coalesce(pl.col("query_attributes").struct.field("session_id"), "client_id", "query_id")
    shown = rows.select(
        "query_id", session=session, items="query_response_hit_ids", teams=drafted.field("teams"), a=drafted.field("a"),
        b=drafted.field("b"),
    )  # fmt: skip
    shown = shown.filter(pl.col("teams").is_not_null())
    if shown.is_empty():
        raise ValueError(f"{folder / QUERIES} has no interleaved search; goodrate serve A --interleave B writes them")
    return shown, unread


def _clicks(folder: Path) -> tuple[pl.DataFrame, int]:
    """Clicks on items: query_id, item_id; and the unread lines."""
    import polars as pl

    from goodrate.serving.traffic_log import EVENTS

    clicked = pl.Struct({"object": pl.Struct({"object_id": pl.String})})
    columns = {"query_id": pl.String, "action_name": pl.String, "event_attributes": clicked}
    rows, unread = _read(folder / EVENTS, columns)
    item = pl.col("event_attributes").struct.field("object").struct.field("object_id")
    return rows.filter(pl.col("action_name") == "click").select("query_id", item_id=item).drop_nulls(), unread


def _read(path: Path, schema: dict[str, Any]) -> tuple[pl.DataFrame, int]:
    """The rows of a file of JSON lines, of each what the schema names, and how many lines cannot be read: what a power
    cut or a full disk left of one, and events of another form, which anybody can send. ValueError when that are all.
    """
    import polars as pl

    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; goodrate serve A --interleave B --workbench DIR writes it")
    data = path.read_bytes()
    try:
        return pl.read_ndjson(data, schema=schema) if data else pl.DataFrame(schema=schema), 0
    except pl.exceptions.PolarsError:
        lines = data.splitlines()
    usable = [line for line in lines if _is_record(line, schema)]
    if not usable:
        raise ValueError(f"{path}: no line can be read as JSON of {', '.join(schema)}")
    return pl.read_ndjson(b"\n".join(usable), schema=schema), len(lines) - len(usable)


def _is_record(line: bytes, schema: dict[str, Any]) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and all(_fits(record.get(name), kind) for name, kind in schema.items())


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value can stand in a column of texts, or of lists or structs of them."""
    import polars as pl

    if value is None:
        return True
    if isinstance(kind, pl.Struct):
        return isinstance(value, dict) and all(_fits(value.get(own.name), own.dtype) for own in kind.fields)
    if isinstance(kind, pl.List):
        return isinstance(value, list) and all(_fits(one, kind.inner) for one in value)
    return not isinstance(value, dict | list)
