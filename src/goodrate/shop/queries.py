"""Queries of six families, drawn from a world: what is wanted (exact) and how a person types it (noisy)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from goodrate.relevance.rationale import Want
from goodrate.shop.world import World, draw_surfaces, invent_names

FAMILIES = ("head", "attribute", "negation", "alternative", "question", "knowledge")
FAMILY_SHARES = (0.15, 0.35, 0.15, 0.12, 0.13, 0.10)
PRICE, BRAND = -1, -2  # attribute codes beside the taxonomy's 0..A-1
TYPO_SHARE = 0.05
FILLERS = ("buy", "online", "please", "shop", "deal", "order")
MAY_CUES = ("preferably", "ideally", "if possible")
NOT_CUES = ("not", "without", "no")
BELOW_CUES = ("under", "below", "less than")
ALTERNATIVE_CUES = ("cheaper alternative to", "like but cheaper", "cheaper than")
QUESTION_CUES = ("which {kind} is good for {usage}", "{kind} for {usage}", "what {kind} do i need for {usage}")
KNOWLEDGE_CUES = ("{kind} approved for {term}", "{term} certified {kind}", "{kind} with {term} standard")


@dataclass(frozen=True)
class Constraint:
    """attribute: 0..A-1, PRICE or BRAND. value: value or brand index, or price. strength: must, may, not or below."""

    attribute: int
    value: int
    strength: str


@dataclass(frozen=True)
class Query:
    """What is wanted and how it is typed. facts: what the shop's own data say of names in the query (always true).

    term: the invented standard of a knowledge query, whose meaning only a knowledge chunk tells.
    tail: uses a rare synonym, a held-out brand or a held-out pair of attributes.
    """

    text: str
    family: str
    category: int
    constraints: tuple[Constraint, ...] = ()
    facts: str = ""
    term: str = ""
    tail: bool = False
    alternative: bool = False


@dataclass(frozen=True)
class Standard:
    """An invented certification and the attribute value that it demands."""

    term: str
    attribute: int
    value: int


def make_standards(world: World, count: int = 60) -> list[Standard]:
    """Seed-specific facts that no text of the catalogue tells."""
    rng = np.random.default_rng([world.seed, 11])
    words = {word for surface in world.taxonomy.words() for word in surface.split()}
    terms = invent_names(rng, count, {*words, *world.brands, *world.lines})
    attributes = rng.integers(0, len(world.taxonomy.attributes), count)
    sizes = np.asarray([len(v) for v in world.taxonomy.values])
    values = rng.integers(0, sizes[attributes])
    return [Standard(t, int(a), int(v)) for t, a, v in zip(terms, attributes, values, strict=True)]


class QueryWriter:
    """Draws queries of one world. rare: whether rare synonyms and held-out brands and pairs may be used (the tail).

    standards: those that knowledge queries name; None = make_standards.
    """

    def __init__(
        self, world: World, rng: np.random.Generator, rare: bool = False, standards: list[Standard] | None = None
    ) -> None:
        self.world, self.rng, self.rare = world, rng, rare
        self.standards = standards or make_standards(world)
        self.used_tail = False

    def draw(self, family: str) -> Query:
        """One query of a family. Every constraint is met by at least one item that states it, where families allow."""
        self.used_tail = False
        query = getattr(self, f"_{family}")()
        # The order of the taxonomy, brand first and price last: a parse has one right answer whatever the word order.
        ordered = tuple(sorted(query.constraints, key=lambda c: 99 if c.attribute == PRICE else c.attribute))
        tail = self.used_tail or wants_held_out_pair(query)
        return _with(query, text=self._noise(query.text), tail=tail, constraints=ordered)

    # ---- pieces of text

    def _surface(self, surfaces: tuple[str, ...]) -> str:
        if self.rare:
            index = int(draw_surfaces(self.rng, np.asarray([len(surfaces)]))[0])
            self.used_tail |= index == len(surfaces) - 1
            return surfaces[index]
        return surfaces[int(self.rng.integers(0, len(surfaces) - 1))]

    def _kind(self, category: int) -> str:
        return self._surface(self.world.taxonomy.category_surfaces[category])

    def _value(self, attribute: int, value: int) -> str:
        return self._surface(self.world.taxonomy.value_surfaces[attribute][value])

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(0, len(options)))]

    def _noise(self, text: str) -> str:
        if self.rng.random() < 0.2:
            filler = self._pick(FILLERS)
            text = f"{filler} {text}" if self.rng.random() < 0.5 else f"{text} {filler}"
        return _mistype(text, self.rng) if self.rng.random() < TYPO_SHARE else text

    # ---- what is wanted

    def _item(self) -> int:
        return int(self.rng.integers(0, len(self.world)))

    def _attribute_constraints(self, item: int, count: int) -> list[Constraint]:
        """Constraints that an existing item states, over distinct attributes; a price limit now and then."""
        w = self.world
        stated = np.flatnonzero(w.stated[item])
        if not len(stated):  # one listing in two million tells nothing
            stated = np.arange(len(w.taxonomy.attributes))
        attributes = self._combination(self.rng.permutation(stated), count)
        constraints = [Constraint(a, int(w.values[item, a]), self._strength()) for a in attributes]
        if self.rng.random() < 0.25 and w.price[item] < 95:
            constraints[-1:] = [Constraint(PRICE, int(w.price[item] + self.rng.integers(1, 20)), "below")]
        return constraints

    def _combination(self, candidates: np.ndarray, count: int) -> list[int]:
        """The first `count` attributes that go together; held-out pairs only where the tail may be used."""
        attributes: list[int] = []
        for candidate in candidates:
            held_out = any(is_held_out_pair(int(candidate), other) for other in attributes)
            if len(attributes) < count and (self.rare or not held_out):
                attributes.append(int(candidate))
        return attributes

    def _strength(self) -> str:
        return "must" if self.rng.random() < 0.65 else "may"

    # ---- families

    def _head(self) -> Query:
        item = self._item()
        category, brand = int(self.world.category[item]), int(self.world.brand[item])
        held_out = is_held_out_brand(brand, len(self.world.brands))
        if self.rng.random() < 0.4 and (self.rare or not held_out):
            self.used_tail |= held_out
            text = f"{self.world.brands[brand]} {self._kind(category)}"
            return Query(text, "head", category, (Constraint(BRAND, brand, "must"),))
        return Query(self._kind(category), "head", category)

    def _attribute(self) -> Query:
        item = self._item()
        category = int(self.world.category[item])
        constraints = self._attribute_constraints(item, int(self.rng.integers(1, 4)))
        return Query(self._phrase(category, constraints), "attribute", category, tuple(constraints))

    def _negation(self) -> Query:
        item = self._item()
        category = int(self.world.category[item])
        excluded, *rest = self._attribute_constraints(item, int(self.rng.integers(1, 3)))
        if excluded.strength == "below":
            a = int(self.rng.integers(0, len(self.world.taxonomy.attributes)))
            excluded = Constraint(a, int(self.world.values[item, a]), "not")
        constraints = (*rest, _strength(excluded, "not"))
        return Query(self._phrase(category, list(constraints)), "negation", category, constraints)

    def _alternative(self) -> Query:
        w, item = self.world, self._item()
        line = int(w.line[item])
        name = f"{w.lines[line]} {w.model[item]}"
        a, v = int(w.line_attribute[line]), int(w.line_value[line])
        t = w.taxonomy
        category = int(w.line_category[line])
        facts = (
            f"{name} : price {w.price[item]} ; {w.lines[line]} : {t.categories[category]} , "
            f"{t.attributes[a]} {t.values[a][v]}"
        )
        constraints = (Constraint(a, v, "must"), Constraint(PRICE, int(w.price[item]), "below"))
        text = f"{self._pick(ALTERNATIVE_CUES)} {name}"
        return Query(text, "alternative", category, constraints, facts, alternative=True)

    def _question(self) -> Query:
        category = int(self.world.category[self._item()])
        phrase, a, v = self.world.taxonomy.usages[int(self.rng.integers(0, len(self.world.taxonomy.usages)))]
        text = self._pick(QUESTION_CUES).format(kind=self._kind(category), usage=phrase)
        return Query(text, "question", category, (Constraint(a, v, "must"),))

    def _knowledge(self) -> Query:
        category = int(self.world.category[self._item()])
        s = self.standards[int(self.rng.integers(0, len(self.standards)))]
        text = self._pick(KNOWLEDGE_CUES).format(kind=self._kind(category), term=s.term)
        return Query(text, "knowledge", category, (Constraint(s.attribute, s.value, "must"),), term=s.term)

    def _phrase(self, category: int, constraints: list[Constraint]) -> str:
        """Hard values before or after the kind, soft ones and exclusions after a cue."""
        before: list[str] = []
        after: list[str] = []
        for c in constraints:
            if c.strength == "below":
                after.append(f"{self._pick(BELOW_CUES)} {c.value}")
                continue
            word = self._value(c.attribute, c.value)
            if c.strength == "may":
                after.append(f"{self._pick(MAY_CUES)} {word}")
            elif c.strength == "not":
                after.append(f"{self._pick(NOT_CUES)} {word}")
            else:
                (before if self.rng.random() < 0.6 else after).append(word)
        order = self.rng.permutation(len(after))
        return " ".join([*before, self._kind(category), *(after[i] for i in order)])


def is_held_out_brand(brand: int, num_brands: int) -> bool:
    """The last eighth of the brands appears in no training query."""
    return brand >= num_brands - num_brands // 8


def is_held_out_pair(first: int, second: int) -> bool:
    """Some attributes (8 of the 66 pairs, of 10 of the 12 attributes) are wanted together only in held-out queries."""
    low, high = sorted((first, second))
    return (2 * low + 3 * high) % 8 == 0


def wants_held_out_pair(query: Query) -> bool:
    """Whether two of the query's attributes are a held-out pair; price and brand pair with everything."""
    attributes = [c.attribute for c in query.constraints if c.attribute not in (PRICE, BRAND)]
    return any(is_held_out_pair(first, second) for first, second in itertools.combinations(attributes, 2))


def wants_of(query: Query, world: World) -> tuple[Want, ...]:
    """The constraints in the words of a rationale: canonical names."""
    t = world.taxonomy
    wants = []
    for c in query.constraints:
        if c.attribute == PRICE:
            wants.append(Want("price", str(c.value), "below"))
        elif c.attribute == BRAND:
            wants.append(Want("brand", world.brands[c.value], c.strength))
        else:
            wants.append(Want(t.attributes[c.attribute], t.values[c.attribute][c.value], c.strength))
    return tuple(wants)


def _strength(constraint: Constraint, strength: str) -> Constraint:
    return Constraint(constraint.attribute, constraint.value, strength)


def _with(query: Query, **changes: object) -> Query:
    return Query(**{**query.__dict__, **changes})  # type: ignore[arg-type]


def _mistype(text: str, rng: np.random.Generator) -> str:
    """Swap two neighbouring letters of one word of four or more letters; digits stay."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    i = long[int(rng.integers(0, len(long)))]
    at = int(rng.integers(1, len(words[i]) - 2))
    letters = list(words[i])
    letters[at], letters[at + 1] = letters[at + 1], letters[at]
    words[i] = "".join(letters)
    return " ".join(words)
