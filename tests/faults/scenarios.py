"""What is killed: each command and each training, small; what it must have left when the same command was run again.

A scenario works in one folder that is made anew for every trial, always at the same path. `act` is the command,
`state` reads what is there afterwards; both run in forks. State holds no times, so that a run that was killed and
started again must have the state of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from killing import command

THINGS = ("lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock")
INCIDENTAL = ("seconds", "time", "versions", "tokens_per_second", "trained_tokens_per_second")


@dataclass(frozen=True)
class Scenario:
    """act: the command in a folder. state: what is there. before: what is done once in every new folder."""

    act: Callable[[Path], Any]
    state: Callable[[Path], Any]
    before: Callable[[Path], Any] | None = None


# ---- what all of them read


def make_inputs(folder: Path) -> None:
    """Catalogue, labels, pairs, an encoder and a language model of a few thousand weights."""
    from goodrate.models.encoder import Encoder
    from tiny_models import causal_lm, tokenizer_file

    rows = [(f"i{n}", f"red steel {THINGS[n % 10]} {n}", n % 5 + 0.5) for n in range(120)]
    _csv(folder / "items.csv", ("id", "title", "price"), rows)
    _csv(folder / "more.csv", ("id", "title", "price"), [(f"i{n}", f"blue oak {n}", n) for n in range(60, 180)])
    grades = ("irrelevant", "mismatch", "related", "excellent")
    labels = [(f"{t} of {o}", f"i{n}", grades[(n + len(t)) % 4]) for t in THINGS for o in THINGS[:3] for n in range(4)]
    _csv(folder / "labels.csv", ("query", "item_id", "label"), labels)
    _csv(
        folder / "pairs.csv",
        ("query", "item_text"),
        [(f"{t} of {n}", f"red {t} {n}") for t in THINGS for n in range(20)],
    )
    Encoder.create(tokenizer_file(folder), hidden=32, layers=2, heads=2).save(folder / "encoder")
    causal_lm().save(folder / "base")


def _csv(path: Path, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    path.write_text("\n".join(",".join(map(str, row)) for row in (names, *rows)) + "\n")


# ---- what was left


def of_run(folder: Path) -> dict[str, Any]:
    """Weights, cards and tables under a folder, by their contents, and the lines of every metrics.jsonl."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith("spread-"):  # parts of a checkpoint, whose name counts how often it was written
            continue
        if path.suffix == ".safetensors" or path.name in ("judge.json", "dev.json", "ranker.json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "metrics.jsonl":
            found[name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    assert found, f"nothing in {folder}"
    return found


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not any(part in name for part in INCIDENTAL)}


def of_index(folder: Path) -> dict[str, Any]:
    """Every item with its text and vector, and what a search finds."""
    from goodrate.api.index import Index

    with_vectors = Index.open(folder / "ix")
    rows = with_vectors.store.scan(["id", "title", "price"]).sort("id")
    found = [
        [hit.item["id"] for hit in with_vectors.search(query, k=20).results] for query in ("red lamp", "blue oak 3")
    ]
    return {"rows": rows.rows(), "found": found}


def of_table(name: str) -> Callable[[Path], Any]:
    """The lines of a written table without its time columns."""

    def state(folder: Path) -> Any:
        import polars as pl

        frame = pl.read_csv(folder / name, infer_schema=False)
        return frame.drop([c for c in frame.columns if c in ("seconds", "cached", "time")]).rows()

    return state


# ---- commands


def _train(recipe: str, **settings: object) -> Scenario:
    """A training by the command line, on the labels."""

    def act(folder: Path) -> None:
        given = {"data.catalog": folder / "items.csv", "data.judgements": folder / "labels.csv", **settings}
        told = [f"{name.replace('__', '.')}={str(value).format(f=folder)}" for name, value in given.items()]
        command("train", recipe, "--out", folder / "run", *[part for one in told for part in ("--set", one)])

    return Scenario(act, lambda folder: of_run(folder / "run"))


def _index(folder: Path, items: str = "items.csv") -> None:
    import goodrate.retrieval.indexing as indexing

    indexing.WRITE_ROWS = 30  # so that a run has several commits to be killed between
    command("index", folder / items, "--out", folder / "ix", "--encoder", folder / "encoder")


def _judge(folder: Path, *more: str) -> None:
    import goodrate.api.judging as judging

    judging.FIRST = judging.BLOCK = 20
    command("judge", folder / "pairs.csv", "--model", folder / "judge", "--out", folder / "v.csv", *more)


def _words_judge(folder: Path) -> None:
    """An lm judge of random weights."""
    from goodrate.models.causal_lm import CausalLM
    from goodrate.recipes.judge_folder import write_judge
    from goodrate.relevance.judge_format import JudgeFormat

    write_judge(CausalLM.load(folder / "base"), JudgeFormat(template="nano", max_new_tokens=8), folder / "judge")


def _label(folder: Path) -> None:
    url = (folder / "teacher.url").read_text()
    os.environ["NO_PROXY"] = "127.0.0.1"
    command("label", folder / "labels.csv", "--catalog", folder / "items.csv", "--scale", "four_level", "--endpoint",
            url, "--model", "fake", "--concurrency", "1", "--out", folder / "l.csv")  # fmt: skip


def _fit_judge(folder: Path) -> None:
    command("fit-judge", folder / "items.csv", "--judgements", folder / "labels.csv", "--scale", "four_level",
            "--encoder", folder / "encoder", "--out", folder / "run")  # fmt: skip


FIT = {"fit__precision": "fp32", "fit__checkpoint_updates": 3, "fit__log_every": 1}
LM = {"model": "{f}/base", "batch_size": 8, "epochs": 100, "format__max_new_tokens": 8, "format__template": "nano"}
SCENARIOS = {
    "index_fresh": Scenario(_index, of_index),
    "index_upsert": Scenario(lambda f: _index(f, "more.csv"), of_index, _index),
    "judge": Scenario(_judge, of_table("v.csv"), _words_judge),
    "judge_reasons": Scenario(lambda f: _judge(f, "--reasons"), of_table("v.csv"), _words_judge),
    "label": Scenario(_label, of_table("l.csv")),
    "fit_judge": Scenario(_fit_judge, lambda f: of_run(f / "run")),
    "judge_sft": _train("judge_sft", **LM, **FIT, fit__updates=24),
    "judge_encoder": _train("judge_encoder", encoder="{f}/encoder"),
    "judge_zero_shot": _train("judge_zero_shot", model="{f}/base"),
    "judge_cross_encoder": _train(
        "judge_cross_encoder", model="{f}/encoder", max_tokens=32, epochs=9, check_share=0.4, **FIT
    ),
    "judge_entity": _train("judge_entity", model="{f}/encoder", check_share=0, **FIT, fit__updates=10),
    "judge_human": _train("judge_human"),
    "retriever_contrastive": _train(
        "retriever_contrastive", encoder="{f}/encoder", batch_size=8, epochs=50, **FIT, fit__updates=24
    ),
}
