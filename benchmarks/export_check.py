"""What an exported encoder is worth: nDCG@10 of judged lists and time, ONNX, ONNX int8 and OpenVINO against torch.

python benchmarks/export_check.py run --model MINILM --queries 40     esci150 of GOODRATE_DATA; one JSON a form
python benchmarks/export_check.py table --write                       benchmarks/results/export_check.md

The numbers are those of `goodrate export` (api.exporting.ExportCheck): both order the same judged lists; times are
medians of 15 rounds, torch and the exported one in turn, one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS
from lib.tables import add_table, markdown
from lib.timing import machine
from search_quality import folder

NAME = "export_check"
FORMS = {"onnx": {"to": "onnx"}, "onnx-int8": {"to": "onnx", "int8": True}, "openvino": {"to": "openvino"}}
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    model: Annotated[str, typer.Option(help="Folder of a text encoder.")],
    queries: Annotated[int, typer.Option(min=1, help="The first of the judged queries.")] = 40,
    forms: Annotated[str, typer.Option(help="Of onnx, onnx-int8, openvino.")] = ",".join(FORMS),
) -> None:
    """Export into a folder that is thrown away, whatever is lost, and keep the numbers."""
    import torch

    import goodrate as gr

    torch.set_num_threads(1)
    catalog = gr.read_catalog(folder() / "esci150" / "products.jsonl.gz", format="esci")
    judgements = gr.read_judgements(folder() / "esci150" / "judgements.csv", "esci")
    for form in forms.split(","):
        place = RESULTS / NAME / f"esci150-{form}.json"
        if place.is_file():
            continue
        with tempfile.TemporaryDirectory() as made:
            check = gr.export(
                model, Path(made, "out"), judgements, catalog, most_lost=1.0, queries=queries, **FORMS[form]
            )
            size = sum(path.stat().st_size for path in Path(made, "out").rglob("*") if path.is_file())
        facts = {"model": Path(model).name, "form": form, "bytes": size, "machine": machine(), **code_versions()}
        write_atomic(place, json.dumps({**facts, **asdict(check)}, indent=1) + "\n")
        print(f"{form}: nDCG@10 {check.ndcg}, one pair {check.one_ms} ms, 32 pairs {check.many_ms} ms", flush=True)


def render() -> str:
    """A row a form."""
    found: list[dict[str, Any]] = [
        json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("esci150-*.json"))
    ]
    head = ["form", "queries", "pairs", "nDCG@10 torch", "nDCG@10 exported", "least cosine",
            "one pair, ms (torch)", "32 pairs, ms (torch)", "one pair, times as fast", "32 pairs, times as fast",
            "MB"]  # fmt: skip
    rows = [head]
    for one in found:
        speed = [one[name][0] / one[name][1] for name in ("one_ms", "many_ms")]
        times = [f"{one[name][1]:.1f} ({one[name][0]:.1f})" for name in ("one_ms", "many_ms")]
        rows.append([one["form"], str(one["queries"]), f"{one['pairs']:,}", *(f"{value:.4f}" for value in one["ndcg"]),
                     f"{one['least_cosine']:.5f}", *times, *(f"{value:.2f}" for value in speed),
                     f"{one['bytes'] / 1e6:.0f}"])  # fmt: skip
    models = ", ".join(sorted({one["model"] for one in found}))
    machines = "; ".join(sorted({str(one["machine"]) for one in found}))
    return f"{models} on the judged lists of `esci150`, one thread. {machines}\n\n{markdown(rows)}"


add_table(app, NAME, render, "One row a form.")

if __name__ == "__main__":
    app()
