"""One writer at a time in a folder."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from goodrate.folder_lock import HOLDER_FILE, FolderBusy, one_writer

HOLD = """
import sys, time
from goodrate.folder_lock import one_writer
with one_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds tmp_path/folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "folder")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_writes(holder, tmp_path: Path) -> None:
    told = rf"folder is being written by process {holder.pid} on .* since \d{{4}}-"
    with pytest.raises(FolderBusy, match=told), one_writer(tmp_path / "folder"):
        pytest.fail("two writers")


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "folder" / HOLDER_FILE).is_file()
    with one_writer(tmp_path / "folder"):
        pass
    assert not (tmp_path / "folder" / HOLDER_FILE).exists()


def test_waiting_ends_when_the_other_writer_does(holder, tmp_path: Path) -> None:
    threading.Timer(0.5, holder.kill).start()
    start = time.monotonic()
    with one_writer(tmp_path / "folder", wait_s=30):
        assert 0.3 < time.monotonic() - start < 20


def test_the_same_thread_enters_twice_and_another_does_not(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def other() -> None:
        try:
            with one_writer(tmp_path):
                pass
        except FolderBusy as error:
            refused.append(error)

    with one_writer(tmp_path):
        with one_writer(tmp_path):
            pass
        assert (tmp_path / HOLDER_FILE).is_file()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with one_writer(tmp_path):
        pass
