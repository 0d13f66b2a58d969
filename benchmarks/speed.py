"""Speed of goodrate beside a peer in the same run; results as JSON in benchmarks/results/speed.

python benchmarks/speed.py all                       everything, about ten minutes on a quiet machine
python benchmarks/speed.py store --sizes 1000,10000  see speed_store.py; an update of GRPO: speed_policy.py
python benchmarks/speed.py table --write             benchmarks/results/speed.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import speed_facets
import speed_policy
import speed_store
from lib import timing
from lib.tables import add_table, markdown
from lib.timing import Document, Measurement, between, call_sample, number, significant

app = typer.Typer(add_completion=False, help=__doc__)
Rounds = Annotated[int, typer.Option(min=1, help="How often every arm is timed.")]
Threads = Annotated[int, typer.Option(min=1, help="Of torch.")]
HELP_TARGET, SEARCH_TARGET, SHARING_TARGET = 0.5, 4.0, 2.0  # seconds of wall time; times as fast
SEARCH_ITEMS, QUERY = 2000, "red lamp with wood stand under 40"
PRECISIONS = ("fp32", "bf16")


def processes(name: str, rounds: int, commands: dict[str, list[str]], compared: int, **facts: Any) -> Path:
    """Commands as processes in turn, the first one beside those from the place `compared` on."""
    result = Measurement(name, f"python benchmarks/speed.py {name} --rounds {rounds}", facts.pop("threads", None))
    arms = {arm: partial(timing.command_sample, command) for arm, command in commands.items()}
    samples = timing.interleave(arms, rounds)
    first, *_ = commands
    ratios = {other: timing.ratio(samples, first, other) for other in list(commands)[compared:]}
    return result.write(**facts, arms=timing.summaries(samples), ratios=ratios)


@app.command("help")
def help_(rounds: Rounds = 15) -> None:
    """goodrate --help beside an empty Python and beside importing torch."""
    python = [sys.executable, "-c"]
    commands = {
        "goodrate --help": [goodrate(), "--help"], "python -c pass": [*python, "pass"],
        "import torch": [*python, "import torch"],
    }  # fmt: skip
    print(processes("help", rounds, commands, 1, target_wall=HELP_TARGET))


def goodrate() -> str:
    """The installed command of this very environment."""
    return str(Path(sys.executable).with_name("goodrate"))


@app.command()
def search(rounds: Rounds = 7) -> None:
    """A cold goodrate search with the MiniLM encoder beside what importing sentence-transformers alone costs."""
    command, python = [goodrate(), "search", str(search_index()), QUERY], [sys.executable, "-c"]
    commands = {
        "goodrate search": command, "goodrate search --mode lexical": [*command, "--mode", "lexical"],
        "import sentence_transformers": [*python, "import sentence_transformers"],
        "import torch": [*python, "import torch"],
    }  # fmt: skip
    note = "cold = a new process each time; the files are in the system's cache"
    facts = {"target_wall": SEARCH_TARGET, "items": SEARCH_ITEMS, "encoder": "all-MiniLM-L6-v2", "note": note}
    print(processes("search", rounds, commands, 2, threads=1, **facts))


def search_index() -> Path:
    """The index that is searched: generated items, vectors of MiniLM. Built once."""
    from goodrate.catalog.readers import read_catalog
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store
    from lib.chorus_arms import minilm_folder

    path, catalog = timing.WORK / f"minilm-{SEARCH_ITEMS}", read_catalog(speed_store.items_file(SEARCH_ITEMS))
    exists = (path / "store.json").is_file()
    if exists and len(Store.open(path)) == len(catalog):
        return path
    encoder = Encoder.load(minilm_folder(), precision="auto")
    about = (encoder.fingerprint, encoder.dimension, str(minilm_folder()))
    index_catalog(Store.open(path) if exists else Store.create(path, *about), catalog, encoder)
    return path


ITEMS, PREFIX, SUFFIX, LABELS, CHUNKS = 100, 120, 80, 4, (20, 100)  # 20: as goodrate cuts
IDEAL = ITEMS * (PREFIX + SUFFIX) / (PREFIX + ITEMS * SUFFIX)  # tokens computed without and with sharing
# Five million parameters; init 0.1 instead of 0.02, so that a fault would show in the logits.
CONFIG: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
    "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip
FULL_HEAD = "plain, logits of every token"


def label_forwards(network: Any, precision: str) -> dict[str, Callable[[], Any]]:
    """Arm -> what gives the logits (ITEMS, LABELS) of the same pairs: one prefix, ITEMS suffixes."""
    import torch

    from goodrate.models import label_forward
    from goodrate.models.precision import autocast, evaluating

    ids = np.random.default_rng(0).integers(0, CONFIG["vocab_size"], (ITEMS + 1, max(PREFIX, SUFFIX))).tolist()
    pairs = [(tuple(ids[0][:PREFIX]), tuple(row[:SUFFIX])) for row in ids[1:]]
    rows, tokens = [prefix + suffix for prefix, suffix in pairs], torch.arange(LABELS)

    def labels(share: bool, chunk: int) -> torch.Tensor:
        with evaluating(network), autocast(precision, "cpu"):
            return label_forward.label_logits(network, pairs, tokens, 0, share=share, chunk=chunk)

    def full_head() -> torch.Tensor:
        step = label_forward.CHUNK
        with evaluating(network), autocast(precision, "cpu"):
            parts = [rows[i : i + step] for i in range(0, ITEMS, step)]
            return torch.cat([label_forward.plain_logits(network, part, tokens, 0) for part in parts])

    kinds = {"shared": True, "plain": False}
    return {
        **{f"{k}, {c} rows": partial(labels, share, c) for c in CHUNKS for k, share in kinds.items()},
        FULL_HEAD: full_head,
    }


@app.command()
def judge(rounds: Rounds = 5, threads: Threads = 1) -> None:
    """100 items of one query: its prefix computed once, against the same network without sharing."""
    import torch

    from lib.trl_peer import random_qwen3

    torch.set_num_threads(threads)
    network = random_qwen3(**CONFIG)
    result = Measurement("judge", f"python benchmarks/speed.py judge --rounds {rounds} --threads {threads}", threads)
    calls = {precision: label_forwards(network, precision) for precision in PRECISIONS}
    arms: dict[str, timing.Arm] = {
        f"{p}: {name}": partial(call_sample, call) for p, part in calls.items() for name, call in part.items()
    }
    samples = timing.interleave(arms, rounds)
    pairs = [(f"{p}: shared, {c} rows", f"{p}: plain, {c} rows") for p in PRECISIONS for c in CHUNKS]
    speedups = {f"{shared} over {plain}": timing.ratio(samples, plain, shared) for shared, plain in pairs}
    cost = {arm: spread["cpu"]["median"] for arm, spread in timing.summaries(samples).items()}
    for p in PRECISIONS:
        best = {k: min((f"{p}: {k}, {c} rows" for c in CHUNKS), key=cost.__getitem__) for k in ("plain", "shared")}
        speedups[f"{p}: fastest shared over fastest plain"] = timing.ratio(samples, best["plain"], best["shared"])
    truth = calls["fp32"][FULL_HEAD]()
    gaps: dict[str, Any] = {
        p: {name: significant(float((call() - truth).abs().max()), 3) for name, call in part.items()}
        for p, part in calls.items()
    }
    print(result.write(
        model={"parameters": sum(p.numel() for p in network.parameters()), **CONFIG}, ideal=significant(IDEAL, 3),
        target=SHARING_TARGET, items=ITEMS, prefix_tokens=PREFIX, suffix_tokens=SUFFIX, labels=LABELS,
        attention=network.config._attn_implementation, arms=timing.summaries(samples), speedups=speedups,
        largest_difference={**gaps, "logits": {"std": significant(float(truth.std()), 3)}},
    ))  # fmt: skip


TEXTS, BATCH, PEER = 192, 32, "sentence-transformers"


@app.command()
def encode(rounds: Rounds = 5, threads: Threads = 1) -> None:
    """Item texts through MiniLM: bf16 autocast against fp32, and both against sentence-transformers' own encode."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    from goodrate.catalog.readers import read_catalog
    from goodrate.models.encoder import Encoder
    from goodrate.models.precision import autocast
    from goodrate.models.quiet import no_bars
    from lib.chorus_arms import minilm_folder

    no_bars()
    transformers.utils.logging.set_verbosity_error()  # its report on unused pooler weights reads like a fault
    torch.set_num_threads(threads)
    texts = read_catalog(speed_store.items_file(1000)).text()[:TEXTS]
    peer, ours = SentenceTransformer(str(minilm_folder()), device="cpu"), {}
    for precision in PRECISIONS:
        ours[precision] = Encoder.load(minilm_folder(), precision=precision)

    def peer_encode(precision: str) -> np.ndarray:
        with autocast(precision, "cpu"):
            vectors = peer.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    calls = {f"goodrate {p}": partial(ours[p].encode_items, texts, batch_size=BATCH) for p in PRECISIONS}
    calls |= {f"{PEER} {p}": partial(peer_encode, p) for p in PRECISIONS}
    lengths = [len(row) for row in ours["fp32"].tokenizer(texts)["input_ids"]]
    result = Measurement("encode", f"python benchmarks/speed.py encode --rounds {rounds} --threads {threads}", threads)
    samples = timing.interleave({name: partial(call_sample, call) for name, call in calls.items()}, rounds)
    pairs = [("goodrate fp32", "goodrate bf16"), *((f"{PEER} {p}", f"goodrate {p}") for p in PRECISIONS)]
    truth = calls[f"{PEER} fp32"]()
    cosines = {n: significant(float((call() * truth).sum(axis=1).min()), 7) for n, call in calls.items()}
    parameters = sum(p.numel() for p in ours["fp32"].network.parameters())  # without the unused pooling layer
    print(result.write(
        model={"name": "all-MiniLM-L6-v2", "parameters": parameters}, texts=TEXTS, batch=BATCH,
        arms=timing.summaries(samples),
        tokens_per_text={"mean": round(float(np.mean(lengths)), 1), "max": max(lengths)},
        speedups={f"{fast} over {slow}": timing.ratio(samples, slow, fast) for slow, fast in pairs},
        lowest_cosine_to_sentence_transformers_fp32=cosines,
    ))  # fmt: skip


