"""Spelling correction and suggestions on Chorus: made-up typing errors, words of other trades, time and memory.

python benchmarks/spelling.py run             benchmarks/results/spelling.json, about two minutes
python benchmarks/spelling.py table --write   benchmarks/results/spelling.md
$GOODRATE_DATA, or data of $GOODRATE_SHARED, holds chorus and queryner.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from goodrate.catalog.readers import read_catalog
from goodrate.retrieval.rewriting.spelling import Correction, SpellingIndex
from goodrate.retrieval.rewriting.suggestions import SuggestionIndex
from goodrate.retrieval.rewriting.typos import NearWords, signature
from goodrate.retrieval.rewriting.words import folded_words, whole_words
from goodrate.run_folder import code_versions, write_atomic
from lib import timing
from lib.chorus_arms import data_folder, minilm_folder
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import number, significant
from lib.typo_maker import KINDS, misspelt, misspelt_twice

app = typer.Typer(add_completion=False, help=__doc__)
RESULT = RESULTS / "spelling.json"
SEED, WORDS, MIN_TITLES = 7, 300, 3
LARGE = 100_000  # words of the made-up vocabulary whose loading is timed
Correct = Callable[[str], Correction | None]
Pairs = list[tuple[str, str]]  # (meant, typed)


@app.command()
def run(
    encoder: Annotated[
        str, typer.Option(help="Whose vocabulary is the dictionary; MiniLM's pip package if none.")
    ] = "",
) -> None:
    """Measure everything."""
    load_before = os.getloadavg()
    items = read_catalog(data_folder() / "products.jsonl.gz", "chorus").frame
    start = timing.call_sample(lambda: SpellingIndex.build(items))
    plain, knowing = (
        SpellingIndex.build(items),
        SpellingIndex.build(items, dictionary(Path(encoder or minilm_folder()))),
    )
    pairs, strange = typos(items), strange_words(plain)
    arms = {"nearest, then most frequent": nearest(plain), "goodrate": plain.correct,
            "goodrate, with a dictionary": knowing.correct}  # fmt: skip
    document = {
        "words": len(plain), "titles": len(items), "strange": len(strange), "seed": SEED,
        "arms": {name: quality(correct, pairs, strange) for name, correct in arms.items()},
        "unchanged": unchanged(plain, items),
        "microseconds": {"misspelt": times(plain.correct, [typed for _, typed in pairs["one edit"]]),
                         "right": times(plain.correct, items["title"].head(1000).to_list())},
        "build_seconds": {"wall": significant(start.wall, 3), "cpu": significant(start.cpu, 3)},
        "loading": {"Chorus": loading(plain, "chorus"), "made up": loading(large(), "large")},
        "suggestions": suggestions(items, knowing),
    }  # fmt: skip
    facts = {
        **code_versions(),
        "machine": timing.machine(),
        "load": [round(load_before[0], 2), round(os.getloadavg()[0], 2)],
    }
    write_atomic(RESULT, json.dumps({**facts, **document}, indent=1) + "\n")
    print(RESULT)


def dictionary(encoder: Path) -> list[str]:
    """The whole words of an encoder's vocabulary."""
    tokenizer = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))
    return whole_words(tokenizer["model"]["vocab"])


def typos(items: pl.DataFrame) -> dict[str, Pairs]:
    """Words of titles with one error of every kind, and with two."""
    counts = Counter(word for title in items["title"] for word in set(folded_words(title)))
    usual = sorted(w for w, n in counts.items() if n >= MIN_TITLES and re.fullmatch("[a-z]{4,}", w))
    rng = random.Random(SEED)
    words = rng.sample(usual, WORDS)
    by_kind = {kind: [(word, misspelt(word, kind, rng)) for word in words] for kind in KINDS}
    together = [pair for pairs in by_kind.values() for pair in pairs]
    twice = [(word, misspelt_twice(word, rng)) for word in words]
    return {"one edit": together, "among others": among_others(items, words, rng), **by_kind, "two edits": twice}


def among_others(items: pl.DataFrame, words: Sequence[str], rng: random.Random) -> Pairs:
    """Each word with one error beside another word of letters from a title that has it."""
    titles: dict[str, list[list[str]]] = {word: [] for word in words}
    for title in items["title"]:
        found = [word for word in dict.fromkeys(folded_words(title)) if re.fullmatch("[a-z]{3,}", word)]
        for word in titles.keys() & set(found) if len(found) > 1 else ():
            titles[word].append(found)
    pairs = []
    for word in words:
        if titles[word]:
            other = rng.choice([w for w in rng.choice(titles[word]) if w != word])
            pairs.append((f"{other} {word}", f"{other} {misspelt(word, rng.choice(KINDS), rng)}"))
    return pairs


