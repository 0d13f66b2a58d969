"""Which text of an item should the encoder read? Zero-shot MiniLM on the judged Chorus lists, one system per rendering.

python benchmarks/chorus_text.py      prints the table and writes benchmarks/results/chorus_text.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from chorus_data import data_folder, minilm_folder, movable
from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import RENDERED_FIELDS, render_items
from goodrate.evaluation.report import as_dict, as_table, evaluate_systems, footnotes
from goodrate.evaluation.systems import SystemRuns, Task
from goodrate.models.encoder import Encoder
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import GRADED_0_3

RENDERINGS: dict[str, tuple[str, ...]] = {
    "all fields": RENDERED_FIELDS,
    "title": ("title",),
    "title, brand": ("title", "brand"),
    "title, description": ("title", "description"),
    "title, brand, description": ("title", "brand", "description"),
}
METRICS = ("ndcg@10", "ndcg", "mrr@10", "recall@10", "goodrate@10")
OUT = Path(__file__).parent / "results" / "chorus_text.json"


def main() -> None:
    """Encode the judged items once per rendering and compare with all fields, which is what an index encodes."""
    import torch
    from rich.console import Console

    torch.set_num_threads(1)
    start = time.perf_counter()
    folder = data_folder()
    catalog = read_catalog(folder / "products.jsonl.gz", format="chorus")
    qrels = movable(read_judgements(folder / "ratings.csv", GRADED_0_3, format="chorus"))
    ids = sorted({item for items in qrels.values() for item in items})
    frame, encoder = catalog.rows(ids), Encoder.load(minilm_folder(), precision="fp32")
    queries = dict(zip(qrels, encoder.encode_queries(list(qrels)), strict=True))
    systems = []
    for name, fields in RENDERINGS.items():
        vectors = dict(zip(ids, encoder.encode_items(render_items(frame, fields=fields)), strict=True))
        run = {query: [(item, float(queries[query] @ vectors[item])) for item in qrels[query]] for query in qrels}
        systems.append(SystemRuns(name, [run]))
    task = Task(dict.fromkeys(qrels, ""), qrels, judged_only=True)
    report = evaluate_systems(systems, task, GRADED_0_3, METRICS, k=10)
    minutes = round((time.perf_counter() - start) / 60, 2)
    document = {**code_versions(), "minutes": minutes, "encoder": "all-MiniLM-L6-v2, fp32", **as_dict(report)}
    write_atomic(OUT, json.dumps(document, indent=1) + "\n")
    console = Console()
    console.print(as_table(report))
    for line in footnotes(report):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