@app.command()
def store(
    sizes: Annotated[str, typer.Option(help="Items, separated by commas.")] = "1000,10000,100000",
    repeats: Annotated[int, typer.Option(min=1, help="Indexes built and searched per size.")] = 3,
) -> None:
    """Index and search generated items."""
    for size in sizes.split(","):
        print(speed_store.measure_store(int(size), repeats))


@app.command()
def facets(size: int = 100_000, rounds: Rounds = 100) -> None:
    """See speed_facets.py."""
    print(speed_facets.measure_facets(size, rounds))


@app.command("all")
def everything() -> None:
    """All of the above with their own settings."""
    for measure in (help_, search, judge, encode, store, facets):
        measure()


def starts(d: Document) -> str:
    """Seconds of processes; the first arm is ours and has the target."""
    rows = [["process", "wall s, median (min to max)", "target", "processor s",
             "first row's processor s over this one's"]]  # fmt: skip
    for n, (name, arm) in enumerate(d["arms"].items()):
        target = "" if n else f"< {number(d['target_wall'])}"
        over = between(d["ratios"][name]["cpu"]) if name in d["ratios"] else ""
        rows.append([f"`{name}`", between(arm["wall"]), target, between(arm["cpu"]), over])
    return f"{markdown(rows)}\n\n{rounds_of(d)} runs each, in turn."


