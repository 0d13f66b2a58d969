"""goodrate demo: generate a shop, train on it, and show what training bought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)
LABELS = {
    "shop": "generate the shop",
    "encoder": "train the encoder on clicks",
    "index": "build the index",
    "judge": "train the judge on rationales",
    "evaluate": "measure",
}

HELP = """Generate a shop, train an encoder and a judge on it, and print a before/after table.

Needs no data, no network and no GPU. Run again, it goes on where it stopped, or shows the table in seconds.

Examples:

  goodrate demo

  goodrate demo --set seed=1 --set items=2000

  goodrate serve runs/demo/index --model runs/demo/judge/judge
"""


@app.command(help=HELP)
def demo(
    out: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of tables.")] = False,
) -> None:
    """See HELP."""
    from goodrate.demo.settings import DemoSettings
    from goodrate.settings import load

    settings = load(DemoSettings, config, overrides or [])
    folder = _run(settings, out)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(report, indent=2))
        return
    show(report)
    console.print(
        f"\nfigures   {out / 'demo' / 'report.json'}\n"
        f'search    goodrate search {out / "demo" / "index"} "crimson anorak"\n'
        f"page      goodrate serve {out / 'demo' / 'index'} --model {out / 'demo' / 'judge' / 'judge'}",
        highlight=False,
        soft_wrap=True,
    )


def _run(settings: Any, out: Path) -> Path:
    """Run with one line of progress per stage on stderr."""
    with console.status("preparing the shop") as status:
        from goodrate.demo.run import Listener, run_demo

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
        return run_demo(settings, out, listener)


def show(report: dict[str, Any]) -> None:
    """The two tables: systems, and the judge beside judges that need no training."""
    title = (
        f"search: {report['test_queries']} test queries, full truth of {report['settings']['items']} items, one seed"
    )
    table = Table(
        "",
        "nDCG@10",
        "recall@100",
        "Goodrate@10",
        "ms",
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
    )
    for row in report["systems"]:
        speed = row["milliseconds_per_query"]
        cells = [_interval(row[metric]) for metric in ("ndcg@10", "recall@100", "goodrate@10")]
        table.add_row(row["system"], *cells, "" if speed is None else f"{speed:.0f}")
    found = report["judge"]
    judged = Table(
        "", "macro-F1", "accuracy", title=f"\njudge: {found['pairs']} test pairs", title_justify="left", box=None
    )
    intervals = found["intervals"]
    judged.add_row("judge", _interval(intervals["macro_f1"]), _interval(intervals["accuracy"]))
    for name, scores in found["trivial"].items():
        judged.add_row(name.replace("_", " "), f"{scores['macro_f1']:.3f}", f"{scores['accuracy']:.3f}")
    printer = Console(soft_wrap=True)
    printer.print(table)
    printer.print(judged)
    printer.print(
        f"\nIntervals: 95 %, bootstrap over queries. One seed ({report['seed']}). "
        f"{report['minutes_total']} minutes on {report['cores']} cores.",
        highlight=False,
    )


def _interval(found: dict[str, Any]) -> str:
    """value [low, high], the bounds to two digits so that a table fits 80 columns."""
    return f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"


command = typer.main.get_command(app)
