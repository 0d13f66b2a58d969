"""A local server that speaks the chat-completions protocol and answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What to answer: (request body, number of the request from 0) -> a text, or (status, headers, perhaps words) for a
# failure, or a whole message of the protocol.
Script = Callable[[dict[str, Any], int], str | dict[str, Any] | tuple[int, dict[str, str]] | tuple[int, dict, str]]


class ChatServer:
    """requests: the bodies that came; keys: their Authorization headers. usage: tokens told for every answer."""

    def __init__(self, script: Script, usage: dict[str, int] | None, finish: str = "stop") -> None:
        self.script, self.usage, self.finish = script, usage, finish
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, body: dict[str, Any], key: str | None, path: str) -> tuple[int, dict[str, str], bytes]:
        with self.lock:
            number = len(self.requests)
            self.requests.append(body)
            self.keys.append(key)
            self.paths.append(path)
            said = self.script(body, number)
        if isinstance(said, tuple):
            return said[0], said[1], said[2].encode() if len(said) > 2 else b"told to fail"
        message = said if isinstance(said, dict) else {"role": "assistant", "content": said}
        choice = {"message": message, "finish_reason": self.finish}
        content: dict[str, Any] = {"choices": [choice]}
        if self.usage:
            content["usage"] = self.usage
        return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


USAGE = {"prompt_tokens": 600, "completion_tokens": 50}


@contextmanager
def chat_server(script: Script, usage: dict[str, int] | None = USAGE, finish: str = "stop") -> Iterator[ChatServer]:
    """A server on a free local port, in a thread, for the length of a block."""
    chat = ChatServer(script, usage, finish)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, content = chat.answer(body, self.headers.get("Authorization"), self.path)
            with suppress(ConnectionError):  # a client that gave up waiting is gone
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