def rounds_of(d: Document) -> int:
    """How often every arm was timed."""
    return int(next(iter(d["arms"].values()))["wall"]["n"])


def judging(d: Document) -> str:
    """Speed-up by precision and rows at a time."""
    rows = [["precision", "rows at a time", "plain, items/s", "shared, items/s", "speed-up, processor time",
             "speed-up, wall time", "largest logit difference, shared", "the same, plain"]]  # fmt: skip
    best = []
    for name, speedup in d["speedups"].items():
        fast, _, slow = name.partition(" over ")
        precision, _, arm = fast.partition(": ")
        times = between(speedup["cpu"]), between(speedup["wall"])
        if slow not in d["arms"]:
            best.append([precision, "each at its best", "", "", f"**{times[0]}**", times[1], "", ""])
            continue
        gaps = (d["largest_difference"][precision][kind] for kind in (arm, slow.partition(": ")[2]))
        per_second = (number(d["items"] / d["arms"][each]["cpu"]["median"]) for each in (slow, fast))
        chunk = arm.partition(", ")[2].removesuffix(" rows")
        rows.append([precision, chunk, *per_second, *times, *(f"{gap:.2g}" for gap in gaps)])
    facts = (
        f"{d['model']['parameters'] / 1e6:.2f}M parameters (random, attention {d['attention']}), "
        f"{d['items']} items, {d['prefix_tokens']} shared and {d['suffix_tokens']} own tokens: "
        f"ideal {d['ideal']}, target {d['target']:g}. {rounds_of(d)} rounds. "
        "Items/s are per second of processor time. Differences are from the model's own fp32 forward without sharing; "
        f"its logits have a standard deviation of {number(d['largest_difference']['logits']['std'])}."
    )
    return f"{markdown([*rows, *best])}\n\n{facts}"


