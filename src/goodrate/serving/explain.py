"""A reason in words: the judge's reasoning lines read back and said so that a shop's people understand them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goodrate.relevance.rationale import CONTEXT_STEP, STEPS, Rationale, Want, parse
from goodrate.serving.judging import ServedVerdict

TITLES = {
    CONTEXT_STEP: "Retrieved text",
    "wants": "What the query asks for",
    "found": "What the item is",
    "category": "Category",
    "checks": "Constraints",
    "verdict": "Deciding rule",
}
STRENGTH_WORDS = {"must": "required", "may": "preferred", "not": "excluded", "below": "at most"}
RELATION_WORDS = {
    "same": "the same category",
    "sibling": "a neighbouring category",
    "accessory": "an accessory of what was asked for",
    "other": "another category",
}
USE_WORDS = {"use": "used", "partly": "partly used", "ignore": "ignored"}
CHECK_WORDS = {"match": "fits", "unknown": "not stated", "conflict": "does not fit"}


@dataclass(frozen=True)
class ReasonStep:
    """One reasoning step: its name, a heading, the line as the judge wrote it, and that line in words."""

    name: str
    title: str
    line: str
    text: str


def explain_steps(verdict: ServedVerdict, because: Mapping[str, str] | None = None) -> list[ReasonStep]:
    """The steps of a verdict's reason, in order; steps that the judge did not write are absent.

    because: reason in words by rule id, from the rule book. A line that cannot be read is given as it stands.
    """
    if not verdict.reason:
        return []
    parsed = parse(_with_label(verdict.reason))
    words = _words(parsed.rationale, because or {}) if parsed.rationale else {}
    if parsed.rationale and parsed.rationale.context:
        words[CONTEXT_STEP] = f"{USE_WORDS[parsed.rationale.context]}: {verdict.context or 'none was found'}"
    return [
        ReasonStep(name, TITLES[name], parsed.steps[name], words.get(name, _after_name(parsed.steps[name])))
        for name in (CONTEXT_STEP, *STEPS)
        if name in parsed.steps
    ]


def _with_label(reason: str) -> str:
    """The reason with a label line in front, wherever the judge put its own; the label shown is the verdict's."""
    lines = [line for line in reason.strip().splitlines() if not line.strip().isdigit()]
    return "\n".join(["1", *lines])


def _after_name(line: str) -> str:
    return line.partition(" ")[2]


def _words(rationale: Rationale, because: Mapping[str, str]) -> dict[str, str]:
    """Each step in words."""
    found = [
        f"{want.attribute}: {value or 'not stated'}"
        for want, value in zip(rationale.wants, rationale.found, strict=True)
    ]
    checks = [
        f"{want.attribute} {CHECK_WORDS[check]}" for want, check in zip(rationale.wants, rationale.checks, strict=True)
    ]
    relation = RELATION_WORDS[rationale.relation]
    return {
        "wants": "; ".join([rationale.category, *map(_want_words, rationale.wants)]),
        "found": "; ".join([rationale.found_category, *found]),
        "category": f"{rationale.found_category} for {rationale.category}: {relation}",
        "checks": "; ".join(checks) or "none asked for",
        "verdict": because.get(rationale.rule, rationale.rule),
    }


def _want_words(want: Want) -> str:
    """One constraint: "colour red (required)".

    >>> _want_words(Want("price", "30", "below"))
    'price 30 (at most)'
    """
    return f"{want.attribute} {want.value} ({STRENGTH_WORDS[want.strength]})"
