"""How much a server takes on: so many requests at once, and nothing for a client that has gone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from goodrate.models.asker import ASKER, Asker, AskerGone
from goodrate.serving.bodies import error_answer
from goodrate.serving.limits import Limits
from goodrate.serving.records import Overloaded

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")
WATCHING = ("/healthz", "/readyz", "/metrics")  # never refused, and answered beside the searches
CLIENT_GONE = 499  # nobody reads it; what proxies call it in their logs


def add_load(app: FastAPI, limits: Limits) -> None:
    """Bound what an application does at once, and have it notice clients that go."""

    @app.exception_handler(Overloaded)
    def _overloaded(_: Request, error: Overloaded) -> JSONResponse:
        return later(str(error), error.seconds)

    @app.exception_handler(AskerGone)
    def _gone(_: Request, __: AskerGone) -> JSONResponse:
        return error_answer(CLIENT_GONE, "the client has gone")

    app.add_middleware(Attendance, most=limits.requests)


def later(message: str, seconds: float) -> JSONResponse:
    """The answer to what is too much: 429, and after how many seconds to come again."""
    answer = error_answer(429, f"too much at once: {message}; ask again later")
    answer.headers["retry-after"] = str(max(1, math.ceil(seconds)))
    return answer


async def beside_searches(work: Callable[[], T]) -> T:
    """What `work` gives, from a thread that searches do not fill."""
    return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


class Attendance:
    """Counts the requests that are being answered, refuses those that are too many, and watches for clients that go.

    Each request has a thread at once: one that waits for a model keeps none of the others from being answered.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most, self._here = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in WATCHING:
            return await self._app(scope, receive, send)
        if self._here >= self._most:
            return await later(f"{self._here} requests are being answered", 1.0)(scope, receive, send)
        threads = anyio.to_thread.current_default_thread_limiter()
        threads.total_tokens = max(threads.total_tokens, self._most + 8)  # pages and pictures need some too
        asker = Asker()
        messages: asyncio.Queue[Message] = asyncio.Queue()
        watching = asyncio.create_task(_watch(receive, messages, asker))
        token = ASKER.set(asker)
        self._here += 1
        try:
            await self._app(scope, _passed_on(messages, asker), send)
        finally:
            self._here -= 1
            ASKER.reset(token)
            watching.cancel()


async def _watch(receive: Receive, messages: asyncio.Queue[Any], asker: Asker) -> None:
    """Pass on what the client sends, and say so when it goes."""
    while not asker.gone:
        message = await receive()
        if message["type"] == "http.disconnect":
            asker.leave()
        messages.put_nowait(message)


def _passed_on(messages: asyncio.Queue[Any], asker: Asker) -> Receive:
    """What the client sent, in order; that it has gone as often as somebody asks."""

    async def receive() -> Message:
        return {"type": "http.disconnect"} if asker.gone and messages.empty() else await messages.get()

    return receive