def encoding(d: Document) -> str:
    """Texts per second of every arm, and who is how much faster."""
    rows = [["", "texts / processor s", "texts / wall s", "processor s, min to max",
             "lowest cosine to the peer's fp32"]]  # fmt: skip
    for name, arm in d["arms"].items():
        cosine = d["lowest_cosine_to_sentence_transformers_fp32"][name]
        rates = (number(d["texts"] / arm[clock]["median"]) for clock in ("cpu", "wall"))
        rows.append([name, *rates, f"{number(arm['cpu']['min'])} to {number(arm['cpu']['max'])}", f"{cosine:.5f}"])
    faster = [[name, between(s["cpu"]), between(s["wall"])] for name, s in d["speedups"].items()]
    model, tokens = d["model"], d["tokens_per_text"]
    facts = (
        f"{model['name']} ({model['parameters'] / 1e6:.1f}M parameters), {d['texts']} generated items of "
        f"{tokens['mean']} tokens on average (longest {tokens['max']}), batches of {d['batch']}, {rounds_of(d)} rounds."
    )
    speedups = markdown([["speed-up", "processor time", "wall time"], *faster])
    return "\n\n".join([markdown(rows), speedups, facts])


SECTIONS: dict[str, tuple[str, Callable[[Document], str]]] = {
    "help": ("`goodrate --help`", starts), "search": ("`goodrate search`, cold", starts),
    "judge": ("Judging many items of one query", judging), "encode": ("Encoding item texts", encoding),
}  # fmt: skip


def render(documents: dict[str, Document] | None = None) -> str:
    """All tables; a result that is missing leaves its table out. documents: by name; None = those of timing.RESULTS."""
    if documents is None:
        documents = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(timing.RESULTS.glob("*.json"))}
    parts = [
        f"### {title}\n\n{timing.conditions([documents[name]])}\n\n{table(documents[name])}"
        for name, (title, table) in SECTIONS.items()
        if name in documents
    ]
    return "\n\n".join([*parts, *speed_store.render(documents), *speed_facets.render(documents),
                        *speed_policy.render(documents)])  # fmt: skip


add_table(app, "speed", render, "Medians with their ends, of everything that is there.")

if __name__ == "__main__":
    app()
