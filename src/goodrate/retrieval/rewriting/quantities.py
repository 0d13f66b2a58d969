"""Prices and measures said in a text: "under 50 euro", "between 20 and 50", "15 inch", "10 x 12 cm"."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from goodrate.retrieval.rewriting.constraint_rules import ConstraintRules, Unit, Word, alternatives, load_rules

NUMBER = r"[0-9]{1,9}(?:[.,][0-9]{1,3})*"
VULGAR = {"½": 0.5, "¼": 0.25, "¾": 0.75}
FRACTION = r"(?:[0-9]{1,3} ?)?[½¼¾]|[0-9]{1,4}[ -][0-9]{1,2}/[0-9]{1,3}|[0-9]{1,3}/[0-9]{1,3}"
QUANTITY = re.compile(rf"(?<![\w.,/$€£#-])(?:{FRACTION}|[.,][0-9]{{1,4}}|{NUMBER})")
AGAIN = re.compile(rf"(?:{FRACTION}|{NUMBER})")
CHILD_YEARS = 18
TOLERANCE = 0.025  # 1 TB is also sold as 1024 GB, 15 inch as 38 cm

Relation = Literal["equal", "below", "above"]


@dataclass(frozen=True)
class PriceMention:
    """A bound or range in a text. low, high: None = open. currency: ISO code, None = not said."""

    low: float | None
    high: float | None
    currency: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Measure:
    """values: in the base unit, several for "10 x 12 cm". dimension: with its base unit, such as "length_cm".

    relation: equal, or the bound that the text names ("up to 20 kg" is below).
    """

    dimension: str
    values: tuple[float, ...]
    relation: Relation
    text: str
    start: int
    end: int

    @property
    def id(self) -> str:
        """Names this part of its query."""
        return f"measure-{self.start}"


def find_prices(text: str, words: Sequence[Word], rules: ConstraintRules) -> list[PriceMention]:
    """The prices that a text names, in its order, without overlaps. Ages, counts and measures are none."""
    found: list[PriceMention] = []
    for pattern in _price_patterns(rules.language):
        for match in reversed(list(pattern.finditer(text))):  # "over 20 under 50": the first ends where a price begins
            clear = all(match.end() <= other.start or match.start() >= other.end for other in found)
            mention = _mention(match, rules) if clear else None
            if mention and (mention.currency or _is_bare_price(text, words, mention, found, rules)):
                found.append(mention)
    return sorted(found, key=lambda mention: mention.start)


@functools.lru_cache(maxsize=16)
def _price_patterns(language: str) -> tuple[re.Pattern[str], ...]:
    """Ranges in words, ranges with a dash, bounds; each may need a currency."""
    rules = load_rules(language)
    price, currency = rules.price, alternatives(rules.currencies)

    def amount(name: str) -> str:
        before, behind = rf"(?:(?P<pre_{name}>{currency})\s?)?", rf"(?:\s?(?P<post_{name}>{currency}))?"
        return rf"{before}(?P<{name}>{NUMBER})(?P<k_{name}>k)?{behind}"

    end = r"(?![^\W_]|[.,/-][^\W_])"
    starts, ranges = r"(?<![\w.,/-])", []
    for first, second in price["between"]:
        ranges.append(
            rf"{starts}{alternatives([first])}\s+{amount('low')}\s+{alternatives([second])}\s+{amount('high')}{end}"
        )
    dash = rf"(?:\s?[-–—]\s?|\s+{alternatives(price['to'])}\s+)"
    ranges.append(rf"{starts}{amount('low')}{dash}{amount('high')}{end}")
    lead = rf"{starts}(?:{alternatives(price['before'])}\s+)?"
    bounds = [
        rf"{lead}(?:(?P<below>{alternatives(price['below'])}|[<≤])|(?P<above>{alternatives(price['above'])}|[>≥]))"
        rf"\s*{amount('one')}{end}",
        rf"{starts}(?:(?P<below>{alternatives(price['below_with_currency'])})"
        rf"|(?P<above>{alternatives(price['above_with_currency'])}))\s+{amount('one')}{end}",
        rf"{lead}{amount('one')}\s+(?:(?P<below>{alternatives(price['below_behind'])})"
        rf"|(?P<above>{alternatives(price['above_behind'])})){end}",
    ]
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in (*ranges, *bounds))


def _mention(match: re.Match[str], rules: ConstraintRules) -> PriceMention | None:
    """What a match says; None where a currency is needed and none is there."""
    groups = match.groupdict()
    names = [name for name in ("low", "high", "one") if groups.get(name)]
    written = [groups[f"{where}_{name}"] for name in names for where in ("pre", "post") if groups[f"{where}_{name}"]]
    currency = rules.currencies.get(written[0].lower()) if written else None
    values = {n: rules.number(groups[n]) * (1000 if groups[f"k_{n}"] else 1) for n in names}
    if "one" not in values:
        worded = re.match(alternatives(pair[0] for pair in rules.price["between"]), match.group(), re.IGNORECASE)
        if not currency and not worded:
            return None
        low, high = sorted((values["low"], values["high"]))
        return PriceMention(low, high, currency, *match.span())
    word = " ".join((groups["below"] or groups["above"]).lower().split())
    if not currency and word not in (*rules.price["below"], *rules.price["above"], *"<≤>≥"):
        return None
    below = bool(groups["below"])
    return PriceMention(None if below else values["one"], values["one"] if below else None, currency, *match.span())


def _is_bare_price(
    text: str, words: Sequence[Word], mention: PriceMention, others: Sequence[PriceMention], rules: ConstraintRules
) -> bool:
    """Whether a number without a currency is a price: not of a measure, a count or an age."""
    end = min((other.start for other in others if other.start >= mention.end), default=len(text))
    behind = [word.text for word in words if mention.end <= word.start < end][:1]
    if text[mention.end :].lstrip()[:1] in ("+", "%") or unit_at(text, mention.end, rules):
        return False
    if behind and (behind[0] in rules.price["counted"] or behind[0] in rules.measure["by"]):
        return False
    before = [word.text for word in words if word.end <= mention.start][-3:]
    number = mention.high if mention.high is not None else mention.low or 0.0
    if number <= CHILD_YEARS and any(word in rules.price["children"] for word in before):
        return False
    if mention.high is None:
        return not behind and not any(word in rules.price["adults"] for word in before)
    return True


def unit_at(text: str, place: int, rules: ConstraintRules) -> tuple[Unit, int] | None:
    """The unit written right behind a number that ends at a place, and where it ends."""
    match = _unit_pattern(rules.language).match(text, place)
    if not match:
        return None
    written = match["word"] or match["sign"]
    name = " ".join(written.lower().split())
    attached = match.end() - len(match.group().lstrip(" -")) == place
    if not attached and (name in rules.measure["attached_only"]):
        return None
    abbreviated = text[match.end() - 1] == "."
    if name in rules.measure["attached_or_last"] and not (attached or abbreviated) and text[match.end() :].strip():
        return None
    unit = rules.units.get(name)  # None: a pattern takes "ſ" for an s
    return (unit, match.end()) if unit else None


@functools.lru_cache(maxsize=16)
def _unit_pattern(language: str) -> re.Pattern[str]:
    names = load_rules(language).units
    letters, signs = ([n for n in names if n[0].isalpha() == kind] for kind in (True, False))
    word = rf"(?P<word>{alternatives(letters)})(?![^\W_])\.?"
    return re.compile(rf"[ -]?[ ]?(?:{word}|(?P<sign>{alternatives(signs)}))", re.IGNORECASE)


def find_measures(text: str, language: str = "en") -> list[Measure]:
    """The measures that a text names, in its order."""
    rules, found, place = load_rules(language), [], 0
    while match := QUANTITY.search(text, place):
        read = _measure_at(text, match, rules)
        place = read.end if read else match.end()
        if read and not _is_idiom(text, read, rules):
            found.append(read)
    return found


def _measure_at(text: str, match: re.Match[str], rules: ConstraintRules) -> Measure | None:
    """The measure whose first number is a match: numbers joined by "x", of which the last has a unit."""
    parts: list[tuple[str, Unit | None, int]] = []
    step: re.Match[str] | None = match
    while step:
        found = unit_at(text, step.end(), rules)
        unit, end = found or (None, step.end())
        parts.append((step.group(), unit, end))
        joint = _joint(rules.language).match(text, end)
        step = AGAIN.match(text, joint.end()) if joint else None
    if len({unit.dimension for _, unit, _ in parts if unit}) > 1:
        parts = parts[:1]  # "5 kg x 3 m" are two measures
    last = parts[-1][1]
    if last is None or _closes_quote(text, match.start(), parts[-1][2]):
        return None
    values: list[float] = []
    for number, unit, _ in reversed(parts):
        last = unit or last
        values.insert(0, round(_value(number, rules) * last.factor, 6))
    relation, start = _relation(text, match.start(), rules)
    end = parts[-1][2]
    return Measure(last.dimension, tuple(values), relation, text[start:end], start, end)


@functools.lru_cache(maxsize=16)
def _joint(language: str) -> re.Pattern[str]:
    return re.compile(rf"\s*{alternatives(load_rules(language).measure['by'])}\s*(?=[0-9])", re.IGNORECASE)


def _value(text: str, rules: ConstraintRules) -> float:
    """A number, or a fraction such as 1 1/2; a denominator of 0 gives 0."""
    if text[-1] in VULGAR:
        return float(text[:-1] or 0) + VULGAR[text[-1]]
    if "/" not in text:
        return rules.number("0" + text if text[0] in ".," else text)
    whole, _, fraction = text.replace("-", " ").rpartition(" ")
    top, bottom = (int(part) for part in fraction.split("/"))
    return (int(whole) if whole else 0) + (top / bottom if bottom else 0.0)


def _closes_quote(text: str, start: int, end: int) -> bool:
    """Whether the sign at the end closes a quotation ("windows 10") and is no inch sign."""
    return text[end - 1] in '"”' and bool(re.search(r'(?:^|\s)["“][^"”\s][^"”]*$', text[:start] + "0"))


def _relation(text: str, start: int, rules: ConstraintRules) -> tuple[Relation, int]:
    """The bound in front of a measure and where it starts."""
    match = _bound(rules.language).search(text[:start])
    if not match:
        return "equal", start
    return ("below" if match["below"] else "above"), match.start()


@functools.lru_cache(maxsize=16)
def _bound(language: str) -> re.Pattern[str]:
    measure = load_rules(language).measure
    below, above = alternatives(measure["below"]), alternatives(measure["above"])
    return re.compile(rf"(?<![\w-])(?:(?P<below>{below})|(?P<above>{above}))\s+$", re.IGNORECASE)


def _is_idiom(text: str, measure: Measure, rules: ConstraintRules) -> bool:
    """Whether it is a name such as 3M or 5G: no word is beside it that is sold by measure."""
    if measure.text.lower() not in rules.measure["names"]:
        return False
    words = re.findall(r"\w+", text.lower())
    return not any(word in rules.measure["unless_beside"] for word in words)


def matches(measure: Measure, text: str, language: str = "en", tolerance: float = TOLERANCE) -> bool | None:
    """Whether a text (a title, an attribute's value) has the measure; None = it names none of that dimension.

    equal: every value of the measure is in the text, within `tolerance` of it. below, above: some value in the text is
    on that side. A value that a measure of several numbers lists counts alone.

    >>> asked = find_measures('15" laptop')[0]
    >>> matches(asked, "38.1 cm screen"), matches(asked, "17 inch"), matches(asked, "black")
    (True, False, None)
    """
    stated = [
        v for other in find_measures(text, language) if other.dimension == measure.dimension for v in other.values
    ]
    if not stated:
        return None
    slack = {value: abs(value) * tolerance for value in measure.values}
    if measure.relation == "below":
        return any(v <= max(measure.values) + slack[max(measure.values)] for v in stated)
    if measure.relation == "above":
        return any(v >= min(measure.values) - slack[min(measure.values)] for v in stated)
    return all(any(abs(v - value) <= slack[value] for v in stated) for value in measure.values)
