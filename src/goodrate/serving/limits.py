"""What a client may send, how long it may take, and how much a server keeps."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1_000_000
KEEP = 1_000_000  # verdicts that a server's file holds unless it is told otherwise


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request's body. Seconds: until the headers are there, until the body is, and how long requests
    under way may go on when the server is told to stop. requests: that are answered at once; for more the answer is
    "later" (429)."""

    body: int = 8 * MEGABYTE
    header_seconds: float = 10.0
    body_seconds: float = 15.0
    stop_seconds: int = 20
    requests: int = 128
