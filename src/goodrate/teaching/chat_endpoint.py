"""An OpenAI-compatible chat endpoint: one answer for some messages, asked again while the server is busy or down."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodrate.extras import require

Message = Mapping[str, str]
STOPPED = "stopped"  # why a pair was not asked, or not again
LONGEST_WAIT = 60.0  # seconds between two tries
REFUSALS = {401, 403, 404}  # the key, the address or the model is wrong: asking for another pair does not help
BYTES_PER_TOKEN = 3  # a cautious guess, where the server does not count


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
    """No answer after all tries. name: http_<status>, timeout, connection, bad_response or stopped."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Patience:
    """How long to try. tries: requests for one answer; first_wait: seconds before the second, doubled each time."""

    tries: int = 6
    first_wait: float = 1.0
    timeout: float = 120.0


class ChatEndpoint:
    """POST <url>/chat/completions. For many threads at once. Closing `stop` ends all waiting.

    url: such as https://api.example.com/v1. key: sent as bearer token, none when empty.
    Raises MissingExtra when httpx is not installed.
    """

    def __init__(
        self, url: str, model: str, key: str = "", max_answer_tokens: int = 400, patience: Patience | None = None
    ) -> None:
        require("teacher", "asking an endpoint")
        import httpx

        self.url, self.model, self.max_answer_tokens = url.rstrip("/"), model, max_answer_tokens
        self.patience = patience or Patience()
        self.stop = threading.Event()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=self.patience.timeout)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def complete(self, messages: Sequence[Message], temperature: float) -> Answer:
        """One answer. 429, 5xx, timeouts and lost connections are tried again, twice as late each time.

        Raises Unanswered when no try helped, ValueError when the endpoint refuses key, address or model.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": self.max_answer_tokens,
        }
        failure, asked_wait = "", 0.0
        for attempt in range(self.patience.tries):
            wait = max(asked_wait, self.patience.first_wait * 2 ** (attempt - 1)) if attempt else 0.0
            if self.stop.wait(min(wait, LONGEST_WAIT)):
                raise Unanswered(STOPPED)
            got, failure, asked_wait = self._once(body)
            if got is not None:
                return got
        raise Unanswered(failure)

    def _once(self, body: dict[str, Any]) -> tuple[Answer | None, str, float]:
        """One request: the answer, or the name of what failed and how many seconds the server asks to wait."""
        import httpx

        try:
            response = self._client.post(f"{self.url}/chat/completions", json=body)
        except httpx.TimeoutException:
            return None, "timeout", 0.0
        except httpx.TransportError:
            return None, "connection", 0.0
        status = response.status_code
        if status in REFUSALS:
            raise ValueError(f"{self.url} answers {status} for model {self.model!r}: {response.text[:200].strip()}")
        if status == 429 or status >= 500:
            return None, f"http_{status}", _seconds(response.headers.get("retry-after", ""))
        if status != 200:
            raise Unanswered(f"http_{status}")
        answer = _read(response, body["messages"])
        return answer, "" if answer else "bad_response", 0.0


def _seconds(header: str) -> float:
    """Retry-After in seconds; 0 for none and for a date."""
    return float(header) if header.replace(".", "", 1).isdigit() else 0.0


def _read(response: Any, messages: Sequence[Message]) -> Answer | None:
    """The answer in a response of the chat-completions protocol, None when it is not one."""
    try:
        content = response.json()
        choice = content["choices"][0]
        text = choice["message"]["content"]
        finish = str(choice.get("finish_reason") or "stop")
        usage = content.get("usage") or {}
        if not isinstance(text, str):
            return None
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if isinstance(prompt, int) and isinstance(completion, int):
        return Answer(text, prompt, completion, finish)
    return Answer(text, prompt_size(messages), guessed_tokens(text), finish, estimated=True)


def guessed_tokens(text: str) -> int:
    """About how many tokens a text has; rather too many.

    >>> guessed_tokens("four")
    2
    """
    return len(text.encode()) // BYTES_PER_TOKEN + 1


def prompt_size(messages: Sequence[Message]) -> int:
    """About how many tokens some messages have."""
    return sum(guessed_tokens(message["content"]) for message in messages)
