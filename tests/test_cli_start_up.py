"""What starts the command: the garbage collector is off while a verb starts, and as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from goodrate import __version__
from goodrate.cli.terminal import uncollected


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_off_inside_on_afterwards() -> None:
    before = gc.get_freeze_count()
    with uncollected():
        kept = [[number] for number in range(1000)]  # 1,001 lists that the collector tracks
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() - before >= len(kept) + 1


def test_stays_off_for_who_switched_it_off_and_in_an_outer_block() -> None:
    with uncollected():
        with uncollected():
            pass
        assert not gc.isenabled()
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_on_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="no index"), uncollected():
        raise ValueError("no index")
    assert gc.isenabled()


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "goodrate", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"goodrate {__version__}\n")
