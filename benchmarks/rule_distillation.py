"""Entities without annotations (STREAM): seeds, rules and tagger on BC5CDR, QueryNER and the embedded shop.

python benchmarks/rule_distillation.py run --arms bc5cdr-manual,bc5cdr-supervised       one JSON per arm and seed
python benchmarks/rule_distillation.py run --arms shop-manual --set encoder=./minilm     its tagger reads an encoder
python benchmarks/rule_distillation.py run --arms bc5cdr-expert --set expert=./gemma    the expert's own seeds
python benchmarks/rule_distillation.py table --write                benchmarks/results/rule_distillation.md

manual: our own seed words (TALLOR's list was not looked at). expert: a language model's seeds, its teaching, a second
pass. supervised: the same tagger on the gold of the same texts (the ceiling). The seeds alone, as a dictionary, are
the floor; they stand in every other arm. Gold is read for measuring alone. $GOODRATE_SHARED holds data/bc5cdr and
data/queryner.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from goodrate.recipes import stream
from goodrate.recipes.span_tagger import TaggerSettings, trained
from goodrate.run_folder import RunFolder
from goodrate.understanding.candidates import find_spans, phrase_texts, phrases_of
from goodrate.understanding.distilling import Pool
from goodrate.understanding.entities import entity_labels
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.expert import open_expert
from goodrate.understanding.labels import NOTHING, without_overlaps
from goodrate.understanding.tagger import Tagger, TaggerCard
from lib.entity_spans import TYPES, Measure, Part, Truth, human_agreement, measured, read_part, truth_of, words_of
from lib.queue import Job, Queue, Results, experiment
from lib.tables import add_table, markdown

QUEUE = Queue("rule_distillation")
# TALLOR's published log on BC5CDR: the seeds on train, dev F1 at the start and the end, test
TALLOR = [["", "precision", "recall", "F1"], ["21 seeds alone, train", "88.6", "6.4", "11.9"],
          ["dev, iteration 0", "-", "-", "42.5"], ["dev, iteration 31", "-", "-", "69.8"],
          ["test", "62.64", "71.78", "66.90"]]  # fmt: skip
SCREENING = (
    "Exact spans, in percent; gold is read for measuring alone. Few seeds, texts, rounds, updates: screening, no "
    "interval. updates: of a tagger of the first round. most recall: the share of the gold that is a candidate. "
    "method 1: each round one tagger that judges what it was trained on; 2: three, which judge phrases that they did "
    "not see. encoder: the frozen text encoder whose states of the words the tagger reads."
)
WAYS = ("manual", "expert", "supervised")
ABLATIONS: dict[str, dict[str, Any]] = {
    "single-template": {"single_template": True}, "no-consistency": {"consistent": False}, "no-gate": {"gated": False},
    "no-calibration": {"calibrated": False}, "one-pass": {"passes": 1},
}  # fmt: skip


class Settings(BaseModel):
    """data, way and change are the arm's. texts: of the training part, to learn from; tested: of the test part.

    method: 1 = every round one tagger that judges what it was trained on, 2 = several that judge what they did not see.
    """

    model_config = ConfigDict(extra="forbid")
    data: str = "bc5cdr"
    way: str = "manual"
    change: dict[str, Any] = {}
    expert: str = "gemma"
    encoder: str | None = None
    texts: int = 5000
    tested: int = 10_000
    rounds: int = 10
    phrases: int = 400
    mentions: int = 5
    updates: int = 200
    negatives: float = 0.7
    method: int = 2


ARMS: dict[str, dict[str, Any]] = {f"{data}-{way}": {"data": data, "way": way} for data in TYPES for way in WAYS}
ARMS |= {f"bc5cdr-expert-{name}": {"data": "bc5cdr", "way": "expert", "change": change}
         for name, change in ABLATIONS.items()}  # fmt: skip


def measure(job: Job) -> Mapping[str, Any]:
    """One arm with one seed."""
    settings = Settings.model_validate(job.settings.model_dump())
    types = arm_types(settings)
    train = read_part(settings.data, "train", job.seed)
    words = words_of(train.first(settings.texts))
    read = stream.read_words(words, settings.encoder) if settings.encoder else None
    corpus = stream.corpus_of(words, types, read)
    truth = truth_of(train.first(settings.texts), corpus.words, corpus.spans, types.names)
    common = {"texts": len(corpus.words.texts), "candidates": len(corpus.spans), "coverage": round(truth.coverage, 4)}
    if settings.way == "supervised":
        tagger = supervised(settings, corpus, truth, types, job.seed)
        return {**common, "test": tested(settings, tagger, types, job.seed)}
    return {**common, **distilled(settings, job, corpus, truth, types)}


def arm_types(settings: Settings) -> EntityTypes:
    """The types of the data: with our seeds for the manual way, without for the expert's."""
    types = TYPES[settings.data]
    if settings.way != "expert":
        return types
    bare = {name: kind.model_copy(update={"seeds": []}) for name, kind in types.types.items()}
    return types.model_copy(update={"types": bare})


