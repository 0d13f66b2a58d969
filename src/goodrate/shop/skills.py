"""Probes of the skills without which judging is not learned: texts, and the words in them that are scored.

A gate is an accuracy over words, each predicted with the true text before it. The skills:

- parse: category and constraints of a query, synonyms resolved
- look_up: the value of a named attribute in a listing, synonyms resolved
- absent: that a listing does not state a named attribute
- equal: wanted and found value agree, directly after the prompt
- unequal: wanted and found value differ, directly after the prompt
- price: a price is under or not under a limit, directly after the prompt
- category: how wanted and found category relate, directly after the prompt
- status: the worst verdict over several wants of a kind, directly after the prompt
"""

from __future__ import annotations

from dataclasses import dataclass

from goodrate.shop.curriculum import GATE_SEEDS, Curriculum, Document

GATE = 0.95


@dataclass(frozen=True)
class Probe:
    """A prompt in parts, the true continuation, and the spans (start, end) of its characters that test a skill."""

    read: tuple[str, ...]
    say: str
    targets: tuple[tuple[str, int, int], ...]


def _fields(say: str) -> list[tuple[int, int]]:
    """Spans of the ;-separated fields of a one-line continuation, the line's name excluded."""
    body = say.rstrip("\n")
    spans, start = [], body.index(" ")
    for part in body[start:].split(" ;"):
        spans.append((start, start + len(part)))
        start += len(part) + 2
    return spans


def _last_word(say: str, span: tuple[int, int]) -> tuple[int, int]:
    return say.rindex(" ", *span), span[1]


def _parse(document: Document) -> Probe:
    return Probe(document.read, document.say, tuple(("parse", *span) for span in _fields(document.say)))


def _card(document: Document) -> Probe:
    """Every asked attribute; the leading category field belongs to no skill of its own."""
    targets = []
    for span in _fields(document.say)[1:]:
        start, end = _last_word(document.say, span)
        targets.append(("absent" if document.say[start:end].strip() == "none" else "look_up", start, end))
    return Probe(document.read, document.say, tuple(targets))


def _checks(document: Document) -> Probe:
    """match and conflict of each constraint; the skill follows from the attribute and the true verdict."""
    targets = []
    for span in _fields(document.say):
        start, end = _last_word(document.say, span) if " " in document.say[slice(*span)].strip() else (0, 0)
        verdict, attribute = document.say[start:end].strip(), document.say[span[0] : start].strip()
        if attribute == "price":
            targets.append(("price", start, end))
        elif verdict in ("match", "conflict"):
            targets.append(("equal" if verdict == "match" else "unequal", start, end))
    return Probe(document.read, document.say, tuple(targets))


def _status(document: Document) -> Probe:
    """The columns that are not "none": an absent kind of want is easily told."""
    spans = [_last_word(document.say, span) for span in _fields(document.say)]
    stated = [span for span in spans if document.say[slice(*span)].strip() != "none"]
    return Probe(document.read, document.say, tuple(("status", *span) for span in stated))


def _relation(document: Document) -> Probe:
    line = document.say.rstrip("\n")
    return Probe(document.read, document.say, (("category", line.rindex(" "), len(line)),))


def probes(per_skill: int = 300) -> list[Probe]:
    """Probes from worlds that no training uses (GATE_SEEDS): unseen brands, lines, models and listings.

    Exclusions ("not red") are left out of equal and unequal: their match means that the values differ.
    """
    collected: list[Probe] = []
    each = max(1, per_skill // len(GATE_SEEDS))
    for seed in GATE_SEEDS:
        curriculum = Curriculum(seed, num_items=600)
        for _ in range(each):
            collected.append(_parse(curriculum.pair("wants")))
            collected.append(_card(curriculum.card()))
            collected.append(_relation(curriculum.pair("category")))
            collected.append(_status(curriculum.status()))
        for _ in range(2 * each):
            collected.append(_checks(curriculum.pair("checks", without="negation")))
    return collected
