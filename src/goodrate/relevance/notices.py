"""What is to be said of a judge's answers as a whole: item texts that it cannot read well, and many failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from goodrate.relevance.pairs import TEXT, Pair
from goodrate.relevance.verdicts import OK, Verdict

LARGE_SHARE, LEAST = 0.1, 5  # of the verdicts that fail before it is said, and how many of them at least
BY_DESIGN = ("no_label",)  # people have labelled some pairs and not the others
_LISTING = "title ; brand .. ; category .. ; price .. ; <attribute> <value> ; .. ; description"
FORMS = {"listing": _LISTING, "listing_filled": _LISTING}


def notices(judge: Any, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each thing that is wrong with many of N pairs and their N verdicts, with the way out.

    judge: of a kind (Judge); an LM's card says in which form it reads items. Bare texts cannot be brought into a form,
    so those without its field marks are told, whether or not their verdicts fail.
    """
    wanted = (_other_form(judge, pairs), _failures(verdicts), _unreadable(verdicts))
    return [line for line in wanted if line is not None]


def _large(count: int, of: int) -> bool:
    return count >= LEAST and count >= LARGE_SHARE * of


def _share(count: int, of: int) -> str:
    return f"{count:,} of {of:,} ({count / of:.0%})"


def _other_form(judge: Any, pairs: Sequence[Pair]) -> str | None:
    """Bare texts for a judge of typed fields."""
    form = getattr(getattr(judge, "card", None), "item_form", None)
    if form not in FORMS:
        return None
    plain = sum(TEXT in pair.item and " ; " not in str(pair.item[TEXT]) for pair in pairs)
    if not _large(plain, len(pairs)):
        return None
    return (
        f"{_share(plain, len(pairs))} item texts are not in the form that this judge was trained on ({form}: "
        f"{FORMS[form]}), and it judges them worse. Give it items and not texts: rows or a Catalog in Python, item ids "
        "with --catalog or --index on the command line"
    )


def _failures(verdicts: Sequence[Verdict]) -> str | None:
    kinds = Counter(one.status for one in verdicts if one.status != OK and one.status not in BY_DESIGN)
    if not _large(kinds.total(), len(verdicts)):
        return None
    return (
        f"{_share(kinds.total(), len(verdicts))} pairs have no verdict: {_named(kinds)}. prompt_too_long: query, "
        "facts and context leave no room; unreadable_...: the judge reads items in another form than it was trained "
        "on, or was trained too little; no_entities: the item says nothing; no_probabilities: broken weights"
    )


def _unreadable(verdicts: Sequence[Verdict]) -> str | None:
    explained = [one.explanation for one in verdicts if one.explanation is not None]
    kinds = Counter(why.status for why in explained if why.status != OK)
    if not _large(kinds.total(), len(explained)):
        return None
    return (
        f"{_share(kinds.total(), len(explained))} reasons cannot be read: {_named(kinds)}. A judge that learned "
        "labels alone writes none; else the items are in another form than it was trained on, or max_new_tokens in its "
        "judge.json is too small"
    )


def _named(kinds: Counter[str]) -> str:
    """Each status with its number, the most frequent first."""
    return ", ".join(f"{status} {number:,}" for status, number in kinds.most_common())
