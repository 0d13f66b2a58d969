"""The tables of docs/speed.md from benchmarks/results/speed: python benchmarks/speed_table.py [--check].

--check writes nothing and exits 1 when the page is not what the results give.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from speed_measure import RESULTS, growth

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- tables: python benchmarks/speed_table.py -->", "<!-- end of tables -->"
Document = dict[str, Any]
Spread = dict[str, float]


def read(folder: Path = RESULTS) -> dict[str, Document]:
    """Name -> result, of those that are there."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def render(documents: dict[str, Document]) -> str:
    """All tables; a result that is missing leaves its table out."""
    single: dict[str, Callable[[Document], str]] = {
        "help": starts, "search": starts, "judge": judging, "encode": encoding,
    }  # fmt: skip
    titles = {
        "help": "### `goodrate --help`", "search": "### `goodrate search`, cold",
        "judge": "### Judging many items of one query", "encode": "### Encoding item texts",
    }  # fmt: skip
    parts = [
        "\n\n".join([titles[name], conditions([documents[name]]), table(documents[name])])
        for name, table in single.items()
        if name in documents
    ]
    stores = sorted((d for name, d in documents.items() if name.startswith("store-")), key=lambda d: int(d["items"]))
    if stores:
        parts.append("\n\n".join(["### The store, by number of items", conditions(stores), store(stores)]))
    updates = [d for name, d in documents.items() if name.startswith("policy-")]
    memories = {name.removeprefix("memory-"): d for name, d in documents.items() if name.startswith("memory-")}
    if updates:
        title = "### An update of GRPO, beside TRL's GRPOTrainer"
        parts.append("\n\n".join([title, conditions(updates, updates[0]["command"]), policy(updates, memories)]))
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def conditions(documents: Sequence[Document], several: str = "python benchmarks/speed.py store") -> str:
    """One line: command, machine, load, commit. Of several documents the loads are a range and the commits a list."""
    first, machine = documents[0], documents[0]["machine"]
    flags = ", ".join(machine["flags"]) or "none of interest"
    loads = [load for d in documents for load in (d["load"]["before"][0], d["load"]["after"][0])]
    commits = sorted({str(d["commit"])[:7] for d in documents})
    threads = f", torch threads {machine['threads']}" if machine["threads"] else ""
    amx = "amx" if any(flag.startswith("amx") for flag in machine["flags"]) else "no amx"
    command = first["command"] if len(documents) == 1 else several
    return (
        f"`{command}` on {machine['cores']} cores of {machine['cpu']} ({flags}; {amx}){threads}, nice "
        f"{machine['nice']}, load {min(loads):.1f} to {max(loads):.1f}, {first['started'][:10]}, commit "
        f"{', '.join(commits)}."
    )


