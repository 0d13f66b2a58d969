"""Call the command line in the tests' own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from goodrate import cli

Run = Callable[..., tuple[int, str, str]]


def called(monkeypatch: pytest.MonkeyPatch, captured: Any, *arguments: object) -> tuple[int, str, str]:
    """goodrate with arguments: exit code, stdout, and stderr with its wrapping undone. captured: capsys or capfd."""
    monkeypatch.setattr(sys, "argv", ["goodrate", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        cli.main()
        sys.exit(0)
    out, err = captured.readouterr()
    return int(done.value.code or 0), out, " ".join(err.split())
