"""goodrate teach: write the reasons of labels, by plain matching or with a language model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.judge_input import Sources
from goodrate.cli.teach_endpoint import Endpoint, asking

if TYPE_CHECKING:
    from goodrate.cli.teach_input import Labelled
    from goodrate.relevance.rulebook import RuleBook
    from goodrate.teaching.teacher import Taught, Teacher

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console(stderr=True)
TEACHERS = ("template", "endpoint")
Facts = Annotated[
    Path | None,
    typer.Option(
        help="What the shop knows of names in queries (facts.jsonl). Default: that of --index, if any.",
        show_default=False,
    ),
]
TokenCap = Annotated[
    int | None,
    typer.Option(min=1, help="endpoint: stop before prompts and answers have more tokens.", show_default=False),
]
Answers = Annotated[
    Path | None,
    typer.Option(help="endpoint: where answers are kept. Default: verdicts.sqlite beside --out.", show_default=False),
]

HELP = """Write the reasons of labels, for judges to learn from.

PAIRS is a csv, tsv, jsonl or parquet file with the columns query, label and
item_text, or query, label and item_id together with --catalog or --index.
Labels are those of the rule book's scale. OUT gets one JSON line per pair:
the five steps of its reason, or the name of what prevented one.

template: matches typed fields (price, brand, category, attributes) and needs
no model. endpoint: asks a language model behind any OpenAI-compatible URL;
an answer is kept when it can be read, has the label and cites a rule. Answers
stay in an SQLite file: the same command goes on and pays for none twice.

Examples:

  goodrate teach labels.csv --teacher template --catalog items.csv --out rationales.jsonl

  goodrate teach labels.csv --teacher template --catalog items.csv --rules my_rules.toml --out rationales.jsonl

  goodrate teach labels.csv --teacher endpoint --catalog items.csv --out rationales.jsonl --url https://api.example.com/v1
  --model big-model --key-env EXAMPLE_KEY --max-tokens-total 2000000

  goodrate train judge_sft --config own.toml --set data.rationales=rationales.jsonl --out runs/judge
"""


@app.command(help=HELP)
def teach(
    pairs: Annotated[Path, typer.Argument(help="Pairs with their labels.", show_default=False)],
    teacher: Annotated[str, typer.Option(help=f"Who writes: {', '.join(TEACHERS)}.")],
    out: Annotated[Path, typer.Option(help="Where the reasons go: .jsonl, whole at the end.", show_default=False)],
    catalog: Annotated[Path | None, typer.Option(help="Items by item_id: a file.", show_default=False)] = None,
    format: Annotated[str | None, typer.Option(help="Of --catalog: esci, wands, chorus.", show_default=False)] = None,
    index: Annotated[Path | None, typer.Option(help="Items by item_id: an index.", show_default=False)] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Rule book that reasons cite. Default: the package's.", show_default=False)
    ] = None,
    map: Annotated[
        str | None, typer.Option(help="Our names for the columns of PAIRS: query=q,label=grade.", show_default=False)
    ] = None,
    facts: Facts = None,
    skip_bad: Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")] = 0,
    url: Annotated[
        str | None, typer.Option(help="endpoint: base address, such as http://localhost:8000/v1.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="endpoint: name of the model.", show_default=False)] = None,
    key_env: Annotated[
        str | None, typer.Option(help="endpoint: environment variable with the API key.", show_default=False)
    ] = None,
    max_tokens_total: TokenCap = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="endpoint: stop before it costs more.", show_default=False)
    ] = None,
    price_prompt: Annotated[float, typer.Option(min=0, help="endpoint: price of a million prompt tokens.")] = 0.0,
    price_answer: Annotated[float, typer.Option(min=0, help="endpoint: price of a million answer tokens.")] = 0.0,
    max_answer_tokens: Annotated[int, typer.Option(min=1, help="endpoint: longest answer.")] = 400,
    concurrency: Annotated[int, typer.Option(min=1, help="endpoint: pairs asked at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="endpoint: seconds to wait for one answer.")] = 120.0,
    answers: Answers = None,
) -> None:
    """See HELP."""
    _check(out, teacher, catalog, index)
    from goodrate.cli.teach_input import read_labelled
    from goodrate.relevance.rulebook import DEFAULT_RULES, load_rulebook

    book = load_rulebook(rules or DEFAULT_RULES)
    caps = (max_tokens_total, max_cost, price_prompt, price_answer)
    kept = answers or out.parent / "verdicts.sqlite"
    endpoint = Endpoint(url, model, key_env, *caps, max_answer_tokens, concurrency, timeout, kept)
    if teacher == "endpoint":
        endpoint.check()
    labelled = read_labelled(pairs, Sources(catalog, format, index, facts), map, skip_bad, book.scale, console)
    if teacher == "template":
        _write(_template(book, labelled), labelled, book, out)
        return
    with asking(endpoint, book, console) as asked:
        _write(asked, labelled, book, out)


def _check(out: Path, teacher: str, catalog: Path | None, index: Path | None) -> None:
    """What can be said before anything is read."""
    if teacher not in TEACHERS:
        raise ValueError(f"--teacher {teacher}: expected one of {', '.join(TEACHERS)}")
    if out.suffix.lower() != ".jsonl":
        raise ValueError(f"--out {out}: expected a name that ends in .jsonl")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; expected a file")
    if catalog is not None and index is not None:
        raise ValueError("give --catalog or --index, not both")


def _template(book: RuleBook, labelled: Labelled) -> Teacher:
    """The template writer, with the words of the whole catalogue, or of the items in the file."""
    from goodrate.teaching.query_reading import Lexicon
    from goodrate.teaching.template_teacher import TemplateTeacher

    return TemplateTeacher(book, Lexicon.of(labelled.items, (f"{p.query} {p.facts}" for p in labelled.pairs)))


def _write(teacher: Teacher, labelled: Labelled, book: RuleBook, out: Path) -> None:
    """Teach, write the whole file, and say what came out. ValueError when no pair got a reason."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from goodrate.run_folder import write_atomic
    from goodrate.teaching.taught_file import to_jsonl

    columns = (TextColumn("teaching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("teaching", total=len(labelled.pairs))
        taught = teacher.teach(labelled.pairs, lambda done: bar.update(task, completed=done))
    write_atomic(out, to_jsonl(labelled.lines(taught, teacher, book)))
    _summarise(out, taught, labelled, teacher.silver)


def _summarise(out: Path, taught: list[Taught], labelled: Labelled, silver: bool) -> None:
    """How many reasons, and what prevented the others, each kind counted apart."""
    written = sum(one.rationale is not None for one in taught)
    failures = Counter(one.failure for one in taught if one.failure) + Counter(labelled.unusable.values())
    kinds = ", ".join(f"{name} {count:,}" for name, count in failures.most_common())
    told = f"{written:,} of {len(labelled.rows):,} rows have a reason{' (silver)' if silver else ''}"
    console.print(f"{told}; written to {escape(str(out))}", highlight=False)
    if kinds:
        console.print(f"no reason: {kinds}", highlight=False)
    if not written:
        raise ValueError(f"no pair got a reason ({kinds}); {out} names the failure of each")


command = typer.main.get_command(app)
