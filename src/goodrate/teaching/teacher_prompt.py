"""What a language model is asked when it teaches: the form, the rules, the pair, and the label to verify."""

from __future__ import annotations

from goodrate.relevance.marks import without_marks
from goodrate.relevance.pairs import JudgedPair, item_texts
from goodrate.relevance.rationale import Rationale, contradicts, label_text, parse
from goodrate.relevance.rulebook import Rule, RuleBook
from goodrate.teaching.bare_answer import bare_answer
from goodrate.teaching.teacher import Taught, survives_writing

FORM_OF_ITEMS = "listing"
FORM = """You explain why an item of a shop has its relevance label for a query. Answer with six lines and nothing else:

<label digit>
wants <kind asked for> ; <attribute> <value> <must|may|not|below> ; ...
found <kind of the item> ; <attribute> <value or none> ; ...
category <kind asked for> : <kind of the item> <same|sibling|accessory|other>
checks <attribute> <match|unknown|conflict> ; ...
verdict <rule id>

wants: every requirement of the query. must: required; may: preferred; not: excluded; below: a price limit.
An attribute is one word; a value has no semicolon. found and checks repeat the attributes of wants in the same order.
found: what the item says, none when it says nothing; then the check is unknown. Without requirements: checks none.
same: the kind asked for; sibling: a neighbouring kind; accessory: goes with it; other: anything else."""


def messages(pair: JudgedPair, book: RuleBook) -> list[dict[str, str]]:
    """The chat messages for one pair, its gold label in them as the target to verify."""
    lines = [f"query: {_line(without_marks(pair.query))}", f"item: {_line(item_texts([pair.item], FORM_OF_ITEMS)[0])}"]
    if pair.facts:
        lines.insert(1, f"facts: {_line(pair.facts)}")
    name = book.scale.labels[pair.label]
    target = (
        f"People gave this pair the label {label_text(pair.label)} ({name}). Verify it: find the steps and the rule "
        "that lead to it. If no rule does, give the label that the rules lead to."
    )
    return [
        {"role": "system", "content": f"{FORM}\n\n{_rules(book)}\n\n{_example(book)}"},
        {"role": "user", "content": "\n".join([*lines, target])},
    ]


def graded(text: str, label: int, book: RuleBook) -> Taught:
    """The rationale in an answer, when it can be kept.

    Failures: unreadable_<what parse says>, wrong_label, rule_not_offered, rule_contradicts (the rule named stands for
    another label), not_writable.
    """
    parsed = parse(bare_answer(text), num_labels=len(book.scale))
    if parsed.label is not None and parsed.label != label and parsed.status != "label_out_of_range":
        return Taught(None, True, "wrong_label")
    if parsed.rationale is None or parsed.status != "ok":
        return Taught(None, True, f"unreadable_{parsed.status}")
    rules = {rule.id: book.scale.index(rule.label) for rule in book.rules}
    if parsed.rationale.rule not in rules:
        return Taught(None, True, "rule_not_offered")
    if contradicts(parsed, rules):
        return Taught(None, True, "rule_contradicts")
    return _if_writable(parsed.rationale, book)


def _if_writable(rationale: Rationale, book: RuleBook) -> Taught:
    if not survives_writing(rationale, len(book.scale)):
        return Taught(None, True, "not_writable")
    return Taught(rationale, True)


def _line(text: str) -> str:
    return " ".join(text.split())


def _rules(book: RuleBook) -> str:
    """The labels, and every rule with its condition, label and reason."""
    labels = ", ".join(f"{label_text(position)} {name}" for position, name in enumerate(book.scale.labels))
    lines = [_rule(rule, book) for rule in book.rules]
    return "\n".join([f"Labels, worst first: {labels}.", "Rules; the first that applies decides:", *lines])


def _rule(rule: Rule, book: RuleBook) -> str:
    condition = " and ".join(f"{column} is {' or '.join(values)}" for column, values in rule.when.items()) or "always"
    digit = label_text(book.scale.index(rule.label))
    return f"{rule.id}: {condition} -> {digit} {rule.label}, because {rule.because}"


def _example(book: RuleBook) -> str:
    """A pair that meets everything, under the book's last rule of its best label."""
    best = [rule for rule in book.rules if book.scale.index(rule.label) == len(book.scale) - 1]
    rule = best[-1] if best else book.rules[-1]
    return (
        "Example. query: red lamp below 50 / item: desk lamp ; price 40 ; color red\n"
        f"{label_text(book.scale.index(rule.label))}\n"
        "wants lamp ; color red must ; price 50 below\n"
        "found desk lamp ; color red ; price 40\n"
        "category lamp : desk lamp same\n"
        "checks color match ; price match\n"
        f"verdict {rule.id}"
    )
