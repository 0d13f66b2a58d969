"""Synonyms: the shop's own file, and proposals for it that a person accepts line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.rewriting.synonym_proposals import Proposal
    from goodrate.retrieval.rewriting.synonyms import Synonyms

HEAD = """\
# Proposals of synonyms for {source}, best first. No line counts until its "# " is taken away:
#     laptop, notebook      each finds the other
#     tv => television      tv finds television, not the other way round: change the comma where only one way is right
# Lines with two # say why a pair was proposed: how near its meanings are for the encoder, how alike the titles.
"""


def read_synonyms(path: str | Path) -> Synonyms:
    """The synonyms of a text file (docs/spelling_and_synonyms.md). FileNotFoundError, or ValueError with the line."""
    from goodrate.retrieval.rewriting.synonyms import Synonyms

    return Synonyms.read(path)


def read_query_log(
    path: str | Path, skip_bad: int = 0, map: Mapping[str, str] | None = None
) -> list[tuple[str, float]]:
    """(query, count) of a csv, tsv, jsonl or parquet file with the columns query and, if there is one, count."""
    from goodrate.catalog import query_log

    return query_log.read_query_log(path, dict(map) if map else None, skip_bad)


def propose_synonyms(
    catalog: Catalog, encoder: str | Path | Encoder, query_log: Iterable[tuple[str, float]] = (), most: int = 200
) -> list[Proposal]:
    """At most `most` pairs of phrases that may mean the same, best first, each with its score and evidence.

    Synonyms are near for an encoder, but so are a printer and its ink: on a catalogue of electronics a quarter of the
    first forty was right both ways, and half in one. query_log: (query, count), whose queries are looked at, too.
    """
    from goodrate.api import encoders
    from goodrate.retrieval.rewriting.synonym_proposals import propose

    return propose(catalog.frame, encoders.load_encoder(encoder), query_log, most)


def write_proposals(path: str | Path, proposals: Sequence[Proposal], source: str) -> None:
    """A synonym file in which every proposal is commented out. source: the catalogue's name, for its head.

    Raises ValueError when there is such a file: a person may have worked on it.
    """
    from goodrate.run_folder import write_atomic

    require_new(path)
    blocks = [HEAD.format(source=source)]
    for proposal in proposals:
        lines = [f"## {proposal.score:.2f}: {proposal.evidence[0]}", *(f"## {line}" for line in proposal.evidence[1:])]
        blocks.append("\n".join([*lines, f"# {proposal.first}, {proposal.second}"]) + "\n")
    write_atomic(path, "\n".join(blocks))


def require_new(path: str | Path) -> None:
    """Raise ValueError when the file is there already."""
    if Path(path).exists():
        raise ValueError(f"{path} is there already, perhaps with accepted lines; move it away or choose another name")
