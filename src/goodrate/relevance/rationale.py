"""The rationale: five reasoning steps that a machine can write, read and check.

Every step is one line that starts with its name:

    wants <category> ; <attribute> <value> <must|may|not|below> ; ...     query understanding
    found <category> ; <attribute> <value or none> ; ...                  item understanding
    category <wanted> : <found> <same|sibling|accessory|other>            category match
    checks <attribute> <match|unknown|conflict> ; ...                     attribute match
    verdict <rule id>                                                     verdict

and the label is one digit, label position + 1, on a line of its own: before the steps (label_first, served: one
prefill gives the probabilities) or after them (reason_first).

A judge that reads a retrieved text says before these steps what the text was worth (DyKnow-RAG, arXiv 2510.11122):

    context <use|partly|ignore>

Where nothing names a kind of product, on a catalogue without categories, a reason holds what texts say and no more, in
three lines of which empty ones are left out, and the rule:

    has <words of the query> ; <fact>: <value> ; ...        what the item's text has or meets
    lacks <words of the query> ; <fact>: <value> ; ...      what it does not speak of
    against <words of the query> ; <fact>: <value> ; ...    what it contradicts
    verdict <rule id>
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

STEPS = ("wants", "found", "category", "checks", "verdict")
CONTEXT_STEP, USES = "context", ("use", "partly", "ignore")
FACT_STEPS = {"has": "match", "lacks": "unknown", "against": "conflict"}  # the check that each line says
WORD_FACT = "word"  # the attribute of a word of the query
FACTS = {"brand": "must", "identifier": "must", "measure": "must", "price": "must", "without": "not"}  # with strengths
ALL_STEPS = (CONTEXT_STEP, *STEPS[:-1], *FACT_STEPS, STEPS[-1])
ORDERS = ("label_first", "reason_first")
STRENGTHS = ("must", "may", "not", "below")
CHECKS = ("match", "unknown", "conflict")
RELATIONS = ("same", "sibling", "accessory", "other")
LABEL_LINE = re.compile(r"[0-9]{1,3}")  # str.isdigit would let superscripts through, and int() refuses them


@dataclass(frozen=True)
class Want:
    """One constraint of a query. value is canonical; `below` is a hard price limit, `not` an exclusion."""

    attribute: str
    value: str
    strength: str


@dataclass(frozen=True)
class Rationale:
    """What a judge says of one pair: the label (position on the scale, 0 = worst) and the content of the five steps.

    context: one of USES, None for a judge that reads no retrieved text. Without a text in the prompt it is "ignore":
    what is said there must stay likely behind the text (papers/dyknow_rag.md section 2).
    A reason of facts alone (`of_facts`) has no category, no found_category and no relation: "".
    """

    label: int
    category: str
    wants: tuple[Want, ...]
    found_category: str
    found: tuple[str | None, ...]  # one per want; None = the item does not say
    relation: str
    checks: tuple[str, ...]  # one per want
    rule: str
    context: str | None = None

    @classmethod
    def of_facts(cls, label: int, facts: Iterable[tuple[str, str, str]], rule: str) -> Rationale:
        """Of (fact, value, check): WORD_FACT or one of FACTS, and one of CHECKS. In the order of the lines."""
        order = list(CHECKS)
        stated = sorted(facts, key=lambda one: (order.index(one[2]), one[0] != WORD_FACT))
        wants = tuple(Want(fact, value, FACTS.get(fact, "must")) for fact, value, _ in stated)
        found = tuple(value if check == "match" else None for _, value, check in stated)
        return cls(label, "", wants, "", found, "", tuple(check for _, _, check in stated), rule)

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """(fact, value, check) of each want."""
        return [(want.attribute, want.value, check) for want, check in zip(self.wants, self.checks, strict=True)]


@dataclass(frozen=True)
class Parsed:
    """A completion, read back. status is "ok" or the name of the first failure; steps are the lines that were found."""

    label: int | None
    status: str
    steps: dict[str, str] = field(default_factory=dict)
    rationale: Rationale | None = None


def step_lines(rationale: Rationale) -> dict[str, str]:
    """The lines by step name, that of the retrieved text before them where there is one."""
    r = rationale
    if not r.category:
        return _fact_lines(r)
    wants = "".join(f" ; {w.attribute} {w.value} {w.strength}" for w in r.wants)
    values = "".join(f" ; {w.attribute} {v or 'none'}" for w, v in zip(r.wants, r.found, strict=True))
    checks = " ;".join(f" {w.attribute} {c}" for w, c in zip(r.wants, r.checks, strict=True)) or " none"
    context = {} if r.context is None else {CONTEXT_STEP: f"{CONTEXT_STEP} {r.context}"}
    return {
        **context,
        "wants": f"wants {r.category}{wants}",
        "found": f"found {r.found_category}{values}",
        "category": f"category {r.category} : {r.found_category} {r.relation}",
        "checks": f"checks{checks}",
        "verdict": f"verdict {r.rule}",
    }


def _fact_lines(rationale: Rationale) -> dict[str, str]:
    """The lines of a reason of facts alone."""
    lines = {}
    for name, check in FACT_STEPS.items():
        stated = [(fact, value) for fact, value, verdict in rationale.facts if verdict == check]
        words = " ".join(value for fact, value in stated if fact == WORD_FACT)
        parts = [words] * bool(words) + [f"{fact}: {value}" for fact, value in stated if fact != WORD_FACT]
        if parts:
            lines[name] = f"{name} {' ; '.join(parts)}"
    context = {} if rationale.context is None else {CONTEXT_STEP: f"{CONTEXT_STEP} {rationale.context}"}
    return {**context, **lines, STEPS[-1]: f"{STEPS[-1]} {rationale.rule}"}


def label_text(label: int) -> str:
    """The digit that stands for a label position: 0 (worst) is "1"."""
    return str(label + 1)


def write(rationale: Rationale, order: str = "label_first") -> str:
    """The completion text of a rationale, label first or last. Lines end in a newline, the last one too."""
    _check_order(order)
    lines = list(step_lines(rationale).values())
    label = label_text(rationale.label)
    ordered = [label, *lines] if order == "label_first" else [*lines, label]
    return "\n".join(ordered) + "\n"


def parse(text: str, order: str = "label_first", num_labels: int = 4) -> Parsed:
    """Read a completion. A failure is named, never turned into a low label.

    Failures: empty, no_label, label_out_of_range, missing_<step>, bad_<step>, trailing_text. The line on a retrieved
    text may be missing; Parsed.steps and Rationale.context have it where it is there.
    """
    _check_order(order)
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    if not lines:
        return Parsed(None, "empty")
    label_line = lines[0] if order == "label_first" else lines[-1]
    if not LABEL_LINE.fullmatch(label_line):
        return Parsed(None, "no_label", _steps_of(lines))
    label = int(label_line) - 1
    body = lines[1:] if order == "label_first" else lines[:-1]
    steps = _steps_of(body)
    if not 0 <= label < num_labels:
        return Parsed(None, "label_out_of_range", steps)
    status, rationale = _read_steps(label, steps)
    if status == "ok" and len(body) != len(steps):
        status = "trailing_text"
    return Parsed(label, status, steps, rationale)


def contradicts(parsed: Parsed, rule_labels: dict[str, int]) -> bool | None:
    """Whether the steps name a rule whose label is not the label given (discriminative hallucination).

    None when the completion cannot be read or names a rule that the book does not have.

    rule_labels: label position by rule id, from the rule book.
    """
    if parsed.rationale is None or parsed.label is None or parsed.rationale.rule not in rule_labels:
        return None
    return rule_labels[parsed.rationale.rule] != parsed.label


def _check_order(order: str) -> None:
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is not one of {', '.join(ORDERS)}")


def _steps_of(lines: list[str]) -> dict[str, str]:
    """The first line of each step, by name."""
    steps: dict[str, str] = {}
    for line in lines:
        name = line.split(" ", 1)[0]
        if name in ALL_STEPS:
            steps.setdefault(name, line)
    facts = "wants" not in steps and any(name in FACT_STEPS for name in steps)
    foreign = STEPS[:-1] if facts else tuple(FACT_STEPS)
    return {name: line for name, line in steps.items() if name not in foreign}


def _fields(line: str) -> list[str]:
    """The ;-separated fields of a step line, its name dropped."""
    return [part.strip() for part in line.partition(" ")[2].split(";")]


def _read_facts(label: int, steps: dict[str, str], use: str | None) -> tuple[str, Rationale | None]:
    """A reason of facts alone."""
    facts = []
    for name, check in FACT_STEPS.items():
        for number, part in enumerate(_fields(steps[name]) if name in steps else ()):
            fact, colon, value = (text.strip() for text in part.partition(":"))
            if colon and fact in FACTS and value:
                facts.append((fact, value, check))
            elif part and not colon and number == 0:
                facts += [(WORD_FACT, word, check) for word in part.split()]
            else:
                return f"bad_{name}", None
    rule = _rule_of(steps)
    if not rule:
        return ("bad_verdict" if STEPS[-1] in steps else f"missing_{STEPS[-1]}"), None
    return "ok", replace(Rationale.of_facts(label, facts, rule), context=use)


def _rule_of(steps: dict[str, str]) -> str:
    """The rule of the verdict line, "" when there is none or it is not one word."""
    rule = steps.get(STEPS[-1], "").partition(" ")[2].strip()
    return "" if " " in rule else rule


def _read_steps(label: int, steps: dict[str, str]) -> tuple[str, Rationale | None]:
    use = steps[CONTEXT_STEP].partition(" ")[2] if CONTEXT_STEP in steps else None
    if not FACT_STEPS.keys().isdisjoint(steps):
        return ("bad_context", None) if use not in (None, *USES) else _read_facts(label, steps, use)
    for name in STEPS:
        if name not in steps:
            return f"missing_{name}", None
    if use not in (None, *USES):
        return "bad_context", None
    want_fields, item_fields = _fields(steps["wants"]), _fields(steps["found"])
    wants = [_read_want(part) for part in want_fields[1:]]
    if not want_fields[0] or None in wants:
        return "bad_wants", None
    stated = [_read_stated(part) for part in item_fields[1:]]
    if not item_fields[0] or [w.attribute for w in wants if w] != [f[0] for f in stated]:
        return "bad_found", None
    relation = steps["category"].rsplit(" ", 1)[-1]
    if relation not in RELATIONS or " : " not in steps["category"]:
        return "bad_category", None
    checks = _read_checks(steps["checks"], [w.attribute for w in wants if w])
    if checks is None:
        return "bad_checks", None
    rule = _rule_of(steps)
    if not rule:
        return "bad_verdict", None
    values = tuple(None if value == "none" else value for _, value in stated)
    read_wants = tuple(w for w in wants if w)
    return "ok", Rationale(label, want_fields[0], read_wants, item_fields[0], values, relation, checks, rule, use)


def _read_want(part: str) -> Want | None:
    words = part.split()
    if len(words) < 3 or words[-1] not in STRENGTHS:
        return None
    return Want(words[0], " ".join(words[1:-1]), words[-1])


def _read_stated(part: str) -> tuple[str, str]:
    name, _, value = part.partition(" ")
    return name, value or "none"


def _read_checks(line: str, attributes: list[str]) -> tuple[str, ...] | None:
    fields = _fields(line)
    if not attributes:
        return () if fields == ["none"] else None
    pairs = [part.split() for part in fields]
    if [p[0] for p in pairs if p] != attributes or any(len(p) != 2 or p[1] not in CHECKS for p in pairs):
        return None
    return tuple(p[1] for p in pairs)
