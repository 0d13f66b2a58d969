"""Facts: what a shop's own data say of the names that people type, found by hash look-up and given to the judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from goodrate.strict_json import dumps, parse
from goodrate.text_file import read_text

SEPARATOR = " ; "


@dataclass(frozen=True)
class FactBook:
    """Names with one true line each. A name is one or more lower-case words joined by single spaces.

    facts: line by name. lengths: how many words names have, longest first, so that a query of T words costs
    T * len(lengths) look-ups whatever the number of names.
    """

    facts: Mapping[str, str]
    lengths: tuple[int, ...]

    @classmethod
    def create(cls, entries: Iterable[tuple[str, str]]) -> FactBook:
        """A book of (name, fact) entries. Raises ValueError for an empty name or fact and for two facts of one name.

        >>> FactBook.create([("velto 3", "velto 3 : price 40")]).of("cheaper than Velto 3")
        'velto 3 : price 40'
        """
        facts: dict[str, str] = {}
        for name, fact in entries:
            key, line = normalised(name), " ".join(fact.split())
            if not key or not line:
                raise ValueError(f"an entry needs a name and a fact; got name {name!r}, fact {fact!r}")
            if facts.setdefault(key, line) != line:
                raise ValueError(f"name {key!r} has two facts: {facts[key]!r} and {line!r}")
        return cls(facts, tuple(sorted({len(name.split()) for name in facts}, reverse=True)))

    @classmethod
    def load(cls, path: Path) -> FactBook:
        """The book of a facts.jsonl; empty when there is no such file. Raises ValueError naming file and row."""
        if not path.is_file():
            return cls.create([])
        return cls.create(_entries(path))

    def __len__(self) -> int:
        return len(self.facts)

    def of(self, query: str) -> str:
        """The facts of all names that occur in a query as whole words, joined by ' ; '; "" for none.

        Longer names come first, equally long ones in the query's order. A name inside a longer one counts too: the
        line of a model is known beside the model. Each fact is told once.
        """
        words = normalised(query).split()
        grams = (" ".join(words[i : i + n]) for n in self.lengths for i in range(len(words) - n + 1))
        return SEPARATOR.join(dict.fromkeys(self.facts[gram] for gram in grams if gram in self.facts))


def normalised(text: str) -> str:
    """Lower case, whitespace collapsed."""
    return " ".join(text.lower().split())


def to_jsonl(entries: Iterable[tuple[str, str]]) -> str:
    """The content of a facts.jsonl, one {"name", "fact"} object a line."""
    return "".join(dumps({"name": name, "fact": fact}) + "\n" for name, fact in entries)


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """(name, fact) of every line that is not blank. ValueError for a name that has another fact in a row before."""
    seen: dict[str, tuple[int, str]] = {}
    for row, line in enumerate(read_text(path).split("\n"), start=1):  # splitlines would split inside a text
        if line.strip():
            name, fact = _entry(line, f"{path}, row {row}")
            first, told = seen.setdefault(normalised(name), (row, fact))
            if told.split() != fact.split():
                raise ValueError(f"{path}, row {row}: name {name!r} has two facts: row {first} says {told!r}, {fact!r}")
            yield name, fact


def _entry(line: str, where: str) -> tuple[str, str]:
    """One line's name and fact."""
    raw = parse(line, where)
    for key in ("name", "fact"):
        if not isinstance(raw, dict) or not isinstance(raw.get(key), str) or not raw[key].strip():
            raise ValueError(f'{where}: expected {{"name": text, "fact": text}}, {key!r} is missing or no text')
    return raw["name"], raw["fact"]