def strange_words(index: SpellingIndex) -> list[str]:
    """Words that QueryNER's dev and test queries have twice or more, and the catalogue lacks: words of other trades."""
    counts: Counter[str] = Counter()
    for part in ("dev", "test"):
        for line in (data_folder().parent / "queryner" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
            counts.update(set(folded_words(" ".join(json.loads(line)["tokens"]))))
    return sorted(w for w, n in counts.items() if n >= 2 and len(w) > 3 and w.isalpha() and w not in index)


def nearest(index: SpellingIndex) -> Correct:
    """What a list of words with frequencies alone gives: the fewest edits, at most two, then the most frequent word."""

    usual = [(w, f) for w, f in zip(index.vocabulary.words, index.vocabulary.frequency, strict=True)
             if f >= 1 and w.isalpha()]  # fmt: skip
    words = [word for word, _ in usual]
    signatures = np.array([signature(word) for word in words], dtype=np.uint64)
    near = NearWords(words, signatures, np.array([len(word) for word in words]))

    def best(word: str) -> str:
        for distance in (1, 2) if word not in index else ():
            rows = near.within(word, distance)
            if rows:
                return words[max(rows, key=lambda row: (usual[row][1], -row))]
        return word

    def correct(query: str) -> Correction | None:
        text = " ".join(map(best, query.split()))
        return Correction(text, (), sure=True) if text != query else None

    return correct


def quality(correct: Correct, pairs: dict[str, Pairs], strange: Sequence[str]) -> dict[str, Any]:
    """Shares of right, wrong and untouched by kind of error, and of words of other trades that were changed."""
    changed = [found for found in map(correct, strange) if found]
    return {
        "typos": {kind: shares(correct, some) for kind, some in pairs.items()},
        "strange": {"changed": round(len(changed) / len(strange), 4),
                    "sure": round(sum(found.sure for found in changed) / len(strange), 4)},
    }  # fmt: skip


def shares(correct: Correct, pairs: Pairs) -> dict[str, float]:
    """Of typed words: right and wrong corrections, those left as they are, and right and wrong ones that are sure."""
    counts: Counter[str] = Counter()
    for meant, typed in pairs:
        found = correct(typed)
        outcome = "untouched" if found is None else "right" if folded_words(found.text) == meant.split() else "wrong"
        counts[outcome] += 1
        counts[f"sure {outcome}"] += found is not None and found.sure
    names = ("right", "wrong", "untouched", "sure right", "sure wrong")
    return {name: round(counts[name] / len(pairs), 4) for name in names}


def unchanged(index: SpellingIndex, items: pl.DataFrame) -> dict[str, int]:
    """Titles asked as queries: how many, and how many were changed (none may be)."""
    titles = items["title"].sample(1000, seed=SEED).to_list()
    return {"titles": len(titles), "changed": sum(index.correct(title) is not None for title in titles)}


def times(correct: Correct, queries: Sequence[str]) -> timing.Spread:
    """Microseconds a query."""
    correct(queries[0])
    return timing.spread([timing.call_sample(partial(correct, query)).wall * 1e6 for query in queries], 3)


def large() -> SpellingIndex:
    """A made-up vocabulary of LARGE words of six to eleven letters, in titles of ten."""
    rng = random.Random(SEED)
    syllables = [a + b for a in "bcdfghklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "or", "us")]
    words: set[str] = set()
    while len(words) < LARGE:
        words.add("".join(rng.choice(syllables) for _ in range(rng.randint(3, 4))))
    listed = sorted(words)
    rng.shuffle(listed)
    return SpellingIndex.build((" ".join(listed[at : at + 10]), 1.0) for at in range(0, LARGE, 10))


def loading(index: SpellingIndex, name: str) -> dict[str, Any]:
    """Size on disk, and from three fresh processes the median milliseconds and MiB that loading takes."""
    path = WORK / "spelling" / f"{name}.npz"
    index.save(path)
    command = [sys.executable, __file__, "loaded", str(path)]
    runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout) for _ in range(3)]
    return {"words": len(index), "file_mib": significant(path.stat().st_size / 2**20, 3),
            **{key: significant(float(np.median([run[key] for run in runs])), 3) for key in runs[0]}}  # fmt: skip


