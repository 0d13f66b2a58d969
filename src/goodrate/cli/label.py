"""goodrate label: have a language model behind an endpoint label query-item pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
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
    RayAddress,
    SkipBad,
)
from goodrate.cli.terminal import (
    console,
    item_progress,
    parse_mapping,
    print_table,
    report_pair_rows,
    require_file_name,
    verb_app,
)
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.endpoints import Endpoint
    from goodrate.api.labelling import Labelling, LabelTask, TeacherAgreement

app = verb_app()

Address = Annotated[str, typer.Option(help="Base address, such as http://localhost:8000/v1.", show_default=False)]
ModelName = Annotated[str, typer.Option(help="Name of the model there.", show_default=False)]
LabelScale = Annotated[
    str | None,
    typer.Option(help="Of the labels: a name or a TOML file. Default: the rule book's.", show_default=False),
]
Guidelines = Annotated[
    Path | None, typer.Option(help="Your guidelines for those who label: a text file.", show_default=False)
]
Gold = Annotated[
    Path | None,
    typer.Option(help="People's labels of some pairs; PAIRS itself if it has a label column.", show_default=False),
]
GoldMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of --gold: item_id=docid.", show_default=False)
]
TokenizerFile = Annotated[
    Path | None,
    typer.Option(help="The model's tokenizer.json, or its folder, to count prompts with.", show_default=False),
]

HELP = """Have a language model behind an endpoint label query-item pairs.

PAIRS is a csv, tsv, jsonl or parquet file with the columns query and item_text, or query and item_id together with
--catalog or --index. The model reads the scale's labels with what they mean, your guidelines, a rule book and examples
if you give them, and one pair at a time; it answers with a label and a reason. OUT has a line for each row, whose rater
is "model:NAME": goodrate evaluate, tune, fit-judge and train tell such labels from people's and never mix them.

With --gold, people's labels of some of the pairs, it says how far the model agrees with them. Look at a few hundred
before you pay for all: --dry-run says what a run asks for and costs. Answers stay in an SQLite file: the same command
goes on and pays for none twice.

Examples:

  goodrate label pairs.csv --endpoint http://localhost:8000/v1 --model qwen3 --scale esci --catalog items.csv
  --out labels.csv --dry-run

  goodrate label pairs.csv --endpoint https://api.example.com/v1 --model big --key-env EXAMPLE_KEY --scale graded_0_3
  --rules graded_0_3 --guidelines guidelines.md --gold ratings.csv --examples 8 --index shop-index --out labels.csv
  --price-prompt 0.4 --price-answer 1.6 --max-cost 5

  goodrate label pairs.parquet --endpoint http://vllm:8000/v1 --model qwen3 --scale esci --index shop-index
  --out labels.parquet --ray head:6379

  goodrate evaluate shop-index --judgements labels.csv --labels-by model
