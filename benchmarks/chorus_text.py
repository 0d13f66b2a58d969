"""Which text of an item should the encoder read? Zero-shot MiniLM on the judged Chorus lists, one system per rendering.

python benchmarks/chorus_text.py run              writes benchmarks/results/chorus_text.json and prints the table
python benchmarks/chorus_text.py table --write    benchmarks/results/chorus_text.md
"""

from __future__ import annotations

import json
import time

import typer

from goodrate.catalog.rendering import RENDERED_FIELDS, render_items
from goodrate.evaluation.report import as_dict, as_table, evaluate_systems, footnotes
from goodrate.evaluation.significance import Interval
from goodrate.evaluation.systems import SystemRuns, Task
from goodrate.models.encoder import Encoder
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import GRADED_0_3
from lib.chorus_arms import minilm_folder, movable, read_chorus
from lib.queue import RESULTS
from lib.tables import add_table, markdown, shown

RENDERINGS: dict[str, tuple[str, ...]] = {
    "all fields": RENDERED_FIELDS,
    "title": ("title",),
    "title, brand": ("title", "brand"),
    "title, description": ("title", "description"),
    "title, brand, description": ("title", "brand", "description"),
}
METRICS = ("ndcg@10", "ndcg", "mrr@10", "recall@10", "goodrate@10")
OUT = RESULTS / "chorus_text.json"
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run() -> None:
    """Encode the judged items once per rendering and compare with all fields, which is what an index encodes."""
    import torch
    from rich.console import Console

    torch.set_num_threads(1)
    start = time.perf_counter()
    catalog, judgements = read_chorus()
    qrels = movable(judgements)
    ids = sorted({item for items in qrels.values() for item in items})
    frame, encoder = catalog.rows(ids), Encoder.load(minilm_folder(), precision="fp32")
    queries = dict(zip(qrels, encoder.encode_queries(list(qrels)), strict=True))
    systems = []
    for name, fields in RENDERINGS.items():
        vectors = dict(zip(ids, encoder.encode_items(render_items(frame, fields=fields)), strict=True))
        ranking = {query: [(item, float(queries[query] @ vectors[item])) for item in qrels[query]] for query in qrels}
        systems.append(SystemRuns(name, [ranking]))
    task = Task(dict.fromkeys(qrels, ""), qrels, judged_only=True)
    report = evaluate_systems(systems, task, GRADED_0_3, METRICS, k=10)
    minutes = round((time.perf_counter() - start) / 60, 2)
    document = {**code_versions(), "minutes": minutes, "encoder": "all-MiniLM-L6-v2, fp32", **as_dict(report)}
    write_atomic(OUT, json.dumps(document, indent=1) + "\n")
    console = Console()
    console.print(as_table(report))
    for line in footnotes(report):
        console.print(line, highlight=False)


def render() -> str:
    """nDCG@10 and the others by rendering, and the paired difference of nDCG@10 to all fields."""
    rows = [["text", *METRICS, "nDCG@10 minus all fields", "p"]]
    for system in json.loads(OUT.read_text(encoding="utf-8"))["systems"]:
        cells = [shown(Interval(**system["metrics"][metric])) for metric in METRICS]
        gap = system["against_first"].get("ndcg@10")
        cells += [shown(Interval(**gap["difference"]), "+.3f"), f"{gap['p']:.4f}"] if gap else ["-", "-"]
        rows.append([system["name"], *cells])
    return markdown(rows)


add_table(app, "chorus_text", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
