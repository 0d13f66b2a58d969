"""An OpenAI-compatible chat endpoint: one answer for some messages, asked again while the server is busy or down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from goodrate.extras import require
from goodrate.teaching.server_words import error_code, seconds_asked, words_of

Message = Mapping[str, str]
STOPPED = "stopped"  # why a pair was not asked, or not again
LONGEST_WAIT = 60.0  # seconds between two tries, unless the server asks for more
TOO_LONG = 3600.0  # seconds that a server may ask to wait before the run ends instead
TOLD_FROM = 10.0  # seconds of waiting that are worth a line
REFUSALS = {401, 402, 403, 404}  # the key, the account, the address or the model: asking for another pair is no help
NO_MONEY = "insufficient_quota"  # a 429 that no waiting mends
BYTES_PER_TOKEN = 3  # a cautious guess, where the server does not count
# What some models take under another name, or not at all, and say so in a 400 that names it.
ANSWER_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Answer:
    """What came back and what it cost, in tokens. finish: "stop", "length" (cut off), or what else the server says.

    estimated: the server gave no usage, the tokens are guessed from the texts.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: str = "stop"
    estimated: bool = False


class Unanswered(Exception):
    """No answer after all tries. name: http_<status>, timeout, connection, bad_response or stopped.

    words: the server's own, "" where it said nothing.
    """

    def __init__(self, name: str, words: str = "") -> None:
        super().__init__(f"{name}: {words}" if words else name)
        self.name, self.words = name, words


@dataclass(frozen=True)
class Patience:
    """How long to try. tries: requests for one answer; first_wait: seconds before the second, doubled each time."""

    tries: int = 6
    first_wait: float = 1.0
    timeout: float = 120.0


@dataclass(frozen=True)
class _Failure:
    """A request without an answer. name, words: as Unanswered. wait: seconds that the server asks for."""

    name: str
    words: str = ""
    wait: float = 0.0


class ChatEndpoint:
    """POST <url>/chat/completions. For many threads at once. Closing `stop` ends all waiting.

    url: such as https://api.example.com/v1. key: sent as bearer token, none when empty. tell: gets a line about every
    long wait. Raises MissingExtra when httpx is not installed.
    """

    def __init__(
        self, url: str, model: str, key: str = "", max_answer_tokens: int = 400, patience: Patience | None = None
    ) -> None:
        require("teacher", "asking an endpoint")
        import httpx

        self.url, self.model, self.max_answer_tokens = url.rstrip("/"), model, max_answer_tokens
        self.patience = patience or Patience()
        self.stop = threading.Event()
        self.tell: Callable[[str], None] = lambda line: None
        self._limit_name = ANSWER_LIMITS[0]
        self._takes_temperature = True
        self._not_before = 0.0  # monotonic seconds: a server that asks one thread to wait means all
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=self.patience.timeout)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def complete(self, messages: Sequence[Message], temperature: float) -> Answer:
        """One answer. 429, 5xx, timeouts and lost connections are tried again, twice as late each time.

        A Retry-After is waited for; one of an hour or more ends the run. Raises Unanswered when no try helped,
        ValueError when the endpoint refuses key, account, address or model, or asks to wait that long.
        """
        failure = _Failure("")
        for attempt in range(self.patience.tries):
            backoff = min(self.patience.first_wait * 2 ** (attempt - 1), LONGEST_WAIT) if attempt else 0.0
            if self.stop.wait(max(backoff, self._not_before - time.monotonic())):
                raise Unanswered(STOPPED)
            got = self._adapted(messages, temperature)
            if isinstance(got, Answer):
                return got
            failure = got
            self._heed(failure)
        raise Unanswered(failure.name, failure.words)

    def _heed(self, failure: _Failure) -> None:
        """Let all threads wait as long as the server asks. ValueError for an hour or more."""
        if failure.wait >= TOO_LONG:
            raise ValueError(
                f"{self.url} asks to wait {failure.wait / 3600:.1f} hours ({failure.name}: {failure.words}); what was "
                "answered is kept, the same command goes on after that"
            )
        until = time.monotonic() + failure.wait
        if failure.wait >= TOLD_FROM and until > self._not_before + 1:
            self.tell(f"{self.url} asks to wait {failure.wait:.0f} seconds ({failure.name}: {failure.words})")
        self._not_before = max(self._not_before, until if failure.wait else 0.0)

    def _adapted(self, messages: Sequence[Message], temperature: float) -> Answer | _Failure:
        """One request; sent again at once without what a 400 names and the model takes otherwise."""
        import httpx

        while True:
            body = self._body(messages, temperature)
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body)
            except httpx.TimeoutException:
                return _Failure("timeout", f"no answer in {self.patience.timeout:g} seconds")
            except httpx.TransportError as error:
                return _Failure("connection", " ".join(str(error).split()))
            if response.status_code != 400 or not self._gives_way(body, words_of(response)):
                return self._read(response, messages)

    def _body(self, messages: Sequence[Message], temperature: float) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages), self._limit_name: self.max_answer_tokens}
        return body | ({"temperature": temperature} if self._takes_temperature else {})

    def _gives_way(self, body: Mapping[str, Any], words: str) -> bool:
        """Whether a 400 names something of the body that can be sent otherwise, which is done from then on."""
        old, new = ANSWER_LIMITS
        if old in body and new in words:
            self._limit_name = new
            return True
        if "temperature" in body and "temperature" in words:
            self._takes_temperature = False
            return True
        return False

    def _read(self, response: Any, messages: Sequence[Message]) -> Answer | _Failure:
        """The answer, or a failure that is worth another try. Raises as complete."""
        status = response.status_code
        if status == 200:
            return _answer(response, messages) or _Failure("bad_response", words_of(response))
        words = words_of(response)
        if status in REFUSALS or (status == 429 and error_code(response) == NO_MONEY):
            raise ValueError(f"{self.url} answers {status} for model {self.model!r}: {words}")
        if status == 429 or status >= 500:
            return _Failure(f"http_{status}", words, seconds_asked(response.headers.get("retry-after", "")))
        raise Unanswered(f"http_{status}", words)


def _answer(response: Any, messages: Sequence[Message]) -> Answer | None:
    """The answer in a response of the chat-completions protocol, None when it is not one."""
    try:
        content = response.json()
        choice = content["choices"][0]
        text = _text(choice["message"]["content"])
        finish = str(choice.get("finish_reason") or "stop")
        usage = content.get("usage") or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    if text is None:
        return None
    if _is_count(prompt) and _is_count(completion):
        return Answer(text, prompt, completion, finish)
    return Answer(text, prompt_size(messages), guessed_tokens(text), finish, estimated=True)


def _text(content: Any) -> str | None:
    """The text of a message; "" for none, as of a model whose thoughts took all its tokens. None: it is no message."""
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return "" if content is None else content if isinstance(content, str) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def guessed_tokens(text: str) -> int:
    """About how many tokens a text has; rather too many.

    >>> guessed_tokens("four")
    2
    """
    return len(text.encode()) // BYTES_PER_TOKEN + 1


def prompt_size(messages: Sequence[Message]) -> int:
    """About how many tokens some messages have."""
    return sum(guessed_tokens(message["content"]) for message in messages)
