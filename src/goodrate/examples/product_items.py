"""Products as a vision-language model learns of them: a picture, a text, and which attributes the two tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from goodrate.catalog.items import PATH_SEPARATOR, Catalog
from goodrate.catalog.normal_form import normal_text
from goodrate.relevance.listing import listing
from goodrate.shop.pictures import VISUAL_ATTRIBUTES, draw_item, picture_share
from goodrate.shop.world import World, item_record
from goodrate.strict_json import parse

MOST_CHARACTERS = 400  # of a listing: what a small model reads beside a picture
MOST_VALUES = 40  # of an attribute that is taken from a catalogue without being named


@dataclass(frozen=True)
class Product:
    """One item. row: of its picture. text: the fields of its listing, name -> words, "title" among them.

    told: attribute -> value that the text or the picture tells. pictured: those of them that the picture tells. untold:
    attributes that neither tells, where the right answer is "unknown". caption: the title that is to be written from
    the picture, "" = none. facts: question -> answer, of the product's own.
    """

    id: str
    row: int
    text: Mapping[str, str]
    category: str
    told: Mapping[str, str]
    untold: tuple[str, ...] = ()
    pictured: frozenset[str] = frozenset()
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def line(self, hidden: str = "") -> str:
        """The listing as one line, without the field `hidden`."""
        return listing_line({name: words for name, words in self.text.items() if name != hidden})


def listing_line(text: Mapping[str, str]) -> str:
    """A title and named fields as one line of at most 400 characters, as judges read an item.

    >>> listing_line({"title": "velto 3 jacket", "color": "red"})
    'velto 3 jacket ; color red'
    """
    named = {name: words for name, words in text.items() if name != "title"}
    return listing({"title": text.get("title", ""), "attributes": named})[:MOST_CHARACTERS]


@dataclass(frozen=True)
class ProductSet:
    """Products with their pictures (a file's bytes or pixels, by Product.row), and the words of their language.

    values: attribute -> the values it may have. hides: whether a listing's field may be left out of a question, so that
    the picture has to tell it (of a catalogue, where nobody knows what a picture shows beside the text).
    """

    products: tuple[Product, ...]
    pictures: Sequence[bytes | np.ndarray]
    values: Mapping[str, tuple[str, ...]]
    hides: bool = False

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """All of them, most frequent first."""
        counts = Counter(product.category for product in self.products if product.category)
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    def part(self, rows: Sequence[int]) -> ProductSet:
        """Some of the products, with the same pictures and words."""
        chosen = ProductSet(tuple(self.products[row] for row in rows), self.pictures, self.values, self.hides)
        chosen.__dict__["categories"] = self.categories  # the questions' options are those of the whole set
        return chosen

    def of_categories(self, names: Sequence[str], inside: bool = True) -> ProductSet:
        """The products of these categories, or of all others. Raises ValueError for a name that none has."""
        unknown = [name for name in names if name not in self.categories]
        if unknown:
            raise ValueError(f"no product has the category {unknown[0]!r}; there are {', '.join(self.categories[:20])}")
        return self.part([n for n, product in enumerate(self.products) if (product.category in names) == inside])


def shop_products(
    world: World, size: int = 64, attributes: Sequence[str] = VISUAL_ATTRIBUTES, told: np.ndarray | None = None
) -> ProductSet:
    """The embedded shop's items with their pictures drawn. told (N, A) bool: what each picture tells; None = drawn.

    Values are canonical; the listing has its own words for them. An attribute counts as told where the listing states
    it or the picture shows it. The caption names what the picture shows. Raises ValueError for an attribute that the
    shop lacks.
    """
    t = world.taxonomy
    unknown = [name for name in attributes if name not in t.attributes]
    if unknown:
        raise ValueError(f"the shop has no attribute {unknown[0]!r}; it has {', '.join(t.attributes)}")
    asked = [t.attributes.index(name) for name in attributes]
    told = picture_share(world, world.seed) if told is None else told
    pictures = [draw_item(world, item, size=size, shown=told[item]) for item in range(len(world))]
    products = tuple(_shop_product(world, item, asked, told[item]) for item in range(len(world)))
    return ProductSet(products, pictures, {name: t.values[a] for name, a in zip(attributes, asked, strict=True)})


def _shop_product(world: World, item: int, asked: Sequence[int], told: np.ndarray) -> Product:
    t, record = world.taxonomy, item_record(world, item)
    named = {t.attributes[a]: t.values[a][world.values[item, a]] for a in asked}
    shown = [t.attributes[a] for a in asked if told[a]]
    stated = parse(str(record["attributes"]), "attributes")
    known = {name for name in named if name in stated or name in shown}
    kind = t.categories[world.category[item]]
    return Product(
        id=str(record["id"]),
        row=item,
        text={"title": str(record["title"]), **{name: words for name, words in stated.items() if name in named}},
        category=kind,
        told={name: value for name, value in named.items() if name in known},
        untold=tuple(name for name in named if name not in known),
        pictured=frozenset(shown),
        caption=" ".join([*(named[name] for name in shown), kind]),
    )  # fmt: skip


def catalog_products(
    catalog: Catalog, pictures: Sequence[bytes | np.ndarray | None], attributes: Sequence[str] | None = None,
    visible: Sequence[str] | None = None,
) -> ProductSet:  # fmt: skip
    """The items of a catalogue that have a picture (others are left out), with what their listings state.

    attributes: those that are asked for; None = every text attribute with 2 to 40 values, each at least twice. visible:
    those of them that a picture may show; None = all. A value of several words stays one; lists are left out. Untold
    are the attributes that no item of the category states: of others nobody knows whether the picture shows them.
    Raises ValueError for an attribute that no item has, and when no item has a picture.
    """
    rows = catalog.to_rows()
    stated = [_texts(row["attributes"]) for row in rows]
    counts: dict[str, Counter[str]] = {}
    for own in stated:
        for name, value in own.items():
            counts.setdefault(name, Counter())[value] += 1
    chosen = list(attributes) if attributes is not None else [n for n, seen in counts.items() if _is_closed(seen)]
    missing = [name for name in (*chosen, *(visible or ())) if name not in counts]
    if missing:
        raise ValueError(f"no item has a text attribute {missing[0]!r}; there are {', '.join(sorted(counts)[:20])}")
    kinds = [row["category"].split(PATH_SEPARATOR)[-1] for row in rows]
    possible: dict[str, set[str]] = {}
    for kind, own in zip(kinds, stated, strict=True):
        possible.setdefault(kind, set()).update(own)
    products: list[Product] = []
    held: list[bytes | np.ndarray] = []
    for row, own, picture, kind in zip(rows, stated, pictures, kinds, strict=True):
        if picture is None:
            continue
        told = {name: own[name] for name in chosen if name in own}
        products.append(
            Product(
                id=row["id"], row=len(held), text={"title": row["title"], **told}, category=kind, told=told,
                untold=tuple(name for name in chosen if name not in possible[kind]),
                pictured=frozenset(told if visible is None else set(told) & set(visible)), caption=row["title"],
            )
        )  # fmt: skip
        held.append(picture)
    if not products:
        raise ValueError(f"none of {len(rows):,} items has a picture")
    values = {name: tuple(sorted(counts[name])) for name in chosen}
    return ProductSet(tuple(products), held, values, hides=True)


def _texts(attributes: str) -> dict[str, str]:
    """The attributes whose value is one text, in normal form."""
    return {
        name: normal_text(value)
        for name, value in parse(attributes, "attributes").items()
        if isinstance(value, str) and value.strip()
    }


def _is_closed(values: Counter[str]) -> bool:
    """Whether an attribute has few values that come again."""
    return 2 <= len(values) <= MOST_VALUES and min(values.values()) >= 2
