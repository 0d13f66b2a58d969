"""What a client may send and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request's body. Seconds: until the headers are there, until the body is, and how long requests
    under way may go on when the server is told to stop."""

    body: int = 8 * MEGABYTE
    header_seconds: float = 10.0
    body_seconds: float = 15.0
    stop_seconds: int = 20
