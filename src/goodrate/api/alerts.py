"""What is wrong with a monitored search, by bounds that its owner set, and telling a webhook of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goodrate.evaluation.drift import Drift
    from goodrate.evaluation.monitored import Look

TRIES, WAIT, TIMEOUT = 3, 1.0, 10.0  # seconds; the wait doubles


def parse_bounds(texts: Iterable[str], option: str) -> dict[str, float]:
    """Bounds such as query_goodrate=0.8, by the name of their rate.

    Raises ValueError naming the option, the rates and what a bound looks like.
    """
    from goodrate.evaluation.monitored import RATES

    bounds: dict[str, float] = {}
    for text in texts:
        name, _, bound = text.partition("=")
        try:
            share = float(bound)
        except ValueError:
            share = -1.0
        if name.strip() not in RATES or not 0 <= share <= 1:
            known = ", ".join(RATES)
            raise ValueError(f"{option} {text!r}: expected NAME=SHARE with a share from 0 to 1 and one of {known}")
        if name.strip() in bounds:
            raise ValueError(f"{option}: {name.strip()} is given twice")
        bounds[name.strip()] = share
    return bounds


def failures(look: Look, changes: Drift | None, under: Mapping[str, float], drop: Mapping[str, float]) -> list[str]:
    """What is below its bound or fell by more than its bound, in words. A rate that is unknown passes no bound."""
    told = []
    for name, bound in under.items():
        value = look.rate(name)
        if value != value:
            told.append(f"{name} is unknown, at least {bound:g} was expected")
        elif value < bound - 1e-9:
            told.append(f"{name} is {value:.3f}, at least {bound:g} was expected")
    for name, bound in drop.items() if changes is not None else ():
        fall = -changes.rates[name].difference.value if changes is not None else 0.0
        if fall != fall:
            told.append(f"{name} cannot be compared: it is unknown in one of the two runs")
        elif fall > bound + 1e-9:
            assert changes is not None
            told.append(f"{name} fell by {fall:.3f} since {changes.before}, at most {bound:g} was expected")
    return told


def message(look: Look, changes: Drift | None, failed: list[str], report: str) -> dict[str, Any]:
    """The body of the webhook: numbers and what failed; no query, title or item. text: a line for chat systems."""
    rates = {name: rate["value"] for name, rate in look.numbers["rates"].items()}
    said = "; ".join(failed) or ", ".join(f"{name} {_shown(value)}" for name, value in rates.items())
    return {
        "text": f"goodrate monitor, {look.facts['index']}, {look.name}: {said}",
        "status": "failing" if failed else "ok", "failures": failed, "run": look.facts["number"],
        "time": look.facts["time"], "index": look.facts["index"], "rates": look.numbers["rates"],
        "pages": look.numbers["pages"], "tiers": look.numbers["tiers"], "counts": look.numbers["counts"],
        "against": changes.before if changes else None,
        "changes": {name: change.as_dict() for name, change in changes.rates.items()} if changes else None,
        "report": report,
    }  # fmt: skip


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def require_address(url: str) -> str:
    """The URL. ValueError for one that is not http or https with a host; it may hold a secret and is not repeated."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("--webhook: expected an address that begins with http:// or https:// and has a host")
    return url


def send(url: str, body: Mapping[str, Any], wait: float = WAIT, sleep: Callable[[float], None] = time.sleep) -> str:
    """POST a body as JSON, at most TRIES times; "" when it was taken, else what went wrong, in words.

    Tried again: no connection, no answer in TIMEOUT seconds, 429 and 5xx. Redirects are not followed, since a POST
    would become a GET. The address is not in what is said: only its host.
    """
    import urllib.error
    import urllib.request
    from urllib.parse import urlsplit

    from goodrate.strict_json import dumps

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect)
    headers = {"Content-Type": "application/json", "User-Agent": "goodrate"}
    host, problem = urlsplit(url).hostname, ""
    for number in range(TRIES):
        if number:
            sleep(wait * 2 ** (number - 1))
        request = urllib.request.Request(url, dumps(body).encode(), headers, method="POST")
        try:
            with opener.open(request, timeout=TIMEOUT):
                return ""
        except urllib.error.HTTPError as error:
            problem = f"{host} answers {error.code}"
            if error.code != 429 and error.code < 500:
                return problem
        except (OSError, ValueError) as error:  # URLError and time-outs are OSErrors; ValueError: no HTTP at all
            problem = f"{host} does not answer ({type(error).__name__})"
    return f"{problem}, {TRIES} times"
