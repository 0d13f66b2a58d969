"""The reasons of labels that people gave with a rule book's columns, in the words that matching reads.

A person says how the kinds of product relate and how each column of the rule book comes out; the words of the query and
the item that this is about are read as the template teacher reads them. Where the two do not fit there is no reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import CHECKS, RELATIONS, Rationale, Want
from goodrate.relevance.rulebook import Rule, RuleBook
from goodrate.teaching.query_reading import BRAND, Lexicon
from goodrate.teaching.teacher import Taught, survives_writing
from goodrate.teaching.template_teacher import WORST, match
from goodrate.teaching.typed_item import typed_item

PEOPLE = "people"  # the teacher's name in the file
CATEGORY, ALTERNATIVE, NONE = "category", "alternative", "none"
ALTERNATIVES = {"cheaper": "match", "costlier": "conflict", NONE: NONE}
Checked = list[tuple[Want, str | None, str]]  # a want, what the item says of it, and the check


def graded_reason(
    book: RuleBook, lexicon: Lexicon, pair: JudgedPair, said: Mapping[str, str], rule: Rule | None
) -> Taught:
    """The reason of a label that a person gave. said: column -> value; rule: the one that decides by them.

    Silver where a column that the person marked is not what matching finds, and its one want is written as she says.
    Failures: label_overruled (the label is not the rules'), columns_open (not all are marked), words_unread,
    no_wanted_kind, no_item_kind, no_relation (the book has no category of ours), columns_unread (she marks a
    requirement that matching does not read), columns_disagree (it is not clear which of several wants she means), and
    not_writable.
    """
    if rule is None or set(said) < set(book.columns):
        return _failed("columns_open")
    if book.scale.index(rule.label) != pair.label:
        return _failed("label_overruled")
    relation = said.get(CATEGORY, "")
    if relation not in RELATIONS:
        return _failed("no_relation")
    reading, item = lexicon.read(pair.query, pair.facts), typed_item(pair.item)
    kind = lexicon.kind_of(item)
    missing = "words_unread" if reading.unread else "" if reading.kind else "no_wanted_kind"
    if missing or not kind:
        return _failed(missing or "no_item_kind")
    matched = match(reading, item, kind)
    checked = list(zip(reading.wants, matched.values, matched.checks, strict=True))
    columns = [_column(want, book, reading.alternative) for want in reading.wants]
    wants: Checked = []
    adjusted = False
    for name in (column for column in book.columns if column != CATEGORY):
        value = ALTERNATIVES.get(said[name], said[name]) if name == ALTERNATIVE else said[name]
        own = [one for one, column in zip(checked, columns, strict=True) if column == name]
        settled = _settled(own, value)
        if isinstance(settled, str):
            return _failed(settled)
        adjusted = adjusted or settled != own
        wants += settled
    wants.sort(key=lambda one: reading.wants.index(one[0]))
    rationale = Rationale(
        pair.label, " ".join(reading.kind), tuple(want for want, _, _ in wants), " ".join(kind),
        tuple(value for _, value, _ in wants), relation, tuple(check for _, _, check in wants), rule.id,
    )  # fmt: skip
    return Taught(rationale, adjusted) if survives_writing(rationale, len(book.scale)) else _failed("not_writable")


def _failed(why: str) -> Taught:
    return Taught(None, False, why)


def _column(want: Want, book: RuleBook, alternative: bool) -> str:
    """The book's column that a want of a query belongs to."""
    by_strength = {"not": "not", "may": "may", "below": ALTERNATIVE if alternative else "must"}
    name = by_strength.get(want.strength, BRAND if want.attribute == BRAND else "must")
    return name if name in book.columns else "must"


def _settled(own: Checked, value: str) -> Checked | str:
    """The wants of a column as a person says that it comes out, or the name of what keeps them from being written."""
    if value == NONE:
        return []
    if not own or value not in CHECKS:
        return "columns_unread"
    if max((check for _, _, check in own), key=WORST.index) == value:
        return own
    if len(own) > 1:
        return "columns_disagree"
    want, found, _ = own[0]
    if value == "conflict" and found is None:
        return "columns_disagree"  # what the item has in its place was not said
    known = {"unknown": None, "match": found or want.value, "conflict": found}[value]
    return [(want, known, value)]
