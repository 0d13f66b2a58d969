"""goodrate demo: generate a shop, train on it, and show what training bought."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from goodrate.cli.options import Config, Overrides
from goodrate.cli.terminal import console, verb_app
from goodrate.strict_json import dumps, read_object

app = verb_app()
LABELS = {
    "shop": "generate the shop",
    "encoder": "train the encoder on clicks",
    "index": "build the index",
    "judge": "train the judge on rationales",
    "evaluate": "measure",
    "retriever": "retriever learns from its top",
    "chain_sft": "chain: SFT on few reasons",
    "chain_grpo": "chain: GRPO on labels",
    "compare": "measure before and after",
}

HELP = """Generate a shop, train an encoder and a judge on it, and print a before/after table.

Needs no data, no network and no GPU. Run again, it goes on where it stopped, or shows the table in seconds.

With --rl it shows the two chains that learn by reinforcement, before and after: the encoder on its own top results,
graded by the demo's judge (retriever_grpo), and a judge that had few written reasons on its own completions (SFT, then
judge_grpo). It takes over shop, encoder and judge of a demo with the same settings, or trains them first.

Examples:

  goodrate demo

  goodrate demo --rl

  goodrate demo --set seed=1 --set items=2000

  goodrate serve runs/demo/index --model runs/demo/judge/judge
"""


@app.command(help=HELP)
def demo(
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    config: Config = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of tables.")] = False,
    rl: Annotated[bool, typer.Option("--rl", help="Show what reinforcement learning buys, before and after.")] = False,
) -> None:
    """See HELP."""
    from goodrate.demo.settings import DemoSettings, LearningSettings
    from goodrate.settings import load

    settings = load(LearningSettings if rl else DemoSettings, config, overrides or [])
    folder = _run(settings, out, rl)
    report = read_object(folder / "report.json")
    if as_json:
        print(dumps(report, indent=2))
        return
    if rl:
        show_chains(report)
        console.print(f"\nfigures   {out / 'demo-rl' / 'report.json'}", highlight=False, soft_wrap=True)
        return
    show(report)
    console.print(
        f"\nfigures   {out / 'demo' / 'report.json'}\n"
        f'search    goodrate search {out / "demo" / "index"} "crimson anorak"\n'
        f"page      goodrate serve {out / 'demo' / 'index'} --model {out / 'demo' / 'judge' / 'judge'}",
        highlight=False,
        soft_wrap=True,
    )


def _run(settings: Any, out: Path, rl: bool) -> Path:
    """Run with one line of progress per stage on stderr."""
    with console.status("preparing the shop") as status:
        from goodrate.demo.run import Listener, run_demo, run_learning

        current = ""

        def start(name: str) -> None:
            nonlocal current
            current = LABELS[name]
            status.update(current)

        listener = Listener(
            start=start,
            note=lambda text: status.update(f"{current}: {text}"),
            end=lambda name, seconds: console.print(f"{LABELS[name]:32s}{seconds:7.1f} s", highlight=False),
        )
        return (run_learning if rl else run_demo)(settings, out, listener)


def show(report: dict[str, Any]) -> None:
    """The two tables: systems, and the judge beside judges that need no training."""
    title = (
        f"search: {report['test_queries']} test queries, full truth of {report['settings']['items']} items, one seed"
    )
    table = _table(title, *METRICS, "ms")
    for row in report["systems"]:
        speed = row["milliseconds_per_query"]
        table.add_row(row["system"], *_metrics(row), "" if speed is None else f"{speed:.0f}")
    judge = report["judge"]
    judges = _table(f"\njudge: {judge['pairs']} test pairs", "macro-F1", "accuracy")
    intervals = judge["intervals"]
    judges.add_row("judge", _interval(intervals["macro_f1"]), _interval(intervals["accuracy"]))
    for name, scores in judge["trivial"].items():
        judges.add_row(name.replace("_", " "), f"{scores['macro_f1']:.3f}", f"{scores['accuracy']:.3f}")
    _print(report, table, judges)


def show_chains(report: dict[str, Any]) -> None:
    """The two tables of --rl: both encoders, and both judges beside judges that need no training."""
    settings = report["settings"]
    encoders = _table(
        f"retriever: {report['encoders'][0]['ndcg@10']['units']} test queries, exact search, full truth of "
        f"{settings['items']} items", *METRICS,
    )  # fmt: skip
    names = {"before": "contrastive", "after": "+ own top K", "random": "random"}
    for row in report["encoders"]:
        encoders.add_row(names[row["system"]], *_metrics(row))
        if row["system"] == "after":
            encoders.add_row("  gain", *_metrics(row["minus_first"]))
    judges = _table(f"\njudge: {report['judges']['pairs']} test pairs", "macro-F1", "accuracy", "right rule")
    names = {"before": f"SFT, {settings['rationales']} reasons", "after": f"+ GRPO, {settings['labels']} labels"}
    for name, row in report["judges"]["systems"].items():
        rule = _interval(row["right_rule"]) if "right_rule" in row else ""
        cells = _interval(row["macro_f1"]), _interval(row["accuracy"]), rule
        judges.add_row(names.get(name, name.replace("_", " ")), *cells)
        if name == "after":
            judges.add_row("  gain", _interval(report["judges"]["minus_before"]), "", "")
    _print(report, encoders, judges)


METRICS = ("nDCG@10", "recall@100", "Goodrate@10")


def _table(title: str, *columns: str) -> Table:
    """A table for a terminal, as narrow as can be."""
    return Table("", *columns, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1))


def _metrics(row: dict[str, Any]) -> list[str]:
    return [_interval(row[metric.lower()]) for metric in METRICS]


def _print(report: dict[str, Any], *tables: Table) -> None:
    """The tables, and what their intervals are."""
    printer = Console(soft_wrap=True)
    for table in tables:
        printer.print(table)
    printer.print(
        f"\nIntervals: 95 %, bootstrap over queries. One seed ({report['seed']}). "
        f"{report['minutes_total']} minutes on {report['cores']} cores.",
        highlight=False,
    )


def _interval(interval: dict[str, Any]) -> str:
    """value [low, high], the bounds to two digits so that a table fits 80 columns; a dash where there is no number."""
    if None in interval.values():
        return "-"
    return f"{interval['value']:.3f} [{interval['low']:.2f}, {interval['high']:.2f}]"


command = typer.main.get_command(app)
