"""goodrate judge: say of query-item pairs how relevant they are, and why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from goodrate.cli.options import (
    CatalogFile,
    CatalogFormat,
    CatalogMap,
    ContextEncoder,
    Contexts,
    Currency,
    Decimal,
    Facts,
    IndexFolder,
    PairMap,
    RayAddress,
    SkipBad,
)
from goodrate.cli.terminal import (
    console,
    duration,
    item_progress,
    parse_mapping,
    report_pair_rows,
    report_warnings,
    require_file_name,
    verb_app,
)

if TYPE_CHECKING:
    from goodrate.api.bulk import BulkJudging
    from goodrate.api.judging import CalibratedJudge, ItemSource, JudgeRun, PairFile, Tuning

app = verb_app()

HELP = """Say of query-item pairs how relevant they are, and why.

PAIRS is a csv, tsv, jsonl or parquet file with the columns query and item_text, or query and item_id together with
--catalog or --index. facts, context and query_id are read when they are there. With --calibrate, pairs with a label
column set the judge's two scalars instead.

Every verdict is stored in an SQLite file once it is given: interrupt when you like, the same command goes on. A pair
is judged once for each judge; changed items, queries or judges are judged anew.

Examples:

  goodrate judge pairs.csv --model runs/judge/judge --out verdicts.csv --index shop-index

  goodrate judge pairs.jsonl --model runs/judge/judge --out verdicts.jsonl --reasons

  goodrate judge clicks.csv --model runs/judge/judge --out verdicts.csv --index shop-index --map query=q,item_id=sku

  goodrate judge pairs.csv --model runs/judge/judge --out verdicts.csv --catalog feed.csv
  --catalog-map id=sku,title=name

  goodrate judge dev.csv --model runs/judge/judge --calibrate

  goodrate judge pairs.parquet --model runs/judge/judge --out verdicts.jsonl --ray local:4
