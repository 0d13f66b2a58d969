"""goodrate judge: say of query-item pairs how relevant they are, and why."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.judge_input import Sources, read_input
from goodrate.cli.outputs import require_folder

if TYPE_CHECKING:
    from goodrate.relevance.judge import Judge, Pair, Verdict
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.verdict_store import VerdictStore

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)

BLOCK, BLOCK_WITH_REASONS = 200, 40  # pairs judged and kept at once: what Ctrl-C can cost
FIRST = 40  # pairs of the first block, on which the time is measured
UNKNOWN_ITEM = "unknown_item"

HELP = """Say of query-item pairs how relevant they are, and why.

PAIRS is a csv, tsv, jsonl or parquet file with the columns query and
item_text, or query and item_id together with --catalog or --index. facts,
context and query_id are read when they are there. With --calibrate, pairs
with a label column set the judge's two scalars instead.

Every verdict is kept in an SQLite file once it is given: interrupt when you
like, the same command goes on. A pair is judged once for each judge; changed
items, queries or judges are judged anew.

Examples:

  goodrate judge pairs.csv --model runs/judge/judge --out verdicts.csv

  goodrate judge pairs.jsonl --model runs/judge/judge --out verdicts.jsonl --reasons

  goodrate judge clicks.csv --model runs/judge/judge --out verdicts.csv --index shop-index --map query=q,item_id=sku

  goodrate judge dev.csv --model runs/judge/judge --calibrate
