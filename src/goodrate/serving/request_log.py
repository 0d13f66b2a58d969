"""Requests have ids, which are echoed and stand in every line of the log, and the log can be JSON."""

from __future__ import annotations

import datetime
import json
import logging
import re
import time
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # what may be echoed; another one is replaced
REQUEST_ID: ContextVar[str | None] = ContextVar("goodrate_request_id", default=None)
access = logging.getLogger("goodrate.access")
FIELDS = ("method", "path", "status", "ms", "client", "user")


class RequestLog:
    """Gives every request an id, the client's own where it sent one, and a line in the log "goodrate.access".

    The line has the path and not what was asked for: queries are what people look for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        sent = Headers(scope=scope).get(HEADER, "")
        request_id = sent if SAFE_ID.fullmatch(sent) else uuid.uuid4().hex
        token, start, status = REQUEST_ID.set(request_id), time.perf_counter(), 500

        async def named_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named_send)
        finally:
            said = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * (time.perf_counter() - start), 2),
                "client": (scope.get("client") or ("",))[0],
                "user": scope.get("goodrate.user"),
            }
            access.info("%s %s %s", said["method"], said["path"], said["status"], extra=said)
            REQUEST_ID.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, request_id, and the fields of an access line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        said: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST_ID.get(),
        }
        said |= {name: vars(record)[name] for name in FIELDS if vars(record).get(name) is not None}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in said.items() if value is not None}, ensure_ascii=False)


def log_as_json(stream: Any = None) -> None:
    """Write the whole process's log as JSON lines, a line a request; stream: standard error unless said."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("goodrate").setLevel(logging.INFO)
    logging.captureWarnings(True)


def is_json() -> bool:
    """Whether the process's log is JSON lines, so that nothing else may write to it in another form."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
