"""A judge of your own in goodrate's search: any function of a query and its items that gives label probabilities.

    python examples/own_judge.py            # on a generated shop
    python examples/own_judge.py idx ratings.csv

The function below counts shared words; put your model, your API or your rules in its place. Everything above it is
goodrate's: tiers, expected gain, stored verdicts, reranking, evaluation, the page (gr.serve).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import goodrate as gr


def probabilities(query: str, items: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """One row per item over the four labels, worst first: the more of the query's words its title has, the better."""
    words = set(query.lower().split())
    shares = [len(words & set(str(item["title"]).lower().split())) / len(words) for item in items]
    return [[(1 - s) ** 2, s * (1 - s), s * (1 - s), s**2] for s in shares]


def reason(query: str, item: Mapping[str, Any], label: str) -> str:
    """Why: the words that the title has."""
    shared = [word for word in query.lower().split() if word in str(item["title"]).lower().split()]
    return f"{label}: the title has {', '.join(shared) or 'none of the words'}"


def generated(folder: Path) -> tuple[gr.Index, gr.Judgements]:
    """An index and judgements of a generated shop."""
    shop = gr.generate_shop(items=400, queries=100, seed=1)
    return gr.Index.create(folder / "idx", shop.catalog), shop.judgements()


def main(arguments: list[str]) -> None:
    """Search and measure with the judge, and without it."""
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            index, labels = gr.Index.open(arguments[0]), gr.read_judgements(arguments[1])
        else:
            index, labels = generated(Path(folder))
        judge = gr.FunctionJudge(probabilities, scale=labels.scale, version="shared words 1", explain=reason)
        reranked = index.rerank(judge)
        query = next(iter(labels.queries().values()))
        print(f"{query}\n{reranked.search(query, k=5)}\n")
        best = reranked.search(query, k=1)[0].item
        print(reranked.judge.judge(query, [best], reasons=True)[0].reason, "\n")
        print(gr.evaluate([index, reranked], labels, metrics=["ndcg@10", "goodrate@10"]))


if __name__ == "__main__":
    main(sys.argv[1:])