def distilled(settings: Settings, job: Job, corpus: stream.Corpus, truth: Truth, types: EntityTypes) -> dict[str, Any]:
    """What the seeds, the pool and the tagger reach in each round on the training texts, and the tagger on the test."""
    recipe = stream.Settings(
        folds=3 if settings.method == 2 else 1,
        rounds=settings.rounds, phrases=settings.phrases, mentions=settings.mentions, seed=job.seed,
        tagger=TaggerSettings(updates=settings.updates, negatives=settings.negatives), **settings.change,
    )  # fmt: skip

    def watch(number: int, pool: Pool, probabilities: np.ndarray | None) -> dict[str, Any]:
        seen = {"pool": measured(alone(corpus, pool.label), truth)}
        if probabilities is not None:
            seen["tagger"] = measured(entity_labels(corpus.words, corpus.spans, probabilities), truth)
        return seen

    expert = open_expert(Path(settings.expert)) if settings.way == "expert" else None
    run = RunFolder(QUEUE.work_folder(job))
    done = stream.distil_tagger(recipe, types, corpus, expert, run, settings.data, told, watch, "the benchmark's types")
    shutil.rmtree(run.path)
    return {
        "seeds": [seed_measures(corpus, seeds, truth, types) for seeds in done.seeds],
        "rounds": [record for record in done.history if "round" in record],
        "rules": len(done.tagger.card.rules),
        "test": tested(settings, done.tagger, types, job.seed),
        "test_seeds": [dictionary(settings, names(corpus, seeds), types, job.seed) for seeds in done.seeds],
    }


def told(what: str, done: int, total: int) -> None:
    """Progress, in a log file now and then."""
    if done == total:
        print(f"{what}: {total}", flush=True)


def alone(corpus: stream.Corpus, label: np.ndarray) -> np.ndarray:
    """(S,) the labels without those that share words with a longer or an earlier one."""
    score = (label != NOTHING).astype(float)
    return np.where(without_overlaps(corpus.spans.first, corpus.spans.last, score, len(corpus.words)), label, NOTHING)


def names(corpus: stream.Corpus, seeds: stream.Seeds) -> dict[str, int]:
    """The seeds as texts."""
    texts = phrase_texts(corpus.words, corpus.spans, np.array(list(seeds), dtype=np.int64))
    return dict(zip(texts, seeds.values(), strict=True))


def seed_measures(corpus: stream.Corpus, seeds: stream.Seeds, truth: Truth, types: EntityTypes) -> dict[str, Any]:
    """How many seeds each type has, the share of them that gold calls so most often, and what they label as they are.

    A seed that gold never has as an entity is wrong.
    """
    label = truth.labels(len(corpus.spans))
    told_gold = np.bincount(
        corpus.spans.phrase[label >= 0] * len(types) + label[label >= 0], minlength=len(corpus.spans.count) * len(types)
    ).reshape(-1, len(types))
    right = [bool(told_gold[p].max() > 0 and told_gold[p].argmax() == c) for p, c in seeds.items()]
    kind_of = np.full(len(corpus.spans.count), NOTHING)
    kind_of[list(seeds)] = list(seeds.values())
    counts = {name: sum(c == k for c in seeds.values()) for k, name in enumerate(types.names)}
    matched = measured(alone(corpus, kind_of[corpus.spans.phrase]), truth)
    return {"count": counts, "right": round(float(np.mean(right)), 4), "matched": matched}


def supervised(settings: Settings, corpus: stream.Corpus, truth: Truth, types: EntityTypes, seed: int) -> Tagger:
    """The same tagger on the gold of the same texts: every other candidate is no entity."""
    label = truth.labels(len(corpus.spans))
    soft = np.zeros((len(label), len(types) + 1), dtype=np.float32)
    soft[np.arange(len(label)), np.where(label == NOTHING, len(types), label)] = 1.0
    recipe = TaggerSettings(updates=settings.updates + 10 * settings.rounds)
    read = corpus.reading
    card = TaggerCard(types.names, tuple(types.function_words), **(read.card if read else {}))
    used = np.ones(len(label), dtype=bool)
    network = trained(card, corpus.words, corpus.spans, soft, used, recipe, 0, seed, states=corpus.states)
    return Tagger(card, network, read.reader if read else None)


def test_part(settings: Settings, seed: int) -> Part:
    """The test texts."""
    return read_part(settings.data, "test", seed).first(settings.tested)


