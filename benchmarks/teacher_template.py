"""How true the template teacher's reasons are: on shops, whose truth is known, and how many it writes on real labels.

python benchmarks/teacher_template.py run              three shops, then Chorus where its data lies
python benchmarks/teacher_template.py run --seeds 0    one shop
python benchmarks/teacher_template.py table --write    benchmarks/results/teacher_template.md

Shops: the judged training pairs of seeds 0, 1, 2 with default settings. Counted per seed and shown as the mean with
the smallest and the largest seed. relation, checks, rule: share of the written reasons whose relation, whose checks
(attribute, strength, check of every want) and whose deciding rule are the true ones; all: all three.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import typer

from goodrate.relevance.rationale import Rationale
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.run_folder import code_versions, write_atomic
from goodrate.shop.shop import Shop, ShopSettings, generate
from goodrate.teaching.query_reading import Lexicon
from goodrate.teaching.teacher import LabelledText, Taught
from goodrate.teaching.template_teacher import TemplateTeacher
from goodrate.teaching.typed_item import from_row
from lib import chorus_arms
from lib.queue import RESULTS
from lib.tables import add_table, markdown

OUT = RESULTS / "teacher_template.json"
MEASURES = ("written", "relation", "checks", "rule", "all")
app = typer.Typer(add_completion=False, help=__doc__)


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
    answers = TemplateTeacher(shop.book, lexicon).teach(pairs)
    groups: dict[str, list[tuple[Taught, Rationale]]] = {}
    for one, reason, family in zip(answers, true, families, strict=True):
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
    data = chorus_arms.load(0, 1000)
    items = {row["id"]: from_row(row) for row in data.catalog.frame.iter_rows(named=True)}
    pairs = [
        LabelledText(query, "", label, item_id=item, item=items[item]) for query, item, label in data.rows("train")
    ]
    with tempfile.TemporaryDirectory() as folder:
        teacher = TemplateTeacher(graded_book(Path(folder)), Lexicon.of(items.values(), {pair.query for pair in pairs}))
    return dict(Counter(one.failure or "written" for one in teacher.teach(pairs)))


@app.command()
def run(seeds: str = "0,1,2") -> None:
    """Measure, and leave the numbers as JSON."""
    results = {"shops": {seed: measure(int(seed)) for seed in seeds.split(",")}, **code_versions()}
    try:
        results["chorus"] = chorus()
    except FileNotFoundError as absent:
        print(absent)
    write_atomic(OUT, json.dumps(results, indent=1) + "\n")
    print(render())


def render() -> str:
    """One row per group of pairs, mean with the smallest and the largest seed; what came out on Chorus."""
    results = json.loads(OUT.read_text(encoding="utf-8"))
    by_seed = list(results["shops"].values())
    rows = [["pairs", "written", "relation true", "checks true", "rule true", "all three true"]]
    for group in by_seed[0]:
        values = [[groups[group][name] for groups in by_seed if name in groups.get(group, {})] for name in MEASURES]
        spans = (f"{sum(v) / len(v):.3f} [{min(v):.3f}, {max(v):.3f}]" if v else "-" for v in values)
        rows.append([group, *spans])
    counts = ", ".join(f"{name} {count}" for name, count in results.get("chorus", {}).items())
    return f"{len(by_seed)} shops\n\n{markdown(rows)}\n\nChorus training pairs: {counts or 'not measured'}"


add_table(app, "teacher_template", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
