"""How true the template teacher's reasons are: on shops, whose truth is known, and how many it writes on real labels.

    python benchmarks/teacher_template.py            # three shops, then Chorus where its data lies
    python benchmarks/teacher_template.py --seeds 0  # one shop

Shops: the judged training pairs of seeds 0, 1, 2 with default settings. Counted per seed and printed as the mean with
the smallest and the largest seed. relation, checks, rule: share of the written reasons whose relation, whose checks
(attribute, strength, check of every want) and whose deciding rule are the true ones; all: all three.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import chorus_data
from goodrate.relevance.rationale import Rationale
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.run_folder import code_versions, write_atomic
from goodrate.shop.shop import Shop, ShopSettings, generate
from goodrate.teaching.query_reading import Lexicon
from goodrate.teaching.teacher import LabelledText, Taught
from goodrate.teaching.template_teacher import TemplateTeacher
from goodrate.teaching.typed_item import from_row

OUT = Path(__file__).parent / "results" / "teacher_template.json"
MEASURES = ("written", "relation", "checks", "rule", "all")


def checks(rationale: Rationale) -> list[tuple[str, str, str]]:
    """Attribute, strength and check of every want, in an order of their own."""
    pairs = zip(rationale.wants, rationale.checks, strict=True)
    return sorted((want.attribute, want.strength, check) for want, check in pairs)


def agreement(written: Rationale, true: Rationale) -> dict[str, bool]:
    """What of a written reason is true."""
    same = {
        "relation": written.relation == true.relation,
        "checks": checks(written) == checks(true),
        "rule": written.rule == true.rule,
    }
    return {**same, "all": all(same.values())}


def shop_pairs(shop: Shop) -> tuple[list[LabelledText], list[Rationale], list[str]]:
    """The judged training pairs, their true reasons, and the family of their queries."""
    items = [from_row(record) for record in shop.records]
    chosen = [(int(q), int(i)) for q in shop.queries_of("train") for i in shop.judged[q]]
    true = [shop.rationale(q, i) for q, i in chosen]
    pairs = [
        LabelledText(shop.queries[q].text, "", reason.label, shop.queries[q].facts, item=items[i])
        for (q, i), reason in zip(chosen, true, strict=True)
    ]
    return pairs, true, [shop.queries[q].family for q, _ in chosen]


def measure(seed: int) -> dict[str, dict[str, float]]:
    """Shares by group: all pairs, each label, each family."""
    shop = generate(ShopSettings(seed=seed))
    pairs, true, families = shop_pairs(shop)
    lexicon = Lexicon.of([from_row(record) for record in shop.records], {f"{p.query} {p.facts}" for p in pairs})
    taught = TemplateTeacher(shop.book, lexicon).teach(pairs)
    groups: dict[str, list[tuple[Taught, Rationale]]] = {}
    for one, reason, family in zip(taught, true, families, strict=True):
        for group in ("all pairs", shop.book.scale.labels[reason.label], family):
            groups.setdefault(group, []).append((one, reason))
    return {group: shares(members) for group, members in groups.items()}


def shares(members: list[tuple[Taught, Rationale]]) -> dict[str, float]:
    """written: of the pairs; the others: of the written reasons, absent where there is none."""
    agreements = [agreement(one.rationale, true) for one, true in members if one.rationale is not None]
    counted = {name: sum(a[name] for a in agreements) / len(agreements) for name in MEASURES[1:] if agreements}
    return {"pairs": len(members), "written": len(agreements) / len(members), **counted}


def graded_book(folder: Path) -> RuleBook:
    """The package's book on the scale of Chorus."""
    text = DEFAULT_RULES.read_text(encoding="utf-8").replace('"four_level"', '"graded_0_3"')
    for grade, name in enumerate(("irrelevant", "mismatch", "related", "excellent")):
        text = text.replace(f'label = "{name}"', f'label = "{grade}"')
    (folder / "rules.toml").write_text(text, encoding="utf-8")
    return load_rulebook(folder / "rules.toml")


def chorus() -> dict[str, int]:
    """Of the Chorus training pairs: how many reasons, and how many pairs with each failure."""
    data = chorus_data.load(0, 1000)
    items = {row["id"]: from_row(row) for row in data.catalog.frame.iter_rows(named=True)}
    pairs = [
        LabelledText(query, "", label, item_id=item, item=items[item]) for query, item, label in data.rows("train")
    ]
    with tempfile.TemporaryDirectory() as folder:
        teacher = TemplateTeacher(graded_book(Path(folder)), Lexicon.of(items.values(), {pair.query for pair in pairs}))
    return dict(Counter(one.failure or "written" for one in teacher.teach(pairs)))


def show(by_seed: dict[int, dict[str, dict[str, float]]]) -> None:
    """One line per group: mean over seeds, smallest and largest seed."""
    for group in next(iter(by_seed.values())):
        cells = []
        for name in MEASURES:
            values = [groups[group][name] for groups in by_seed.values() if name in groups.get(group, {})]
            mean = sum(values) / len(values) if values else float("nan")
            cells.append(f"{name} {mean:.3f} [{min(values):.3f}, {max(values):.3f}]" if values else f"{name} -")
        print(f"{group:12}", "  ".join(cells))


def main() -> None:
    """Measure, print, and leave the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    by_seed = {seed: measure(seed) for seed in seeds}
    show(by_seed)
    results = {"shops": by_seed, **code_versions()}
    try:
        results["chorus"] = chorus()
        print("chorus", results["chorus"])
    except FileNotFoundError as absent:
        print(absent)
    write_atomic(OUT, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
