"""The command line's front door: help without imports, typing errors, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from goodrate.cli import VERBS


def goodrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fresh interpreter that names every verb module it imports on stderr."""
    code = (
        "import sys\n"
        "from goodrate.cli import VERBS, main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print('IMPORTED', *[m for m, _ in VERBS.values() if m in sys.modules], file=sys.stderr)\n"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600)


def imported(run: subprocess.CompletedProcess[str]) -> list[str]:
    """The verb modules that a run imported."""
    return run.stderr.rsplit("IMPORTED", 1)[1].split()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["-h"], []],
    ids=["--help", "-h", "nothing"],
)
def test_help_lists_all_verbs_and_imports_none(arguments: list[str]) -> None:
    run = goodrate(*arguments)
    assert all(verb in run.stdout + run.stderr for verb in VERBS)
    assert imported(run) == []


def test_an_unknown_verb_exits_2() -> None:
    run = goodrate("serv")
    assert run.returncode == 2 and "serv" in run.stderr and imported(run) == []


def test_an_unknown_verb_names_the_nearest() -> None:
    assert "'serve'" in goodrate("serv").stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_verb_imports_only_itself(flag: str) -> None:
    run = goodrate("serve", flag)
    assert run.returncode == 0 and "--port" in run.stdout
    assert imported(run) == ["goodrate.cli.serve"]
