"""Soft logic from verdicts on entities to label probabilities: arithmetic, on numpy arrays and torch tensors alike.

An item is relevant when it is of the kind that is asked for, no entity of it conflicts with the query, and every
constraint of the query is met. Three t-norms give "and" and "or" a meaning between 0 and 1; "mean" is none and stands
for plain pooling. The formulas are ours; that query-entity verdicts are joined by a soft logic is arXiv 2307.00370.

Shapes: N pairs, E entities of an item (padded), T types that a query can constrain, L labels.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or torch.Tensor
PRODUCT, GOEDEL, LUKASIEWICZ, MEAN = "product", "goedel", "lukasiewicz", "mean"
TNORMS = (PRODUCT, GOEDEL, LUKASIEWICZ)
AGGREGATIONS = (*TNORMS, MEAN)
KIND, PADDING = 0, -1  # groups: what the item is; no entity. Constrained types are 1..T
LABELS = (2, 3, 4)  # how many a scale may have
UNKNOWN = 0.5


@dataclass(frozen=True)
class Logic:
    """How verdicts are joined.

    tnorm: one of AGGREGATIONS. unknown: what a type costs that the query constrains and the item says nothing of; 0 =
    as if it were met, 1 = as if it were violated. temperature: of long products; their logarithm is divided by it, so
    that twenty entities of 0.95 need not make 0.36. It changes nothing where all verdicts are 0 or 1.
    constraints_conflict: whether an entity of a constrained type that conflicts makes the item unclean, like one that
    says what the item is; else it leaves that constraint unmet, as ESCI has it (another brand is a substitute; what is
    in conflict with the kind itself is a complement).
    """

    tnorm: str = PRODUCT
    unknown: float = UNKNOWN
    temperature: float = 1.0
    constraints_conflict: bool = True

    def __post_init__(self) -> None:
        if self.tnorm not in AGGREGATIONS:
            raise ValueError(f"tnorm {self.tnorm!r} is not one of {', '.join(AGGREGATIONS)}")
        if not 0 <= self.unknown <= 1:
            raise ValueError(f"unknown {self.unknown!r}: expected a number from 0 to 1")
        if not self.temperature >= 1:
            raise ValueError(f"temperature {self.temperature!r} of the logic: expected a number from 1 on")


@dataclass(frozen=True)
class Evidence:
    """Verdicts of N pairs. support, conflict (N, E): in 0..1. group (N, E): int, PADDING, KIND or 1..T.

    demand (N, T): how far the query constrains each type.
    """

    support: Array
    conflict: Array
    group: Array
    demand: Array


@dataclass(frozen=True)
class Truth:
    """Degrees (N,) that the rule joins. kind: the item is of the kind asked for. clean: nothing conflicts.

    met (N, T): each constraint holds; wanted: all of them do.
    """

    kind: Array
    clean: Array
    met: Array
    wanted: Array


def _library(array: Array) -> Any:
    """numpy, or torch where the array is a tensor (which then is imported)."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def conjunction(values: Array, logic: Logic, mask: Array | None = None) -> Array:
    """The "and" over the last axis; what the mask leaves out counts as true.

    >>> conjunction(np.array([0.5, 0.8]), Logic()).round(3), conjunction(np.array([0.5, 0.8]), Logic(LUKASIEWICZ))
    (np.float64(0.4), np.float64(0.3))
    """
    return 1 - disjunction(1 - values, logic, mask)


def disjunction(values: Array, logic: Logic, mask: Array | None = None) -> Array:
    """The "or" over the last axis; what the mask leaves out counts as false.

    >>> disjunction(np.array([0.5, 0.8]), Logic()).round(3), disjunction(np.array([0.5, 0.8]), Logic(GOEDEL))
    (np.float64(0.9), np.float64(0.8))
    """
    xp = _library(values)
    known = values if mask is None else xp.where(mask, values, xp.zeros_like(values))
    if logic.tnorm == GOEDEL:
        return xp.amax(known, -1)
    if logic.tnorm == LUKASIEWICZ:
        return xp.clip(known.sum(-1), 0, 1)
    if logic.tnorm == MEAN:
        count = xp.zeros_like(known) + 1 if mask is None else mask
        return known.sum(-1) / xp.clip(count.sum(-1), 1, None)
    with np.errstate(divide="ignore"):
        return -xp.expm1(xp.log1p(-known).sum(-1) / logic.temperature)


