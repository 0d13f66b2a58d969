"""The shop's language: categories, attributes, synonyms and usages, read from the versioned taxonomy.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

SAME, SIBLING, ACCESSORY, OTHER = range(4)
RELATIONS = ("same", "sibling", "accessory", "other")


@dataclass(frozen=True)
class Taxonomy:
    """C categories in D departments, A attributes with their values; every name with its surfaces (canonical first)."""

    version: int
    departments: tuple[str, ...]
    categories: tuple[str, ...]
    category_surfaces: tuple[tuple[str, ...], ...]
    department_of: np.ndarray  # (C,) department index of each category
    relation: np.ndarray  # (C, C) relation[wanted, found], an index into RELATIONS
    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    value_surfaces: tuple[tuple[tuple[str, ...], ...], ...]
    usages: tuple[tuple[str, int, int], ...]  # phrase, attribute index, value index

    def words(self) -> list[str]:
        """Every distinct surface, for the tokenizer and the leak tests."""
        names = [s for surfaces in self.category_surfaces for s in surfaces]
        names += [s for attribute in self.value_surfaces for surfaces in attribute for s in surfaces]
        return [*self.departments, *self.attributes, *names, *(u[0] for u in self.usages)]


def _relations(categories: list[str], department_of: np.ndarray, accessories: dict[str, str]) -> np.ndarray:
    """relation[w, f]: same, accessory (either way round), sibling (same department) or other."""
    relation = np.where(department_of[:, None] == department_of[None, :], SIBLING, OTHER)
    for accessory, owner in accessories.items():
        a, o = categories.index(accessory), categories.index(owner)
        relation[o, a] = relation[a, o] = ACCESSORY
    np.fill_diagonal(relation, SAME)
    return relation


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that ships with the package. Relations are symmetric; an accessory never counts as a sibling."""
    raw = tomllib.loads((Path(__file__).parent / "taxonomy.toml").read_text(encoding="utf-8"))
    departments = list(raw["departments"])
    categories = [name for d in departments for name in raw["departments"][d]]
    surfaces = [(name, *raw["departments"][d][name]) for d in departments for name in raw["departments"][d]]
    department_of = np.repeat(np.arange(len(departments)), [len(raw["departments"][d]) for d in departments])
    attributes = tuple(raw["attributes"])
    values = tuple(tuple(raw["attributes"][a]) for a in attributes)
    usages = []
    for phrase, need in raw["usages"].items():
        attribute, value = need.split()
        index = attributes.index(attribute)
        usages.append((phrase, index, values[index].index(value)))
    return Taxonomy(
        version=raw["version"],
        departments=tuple(departments),
        categories=tuple(categories),
        category_surfaces=tuple(surfaces),
        department_of=department_of,
        relation=_relations(categories, department_of, raw["accessories"]),
        attributes=attributes,
        values=values,
        value_surfaces=tuple(tuple((v, *raw["attributes"][a][v]) for v in raw["attributes"][a]) for a in attributes),
        usages=tuple(usages),
    )
