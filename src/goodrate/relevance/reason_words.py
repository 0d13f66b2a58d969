"""A reason in words: the judge's reasoning lines read back and said so that a shop's people understand them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from goodrate.relevance.rationale import ALL_STEPS, CONTEXT_STEP, FACT_STEPS, WORD_FACT, Parsed, Rationale, Want, parse
from goodrate.relevance.verdicts import Explanation, ReasonStep

WORD = re.compile(r"\w+")
TITLES = {
    CONTEXT_STEP: "Retrieved text",
    "wants": "What the query asks for",
    "found": "What the item is",
    "category": "Category",
    "checks": "Constraints",
    "has": "What the item has",
    "lacks": "What it does not speak of",
    "against": "What it contradicts",
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


def reason_steps(parsed: Parsed, because: Mapping[str, str], context: str | None = None) -> tuple[ReasonStep, ...]:
    """The steps that a judge wrote, in order, each as its line and in words; steps that are not there are absent.

    because: reason in words by rule id, from the judge's rule book. context: the retrieved text that it read. The words
    of a line that cannot be read are the line itself.
    """
    words = _words(parsed.rationale, because) if parsed.rationale else {}
    if parsed.rationale and parsed.rationale.context:
        words[CONTEXT_STEP] = f"{USE_WORDS[parsed.rationale.context]}: {context or 'none was found'}"
    return tuple(
        ReasonStep(name, TITLES[name], parsed.steps[name], words.get(name, _after_name(parsed.steps[name])))
        for name in ALL_STEPS
        if name in parsed.steps
    )


def steps_of_text(
    reason: str, because: Mapping[str, str] | None = None, context: str | None = None
) -> tuple[ReasonStep, ...]:
    """The steps of a reason's text without its label line, as older verdict stores keep it; see reason_steps."""
    lines = [line for line in reason.strip().splitlines() if not line.strip().isdigit()]
    return reason_steps(parse("\n".join(["1", *lines])), because or {}, context)


def _after_name(line: str) -> str:
    return line.partition(" ")[2]


def _words(rationale: Rationale, because: Mapping[str, str]) -> dict[str, str]:
    """Each step in words."""
    if not rationale.category:
        return {**_fact_words(rationale), "verdict": because.get(rationale.rule, rationale.rule)}
    stated = [
        f"{want.attribute}: {value or 'not stated'}"
        for want, value in zip(rationale.wants, rationale.found, strict=True)
    ]
    checks = [
        f"{want.attribute} {CHECK_WORDS[check]}" for want, check in zip(rationale.wants, rationale.checks, strict=True)
    ]
    relation = RELATION_WORDS[rationale.relation]
    return {
        "wants": "; ".join([rationale.category, *map(_want_words, rationale.wants)]),
        "found": "; ".join([rationale.found_category, *stated]),
        "category": f"{rationale.found_category} for {rationale.category}: {relation}",
        "checks": "; ".join(checks) or "none asked for",
        "verdict": because.get(rationale.rule, rationale.rule),
    }


def _fact_words(rationale: Rationale) -> dict[str, str]:
    """Each line of a reason of facts alone: 'usb, cable, brand trust, without straw'."""
    told: dict[str, list[str]] = {name: [] for name in FACT_STEPS}
    names = {check: name for name, check in FACT_STEPS.items()}
    for fact, value, check in rationale.facts:
        told[names[check]].append(value if fact == WORD_FACT else f"{fact} {value}")
    return {name: ", ".join(values) for name, values in told.items() if values}


def _want_words(want: Want) -> str:
    """One constraint: "colour red (required)".

    >>> _want_words(Want("price", "30", "below"))
    'price 30 (at most)'
    """
    return f"{want.attribute} {want.value} ({STRENGTH_WORDS[want.strength]})"


def word_steps(query: str, item_text: str) -> tuple[ReasonStep, ...]:
    """Which of the query's words stand in the item's text, for judges that write no reasons.

    >>> [step.text for step in word_steps("red desk lamp", "lamp for a desk")]
    ['desk, lamp', 'red']
    """
    words, present = list(dict.fromkeys(WORD.findall(query.lower()))), set(WORD.findall(item_text.lower()))
    shared, lacking = ([w for w in words if (w in present) == in_item] for in_item in (True, False))
    rows = (("shared", "Words in the item", shared), ("lacking", "Words not in the item", lacking))
    return tuple(ReasonStep(name, title, f"{name} {' '.join(ws)}", ", ".join(ws)) for name, title, ws in rows if ws)


def explained(steps: Sequence[ReasonStep], query: str, item_text: str) -> Explanation:
    """The steps of a judge that writes no reasons, and the query's words that the item has and lacks."""
    every = (*steps, *word_steps(query, item_text))
    return Explanation("\n".join(step.line for step in every), every)
