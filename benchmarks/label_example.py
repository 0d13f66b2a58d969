"""The run that docs/labels.md shows: an invented shop, and a server on this machine in the place of a language model.

python benchmarks/label_example.py                                      writes benchmarks/results/label_example.txt

The server knows the answers of most pairs and is wrong about the others, so its numbers say nothing of any model. The
tokens and times are those of its made-up answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from chat_server import chat_server  # noqa: E402

GOODRATE = (sys.executable, "-c", "from goodrate.cli import main; main()")
RESULT = ROOT / "benchmarks" / "results" / "label_example.txt"
KINDS = ["desk lamp", "floor lamp", "lamp shade", "light bulb", "office chair", "bar stool", "chair cushion", "kettle",
         "teapot", "descaler", "tent", "tarp"]  # fmt: skip
RELATED = {  # of each kind: what does its job, and what goes with it
    "desk lamp": ({"floor lamp"}, {"lamp shade", "light bulb"}),
    "office chair": ({"bar stool"}, {"chair cushion"}),
    "kettle": ({"teapot"}, {"descaler"}),
    "tent": ({"tarp"}, set()),
}  # fmt: skip


def truth(query: str, item: str) -> str:
    """The label that people gave."""
    kind = query.removeprefix("red ").removeprefix("small ")
    replaces, goes_with = RELATED[kind]
    return (
        "exact"
        if item == kind
        else "substitute"
        if item in replaces
        else "complement"
        if item in goes_with
        else "irrelevant"
    )


def answer(body: dict[str, Any], number: int) -> str:
    """What the server says: complements are substitutes to it, and it thinks aloud."""
    asked = json.loads(body["messages"][1]["content"])
    label = truth(asked["query"], asked["item"].removeprefix("Velto "))
    said = "substitute" if label == "complement" and asked["query"].startswith("red") else label
    return f"<think>hm</think>\n```json\n{json.dumps({'label': said, 'reason': 'as the rules say'})}\n```"


def write_shop(folder: Path) -> None:
    """items.csv, pairs.csv and ratings.csv; people labelled half of the queries."""
    pl.DataFrame({"id": KINDS, "title": [f"Velto {kind}" for kind in KINDS]}).write_csv(folder / "items.csv")
    queries = [f"{word}{kind}" for kind in RELATED for word in ("", "red ", "small ")]
    pairs = [{"query": query, "item_id": kind} for query in queries for kind in KINDS]
    pl.DataFrame(pairs).write_csv(folder / "pairs.csv")
    rated = [{**pair, "label": truth(pair["query"], pair["item_id"])} for pair in pairs]
    people = [row for row in rated if not row["query"].startswith("small")]
    pl.DataFrame(people).write_csv(folder / "ratings.csv")


def shown(folder: Path, line: str, url: str) -> str:
    """A command line and what it says."""
    words = [*GOODRATE, *line.replace("http://localhost:8000/v1", url).split()[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    said = "\n".join(part.rstrip() for part in (done.stderr, done.stdout) if part.strip())
    return f"$ {line}\n{said.replace(url, 'http://localhost:8000/v1')}\n"


def main() -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    label = ("goodrate label pairs.csv --catalog items.csv --endpoint http://localhost:8000/v1 --model stand-in "
             "--rules esci --gold ratings.csv --out labels.csv")  # fmt: skip
    with tempfile.TemporaryDirectory() as name, chat_server(answer) as server:
        folder = Path(name)
        write_shop(folder)
        parts = [shown(folder, f"{label} --price-prompt 0.4 --price-answer 1.6 --dry-run", server.url)]
        parts += [shown(folder, label, server.url)]
        subprocess.run(
            [*GOODRATE, "index", "items.csv", "--out", "idx"], cwd=folder, check=True,
            capture_output=True,
        )  # fmt: skip
        parts += [shown(folder, "goodrate evaluate idx --judgements labels.csv --judged-only", server.url)]
        head = "\n".join((folder / "labels.csv").read_text().splitlines()[:3])
        parts.insert(2, f"$ head -3 labels.csv\n{head}\n")
    RESULT.write_text("\n".join(parts), encoding="utf-8")
    print(RESULT)


if __name__ == "__main__":
    main()
