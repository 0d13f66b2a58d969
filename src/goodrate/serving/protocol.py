"""The server's HTTP protocol, with an end for connections on which nothing arrives."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def header_deadline(seconds: float) -> type[H11Protocol]:
    """The server's protocol, with an end for connections on which no request's headers arrive in time."""

    class Deadline(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(seconds, self._give_up)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._deadline.cancel()
            elif self.cycle is not None and self.cycle.response_complete and self._deadline.cancelled():
                # the keep-alive timer ends with the first byte of a next request, which need not come whole
                self._deadline = self.loop.call_later(seconds, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._deadline.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Deadline
