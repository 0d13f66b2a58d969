"""What verbs share at the terminal: progress, column names as options, checks of where a verb writes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.measure import Measurement
    from rich.table import Column, Table

    from goodrate import Judgements
    from goodrate.api.judging import CalibratedJudge, PairFile
    from goodrate.api.training import TrainingPlan

MOST_COLUMNS = 10_000  # of a table's line
console = Console(stderr=True, soft_wrap=True)  # a path stays in one piece, to be copied


def verb_app() -> typer.Typer:
    """An app for one verb."""
    return typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside the block, and none later of what was made in it: for imports and loading models.

    Importing torch and transformers makes hundreds of thousands of objects that stay. Looking through them again and
    again was a quarter of the start-up time of `goodrate search` (docs/speed.md).
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def print_table(table: Table) -> None:
    """A table without lines on stdout in which no word is broken or cut: names and numbers are there to be copied.

    Columns give way down to their longest word, no_wrap ones not at all, and any to its max_width. Where that is still
    wider than the terminal, lines are longer than the terminal.
    """
    screen = Console()
    widths = [_widths(screen, column) for column in table.columns]
    for column, (least, _) in zip(table.columns, widths, strict=True):
        column.width = least
    room = max(0, screen.width - _width(screen, table))
    wish = sum(most - least for least, most in widths)
    for column, (least, most) in zip(table.columns, widths, strict=True):
        column.width = most if wish <= room else least + (most - least) * room // wish
    needed = _width(screen, table)
    Console(width=max(screen.width, needed)).print(table, soft_wrap=needed > screen.width)


def _widths(screen: Console, column: Column) -> tuple[int, int]:
    """Characters of a column's longest word, or line where it does not wrap, and of its longest line."""
    cells = [_measured(screen, cell) for cell in (column.header, *column.cells)]
    most = max(cell.maximum for cell in cells)
    least = most if column.no_wrap else max(cell.minimum for cell in cells)
    bound = column.max_width or most
    return min(max(least, column.min_width or 0), bound), min(max(most, column.min_width or 0), bound)


def _width(screen: Console, table: Table) -> int:
    """Of a table whose columns have one."""
    return _measured(screen, table).maximum


def _measured(screen: Console, shown: RenderableType) -> Measurement:
    """Where a terminal has room for everything."""
    from rich.measure import Measurement

    return Measurement.get(screen, screen.options.update(max_width=MOST_COLUMNS), shown)


