"""A server with the routes of vLLM that training uses, around a tiny model: it speaks the protocol, it is not vLLM."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from goodrate.models.causal_lm import CausalLM


class FakeVllm:
    """What it was asked, and the folder's model as it last read it. deaf: it says that it reloads, and does not."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.deaf, self.raw, self.address = folder, [], False, False, ""
        self._lock = threading.Lock()
        self.model = CausalLM.load(folder, precision="fp32")

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            self.asked.append((path, body))
            if path == "/v1/models":
                return 200, {"data": [{"id": "policy"}]}
            if path == "/collective_rpc" and body == {"method": "reload_weights"}:
                if not self.deaf:
                    self.model = CausalLM.load(self.folder, precision="fp32")
                return 200, {"results": [None]}
            if path == "/reset_prefix_cache":
                return 200, None
            if path == "/v1/completions" and body["model"] == "policy":
                return 200, {"choices": [self._choice(body, index) for index in reversed(range(body["n"]))]}
        return 404, {"error": "no such thing"}

    def _choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        (stop,) = body["stop_token_ids"]
        seed = [body["seed"] + index]
        (written,) = self.model.generate([body["prompt"]], body["max_tokens"], stop, body["temperature"], seed)
        values = list(written.logprobs)
        if self.raw:  # --logprobs-mode raw_logprobs, vLLM's default: before the temperature
            values = [value * body["temperature"] for value in values]
        return {"index": index, "token_ids": written.token_ids, "logprobs": {"token_logprobs": values}}


@contextmanager
def fake_vllm(folder: Path) -> Iterator[FakeVllm]:
    """The server on a free port."""
    fake = FakeVllm(folder)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            status, found = fake.answer(self.path, body)
            content = b"" if found is None else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = respond

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
