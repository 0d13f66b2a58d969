"""goodrate fit-judge: a judge from few labels, in one command, beside everything that nobody trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from goodrate.cli.options import Currency, Decimal, Format, ScaleName, SkipBad, WhoseLabels
from goodrate.cli.terminal import console, parse_mapping, print_table, require_folder, verb_app
from goodrate.strict_json import read_object

if TYPE_CHECKING:
    from goodrate.api.training import TrainingResult

app = verb_app()
COLUMNS = {
    "ndcg@10": "nDCG@10", "minus rival": "minus {rival} (95 %)", "ndcg": "nDCG", "auc_good": "AUC good",
    "accuracy": "accuracy", "macro_f1": "macro-F1", "good_f1": "F1 good", "ece": "ECE",
}  # fmt: skip
Layers = Annotated[
    str | None, typer.Option(help="Layers that the probe reads: 9,12. Default: at 1/2 and 2/3 of its depth.")
]
Neighbours = Annotated[
    bool, typer.Option("--neighbours", help="Compare items with what a query finds too; encodes the catalogue.")
]

HELP = """Fit a judge to labels: a sum of a text encoder's cosine, a query's words, its exclusions ("without straw") and
measures, and with --model a probe of a language model.

The language model is not trained: it reads every labelled pair once, and a linear head is fitted to what its middle
layers hold. Weights are fitted too, and pulled towards usual ones. The table is measured over folds of query groups,
and a second one says what each member adds; the judge is not called better than the best system that nobody trained
unless the 95 % interval says so. What was read stays in --out: with more labels, a new --out and --features OLD read
the new pairs only.

With --no-labels nothing is labelled: weights are the usual ones, and with --model the language model writes queries for
items, and the probe learns from the cosine. Its labels are a guess that nobody checked (docs/probe_judge.md).

Examples:

  goodrate fit-judge items.csv --judgements ratings.csv --encoder sentence-transformers/all-MiniLM-L6-v2
  --model google/gemma-3-270m --scale graded_0_3 --out runs/judge

  goodrate fit-judge shop-index --judgements labels.csv --out runs/cosine     # the index's encoder, no language model

  goodrate fit-judge items.csv --no-labels --encoder ./minilm --out runs/judge          # + --model ./gemma-3-270m

  goodrate serve shop-index --model runs/judge/judge
"""


@app.command(help=HELP)
def fit_judge(
    catalog: Annotated[Path, typer.Argument(help="A file of items, or the folder of an index.")],
    out: Annotated[Path, typer.Option(help="Run folder; the judge is its folder judge.")],
    judgements: Annotated[Path | None, typer.Option(help="Labels: query, item_id, label.", show_default=False)] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Learn from the encoder's cosine alone.")] = False,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Text encoder: folder or hub id; may be given twice. Default: that of the index."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Causal language model to probe: folder or hub id.", show_default=False)
    ] = None,
    scale: ScaleName = None,
    format: Format = None,
    map: Annotated[str | None, typer.Option(help="Our names for their columns: id=sku.", show_default=False)] = None,
    decimal: Decimal = None,
    currency: Currency = None,
    judgements_format: Annotated[str | None, typer.Option(help="Of the labels.", show_default=False)] = None,
    judgements_map: Annotated[
        str | None, typer.Option(help="Our names for the labels' columns: item_id=sku.", show_default=False)
    ] = None,
    labels_by: WhoseLabels = "people",
    layers: Layers = None,
    characters: Annotated[int, typer.Option(min=20, help="Of an item that the probe reads.")] = 160,
    features: Annotated[
        Path | None, typer.Option(help="An --out before this one: its pairs are not read again.", show_default=False)
    ] = None,
    neighbours: Neighbours = False,
    language: Annotated[
        str | None, typer.Option(help="Of queries: rules for exclusions. Default: that of the index, or en.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of query groups.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    skip_bad: SkipBad = 0,
) -> None:
    """See HELP."""
    from goodrate.api.training import fit_settings, run_from_settings, unlabelled_settings

    require_folder("--out", out)
    if no_labels == (judgements is not None):
        raise ValueError("give --judgements FILE, or --no-labels")
    named = {"index": str(catalog)} if catalog.is_dir() else {"catalog": str(catalog)}
    data: dict[str, Any] = {
        **named, "judgements": str(judgements) if judgements else None, "scale": scale, "catalog_format": format,
        "decimal": decimal, "currency": currency, "catalog_map": parse_mapping(map) or {}, "skip_bad": skip_bad,
        "judgements_format": judgements_format, "judgements_map": parse_mapping(judgements_map) or {},
        "test_share": 0.0, "split_seed": seed, "labels_by": labels_by,
    }  # fmt: skip
    if no_labels:
        if neighbours:
            raise ValueError("--neighbours goes with --judgements: without labels nothing says whether it helps")
        recipe, settings = "judge_unlabelled", unlabelled_settings(data, encoder or [], model, characters, language)
    else:
        recipe = "judge_ensemble"
        read = _numbers(layers), characters, folds, _kept(features), language, neighbours
        settings = fit_settings(data, encoder or [], model, *read)
    with _pair_progress() as progress:
        result = run_from_settings(recipe, settings, out, progress)
    _report(result, out)


@contextmanager
def _pair_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar over the pairs that are read, on stderr; a line for each block where that is no terminal."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        number = bar.add_task("reading pairs", total=None)

        def tell(record: dict[str, Any]) -> None:
            bar.update(number, completed=record["done"], total=record["total"])
            if not console.is_terminal:
                console.print(f"read {record['done']:,} of {record['total']:,} pairs", highlight=False)

        yield tell


def _kept(features: Path | None) -> str | None:
    """The folder of an earlier run. FileNotFoundError for one that kept no features."""
    if features is None:
        return None
    if not (features / "features.safetensors").is_file():
        raise FileNotFoundError(f"--features {features}: no features.safetensors there; expected the --out of a run")
    return str(features)


def _numbers(text: str | None) -> list[int] | None:
    """The numbers of 9,12. Raises ValueError for anything else."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"--layers {text!r}: expected whole numbers such as 9,12")
    return [int(part) for part in parts]


def _report(result: TrainingResult, out: Path) -> None:
    """The tables on stdout; notes, warnings and the place of the judge on stderr."""
    if not result.rows:
        _say(result)
        return
    told = read_object(out / "fit.json")
    title = f"{told['pairs']:,} pairs, {told['queries']:,} queries whose labels differ"
    headings = [heading.format(rival=told["rival"]) for heading in COLUMNS.values()]
    table = Table("", *headings, title=title, title_justify="left", box=None)
    for name, row in told["systems"].items():
        table.add_row(name, *(_cell(row.get(column)) for column in COLUMNS))
    print_table(table)
    members = Table("member", "weight", "adds to nDCG@10 (95 %)", box=None)
    for name, adds in told["adds"].items():
        members.add_row(name, _cell(told["weights"].get(name)), _cell(adds))
    print_table(members)
    _say(result)


def _say(result: TrainingResult) -> None:
    """Notes, warnings and where the judge is, on stderr."""
    for note in result.notes:
        console.print(escape(note), style="dim", highlight=False)
    for warning in result.warnings:
        console.print(f"WARNING: {escape(warning)}", style="bold yellow", highlight=False)
    console.print(f"judge: {result.folder}", highlight=False)


def _cell(value: Any) -> str:
    """A number with three digits, a difference with its interval, - where there is none."""
    if isinstance(value, dict):
        known = value["value"] is not None and value["low"] is not None
        return f"{value['value']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})" if known else "-"
    return "-" if value is None else f"{value:.3f}"


command = typer.main.get_command(app)
