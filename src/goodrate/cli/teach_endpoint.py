"""The endpoint of `goodrate teach`: its options, and what asking it has cost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from goodrate.relevance.rulebook import RuleBook
    from goodrate.teaching.endpoint_teacher import EndpointTeacher


@dataclass(frozen=True)
class Endpoint:
    """The options of an endpoint; None = not given. Prices are per million tokens."""

    url: str | None
    model: str | None
    key_env: str | None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_prompt: float = 0.0
    price_answer: float = 0.0
    max_answer_tokens: int = 400
    concurrency: int = 4
    timeout: float = 120.0
    answers: Path = Path("verdicts.sqlite")

    def check(self) -> None:
        """Raises ValueError for what is missing, before anything is read."""
        for name, value in (("--url", self.url), ("--model", self.model)):
            if not value:
                raise ValueError(f"--teacher endpoint needs {name}")
        if not str(self.url).startswith(("http://", "https://")):
            raise ValueError(f"--url {self.url}: expected an address that begins with http:// or https://")
        if self.key_env and not os.environ.get(self.key_env):
            raise ValueError(f"--key-env {self.key_env}: that environment variable is not set")
        if self.max_cost is not None and not (self.price_prompt or self.price_answer):
            raise ValueError("--max-cost needs --price-prompt and --price-answer")


@contextlib.contextmanager
def asking(options: Endpoint, book: RuleBook, console: Console) -> Iterator[EndpointTeacher]:
    """The teacher of an endpoint. Says at the end what was asked and paid, and what to do about a cap."""
    from goodrate.teaching.answer_store import AnswerStore
    from goodrate.teaching.budget import Budget, Prices
    from goodrate.teaching.chat_endpoint import ChatEndpoint, Patience
    from goodrate.teaching.endpoint_teacher import EndpointTeacher

    budget = Budget(options.max_tokens_total, options.max_cost, Prices(options.price_prompt, options.price_answer))
    key = os.environ.get(options.key_env, "") if options.key_env else ""
    assert options.url is not None and options.model is not None
    patience = Patience(timeout=options.timeout)
    endpoint = ChatEndpoint(options.url, options.model, key, options.max_answer_tokens, patience)
    with AnswerStore(options.answers) as store, contextlib.closing(endpoint):
        teacher = EndpointTeacher(book, endpoint, store, budget, options.concurrency)
        try:
            yield teacher
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{options.answers} keeps what was answered, the same command goes on") from stop
        finally:
            _report(teacher, console)


def _report(teacher: EndpointTeacher, console: Console) -> None:
    """Requests of this run, and tokens and money of all answers to these pairs."""
    budget = teacher.budget
    cost = f", cost {budget.cost:.4g}" if budget.prices.prompt or budget.prices.completion else ""
    guessed = f" ({teacher.estimated:,} answers without usage: guessed)" if teacher.estimated else ""
    spent = f"{budget.prompt:,} prompt and {budget.completion:,} answer tokens{cost}{guessed}"
    console.print(f"{teacher.requests:,} answers paid for now; with the kept ones {spent}", highlight=False)
    if teacher.unasked:
        told = f"the cap is reached: {teacher.unasked:,} pairs were not asked to the end"
        console.print(f"{told}; raise it and give the same command again", highlight=False)
