"""Engines that are asked over HTTP with JSON."""

from __future__ import annotations

from typing import Any

import httpx

from goodrate.serving.sources.protocol import Address, SourceUnavailable

SECONDS = 5.0  # until an engine has answered


class JsonEngine:
    """One engine's address with kept-alive connections. Safe to call from many threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        auth = (address.user, address.password) if address.user else None
        seconds = float(address.own.get("timeout", SECONDS))
        self._client = httpx.Client(base_url=address.http, auth=auth, timeout=seconds)

    def ask(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        """The JSON object that an engine answers. Raises SourceUnavailable with what it said."""
        try:
            answer = self._client.request(method, path, **sent)
        except httpx.HTTPError as error:
            raise SourceUnavailable(f"{self.address} does not answer: {error or type(error).__name__}") from error
        if answer.is_error:
            raise SourceUnavailable(f"{self.address} answered {answer.status_code}: {answer.text[:300]}")
        try:
            found = answer.json()
        except ValueError as error:
            raise SourceUnavailable(f"{self.address} did not answer in JSON: {answer.text[:100]!r}") from error
        if not isinstance(found, dict):
            raise SourceUnavailable(f"{self.address}: expected a JSON object, found {type(found).__name__}")
        return found