"""


@app.command(help=HELP)
def judge(
    pairs: Annotated[Path, typer.Argument(help="What to judge.", show_default=False)],
    model: Annotated[str, typer.Option(help="The judge's folder (a model with judge.json).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the verdicts go: .csv or .jsonl, whole at the end.", show_default=False)
    ] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Decode the reason of every verdict; slow.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Judge only what was never judged; add no reasons to kept verdicts.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Judge kept failures again.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Set the judge's temperature and tier threshold from PAIRS' label column."),
    ] = False,
    catalog: Annotated[Path | None, typer.Option(help="Item texts by item_id: a file.", show_default=False)] = None,
    format: Annotated[str | None, typer.Option(help="Of --catalog: esci, wands, chorus.", show_default=False)] = None,
    index: Annotated[Path | None, typer.Option(help="Item texts by item_id: an index.", show_default=False)] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the columns of PAIRS: query=q,item_id=sku.", show_default=False)
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="Where verdicts are kept. Default: verdicts.sqlite beside --out.", show_default=False),
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option(
            help="What the shop knows of names in queries (facts.jsonl). Default: that of --index, if any.",
            show_default=False,
        ),
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(
            help='Texts for a judge that reads some: a file (id, text), or "items" of --catalog or --index.',
            show_default=False,
        ),
    ] = None,
    context_encoder: Annotated[
        str | None, typer.Option(help="Encoder to find texts with; none = by words alone.", show_default=False)
    ] = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")] = 0,
) -> None:
    """See HELP."""
    out = None if calibrate else _checked(out)
    if catalog is not None and index is not None:
        raise ValueError("give --catalog or --index, not both")
    sources = Sources(catalog, format, index, facts, contexts, context_encoder)
    table, known = read_input(pairs, model, sources, map, skip_bad, console)
    loaded = _load(model)
    if out is None:
        from goodrate.cli.judge_calibration import calibrate as calibrate_judge

        calibrate_judge(model, loaded, table, known, console)
    else:
        options = {"reasons": reasons, "retry_failed": retry_failed, "missing": missing}
        judged = _judge_kept(loaded, known, verdicts or out.parent / "verdicts.sqlite", options)
        _write(out, table, judged, loaded)
        _summarise(out, table, judged)


def _checked(out: Path | None) -> Path:
    """The output file. Hours of judging should not end at a name that cannot be written."""
    if out is None:
        raise ValueError("give --out FILE for the verdicts, or --calibrate")
    if out.suffix.lower() not in (".csv", ".jsonl"):
        raise ValueError(f"--out {out}: expected a name that ends in .csv or .jsonl")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; expected a file")
    require_folder("--out", out.parent)
    return out


def _load(model: str) -> Judge:
    with console.status("loading the judge"):
        from goodrate.relevance.judge import Judge

        return Judge.load(model)


def _judge_kept(loaded: Judge, pairs: list[Pair], path: Path, options: dict[str, bool]) -> list[Verdict]:
    """All verdicts in the order of the pairs, kept in the store at `path` as soon as they are given."""
    from goodrate.relevance.verdict_store import VerdictStore

    with VerdictStore(path) as store:
        try:
            return _judge_all(loaded, store, pairs, options)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{path} keeps what was judged, the same command goes on") from stop


def _judge_all(loaded: Judge, store: VerdictStore, pairs: list[Pair], options: dict[str, bool]) -> list[Verdict]:
    """Kept verdicts at once, the others block by block."""
    from goodrate.relevance.verdict_store import judge_once, verdict_key

    keys = [verdict_key(pair, loaded.identity) for pair in pairs]
    todo = store.pending(keys, **options)
    places = {key: place for place, key in enumerate(keys) if key in todo}
    # Items of one query side by side share its forward pass.
    order = sorted(places.values(), key=lambda i: (pairs[i].query, pairs[i].facts, pairs[i].context or "", i))
    console.print(f"{len(pairs):,} pairs: {len(pairs) - len(todo):,} kept, {len(order):,} to judge", highlight=False)
    for block in _blocks(order, BLOCK_WITH_REASONS if options["reasons"] else BLOCK):
        judge_once(loaded, store, [pairs[i] for i in block], **options)
    found = store.get_many(keys)
    return [loaded.tiered(found[key]) for key in keys]


def _blocks(order: list[int], size: int) -> Iterator[list[int]]:
    """Blocks of work: a small first one on which the time is measured and told, then the rest behind a progress bar."""
    if not order:
        return
    start = time.perf_counter()
    yield order[:FIRST]
    rest = order[FIRST:]
    seconds = (time.perf_counter() - start) * len(rest) / min(FIRST, len(order))
    if not rest:
        return
    console.print(f"about {_duration(seconds)} for the other {len(rest):,}", highlight=False)
    from rich.progress import track

    yield from track(
        [rest[i : i + size] for i in range(0, len(rest), size)], "judging", console=console, transient=True
    )


def _duration(seconds: float) -> str:
    """A time in words.

    >>> _duration(3.2), _duration(90), _duration(9000)
    ('4 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{int(seconds) + 1} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _rows(table: PairFile, judged: Sequence[Verdict], loaded: Judge) -> Iterator[dict[str, Any]]:
    """One output row per input row; a failure has its status and nothing in the other columns."""
    from goodrate.relevance.judge import Verdict

    remaining = iter(judged)
    labels = loaded.scale.labels
    for shown, pair in zip(table.shown.iter_rows(named=True), table.pairs, strict=True):
        verdict = next(remaining) if pair is not None else Verdict(None, None, None, UNKNOWN_ITEM)
        p = verdict.probabilities
        yield {
            **shown,
            "label": None if verdict.label is None else labels[verdict.label],
            "tier": verdict.tier,
            "expected_gain": None if p is None else round(float(loaded.scale.expected_gain(p)), 6),  # type: ignore[arg-type]
            **{f"p_{name}": None if p is None else round(p[i], 6) for i, name in enumerate(labels)},
            "status": verdict.status,
            "item_cut": verdict.item_cut,
            "reason": verdict.reason,
            "reason_status": verdict.reason_status,
            "inconsistent": verdict.inconsistent,
        }


def _write(out: Path, table: PairFile, judged: Sequence[Verdict], loaded: Judge) -> None:
    """The whole output file, or none."""
    import polars as pl

    from goodrate.run_folder import write_atomic

    frame = pl.DataFrame(list(_rows(table, judged, loaded)), infer_schema_length=None)
    nothing = [name for name, dtype in frame.schema.items() if dtype == pl.Null]
    frame = frame.with_columns(pl.col(name).cast(pl.String) for name in nothing)
    buffer = io.BytesIO()
    if out.suffix.lower() == ".csv":
        frame.write_csv(buffer)
    else:
        frame.write_ndjson(buffer)
    write_atomic(out, buffer.getvalue())


def _summarise(out: Path, table: PairFile, judged: Sequence[Verdict]) -> None:
    """Tiers, and everything that is unknown counted apart from them."""
    tiers = Counter(verdict.tier for verdict in judged if verdict.tier)
    given = max(1, sum(tiers.values()))
    shares = ", ".join(f"{tier} {tiers[tier]:,} ({tiers[tier] / given:.0%})" for tier in ("Good", "Mid", "Bad"))
    console.print(f"{shares}; written to {escape(str(out))}", highlight=False)
    failed = Counter(verdict.status for verdict in judged if verdict.tier is None)
    if table.unknown_items:
        failed[UNKNOWN_ITEM] = table.unknown_items
    if failed:
        kinds = ", ".join(f"{status} {count:,}" for status, count in failed.most_common())
        console.print(f"no verdict: {kinds} (--retry-failed judges failures again)", highlight=False)
    notes = {
        "item texts were too long and lost their end": sum(v.item_cut for v in judged),
        "reasons contradict their label": sum(v.inconsistent is True for v in judged),
        "reasons cannot be read": sum(v.reason_status not in (None, "ok") for v in judged),
    }
    for what, count in notes.items():
        if count:
            console.print(f"{count:,} {what}", highlight=False)


command = typer.main.get_command(app)
