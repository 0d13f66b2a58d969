"""What a chat server says in an answer's headers and in a refusal: how long to wait, and why it refuses."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_WORDS = 300  # characters of a server's message


def seconds_asked(header: str, now: float | None = None) -> float:
    """Retry-After in seconds, from a number of seconds or an HTTP date (RFC 9110, 10.2.3); 0 for none and for the past.

    now: seconds since 1970, None = the clock.

    >>> seconds_asked("120"), seconds_asked("Thu, 01 Jan 1970 00:01:40 GMT", now=40.0), seconds_asked("soon")
    (120.0, 60.0, 0.0)
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def words_of(response: Any) -> str:
    """The server's own words in a refusal: error.message of its JSON, else the text, in one line.

    response: of httpx.
    """
    text = _message(response) or str(response.text)
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 3] + "..."


def error_code(response: Any) -> str:
    """error.code of a refusal's JSON; "" without one."""
    error = _error(response)
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


def _message(response: Any) -> str:
    error = _error(response)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("msg")
    return error if isinstance(error, str) else ""


def _error(response: Any) -> Any:
    """What stands under "error" (OpenAI and most others), "message" or "detail"; None where there is no such thing."""
    try:
        content = response.json()
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list) and len(content) == 1:  # Google's compatible endpoint puts it in a list
        content = content[0]
    if not isinstance(content, dict):
        return None
    return content.get("error") or content.get("message") or content.get("detail")