@app.command(hidden=True)
def loaded(path: Path) -> None:
    """Load an index in this fresh process; print milliseconds, MiB, and the microseconds of misspelt queries."""
    import rapidfuzz.process  # noqa: F401  what is timed is loading the index

    before, start, used = resident_mib(), time.perf_counter(), time.process_time()
    index = SpellingIndex.load(path)
    milliseconds, cpu = (time.perf_counter() - start) * 1000, (time.process_time() - used) * 1000
    mib = resident_mib() - before
    rng = random.Random(SEED)
    words = rng.sample([w for w in index.vocabulary.words if re.fullmatch("[a-z]{6,}", w)], 100)
    spread = times(index.correct, [misspelt(word, rng.choice(KINDS), rng) for word in words])
    print(json.dumps({"load_ms": milliseconds, "load_cpu_ms": cpu, "mib": mib, "misspelt_us": spread["median"]}))


def resident_mib() -> float:
    """What this process holds in memory. Linux."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def suggestions(items: pl.DataFrame, spelling: SpellingIndex) -> dict[str, Any]:
    """Build and load times, and the milliseconds of every beginning of 300 suggestions, one in four with an error."""
    build = timing.call_sample(lambda: SuggestionIndex.build(items))
    index, path = SuggestionIndex.build(items), WORK / "spelling" / "suggestions.npz"
    index.save(path)
    load = timing.call_sample(lambda: SuggestionIndex.load(path))
    rng = random.Random(SEED)
    took = []
    for suggestion in rng.sample(index.suggestions, 300):
        text = suggestion.text
        if rng.random() < 0.25 and len(text) > 4:
            text = text[:2] + "q" + text[2:]
        for end in range(1, len(text) + 1):
            call = partial(index.suggest, text[:end], 8, spelling.vocabulary)
            took.append(timing.call_sample(call).wall * 1000)
    return {
        "suggestions": len(index), "build_seconds": significant(build.cpu, 3),
        "load_ms": significant(load.wall * 1000, 3), "file_mib": significant(path.stat().st_size / 2**20, 3),
        "keystrokes": len(took), "ms": {f"p{p}": significant(float(np.percentile(took, p)), 3) for p in (50, 95, 99)},
    }  # fmt: skip


def render() -> str:
    """The tables of the page."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    return "\n\n".join([_quality_table(found), _strange_table(found), _cost_table(found), _conditions(found)])


def _quality_table(found: dict[str, Any]) -> str:
    rows = [["typing errors", "", "right", "wrong", "untouched", "sure and right", "sure and wrong"]]
    for kind in ("one edit", "among others", *KINDS, "two edits"):
        for name, arm in found["arms"].items():
            values = [f"{value:.1%}" for value in arm["typos"][kind].values()]
            rows.append([kind, name, *values])
    head = f"{WORDS} title words, each with one error of every kind, among others (one error, beside another word of a "
    return f"{head}title) and with two errors (seed {SEED}).\n\n{markdown(rows)}"


def _strange_table(found: dict[str, Any]) -> str:
    rows = [["", "changed", "changed and sure"]]
    rows += [[n, f"{a['strange']['changed']:.1%}", f"{a['strange']['sure']:.1%}"] for n, a in found["arms"].items()]
    head = f"{found['strange']} words of other trades, which the catalogue lacks (QueryNER): any change is wrong."
    return f"{head}\n\n{markdown(rows)}"


def _cost_table(found: dict[str, Any]) -> str:
    rows = [["", "words", "file, MiB", "load, ms", "of it processor", "memory, MiB", "misspelt query, us"]]
    keys = ("file_mib", "load_ms", "load_cpu_ms", "mib", "misspelt_us")
    rows += [[n, f"{a['words']:,}", *(number(a[key]) for key in keys)] for n, a in found["loading"].items()]
    typed, build, us = found["suggestions"], found["build_seconds"], found["microseconds"]
    built = f"Building from {found['titles']:,} items: {number(build['cpu'])} s of processor time."
    right = f"A title as a query, with nothing to correct: {number(us['right']['median'])} us."
    changed = f"{found['unchanged']['changed']} of {found['unchanged']['titles']:,} titles were changed."
    made = (f"Suggestions: {typed['suggestions']:,}, built in {number(typed['build_seconds'])} s, "
            f"{number(typed['file_mib'])} MiB, loaded in {number(typed['load_ms'])} ms.")  # fmt: skip
    half, most, nearly = (number(typed["ms"][name]) for name in ("p50", "p95", "p99"))
    strokes = f"Of {typed['keystrokes']:,} keystrokes: p50 {half} ms, p95 {most} ms, p99 {nearly} ms."
    return f"{markdown(rows)}\n\n{built} {right} {changed}\n\n{made} {strokes}"


def _conditions(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (f"{machine['cores']} cores of {machine['cpu']}, load {found['load'][0]} to {found['load'][1]}, commit "
            f"{str(found['commit'])[:7]}.")  # fmt: skip


add_table(app, "spelling", render, "What was measured, as Markdown.")

if __name__ == "__main__":
    app()
