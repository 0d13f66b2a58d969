"""A language model behind a chat endpoint as teachers use it: who is asked, what it may cost, where answers stay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.teaching.asking import Asker
    from goodrate.teaching.budget import Prices
    from goodrate.teaching.chat_endpoint import Message


@dataclass(frozen=True)
class Endpoint:
    """A language model behind an OpenAI-compatible address; None = not given. Prices are per million tokens.

    url: such as http://localhost:8000/v1. key_env: the environment variable with the API key. answers: the SQLite file
    that keeps every answer. tokenizer: a folder with the tokenizer.json of the model, to count prompts before they are
    sent; None = guessed from their bytes.
    """

    url: str | None
    model: str | None
    key_env: str | None = None
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_prompt: float = 0.0
    price_answer: float = 0.0
    max_answer_tokens: int = 400
    concurrency: int = 4
    timeout: float = 120.0
    answers: Path = Path("verdicts.sqlite")
    tokenizer: Path | None = None

    def check(self, url_option: str = "--url") -> None:
        """Raises ValueError for what is missing, before anything is read. url_option: what a message calls the url."""
        for name, value in ((url_option, self.url), ("--model", self.model)):
            if not value:
                raise ValueError(f"asking an endpoint needs {name}")
        if not str(self.url).startswith(("http://", "https://")):
            raise ValueError(f"{url_option} {self.url}: expected an address that begins with http:// or https://")
        if self.key_env and not os.environ.get(self.key_env):
            raise ValueError(f"--key-env {self.key_env}: that environment variable is not set")
        if self.max_cost is not None and not (self.price_prompt or self.price_answer):
            raise ValueError("--max-cost needs --price-prompt and --price-answer")
        if self.tokenizer is not None and not tokenizer_file(self.tokenizer).is_file():
            raise FileNotFoundError(f"--tokenizer {self.tokenizer}: no file {tokenizer_file(self.tokenizer)}")

    @property
    def prices(self) -> Prices:
        """Money per million tokens."""
        from goodrate.teaching.budget import Prices

        return Prices(self.price_prompt, self.price_answer)

    def unpaid(self, prompts: Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
        """The distinct prompts to which no answer is kept; makes no file."""
        from goodrate.teaching.answer_store import AnswerStore, unpaid

        if not self.answers.is_file():
            return _distinct(prompts)
        with AnswerStore(self.answers) as store:
            return unpaid(store, prompts, self.model or "", self.url or "", self.max_answer_tokens)

    def size(self, messages: Sequence[Message]) -> int:
        """Tokens of a prompt: counted with the tokenizer, or guessed."""
        from goodrate.teaching.chat_endpoint import prompt_size

        if self.tokenizer is None:
            return prompt_size(messages)
        from goodrate.teaching.token_count import counted_tokens

        return counted_tokens(tokenizer_file(self.tokenizer), messages)


def _distinct(prompts: Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
    """Prompts of the same words once."""
    return list({tuple(message["content"] for message in prompt): prompt for prompt in prompts}.values())


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json of a folder, or the file itself."""
    return path / "tokenizer.json" if path.is_dir() else path


@contextlib.contextmanager
def opened_asker(options: Endpoint) -> Iterator[Asker]:
    """What asks an endpoint; its answers are stored and paid for once. Raises as Endpoint.check."""
    from goodrate.teaching.answer_store import AnswerStore
    from goodrate.teaching.asking import Asker
    from goodrate.teaching.budget import Budget
    from goodrate.teaching.chat_endpoint import ChatEndpoint, Patience

    options.check()
    budget = Budget(options.max_tokens_total, options.max_cost, options.prices)
    key = os.environ.get(options.key_env, "") if options.key_env else ""
    assert options.url is not None and options.model is not None
    patience = Patience(timeout=options.timeout)
    endpoint = ChatEndpoint(options.url, options.model, key, options.max_answer_tokens, patience)
    with AnswerStore(options.answers) as store, contextlib.closing(endpoint):
        try:
            yield Asker(endpoint, store, budget, options.concurrency, options.size)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{options.answers} keeps what was answered, the same command goes on") from stop
