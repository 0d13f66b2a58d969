"""goodrate teach: write the reasons of labels, by plain matching or with a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from goodrate.cli.endpoint_options import (
    AnswerPrice,
    Answers,
    AnswerTokens,
    Concurrency,
    CostCap,
    KeyEnv,
    PromptPrice,
    RuleBookName,
    Timeout,
    TokenCap,
    cost_told,
)
from goodrate.cli.options import (
    CatalogFile,
    CatalogFormat,
    CatalogMap,
    Currency,
    Decimal,
    Facts,
    IndexFolder,
    PairMap,
    SkipBad,
)
from goodrate.cli.terminal import console, parse_mapping, report_pair_rows, require_file_name, verb_app

if TYPE_CHECKING:
    from goodrate.api.teaching import LabelledRows, RuleBook, Teacher

app = verb_app()
TEACHERS = ("template", "facts", "endpoint")
LabelScale = Annotated[
    str | None,
    typer.Option(help="Scale of the labels, a name or a TOML file, if not the rule book's.", show_default=False),
]
EndpointAddress = Annotated[
    str | None, typer.Option(help="Endpoint: base address, such as http://localhost:8000/v1.", show_default=False)
]

HELP = """Write the reasons of labels, for judges to learn from.

PAIRS is a csv, tsv, jsonl or parquet file with the columns query, label and item_text, or query, label and item_id
together with --catalog or --index. Labels are those of --scale, else of the rule book's. OUT gets one JSON line per
pair: the steps of its reason, or the name of what prevented one.

template: matches typed fields (price, brand, category, attributes) and needs no model. facts: for catalogues without
categories and typed fields: which of the query's words, brand, identifier, measures, exclusions and price the item's
text has, lacks or is against, and the rule that follows from that; short, and no model either. endpoint: asks a
language model behind any OpenAI-compatible URL; an answer is kept when it can be read, has the label and cites a rule.
Answers stay in an SQLite file: the same command goes on and pays for none twice.

Examples:

  goodrate teach labels.csv --teacher template --catalog items.csv --out rationales.jsonl

  goodrate teach ratings.csv --teacher template --index shop-index --scale graded_0_3 --map item_id=docid,label=rating
  --out rationales.jsonl

  goodrate teach labels.csv --teacher template --catalog items.csv --rules my_rules.toml --out rationales.jsonl

  goodrate teach ratings.csv --teacher facts --rules graded_0_3 --catalog items.csv --out rationales.jsonl

  goodrate teach labels.csv --teacher endpoint --catalog items.csv --out rationales.jsonl --url https://api.example.com/v1
  --model big-model --key-env EXAMPLE_KEY --max-tokens-total 2000000

  goodrate train judge_sft --config own.toml --set data.rationales=rationales.jsonl --out runs/judge
"""


@app.command(help=HELP)
def teach(
    pairs: Annotated[Path, typer.Argument(help="Pairs with their labels.", show_default=False)],
    teacher: Annotated[str, typer.Option(help=f"Who writes: {', '.join(TEACHERS)}.")],
    out: Annotated[Path, typer.Option(help="Where the reasons go: .jsonl, whole at the end.", show_default=False)],
    catalog: CatalogFile = None,
    format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    index: IndexFolder = None,
    rules: RuleBookName = None,
    scale: LabelScale = None,
    map: PairMap = None,
    facts: Facts = None,
    skip_bad: SkipBad = 0,
    url: EndpointAddress = None,
    model: Annotated[str | None, typer.Option(help="Endpoint: name of the model.", show_default=False)] = None,
    key_env: KeyEnv = None,
    max_tokens_total: TokenCap = None,
    max_cost: CostCap = None,
    price_prompt: PromptPrice = 0.0,
    price_answer: AnswerPrice = 0.0,
    max_answer_tokens: AnswerTokens = 400,
    concurrency: Concurrency = 4,
    timeout: Timeout = 120.0,
    answers: Answers = None,
) -> None:
    """See HELP."""
    if teacher not in TEACHERS:
        raise ValueError(f"--teacher {teacher}: expected one of {', '.join(TEACHERS)}")
    require_file_name("--out", out, (".jsonl",))
    from goodrate.api.judging import ItemSource
    from goodrate.api.teaching import MATCHING, Endpoint, endpoint_teacher, read_labelled, rule_book

    source = ItemSource(catalog, format, parse_mapping(catalog_map, "--catalog-map"), index, decimal, currency)
    book = rule_book(rules, scale)
    caps = (max_tokens_total, max_cost, price_prompt, price_answer)
    stored = answers or out.parent / "verdicts.sqlite"
    endpoint = Endpoint(url, model, key_env, *caps, max_answer_tokens, concurrency, timeout, stored)
    if teacher == "endpoint":
        endpoint.check()
    with console.status(f"reading {pairs.name}"):
        labelled = read_labelled(pairs, source, book.scale, parse_mapping(map), facts, skip_bad)
    report_pair_rows(pairs, labelled.table)
    if teacher in MATCHING:
        _write(MATCHING[teacher](book, labelled), labelled, book, out)
        return
    with endpoint_teacher(endpoint, book) as asked, cost_told(asked.asker):
        _write(asked, labelled, book, out)


def _write(teacher: Teacher, labelled: LabelledRows, book: RuleBook, out: Path) -> None:
    """Teach, write the whole file, and say what came out. ValueError when no pair got a reason."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from goodrate.api.teaching import teach as write_reasons

    columns = (TextColumn("teaching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("teaching", total=len(labelled.pairs))
        counts = write_reasons(teacher, labelled, book, out, lambda done: bar.update(task, completed=done))
    written = counts.pop("reason")
    kinds = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    silver = " (silver)" if teacher.silver else ""
    console.print(
        f"{written:,} of {len(labelled.rows):,} rows have a reason{silver}; written to {escape(str(out))}",
        highlight=False,
    )
    if kinds:
        console.print(f"no reason: {kinds}", highlight=False)
    if not written:
        raise ValueError(f"no pair got a reason ({kinds}); {out} names the failure of each")


command = typer.main.get_command(app)
