"""A seeded world: invented brands, lines and models, and the items that they sell, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goodrate.shop.taxonomy import Taxonomy, load_taxonomy
from goodrate.strict_json import compact

ONSETS = "b br d dr f fl g gr h j k kl l m n p pr r s sk st t tr v w z".split()  # noqa: SIM905
VOWELS = "a e i o u ai ea io".split()  # noqa: SIM905
CODAS = "l m n r s t x nd rk".split()  # noqa: SIM905
PRICES = (10, 99)  # whole units; two digits, one token each
STATED_SHARE = 0.7  # how often an item states an attribute, the same in every category
SIGNATURE_ATTRIBUTES = ("feature", "material", "style", "weight")
DISTRACTORS = ("new", "deluxe", "bestseller", "limited", "plus", "special", "original", "edition")
RARE_SURFACE_SHARE = 0.15


@dataclass(frozen=True)
class World:
    """N items of B brands and M lines. Values are indices into the taxonomy; stated says what the listing tells.

    category (N,), brand (N,), line (N,), model (N,) a number, price (N,) whole units, quality (N,) in 0..1,
    values (N, A), stated (N, A) bool, surfaces (N, A) which synonym the listing uses, category_surface (N,).
    line_brand, line_category, line_attribute, line_value (M,): every item of a line has its signature value.
    """

    seed: int
    taxonomy: Taxonomy
    brands: tuple[str, ...]
    lines: tuple[str, ...]
    line_brand: np.ndarray
    line_category: np.ndarray
    line_attribute: np.ndarray
    line_value: np.ndarray
    category: np.ndarray
    brand: np.ndarray
    line: np.ndarray
    model: np.ndarray
    price: np.ndarray
    quality: np.ndarray
    values: np.ndarray
    stated: np.ndarray
    surfaces: np.ndarray
    category_surface: np.ndarray
    order: np.ndarray  # (N, A) the order in which the listing tells its attributes
    distractor: np.ndarray  # (N,) index into DISTRACTORS, -1 none

    def __len__(self) -> int:
        return len(self.category)


def invent_names(rng: np.random.Generator, count: int, taken: set[str]) -> list[str]:
    """Distinct invented names of two or three syllables that are no word of the taxonomy."""
    names: list[str] = []
    while len(names) < count:
        syllables = int(rng.integers(2, 4))
        name = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables)) + rng.choice(CODAS)
        if name not in taken:
            taken.add(name)
            names.append(str(name))
    return names


def draw_surfaces(rng: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    """A surface index below each count: the rare (last) one seldom, the others equally often."""
    rare = rng.random(counts.shape) < RARE_SURFACE_SHARE
    return np.where(rare, counts - 1, rng.integers(0, np.maximum(counts - 1, 1)))


def _model_numbers(rng: np.random.Generator, line: np.ndarray) -> np.ndarray:
    """Two-digit model numbers (N,), distinct within a line as long as it has at most 90 models."""
    model = np.zeros(len(line), dtype=np.int64)
    for index in range(int(line.max()) + 1):
        members = np.flatnonzero(line == index)
        model[members] = 10 + rng.permutation(np.arange(len(members)) % 90)
    return model


def make_world(seed: int, num_items: int = 5000, num_brands: int = 64, lines_per_brand: int = 4) -> World:
    """The world of a seed. Same arguments, same world."""
    taxonomy = load_taxonomy()
    rng = np.random.default_rng([seed, 7])
    taken = {word for surface in taxonomy.words() for word in surface.split()}
    brands = invent_names(rng, num_brands, taken)
    num_lines = num_brands * lines_per_brand
    lines = invent_names(rng, num_lines, taken)
    num_categories, sizes = len(taxonomy.categories), np.asarray([len(v) for v in taxonomy.values])
    # Every category gets its share of lines, so that no category is empty in a small shop.
    line_category = rng.permutation(np.arange(num_lines) % num_categories)
    signature = np.asarray([taxonomy.attributes.index(a) for a in SIGNATURE_ATTRIBUTES])
    line_attribute = rng.choice(signature, num_lines)
    line_value = rng.integers(0, sizes[line_attribute])
    line_price = rng.integers(*PRICES, num_lines, endpoint=True)

    line = rng.permutation(np.arange(num_items) % num_lines)
    rows = np.arange(num_items)
    values = rng.integers(0, sizes, (num_items, len(sizes)))
    values[rows, line_attribute[line]] = line_value[line]
    spread = np.rint(line_price[line] * rng.lognormal(0.0, 0.35, num_items))
    category = line_category[line]
    surface_counts = np.asarray([[len(s) for s in v] + [0] * (sizes.max() - len(v)) for v in taxonomy.value_surfaces])
    counts = surface_counts[np.arange(len(sizes)), values]
    category_counts = np.asarray([len(s) for s in taxonomy.category_surfaces])[category]
    return World(
        seed=seed,
        taxonomy=taxonomy,
        brands=tuple(brands),
        lines=tuple(lines),
        line_brand=np.arange(num_lines) // lines_per_brand,
        line_category=line_category,
        line_attribute=line_attribute,
        line_value=line_value,
        category=category,
        brand=line // lines_per_brand,
        line=line,
        model=_model_numbers(rng, line),
        price=np.clip(spread, *PRICES).astype(np.int64),
        quality=rng.beta(4, 2, num_items),
        values=values,
        stated=rng.random((num_items, len(sizes))) < STATED_SHARE,
        surfaces=draw_surfaces(rng, counts),
        category_surface=draw_surfaces(rng, category_counts),
        order=rng.permuted(np.tile(np.arange(len(sizes)), (num_items, 1)), axis=1),
        distractor=np.where(rng.random(num_items) < 0.3, rng.integers(0, len(DISTRACTORS), num_items), -1),
    )


def item_record(world: World, i: int) -> dict[str, object]:
    """One item as a shop would publish it (the latent values that it does not state are left out)."""
    t = world.taxonomy
    attributes = {
        t.attributes[a]: t.value_surfaces[a][world.values[i, a]][world.surfaces[i, a]]
        for a in world.order[i]
        if world.stated[i, a]
    }
    extra = DISTRACTORS[world.distractor[i]] + " " if world.distractor[i] >= 0 else ""
    kind = t.category_surfaces[world.category[i]][world.category_surface[i]]
    return {
        "id": f"p{i:06d}",
        "title": f"{extra}{world.lines[world.line[i]]} {world.model[i]} {kind}",
        "description": "",
        "brand": world.brands[world.brand[i]],
        "category": "",
        "price": float(world.price[i]),
        "rating": round(1 + 4 * float(world.quality[i]), 1),
        "attributes": compact(attributes),  # compact, as the catalogue's renderer reads it
    }


def item_records(world: World) -> list[dict[str, object]]:
    """All items as catalogue rows, in order."""
    return [item_record(world, i) for i in range(len(world))]
