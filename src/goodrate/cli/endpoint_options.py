"""Options of the verbs that ask a chat endpoint, and what they say of its cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from goodrate.cli.terminal import console

if TYPE_CHECKING:
    from goodrate.api.endpoints import Asker

KeyEnv = Annotated[
    str | None, typer.Option(help="Endpoint: environment variable with the API key.", show_default=False)
]
TokenCap = Annotated[
    int | None,
    typer.Option(min=1, help="Endpoint: stop before prompts and answers have more tokens.", show_default=False),
]
CostCap = Annotated[float | None, typer.Option(min=0, help="Endpoint: stop before it costs more.", show_default=False)]
PromptPrice = Annotated[float, typer.Option(min=0, help="Endpoint: price of a million prompt tokens.")]
AnswerPrice = Annotated[float, typer.Option(min=0, help="Endpoint: price of a million answer tokens.")]
AnswerTokens = Annotated[int, typer.Option(min=1, help="Endpoint: longest answer.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Endpoint: pairs asked at once.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Endpoint: seconds to wait for one answer.")]
Answers = Annotated[
    Path | None,
    typer.Option(
        help="Endpoint: where its answers are stored. Default: verdicts.sqlite beside --out.", show_default=False
    ),
]
RuleBookName = Annotated[
    str | None,
    typer.Option(
        help="Rule book: a TOML file, or esci, graded_0_3, shop, which ship with goodrate.", show_default=False
    ),
]


@contextmanager
def cost_told(asker: Asker, what: str = "pairs") -> Iterator[None]:
    """Inside, long waits are told; at the end, what was asked and paid, and what to do about a cap."""
    asker.endpoint.tell = lambda line: console.print(escape(line), highlight=False)
    try:
        yield
    finally:
        _report_cost(asker, what)


def _report_cost(asker: Asker, what: str) -> None:
    """Requests of this run, and tokens and money of all answers to these pairs."""
    budget = asker.budget
    cost = f", cost {budget.cost:.4g}" if budget.prices.prompt or budget.prices.completion else ""
    guessed = f" ({asker.estimated:,} answers without usage: guessed)" if asker.estimated else ""
    spent = f"{budget.prompt:,} prompt and {budget.completion:,} answer tokens{cost}{guessed}"
    console.print(f"{asker.requests:,} answers paid for now; with the stored ones {spent}", highlight=False)
    for name, words in asker.refused.items():
        if words:
            console.print(f"the server said ({name}): {escape(words)}", highlight=False)
    if asker.unasked:
        capped = f"the cap is reached: {asker.unasked:,} {what} were not asked to the end"
        console.print(f"{capped}; raise it and give the same command again", highlight=False)