"""


@app.command(help=HELP)
def label(
    pairs: Annotated[Path, typer.Argument(help="What to label.", show_default=False)],
    endpoint: Address,
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Labels: .csv, .jsonl or .parquet, whole at the end.", show_default=False)],
    scale: LabelScale = None,
    guidelines: Guidelines = None,
    rules: RuleBookName = None,
    gold: Gold = None,
    gold_map: GoldMap = None,
    examples: Annotated[int, typer.Option(min=0, help="So many pairs of --gold are shown to the model.")] = 0,
    item_characters: Annotated[int, typer.Option(min=20, help="Of an item that the model reads.")] = 1500,
    catalog: CatalogFile = None,
    format: CatalogFormat = None,
    catalog_map: CatalogMap = None,
    decimal: Decimal = None,
    currency: Currency = None,
    index: IndexFolder = None,
    map: PairMap = None,
    facts: Facts = None,
    skip_bad: SkipBad = 0,
    key_env: KeyEnv = None,
    price_prompt: PromptPrice = 0.0,
    price_answer: AnswerPrice = 0.0,
    max_cost: CostCap = None,
    max_tokens_total: TokenCap = None,
    max_answer_tokens: AnswerTokens = 300,
    tokenizer: TokenizerFile = None,
    concurrency: Concurrency = 4,
    timeout: Timeout = 120.0,
    answers: Answers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked and paid; ask nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    ray: RayAddress = None,
) -> None:
    """See HELP."""
    from goodrate.api.endpoints import Endpoint
    from goodrate.api.judging import ItemSource
    from goodrate.api.labelling import label_task

    require_file_name("--out", out, (".csv", ".jsonl", ".parquet"))
    caps = (max_tokens_total, max_cost, price_prompt, price_answer)
    stored = answers or out.parent / "verdicts.sqlite"
    asked = Endpoint(endpoint, model, key_env, *caps, max_answer_tokens, concurrency, timeout, stored, tokenizer)
    asked.check("--endpoint")
    source = ItemSource(catalog, format, parse_mapping(catalog_map, "--catalog-map"), index, decimal, currency)
    with console.status(f"reading {pairs.name}"):
        task = label_task(
            pairs, source, scale, rules=rules, guidelines=guidelines, gold=gold,
            gold_map=parse_mapping(gold_map, "--gold-map"), examples=examples, characters=item_characters,
            map=parse_mapping(map), facts=facts, skip_bad=skip_bad,
        )  # fmt: skip
    report_pair_rows(pairs, task.table)
    _tell_task(task, asked)
    if ray is not None and not dry_run:
        _ask_on_ray(ray, task, asked)
    if not dry_run:
        _label(task, asked, out, as_json)
    elif as_json:
        sys.stdout.write(dumps(_json_estimate(task, asked), indent=2) + "\n")


def _tell_task(task: LabelTask, asked: Endpoint) -> None:
    """What will be asked for, and what it costs."""
    plan = task.estimate(asked)
    tokens = f"{plan.prompt_tokens:,} prompt and about {plan.answer_tokens:,} answer tokens"
    money = f", cost about {plan.cost:.4g} and at most {plan.most_cost:.4g}" if plan.most_cost else ""
    told = f"{plan.pairs:,} pairs: {plan.stored:,} answers stored, {plan.requests:,} requests, {tokens}{money}"
    console.print(f"{told}; what cannot be read is asked again on top", highlight=False)
    if task.cut:
        read = f"{task.prompt.characters:,} characters"
        console.print(f"{task.cut:,} items are longer than the {read} that are read", highlight=False)
    if task.gold:
        shown = len(task.prompt.examples)
        people = sum(label is not None for label in task.people)
        lost = f"; {task.skipped_gold:,} of its labels are of no pair here" if task.skipped_gold else ""
        console.print(
            f"{people:,} pairs have a label of people, {shown:,} are shown as examples{lost}", highlight=False
        )


def _ask_on_ray(address: str, task: LabelTask, asked: Endpoint) -> None:
    """Have workers get the answers that are not kept."""
    from goodrate.api.bulk import ask_on, ray_cluster

    asked.check("--endpoint")
    with ray_cluster(address) as cluster, item_progress(f"asking by {cluster.workers} workers") as tick:
        ask_on(cluster, task, asked, lambda done: tick(done, len(task.pairs)))


def _label(task: LabelTask, asked: Endpoint, out: Path, as_json: bool) -> None:
    """Ask, write the whole file, say what came out. ValueError when no pair got a label; the file says why."""
    from goodrate.api.endpoints import opened_asker
    from goodrate.api.labelling import require_labels

    with opened_asker(asked) as asker, cost_told(asker), item_progress("labelled") as tick:
        done = task.ask(asker, lambda count: tick(count, len(task.pairs)))
    done.write(out)
    require_labels(done, asker.refused)
    _report(done, out)
    found = done.agreement()
    if as_json:
        told = {"labels": done.counts, "failures": done.failures, "rater": done.rater}
        agreed = found.as_dict() if found else None
        sys.stdout.write(dumps({**told, "agreement": agreed}, indent=2) + "\n")
    elif found is not None:
        _show(found)
    for warning in found.warnings if found else ():
        console.print(f"WARNING: {escape(warning)}", style="bold yellow", highlight=False)


def _json_estimate(task: LabelTask, asked: Endpoint) -> dict[str, float]:
    from dataclasses import asdict

    return asdict(task.estimate(asked))


def _report(done: Labelling, out: Path) -> None:
    """Labels, and everything that has none, on stderr."""
    shares = ", ".join(f"{name} {count:,}" for name, count in done.counts.items())
    console.print(f"labels of {escape(done.rater)}: {escape(shares)}; written to {escape(str(out))}", highlight=False)
    if done.failures:
        kinds = ", ".join(f"{name} {count:,}" for name, count in done.failures.most_common())
        console.print(f"no label: {kinds}", highlight=False)
    if done.failures["cut_off"]:
        console.print("cut_off: answers, or thoughts before them, were too long; --max-answer-tokens is the limit")


def _show(found: TeacherAgreement) -> None:
    """Agreement with people, on stdout."""
    from rich.table import Table

    screen = Console()
    both = f"{found.pairs:,} pairs of {found.queries:,} queries have a label of people and of the model"
    screen.print(f"{both} ({found.unlabelled:,} more have people's alone)", highlight=False)
    shown = f"{found.accuracy.value:.3f} ({found.accuracy.low:.3f} to {found.accuracy.high:.3f})"
    screen.print(f"same label: {shown}; always people's most frequent: {found.constant:.3f}", highlight=False)
    for weights, interval in found.kappa.items():
        bounds = f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f} over queries)"
        screen.print(f"Cohen's kappa, weights {weights}: {bounds}", highlight=False)
    labels = found.scale.labels
    table = Table("people's label", *(f"model: {escape(name)}" for name in labels), box=None)
    for name, row in zip(labels, found.confusion.tolist(), strict=True):
        table.add_row(escape(name), *(f"{count:,}" for count in row))
    print_table(table)


command = typer.main.get_command(app)
