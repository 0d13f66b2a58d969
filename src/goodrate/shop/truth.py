"""The truth of the shop: step verdicts and labels of every (query, item) pair, through the one rule book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goodrate.relevance.rationale import CHECKS, RELATIONS, Rationale
from goodrate.relevance.rulebook import RuleBook
from goodrate.shop.queries import BRAND, PRICE, Constraint, Query, wants_of
from goodrate.shop.world import World

MATCH, UNKNOWN, CONFLICT = range(3)


@dataclass(frozen=True)
class PairTruth:
    """Truth of one query against n items: relation, rule and label (n,), checks (n, W) over its W constraints."""

    relation: np.ndarray
    checks: np.ndarray
    rule: np.ndarray
    label: np.ndarray


def check_constraint(world: World, constraint: Constraint, items: np.ndarray) -> np.ndarray:
    """match, unknown or conflict per item (n,). Not stated is unknown; price and brand are stated."""
    if constraint.attribute == PRICE:
        return np.where(world.price[items] < constraint.value, MATCH, CONFLICT)
    if constraint.attribute == BRAND:
        return np.where(world.brand[items] == constraint.value, MATCH, CONFLICT)
    equal = world.values[items, constraint.attribute] == constraint.value
    good = ~equal if constraint.strength == "not" else equal
    return np.where(world.stated[items, constraint.attribute], np.where(good, MATCH, CONFLICT), UNKNOWN)


def _worst(checks: np.ndarray, columns: list[bool]) -> np.ndarray:
    """Column code 0 none, 1 match, 2 unknown, 3 conflict: the worst verdict over the chosen constraints."""
    if not any(columns):
        return np.zeros(len(checks), dtype=np.int64)
    return checks[:, np.asarray(columns)].max(axis=1) + 1


def rule_columns(query: Query, relation: np.ndarray, checks: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of the rule book for one query: category, must, may, not, alternative."""
    strengths = [c.strength for c in query.constraints]
    price_is_alternative = query.alternative
    must = [s == "must" or (s == "below" and not price_is_alternative) for s in strengths]
    alternative = [s == "below" and price_is_alternative for s in strengths]
    cheaper = _worst(checks, alternative)  # match 1 = cheaper 1, conflict 3 -> costlier 2
    return {
        "category": relation,
        "must": _worst(checks, must),
        "may": _worst(checks, [s == "may" for s in strengths]),
        "not": _worst(checks, [s == "not" for s in strengths]),
        "alternative": np.minimum(cheaper, 2),
    }


def judge_truth(world: World, book: RuleBook, query: Query, items: np.ndarray | None = None) -> PairTruth:
    """Truth of a query against some items (n,) or, without items, against the whole catalogue."""
    items = np.arange(len(world)) if items is None else items
    relation = world.taxonomy.relation[query.category, world.category[items]]
    columns = [check_constraint(world, c, items) for c in query.constraints]
    checks = np.stack(columns, axis=1) if columns else np.zeros((len(items), 0), dtype=np.int64)
    rule = book.decide(rule_columns(query, relation, checks))
    return PairTruth(relation, checks, rule, book.labels(rule))


def _stated_value(world: World, constraint: Constraint, item: int) -> str | None:
    if constraint.attribute == PRICE:
        return str(int(world.price[item]))
    if constraint.attribute == BRAND:
        return world.brands[world.brand[item]]
    if not world.stated[item, constraint.attribute]:
        return None
    return world.taxonomy.values[constraint.attribute][world.values[item, constraint.attribute]]


def true_rationale(world: World, book: RuleBook, query: Query, item: int) -> Rationale:
    """The five true steps of one pair."""
    truth = judge_truth(world, book, query, np.asarray([item]))
    t = world.taxonomy
    return Rationale(
        label=int(truth.label[0]),
        category=t.categories[query.category],
        wants=wants_of(query, world),
        found_category=t.categories[world.category[item]],
        found=tuple(_stated_value(world, c, item) for c in query.constraints),
        relation=RELATIONS[truth.relation[0]],
        checks=tuple(CHECKS[c] for c in truth.checks[0]),
        rule=book.rules[truth.rule[0]].id,
    )