def require_folder(option: str, path: Path) -> Path:
    """The path, which is a folder or can become one. ValueError when it, or what it would lie in, is a file."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{option} {path}: expected a folder; {part} is a file")
    return path


def require_file_name(option: str, path: Path, endings: tuple[str, ...]) -> Path:
    """The path of a file to write, looked at before the work and not after it. ValueError for another ending."""
    if path.suffix.lower() not in endings:
        listed = f"{', '.join(endings[:-1])} or {endings[-1]}" if len(endings) > 1 else endings[0]
        raise ValueError(f"{option} {path}: expected a name that ends in {listed}")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; expected a file")
    require_folder(option, path.parent)
    return path


def parse_mapping(text: str | None, option: str = "--map") -> dict[str, str] | None:
    """--map as a dictionary: our name -> their column.

    >>> parse_mapping("id=docid, title=product name")
    {'id': 'docid', 'title': 'product name'}
    """
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    mapping: dict[str, str] = {}
    for ours, equals, theirs in pairs:
        name = ours.strip()
        if not (name and equals and theirs.strip()):
            raise ValueError(f"{option} expects OURS=THEIRS,OURS=THEIRS, such as id=docid,title=name; got {text!r}")
        if name in mapping:
            raise ValueError(f"{option} names {name!r} twice: {mapping[name]!r} and {theirs.strip()!r}")
        mapping[name] = theirs.strip()
    return mapping


def column_names(text: str | None) -> list[str]:
    """--raters as a list.

    >>> column_names("agent_1, agent_2"), column_names(None)
    (['agent_1', 'agent_2'], [])
    """
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def report_pair_rows(path: Path, table: PairFile) -> None:
    """The rows of a pair file that were left out, and the items that nobody knows."""
    from goodrate.api.reading import bad_row_lines

    for line in bad_row_lines(path, table):
        console.print(f"  left out: {escape(line)}", highlight=False)
    if table.unknown_items:
        console.print(f"{table.unknown_items:,} of {len(table.pairs):,} rows name an item that is not in the catalogue")
    if table.models:
        console.print(
            f"labels made by {escape(', '.join(table.models))}, not by people, are among them", highlight=False
        )
    if table.renamed:
        console.print(table.renamed, highlight=False)


def tell_judgements(path: Path, labels: Judgements) -> None:
    """What was left out of judgements, and how they were read, one line each."""
    from goodrate.api.reading import bad_row_lines

    for line in bad_row_lines(path, labels):
        console.print(f"  {escape(line)}", highlight=False)
    for line in labels.notes:
        console.print(escape(line), highlight=False)


def report_warnings(judge: CalibratedJudge) -> None:
    """What the folder of a judge says has to be known before it is used, one line each."""
    for warning in judge.warnings:
        line = f"warning: {escape(f'{judge.folder or judge.name}: {warning}')}"
        console.print(line, style="yellow", highlight=False, soft_wrap=True)


@contextmanager
def item_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr that is fed with (done, total); in a log file, a line for every tenth."""
    if not console.is_terminal:
        yield _line_progress(label)
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line_progress(label: str) -> Callable[[int, int], None]:
    """Progress as plain lines."""
    tenths = {0}

    def report(done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth not in tenths:
            tenths.add(tenth)
            console.print(f"{label}: {done:,} of {total:,}", highlight=False)

    return report


@contextmanager
def update_progress(total: int | None) -> Iterator[UpdateProgress]:
    """Progress of a training on stderr: a bar, or in a log file a line for every tenth of the updates."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield UpdateProgress(bar, bar.add_task("preparing", total=total), total)


class UpdateProgress:
    """A progress bar that is fed with the plan of a training, where there is one, and the record of each update."""

    def __init__(self, bar: Any, task: Any, total: int | None) -> None:
        self._bar, self._task, self._total = bar, task, total
        self._lines = None if console.is_terminal else _line_progress("updates")

    def plan(self, plan: TrainingPlan) -> None:
        """Said before the first update."""
        self._total = plan.updates
        self._bar.update(self._task, total=plan.updates)
        console.print(plan_line(plan), highlight=False, soft_wrap=True)

    def __call__(self, record: dict[str, Any]) -> None:
        done = record.get("update", 0)
        self._bar.update(self._task, completed=done, description=_what_happened(record))
        if self._lines and self._total:
            self._lines(done, self._total)


def plan_line(plan: TrainingPlan) -> str:
    """What a training will do and how long that takes."""
    each = plan.tokens / max(1, plan.updates)
    return (
        f"{plan.examples:,} examples, {plan.updates:,} updates of about {each:,.0f} tokens; here "
        f"{plan.tokens_per_second:,.0f} tokens/s: about {duration(plan.seconds)} and the optimizer's steps"
    )


def _what_happened(record: dict[str, Any]) -> str:
    """The loss of an update and its speed, where the record has them."""
    loss = f"loss {record['loss']:.3f}" if "loss" in record else "training"
    rate = record.get("trained_tokens_per_second")
    return f"{loss}, {rate:,.0f} tokens/s" if rate else loss


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(3.2), duration(90), duration(9000)
    ('4 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{int(seconds) + 1} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def tick_progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr that goes on by one a call; nothing where stderr is no terminal."""
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        number = bar.add_task(label, total=total)
        yield lambda: bar.update(number, advance=1)