def truth(evidence: Evidence, logic: Logic) -> Truth:
    """The degrees of a rule's parts. A type without an entity on the item is unknown, the kind too."""
    xp = _library(evidence.support)
    types = evidence.demand.shape[-1]
    groups = np.arange(types + 1)
    wanted = groups if xp is np else xp.as_tensor(groups, device=evidence.group.device)
    member = evidence.group[:, None, :] == wanted[None, :, None]  # (N, T + 1, E)
    spread = xp.where(member, evidence.support[:, None, :], xp.zeros_like(evidence.support[:, None, :]))
    found = disjunction(spread, logic, member)
    said = member.any(-1)
    found = xp.where(said, found, xp.zeros_like(found) + (1 - logic.unknown))
    free = 1 - evidence.conflict
    speaks = evidence.group != PADDING if logic.constraints_conflict else evidence.group == KIND
    clean = conjunction(free, logic, speaks)
    met = _implied(evidence.demand, found[:, 1:], logic)
    if types and not logic.constraints_conflict:
        spared = conjunction(xp.where(member, free[:, None, :], xp.ones_like(spread)), logic, member)[:, 1:]
        met = conjunction(xp.stack([met, spared], -1), Logic(logic.tnorm))
    return Truth(found[:, KIND], clean, met, conjunction(met, logic) if types else xp.ones_like(clean))


def _implied(demand: Array, found: Array, logic: Logic) -> Array:
    """That a type is not demanded, or found: 1 - w (1 - m) with the product, and what the others make of it."""
    xp = _library(demand)
    either = xp.stack([1 - demand, found], -1)
    return disjunction(either, Logic(PRODUCT) if logic.tnorm in (PRODUCT, MEAN) else logic)


def label_probabilities(parts: Truth, labels: int, logic: Logic) -> Array:
    """(N, L) worst first, from nested conjunctions: of the kind; and clean; and all that is wanted.

    Four labels (ESCI among them): not of the kind, of the kind but in conflict, clean but not all met, all met. With
    the product these are 1 - M, M (1 - N), M N (1 - W), M N W. Three: the middle one is of the kind but in conflict or
    not all met. Two: all met, or not. Rows sum to 1. Raises ValueError for another number of labels.
    """
    if labels not in LABELS:
        raise ValueError(f"the logic gives 2, 3 or 4 labels, not {labels}; bin them (edges in a scale's file)")
    xp = _library(parts.kind)
    joined = Logic(logic.tnorm) if logic.tnorm in TNORMS else Logic(PRODUCT)
    steps = {2: (), 3: (parts.kind,), 4: (parts.kind, _both(parts.kind, parts.clean, joined))}[labels]
    whole = _both(_both(parts.kind, parts.clean, joined), parts.wanted, joined)
    bounds = [xp.ones_like(whole), *steps, whole, xp.zeros_like(whole)]
    return xp.stack([above - below for above, below in zip(bounds, bounds[1:], strict=False)], -1)


def _both(one: Array, other: Array, logic: Logic) -> Array:
    xp = _library(one)
    if logic.tnorm == PRODUCT:
        return one * other
    return conjunction(xp.stack([one, other], -1), logic)


def residuum(first: Array, both: Array, logic: Logic) -> Array:
    """The degree that the "and" joins with `first` to `both`, where both <= first: the t-norm's residuum at them.

    >>> residuum(np.array([0.8]), np.array([0.4]), Logic()).tolist()
    [0.5]
    """
    xp = _library(first)
    if logic.tnorm == GOEDEL:
        return both
    if logic.tnorm == LUKASIEWICZ:
        return xp.clip(1 - first + both, 0, 1)
    return both / xp.clip(first, 1e-12, None)


def judged(evidence: Evidence, logic: Logic, labels: int) -> Array:
    """Label probabilities (N, L) of verdicts."""
    return label_probabilities(truth(evidence, logic), labels, logic)
