"""The embedded shop: a catalogue, queries and judgements whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from goodrate.shop.shop import Shop


def shop_settings() -> type[BaseModel]:
    """The settings of a shop: seed, items, queries and more (docs/shop.md)."""
    from goodrate.shop.shop import ShopSettings

    return ShopSettings


def generate_shop(**settings: Any) -> Shop:
    """A shop, made from its settings: generate_shop(seed=1, items=500). The same settings give the same shop.

    Raises ValueError for a setting that it does not have.
    """
    from goodrate.shop.shop import ShopSettings, generate

    return generate(ShopSettings(**settings))


def write_shop(shop: Shop, out: str | Path, picture_size: int | None = None) -> dict[str, int]:
    """Write the shop's files to a folder, in the place of an older shop. Returns bytes by the name of file or folder.

    picture_size: pixels a side of pictures of all items (docs/images.md); None: without pictures.
    """
    from goodrate.shop import export

    folder = export.write_shop(shop, Path(out), picture_size)
    sizes = {name: (folder / name).stat().st_size for name in export.FILES}
    if picture_size is not None:
        from goodrate.shop.picture_export import IMAGES, PICTURED

        drawn = sum(path.stat().st_size for path in (folder / IMAGES).iterdir())
        sizes |= {PICTURED: (folder / PICTURED).stat().st_size, f"{IMAGES}/": drawn}
    return sizes


def example_pairs(shop: Shop, count: int) -> dict[str, list[dict[str, Any]]]:
    """`count` judged pairs of every query family with their truth: query, facts, item, label, rule, reason, context."""
    from goodrate.shop.queries import FAMILIES

    return {
        family: [_example(shop, query, item) for query, item in _chosen(shop, family, count, start)]
        for start, family in enumerate(FAMILIES)
    }


def _chosen(shop: Shop, family: str, count: int, start: int) -> list[tuple[int, int]]:
    """(query, item) of `count` judged pairs of a family, one per query, labels in turn from best - start down."""
    best = len(shop.book.scale) - 1
    queries = [q for q, query in enumerate(shop.queries) if query.family == family][:count]
    pairs: list[tuple[int, int]] = []
    for number, q in enumerate(queries):
        wanted = best - (start + number) % (best + 1)
        labels = shop.labels[q, shop.judged_items[q]]
        pairs.append((q, int(shop.judged_items[q][abs(labels - wanted).argmin()])))
    return pairs


def _example(shop: Shop, query: int, item: int) -> dict[str, Any]:
    """One pair: what is read, the label with the rule that decides it, and the five true steps."""
    from goodrate.relevance.listing import listing
    from goodrate.relevance.rationale import label_text, write

    asked, reason, chunk = shop.queries[query], shop.rationale(query, item), shop.chunks[query]
    rule = shop.book.rules[shop.book.index(reason.rule)]
    return {
        "query": asked.text, "facts": asked.facts, "item": listing(shop.records[item]), "position": reason.label,
        "label": f"{label_text(reason.label)} {shop.book.scale.labels[reason.label]}",
        "rule": f"{rule.id}: {rule.because}", "rationale": write(reason).rstrip("\n"),
        "context": f"{chunk.text} ({chunk.kind})",
    }  # fmt: skip