def number(value: float) -> str:
    """Three digits or the whole number.

    >>> number(0.01234), number(3.14159), number(31.4159), number(3141.59)
    ('0.0123', '3.14', '31.4', '3,142')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(spread: Spread) -> str:
    """Median with the ends.

    >>> between({"median": 2.0, "min": 1.5, "max": 2.25})
    '2 (1.5 to 2.25)'
    """
    return f"{number(spread['median'])} ({number(spread['min'])} to {number(spread['max'])})"


def starts(document: Document) -> str:
    """Seconds of processes; the first arm is ours and has the target."""
    names = list(document["arms"])
    rows = []
    for name, arm in document["arms"].items():
        target = f"< {number(document['target_wall'])}" if name == names[0] else ""
        versus = document["ratios"].get(name)
        rows.append([
            f"`{name}`", between(arm["wall"]), target, between(arm["cpu"]), between(versus["cpu"]) if versus else "",
        ])  # fmt: skip
    head = [
        "process",
        "wall s, median (min to max)",
        "target",
        "processor s",
        "first row's processor s over this one's",
    ]
    return table(head, rows) + f"\n\n{document['arms'][names[0]]['wall']['n']} runs each, in turn."


def judging(document: Document) -> str:
    """Speed-up by precision and rows at a time."""
    rows = []
    for name, speedup in document["speedups"].items():
        fast, _, slow = name.partition(" over ")
        if slow not in document["arms"]:
            continue
        precision, _, arm = fast.partition(": ")
        gap = document["largest_difference"][precision][arm]
        plain_gap = document["largest_difference"][precision][slow.partition(": ")[2]]
        per_second = [document["items"] / document["arms"][each]["cpu"]["median"] for each in (slow, fast)]
        rows.append([
            precision, arm.partition(", ")[2].removesuffix(" rows"), *map(number, per_second),
            between(speedup["cpu"]), between(speedup["wall"]), f"{gap:.2g}", f"{plain_gap:.2g}",
        ])  # fmt: skip
    for precision in ("fp32", "bf16"):
        speedup = document["speedups"][f"{precision}: fastest shared over fastest plain"]
        rows.append([
            precision, "each at its best", "", "", f"**{between(speedup['cpu'])}**", between(speedup["wall"]), "", "",
        ])  # fmt: skip
    head = [
        "precision", "rows at a time", "plain, items/s", "shared, items/s", "speed-up, processor time",
        "speed-up, wall time", "largest logit difference, shared", "the same, plain",
    ]  # fmt: skip
    model, arms = document["model"], document["arms"]
    facts = (
        f"{model['parameters'] / 1e6:.2f}M parameters (random, attention {document['attention']}), "
        f"{document['items']} items, {document['prefix_tokens']} shared and {document['suffix_tokens']} own tokens: "
        f"ideal {document['ideal']}, target {document['target']:g}. {next(iter(arms.values()))['wall']['n']} rounds. "
        "Items/s are per second of processor time. Differences are from the model's own fp32 forward without sharing; "
        "its logits have a standard deviation of "
        f"{number(document['largest_difference']['logits']['std'])}."
    )
    return table(head, rows) + "\n\n" + facts


def encoding(document: Document) -> str:
    """Texts per second of every arm, and who is how much faster."""
    cosines = document["lowest_cosine_to_sentence_transformers_fp32"]
    rows = [
        [
            name, number(document["texts"] / arm["cpu"]["median"]), number(document["texts"] / arm["wall"]["median"]),
            f"{number(arm['cpu']['min'])} to {number(arm['cpu']['max'])}", f"{cosines[name]:.5f}",
        ]
        for name, arm in document["arms"].items()
    ]  # fmt: skip
    head = ["", "texts / processor s", "texts / wall s", "processor s, min to max", "lowest cosine to the peer's fp32"]
    faster = [[name, between(s["cpu"]), between(s["wall"])] for name, s in document["speedups"].items()]
    model, tokens = document["model"], document["tokens_per_text"]
    facts = (
        f"{model['name']} ({model['parameters'] / 1e6:.1f}M parameters), {document['texts']} generated items of "
        f"{tokens['mean']} tokens on average (longest {tokens['max']}), batches of {document['batch']}, "
        f"{next(iter(document['arms'].values()))['wall']['n']} rounds."
    )
    speedups = table(["speed-up", "processor time", "wall time"], faster)
    return "\n\n".join([table(head, rows), speedups, facts])


def store(documents: Sequence[Document]) -> str:
    """A row per figure, a column per size, and how each figure grows."""
    sizes = [int(d["items"]) for d in documents]
    modes = list(documents[0]["search"][0]["latency"])
    rows = [
        figure("index, wall s", sizes, _runs(documents, "index", "seconds", "wall")),
        figure("index, processor s", sizes, _runs(documents, "index", "seconds", "cpu")),
        figure("index again, nothing changed, wall s", sizes, _runs(documents, "index", "again_seconds", "wall")),
        figure("peak memory while indexing, MiB", sizes, _runs(documents, "index", "peak_mib")),
        figure("of which before the first item", sizes, _runs(documents, "index", "peak_mib_before")),
        figure("peak memory while searching, MiB", sizes, _runs(documents, "search", "peak_mib")),
        figure("of which before opening", sizes, _runs(documents, "search", "peak_mib_before")),
        figure("on disk, MiB", sizes, [[d["disk_mib"]] for d in documents]),
        *(
            figure(f"{mode}, ms {point}", sizes, _runs(documents, "search", "latency", mode, point))
            for mode in modes
            for point in ("p50", "p95")
        ),
    ]
    head = ["", *(f"{size:,}" for size in sizes), "growth", "growth, last step"]
    same = min(min(values) for values in _runs(documents, "search", "checks", "dense_top_equals_numpy"))
    first = documents[0]
    facts = (
        f"Median of {len(first['index'])} indexes and their searches, each in a fresh process (min to max). "
        f"{first['dimension']} random floats an item, first {first['k']} results, {first['queries']} queries a mode in "
        "turn with the peers; encoding the query is not in it. Growth is the exponent b of figure ~ items^b, over all "
        f"sizes and from the last but one to the last. Dense search names numpy's first {first['k']} in numpy's order "
        f"for {same:.1%} of the queries."
    )
    return table(head, rows) + "\n\n" + facts


def policy(documents: Sequence[Document], memories: dict[str, Document]) -> str:
    """A row per size and precision: seconds of our update, how many times as long the others take, peak memory."""
    rows = []
    for d in sorted(documents, key=lambda d: (d["parameters"], d["case"]["prompt"], d["case"]["precision"])):
        case, over, ours = d["case"], d["over_split"], d["parts"]["split"]
        mib = memories.get(d["name"], {}).get("mib", {})
        size = f"{case['prompt']} / {case['completion']} / {case['group']}"
        rows.append([
            f"{d['parameters'] / 1e6:.1f}M, {size}, {case['precision']}",
            f"{number(ours['sampling']['median'])} + {number(ours['learning']['median'])}",
            f"**{between(over['trl'])}**", between(over["plain"]), between(over["eager"]), between(over["cache"]),
            between(d["sampling_over_split"]["plain"]), between(d["learning_over_split"]["plain"]),
            f"{number(mib['trl'])}, {number(mib['split'])}" if mib else "",
        ])  # fmt: skip
    head = [
        "parameters, prompt / completion / group, precision", "ours: sampling + learning, s", "TRL over ours",
        "plain loop over ours", "plain loop, eager attention", "cache copied", "sampling: HF generate over ours",
        "learning: copied prompts over ours", "peak MiB: TRL, ours",
    ]  # fmt: skip
    first = documents[0]
    counts = [d["arms"]["split"]["wall"]["n"] for d in documents]
    rounds = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    facts = (
        f"Random Qwen3, {first['case']['vocabulary']:,} words, {first['case']['prompts']} prompts an update, no KL, "
        f"AdamW, TRL {first['trl']}; medians of {rounds} updates each in turn (min to max). *Plain loop* is goodrate's "
        "own with Hugging Face's generate and every prompt copied; *cache copied* has everything but the attention "
        "that leaves the prompts' keys where they are. Memory is the peak of two updates over the loaded trainer."
    )
    return table(head, rows) + "\n\n" + facts


def figure(name: str, sizes: Sequence[int], runs: Sequence[Sequence[float]]) -> list[str]:
    """A table row: per size the median of its runs with the ends, then the growth of the medians.

    >>> figure("ms", [10, 100], [[1.0, 2.0, 3.0], [20.0]])
    ['ms', '2 (1 to 3)', '20', '1.00', '1.00']
    """
    middle = [median(values) for values in runs]
    cells = [
        f"{number(m)} ({number(min(v))} to {number(max(v))})" if len(v) > 1 else number(m)
        for m, v in zip(middle, runs, strict=True)
    ]
    slopes = [f"{growth(sizes[-n:], middle[-n:]):.2f}" if len(sizes) > 1 else "" for n in (len(sizes), 2)]
    return [name, *cells, *slopes]


def _runs(documents: Sequence[Document], verb: str, *keys: str) -> list[list[float]]:
    """Per document the value under the keys in each of its runs."""
    return [[_inside(run, keys) for run in document[verb]] for document in documents]


def _inside(run: Any, keys: Sequence[str]) -> float:
    """A value of a nested object."""
    for key in keys:
        run = run[key]
    return float(run)


def updated(page: str, tables: str) -> str:
    """The page with what stands between the marks replaced. Raises ValueError when the marks are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks {BEGIN!r} or {END!r}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main(check: bool) -> int:
    """Write the page, or compare it."""
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old, render(read()))
    if check:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
