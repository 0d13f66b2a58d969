"""How long the command line takes to start: goodrate --help, and goodrate search on an index with an encoder."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from chorus_data import minilm_folder
from speed_measure import WORK, Arm, Measurement, command_sample, interleave, ratio, summaries

HELP_TARGET, SEARCH_TARGET = 0.5, 4.0  # seconds of wall time
SEARCH_ITEMS = 2000
QUERY = "red lamp with wood stand under 40"


def _arm(*command: str) -> Arm:
    """A command, measured as a process."""
    return partial(command_sample, command)


def goodrate() -> str:
    """The installed command of this very environment."""
    return str(Path(sys.executable).with_name("goodrate"))


def measure_help(rounds: int) -> Path:
    """goodrate --help beside an empty Python and beside importing torch."""
    result = Measurement("help", f"python benchmarks/speed.py help --rounds {rounds}")
    arms = {
        "goodrate --help": _arm(goodrate(), "--help"),
        "python -c pass": _arm(sys.executable, "-c", "pass"),
        "import torch": _arm(sys.executable, "-c", "import torch"),
    }
    samples = interleave(arms, rounds)
    ratios = {other: ratio(samples, "goodrate --help", other) for other in list(arms)[1:]}
    return result.keep(target_wall=HELP_TARGET, arms=summaries(samples), ratios=ratios)


def measure_search(rounds: int) -> Path:
    """A cold goodrate search with the MiniLM encoder beside what importing sentence-transformers alone costs."""
    result = Measurement("search", f"python benchmarks/speed.py search --rounds {rounds}", threads=1)
    index = str(search_index())
    arms = {
        "goodrate search": _arm(goodrate(), "search", index, QUERY),
        "goodrate search --mode lexical": _arm(goodrate(), "search", index, QUERY, "--mode", "lexical"),
        "import sentence_transformers": _arm(sys.executable, "-c", "import sentence_transformers"),
        "import torch": _arm(sys.executable, "-c", "import torch"),
    }
    samples = interleave(arms, rounds)
    ratios = {other: ratio(samples, "goodrate search", other) for other in list(arms)[2:]}
    note = "cold = a new process each time; the files are in the system's cache"
    return result.keep(
        target_wall=SEARCH_TARGET, items=SEARCH_ITEMS, encoder="all-MiniLM-L6-v2", note=note,
        arms=summaries(samples), ratios=ratios,
    )  # fmt: skip


def search_index() -> Path:
    """The index that is searched: generated items, vectors of MiniLM. Made once."""
    from goodrate.catalog.readers import read_catalog
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store
    from speed_store import items_file

    path = WORK / f"minilm-{SEARCH_ITEMS}"
    catalog = read_catalog(items_file(SEARCH_ITEMS))
    if (path / "store.json").is_file() and len(Store.open(path)) == len(catalog):
        return path
    encoder = Encoder.load(minilm_folder(), precision="auto")
    exists = (path / "store.json").is_file()
    made = (encoder.fingerprint, encoder.dimension, str(minilm_folder()))
    index_catalog(Store.open(path) if exists else Store.create(path, *made), catalog, encoder)
    return path
