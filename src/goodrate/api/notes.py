"""Files of the shop that lie beside a catalogue and go into the index with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.run_folder import write_atomic

if TYPE_CHECKING:
    from goodrate.api.index import Index

FACTS, CONTEXTS, SYNONYMS = "facts.jsonl", "contexts.jsonl", "synonyms.txt"
RULES = "ranking_rules.toml"  # a judge's rule book is called rules.toml
NOTES = {
    FACTS: "facts on names in queries", CONTEXTS: "texts for judges that read some", SYNONYMS: "synonyms for searches",
    RULES: "ranking rules for searches",
}  # fmt: skip


def notes_beside(catalog: str | Path) -> dict[str, bytes]:
    """The files of NOTES beside a catalogue file. ValueError naming file and row of a broken one."""
    from goodrate.ranking.rule_file import RankingRules
    from goodrate.relevance.context import read_contexts
    from goodrate.relevance.facts import FactBook
    from goodrate.retrieval.rewriting.synonyms import Synonyms

    readers: dict[str, Callable[[Path], Any]] = {
        FACTS: FactBook.load, CONTEXTS: read_contexts, SYNONYMS: Synonyms.read, RULES: RankingRules.read,
    }  # fmt: skip
    paths = {name: Path(catalog).parent / name for name in readers}
    present = {name: path for name, path in paths.items() if path.is_file()}
    for name, path in present.items():  # said here, before anything is written, and not when the shop is open
        readers[name](path)
    return {name: path.read_bytes() for name, path in present.items()}


def take_notes(index: Index, notes: dict[str, bytes]) -> None:
    """Put facts, texts, synonyms and ranking rules into the index, where search servers and judges look for them."""
    if RULES in notes:
        from goodrate.api.ranking import check_filters
        from goodrate.ranking.rule_file import RankingRules

        check_filters(index.store, RankingRules.parse(notes[RULES].decode("utf-8-sig"), RULES), RULES)
    for name, content in notes.items():
        write_atomic(index.store.path / name, content)