"""


@app.command(help=HELP)
def judge(
    pairs: Annotated[Path, typer.Argument(help="What to judge.", show_default=False)],
    model: Annotated[str, typer.Option(help="The judge's folder (it holds a judge.json).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the verdicts go: .csv or .jsonl, whole at the end.", show_default=False)
    ] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Decode the reason of every verdict; slow.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Judge only what was never judged; add no reasons to stored verdicts.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Judge stored failures again.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Set the judge's temperature and tier threshold from PAIRS' label column."),
    ] = False,
    catalog: CatalogFile = None,
    format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    index: IndexFolder = None,
    map: PairMap = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="Where verdicts are stored. Default: verdicts.sqlite beside --out.", show_default=False),
    ] = None,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    skip_bad: SkipBad = 0,
    ray: RayAddress = None,
) -> None:
    """See HELP."""
    from goodrate.api.judging import ItemSource, named_texts, noted_pairs, open_judge, require_facts

    _require_out(out, calibrate, ray)
    require_facts(facts)
    source = ItemSource(catalog, format, parse_mapping(catalog_map, "--catalog-map"), index, decimal, currency)
    texts = named_texts(model, contexts, context_encoder, source.contexts)
    if ray is None:  # before the model: what is wrong with the file is said at once
        table = _read(pairs, source, map, skip_bad)
    with console.status("loading the judge"):
        loaded = open_judge(
            model, facts=facts or source.facts, contexts=texts, items=lambda: source.items,
            context_encoder=context_encoder,
        )  # fmt: skip
    report_warnings(loaded)
    options = {"reasons": reasons, "retry_failed": retry_failed, "missing": missing}
    if ray is not None and out is not None:
        bulk = {"path": pairs, "source": source, "judge": loaded, "folder": model, "options": options, "map": map}
        run = _judge_on_ray(ray, {**bulk, "skip_bad": skip_bad}, verdicts or out.parent / "verdicts.sqlite", out)
        _tell_without_text(run.without_text if loaded.contexts and texts is None else 0)
        return
    known, without_text = noted_pairs(table, loaded.notes)
    _tell_without_text(without_text if loaded.contexts and texts is None else 0)
    if calibrate:
        _calibrate(model, table, loaded, known)
        return
    assert out is not None
    _judge(loaded, table, known, verdicts or out.parent / "verdicts.sqlite", options, out)


def _read(path: Path, source: ItemSource, map: str | None, skip_bad: int) -> PairFile:
    """The pairs, with the rows that were left out and the items that nobody knows reported."""
    from goodrate.api.judging import read_pair_file

    with console.status(f"reading {path.name}"):
        table = read_pair_file(path, source, parse_mapping(map), skip_bad)
    report_pair_rows(path, table)
    return table


def _judge(
    loaded: CalibratedJudge, table: PairFile, pairs: list, path: Path, options: dict[str, bool], out: Path
) -> None:
    """Stored verdicts at once, the others block by block; then the whole file."""
    from goodrate.api.judging import JudgeRun, notices, verdict_counts, verdict_store, write_verdicts

    with verdict_store(path) as store:
        run = JudgeRun.plan(loaded, store, pairs, **options)
        stored = len(pairs) - run.pending
        console.print(f"{len(pairs):,} pairs: {stored:,} stored, {run.pending:,} to judge", highlight=False)
        try:
            for block in _blocks(run):
                run.work(block)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{path} keeps what was judged, the same command goes on") from stop
        verdicts = run.verdicts()
    write_verdicts(out, table, verdicts, loaded.scale)
    _summarise(out, *verdict_counts(table, verdicts))
    _warn(notices(loaded.inner, pairs, verdicts))


def _tell_without_text(queries: int) -> None:
    """Say of how many queries a judge that reads texts has none."""
    if queries:
        console.print(f"{queries:,} queries are judged without a text; this judge reads some: --contexts FILE")


def _judge_on_ray(address: str, work: dict[str, Any], path: Path, out: Path) -> BulkJudging:
    """The same on workers. work: what BulkJudging takes beside the store."""
    from goodrate.api.bulk import BulkJudging, ray_cluster
    from goodrate.api.judging import verdict_store

    file = work["path"]
    with verdict_store(path) as store, ray_cluster(address) as cluster:
        told = partial(report_pair_rows, file)
        run = BulkJudging(**{**work, "map": parse_mapping(work["map"]), "store": store, "told": told})
        try:
            with item_progress(f"judging on {cluster.workers} workers") as report:
                done = 0
                for count in run.work(cluster):
                    done += count
                    report(done, run.pending)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{path} keeps what was judged, the same command goes on") from stop
        stored = run.pairs - run.pending
        console.print(f"{run.pairs:,} pairs: {stored:,} were stored, {done:,} are judged", highlight=False)
        with console.status(f"writing {out.name}"):
            said = run.write(out)
    _summarise(out, said.tiers, said.failures, said.notes)
    _warn(said.notices)
    return run


def _require_out(out: Path | None, calibrate: bool, ray: str | None) -> None:
    """ValueError where there is nowhere to write verdicts, or --ray is given for what is done here."""
    if calibrate and ray is not None:
        raise ValueError("--calibrate judges the labelled pairs here; leave out --ray")
    if calibrate:
        return
    if out is None:
        raise ValueError("give --out FILE for the verdicts, or --calibrate")
    require_file_name("--out", out, (".csv", ".jsonl"))


def _warn(notices: Iterable[str]) -> None:
    for notice in notices:
        console.print(f"warning: {escape(notice)}", style="yellow", highlight=False, soft_wrap=True)


def _blocks(run: JudgeRun) -> Iterator[list[int]]:
    """The blocks of work: a first one on which the time is measured and told, then the rest behind a progress bar."""
    if not run.blocks:
        return
    first, *rest = run.blocks
    start = time.perf_counter()
    yield first
    waiting = sum(map(len, rest))
    if not waiting:
        return
    seconds = (time.perf_counter() - start) * waiting / len(first)
    console.print(f"about {duration(seconds)} for the other {waiting:,}", highlight=False)
    from rich.progress import track

    yield from track(rest, "judging", console=console, transient=True)


def _summarise(out: Path, tiers: Counter[str], failures: Counter[str], notes: Mapping[str, int]) -> None:
    """Tiers, and everything that is unknown counted apart from them."""
    given = max(1, sum(tiers.values()))
    shares = ", ".join(f"{tier} {tiers[tier]:,} ({tiers[tier] / given:.0%})" for tier in ("Good", "Mid", "Bad"))
    console.print(f"{shares}; written to {escape(str(out))}", highlight=False)
    if failures:
        kinds = ", ".join(f"{status} {count:,}" for status, count in failures.most_common())
        console.print(f"no verdict: {kinds} (--retry-failed judges failures again)", highlight=False)
    for what, count in notes.items():
        console.print(f"{count:,} {what}", highlight=False)


def _calibrate(model: str, table: PairFile, loaded: CalibratedJudge, pairs: list) -> None:
    """Tune the judge on the labels of the file, write them into its judge.json, and print what changed."""
    from goodrate.api.judging import calibrate as calibrate_judge

    with console.status("judging the labelled pairs"):
        tuning = calibrate_judge(model, table, loaded, pairs)
    _print_tuning(tuning, loaded)


def _print_tuning(tuning: Tuning, old: CalibratedJudge) -> None:
    """The two scalars, before and after, and the reliability table."""
    grid = Table("", "before", "after", title=f"{tuning.used:,} labelled pairs, {tuning.failed:,} without a verdict")
    before, after = tuning.reliability
    rows = [
        ("temperature", old.temperature, tuning.temperature),
        ("beta_cum", old.beta_cum, tuning.beta_cum),
        ("negative log likelihood", *tuning.nll),
        ("calibration error (ECE)", before.ece, after.ece),
        (f"tier accuracy (constant: {tuning.constant_tier:.3f})", *tuning.tier_accuracy),
    ]
    for name, *values in rows:
        grid.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(grid)
    bins = Table("confidence", "pairs", "mean confidence", "right", title="after calibration")
    for row in after.bins:
        if row.count:
            means = (f"{row.confidence:.3f}", f"{row.accuracy:.3f}")
            bins.add_row(f"{row.low:.1f} to {row.high:.1f}", f"{row.count:,}", *means)
    console.print(bins)
    console.print(f"{tuning.basis}. The former values stay in judge.json (previous).", highlight=False)
    console.print("Chosen on these pairs: measure the judge on others.")


command = typer.main.get_command(app)