def tested(settings: Settings, tagger: Tagger, types: EntityTypes, seed: int) -> Measure:
    """What a tagger reaches on the test part."""
    part = test_part(settings, seed)
    words = words_of(part)
    spans = find_spans(words, types.function_words)
    label = entity_labels(words, spans, tagger.probabilities(words, spans))
    truth = truth_of(part, words, spans, types.names)
    return {**measured(label, truth), "coverage": round(truth.coverage, 4), "texts": len(part.tokens)}


def dictionary(settings: Settings, seeds: dict[str, int], types: EntityTypes, seed: int) -> Measure:
    """What the seeds reach as a dictionary on the test part."""
    part = test_part(settings, seed)
    words = words_of(part)
    spans = find_spans(words, types.function_words)
    kind_of = np.full(len(spans.count), NOTHING)
    for text, phrase in phrases_of(words, spans, seeds).items():
        kind_of[phrase] = seeds[text]
    label = kind_of[spans.phrase]
    kept = without_overlaps(spans.first, spans.last, (label != NOTHING).astype(float), len(words))
    return measured(np.where(kept, label, NOTHING), truth_of(part, words, spans, types.names))


def percent(found: Mapping[str, float] | None) -> list[str]:
    """Precision, recall and F1 as cells."""
    return [f"{100 * found[key]:.1f}" for key in ("precision", "recall", "f1")] if found else ["-"] * 3


def render() -> str:
    """All tables."""
    found = sorted(QUEUE.results(), key=lambda r: (list(ARMS).index(r["arm"]), r["seed"]))
    if not found:
        return "No results yet."
    parts = [SCREENING, test_table(found), seed_table(found)]
    parts += [round_table(one) for one in found if one.get("rounds")]
    if any(one["settings"]["data"] == "bc5cdr" for one in found):
        parts += ["TALLOR's published log on BC5CDR (SciBERT, fine-tuned, 21 seeds, all texts). Ours has other seeds "
                  "and fewer texts.", markdown(TALLOR)]  # fmt: skip
    if any(one["settings"]["data"] == "queryner" for one in found):
        human = percent(human_agreement())
        parts.append(f"QueryNER's three annotators against its gold, same types and test rows, mean: precision "
                     f"{human[0]}, recall {human[1]}, F1 {human[2]}.")  # fmt: skip
    return "\n\n".join(parts)


def test_table(found: Results) -> str:
    """The taggers, and the seeds as dictionaries, on the test parts."""
    rows = [["arm", "seed", "method", "encoder", "texts", "rounds", "updates", "tested on", "precision", "recall", "F1",
             "most recall"]]  # fmt: skip
    for one in found:
        rounds = str(sum(record["round"] > 0 for record in one.get("rounds", [])) or "-")
        most = f"{100 * one['test']['coverage']:.1f}"
        made = [str(one["seed"]), *way_of(one)]
        about = [*made, str(one["texts"]), rounds, str(one["settings"]["updates"]), str(one["test"]["texts"])]
        rows.append([one["arm"], *about, *percent(one["test"]), most])
        for number, seeds in enumerate(one.get("test_seeds", []), 1):
            rows.append(
                [f"{one['arm']}: seeds {number} as a dictionary", made[0], *["-"] * 5, about[-1], *percent(seeds), ""]
            )
    return markdown(rows)


def way_of(one: Mapping[str, Any]) -> list[str]:
    """Method and encoder as cells; a result of an older run has neither."""
    settings = one["settings"]
    encoder = settings.get("encoder")
    method = "-" if settings["way"] == "supervised" else str(settings.get("method", 1))
    return [method, Path(encoder).name if encoder else "-"]


def seed_table(found: Results) -> str:
    """The seeds of each arm and pass on the training texts."""
    rows = [["arm", "pass", "seeds", "right", "precision", "recall", "F1"]]
    for one in found:
        for number, seeds in enumerate(one.get("seeds", []), 1):
            counts = ", ".join(f"{name} {count}" for name, count in seeds["count"].items())
            rows.append([one["arm"], str(number), counts, f"{100 * seeds['right']:.0f}", *percent(seeds["matched"])])
    return markdown(rows)


def round_table(one: Mapping[str, Any]) -> str:
    """The pool and the round's tagger on the training texts."""
    head = ["pass.round", "rules", "labelled", "pool P", "pool R", "pool F1", "tagger P", "tagger R", "tagger F1"]
    rows = [head]
    for record in one["rounds"]:
        about = [f"{record['pass']}.{record['round']}", str(record["rules"]), str(record["labelled"])]
        rows.append([*about, *percent(record["pool"]), *percent(record.get("tagger"))])
    method, encoder = way_of(one)
    title = f"{one['arm']}, seed {one['seed']}, method {method}, encoder {encoder}, on its training texts:"
    return f"{title}\n\n{markdown(rows)}"


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)
add_table(app, "rule_distillation", render, "Print the tables, or write them.")


if __name__ == "__main__":
    app()
