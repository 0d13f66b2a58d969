"""Serve an index over HTTP, with a web page."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.api.index import Index

LOOPBACK = ("127.0.0.1", "::1", "localhost")
WARM_UP = "warm up"  # the first query; nobody typed it


def serve(index: Index, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer HTTP requests until Ctrl-C or SIGTERM; requests under way are finished.

    /search, /judge, /explain, /v1/rerank and /healthz, the page at /. Raises ValueError when the address is taken.
    """
    with listen(host, port) as listener:
        warm_up(index)
        run(index, listener)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from error


def warm_up(index: Index) -> None:
    """Answer once, so that the first shopper does not wait for what is only set up on use. Nothing is stored."""
    index.pipeline.search_once(WARM_UP)
    if index.judge is not None:
        index.judge.probabilities(WARM_UP, ["lamp", "chair"])


def run(index: Index, listener: socket.socket) -> None:
    """Serve on a socket that listens already."""
    require("serve", "goodrate serve")
    import uvicorn

    from goodrate.serving.http import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(index.pipeline), log_level="warning"))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the server has stopped") from stop
