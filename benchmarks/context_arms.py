"""When to trust a retrieved text: SFT, RAG SFT, RAG DPO, RAG GRPO, DyKnow-RAG and its controls, on the shop.

python benchmarks/context_arms.py run --seeds 0                     one JSON per (arm, seed); several processes may work
python benchmarks/context_arms.py run --seeds 0,1,2 --arms rag_sft,rag_grpo,dyknow
python benchmarks/context_arms.py table [--write]                   the tables of docs/experiments.md
python benchmarks/context_arms.py check --judge DIR --name NAME     one judge, each kind of text in turn

The shop has two fifths knowledge queries, whose label hangs on a standard that only a text tells; test names standards
that no training query does. Each query's text is the best of the shop's corpus by the house's retrieval; what it is
worth (helpful, irrelevant, misleading) follows from the truth. All arms of a seed read the same pairs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

import taosr1
from experiment import Job, Queue, add_run, settings_key
from goodrate.demo.stages import JudgedPairs, judged_pairs
from goodrate.evaluation.classification import FAILED
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.collapse import Collapsed
from goodrate.recipes import judge_context
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.context import ContextFinder, ContextText, joined
from goodrate.relevance.rationale import CONTEXT_STEP, Rationale
from goodrate.run_folder import write_atomic
from goodrate.shop.knowledge import HEARSAY, kind_of, standard_text, use_of
from goodrate.shop.queries import Standard
from goodrate.shop.shop import Shop, ShopSettings
from taosr1 import Run
from taosr1_table import Measured, changes, collapses, interval, markdown, put, resampled

QUEUE = Queue("context_arms")
BEGIN, END = "<!-- context_arms: python benchmarks/context_arms.py table --write -->", "<!-- end of context_arms -->"
KINDS = ("helpful", "irrelevant", "misleading", "none")  # none: nothing was found
TOP = 3


class Settings(taosr1.Settings):
    """Those of benchmarks/taosr1.py, with few labels, and what these methods add."""

    model_config = ConfigDict(extra="forbid")
    shop: ShopSettings = ShopSettings(items=5000, queries=2000, knowledge_share=0.4)
    labels: int = 1500
    bare: float = 0.3  # share of RAG SFT's prompts that hide the text, so that both groups' prompts are known
    test_pairs: int = 4000


@dataclass(frozen=True)
class Arm:
    """start: the SFT judge it begins with (sft: never saw a text; rag) or dpo, which begins with rag.

    reads: whose texts. tested: whose texts its judge reads in the test; None = those it was trained on.
    """

    start: str
    method: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    reads: str = "retrieved"
    tested: str | None = None


ARMS = {
    "sft": Arm("sft", reads="none"),
    "rag_sft": Arm("rag"),
    "rag_dpo": Arm("dpo"),
    "rag_grpo": Arm("rag", "grpo"),
    "dyknow": Arm("rag", "dyknow"),
    "dyknow/sft": Arm("sft", "dyknow"),
    "dyknow/dpo": Arm("dpo", "dyknow"),
    "dyknow/batch": Arm("rag", "dyknow", {"gate": "batch"}),
    "dyknow/fixed": Arm("rag", "dyknow", {"gate": "fixed"}),
    "dyknow/oracle": Arm("rag", "dyknow", {"gate": "oracle"}),
    "dyknow/none": Arm("rag", "dyknow", {"gate": "none"}),
    "dyknow/centred": Arm("rag", "dyknow", {"centred": True}),
    "dyknow/shuffled": Arm("rag", "dyknow", reads="shuffled"),
    "rag_sft/shuffled": Arm("rag", tested="shuffled"),
    "rag_sft/top3": Arm("rag", reads="top3"),
    "dyknow/top3": Arm("rag", "dyknow", {"contexts": TOP}, reads="top3"),
    **{f"{arm}/without": Arm("rag", method, tested="hidden") for arm, method in
       (("rag_sft", ""), ("rag_grpo", "grpo"), ("dyknow", "dyknow"))},
}  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """The best texts of every query, best first, as places in the shop's corpus; seed: of the shuffling."""

    shop: Shop
    found: dict[int, list[int]]
    seed: int

    def of(self, q: int, reads: str) -> list[int]:
        """What a query's prompts hold."""
        if reads in ("none", "hidden"):
            return []
        other = self._shuffled[q] if reads == "shuffled" else q
        return self.found[other][: TOP if reads == "top3" else 1]

    @functools.cached_property
    def _shuffled(self) -> dict[int, int]:
        """Another query of the same split for every query."""
        rng = np.random.default_rng([self.seed, 83])
        splits = [np.flatnonzero(self.shop.split == part) for part in np.unique(self.shop.split)]
        return {int(q): int(other) for part in splits for q, other in zip(part, rng.permutation(part), strict=True)}

    def kind(self, q: int, reads: str) -> str:
        """What they are worth for the query: the best of several."""
        kinds = {kind_of(self.shop.queries[q], self.shop.corpus[place]) for place in self.of(q, reads)}
        return next((kind for kind in ("helpful", "misleading", "irrelevant") if kind in kinds), "none")

    def line(self, q: int, reads: str) -> str | None:
        """They as the context of a prompt."""
        corpus = self.shop.corpus
        return joined([ContextText(corpus[place].id, corpus[place].text) for place in self.of(q, reads)])


def texts_of(shop: Shop, seed: int) -> Texts:
    """The texts of all queries, searched once for each shop and corpus and kept in the work folder."""
    told = repr([[query.text for query in shop.queries], shop.corpus])
    key = f"{settings_key(shop.settings)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    kept = QUEUE.work / f"texts-{key}.json"
    if not kept.is_file():
        place = {text.id: n for n, text in enumerate(shop.corpus)}
        finder = ContextFinder([ContextText(t.id, t.text) for t in shop.corpus], QUEUE.work / f"texts-{key}")
        found = [[place[text.id] for text in finder.find(query.text, TOP)] for query in shop.queries]
        write_atomic(kept, json.dumps(found))
    return Texts(shop, dict(enumerate(json.loads(kept.read_text(encoding="utf-8")))), seed)


@dataclass(frozen=True)
class ContextRun(Run):
    """A run whose prompts hold texts. reads: none (no judge of texts), hidden, retrieved, shuffled or top3."""

    texts: Texts
    reads: str

    @property
    def form(self) -> JudgeFormat:
        """Also: how many texts its judge reads."""
        contexts = {"none": 0, "top3": TOP}.get(self.reads, 1)
        return super().form.model_copy(update={"contexts": contexts})

    def context(self, q: int) -> str | None:
        """The texts of the query."""
        return self.texts.line(q, self.reads)

    def rationale(self, q: int, i: int) -> Rationale:
        """The true steps, and what the text is worth."""
        use = use_of(self.shop.queries[q], self.texts.kind(q, self.reads))
        return replace(super().rationale(q, i), context=None if self.reads == "none" else use)


def start(run: ContextRun) -> Path:
    """The SFT judge that reads as the run does; it has seen a share of its prompts without their text."""
    s, hidden = _settings(run), replace(run, reads="hidden")
    examples = taosr1.with_reasons(run, run.reasoned)
    if run.reads not in ("none", "hidden"):
        drawn = random.Random(run.seed)
        both = zip(examples, taosr1.with_reasons(hidden, run.reasoned), strict=True)
        examples = [without if drawn.random() < s.bare else with_text for with_text, without in both]
    out = run.work / f"sft-{run.reads}"
    return taosr1.sft(run, Path("nano"), examples, out, s.sft_seconds, s.sft_rate, s.sft_updates, run.form)


def _settings(run: Run) -> Settings:
    assert isinstance(run.settings, Settings)
    return run.settings


def both_prompts(run: ContextRun) -> list[JudgePrompt]:
    """The labelled prompts without their texts, and with them."""
    told, bare = run.prompts(run.labelled), replace(run, reads="hidden").prompts(run.labelled)
    kinds = [run.texts.kind(q, run.reads) for q in run.labelled.rows.tolist()]
    return [
        replace(p, context_prefix=with_text.prefix, context_kind=kind)
        for p, with_text, kind in zip(bare, told, kinds, strict=True)
    ]


def trained(run: ContextRun, name: str, arm: Arm) -> Path:
    """The judge of an arm."""
    begins = replace(run, reads="none") if arm.start == "sft" else run
    # A shuffled text is worth nothing: the judge that meets it has learned from texts that were retrieved.
    begins = replace(begins, reads="retrieved") if begins.reads == "shuffled" else begins
    judge = start(begins)
    if arm.start == "dpo":
        judge = taosr1.dpo(run, run.work / f"dpo-{run.reads}", judge)
    out = run.work / f"{arm.method}-{name.replace('/', '-').removesuffix('-without')}"
    if arm.method == "grpo":
        return taosr1.grpo(run, out, judge)
    if arm.method == "dyknow":
        settings = judge_context.Settings(**taosr1.grpo_settings(run, judge), **arm.change)
        return judge_context.train(settings, both_prompts(run), out)
    return judge


def make(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    settings, arm = job.settings, ARMS[job.arm]
    assert isinstance(settings, Settings)
    begun = taosr1.begun(settings, "reason_first", job.seed)
    texts = texts_of(begun.shop, job.seed)
    given = {**begun.__dict__, "work": QUEUE.work / f"{settings_key(settings)}-{job.seed}"}
    run = ContextRun(**given, texts=texts, reads=arm.reads)
    try:
        folder = trained(run, job.arm, arm)
    except Collapsed as error:
        return {"collapsed": str(error)}
    test = judged_pairs(begun.shop, "test", settings.test_pairs, seed=0)
    return {**measured(run, test, folder, arm.tested or arm.reads), "training": taosr1.trace(folder.parent)}


def measured(run: ContextRun, test: JudgedPairs, folder: Path, reads: str) -> dict[str, Any]:
    """Scores of a judge folder that reads these texts, and what it said of every one of them."""
    from goodrate.relevance.judge import Judge

    rows = test.rows.tolist()
    pairs = [replace(pair, context=run.texts.line(q, reads)) for pair, q in zip(test.pairs, rows, strict=True)]
    verdicts = Judge.load(folder).judge(pairs, reasons=True)
    predicted = np.asarray([FAILED if verdict.label is None else verdict.label for verdict in verdicts])
    known = [verdict.inconsistent for verdict in verdicts if verdict.inconsistent is not None]
    return {
        **taosr1.scored(run.shop, test, predicted),
        "kinds": "".join(run.texts.kind(q, reads if reads in ("shuffled", "top3") else "retrieved")[0] for q in rows),
        "worth": "".join(use_of(run.shop.queries[q], run.texts.kind(q, reads))[0] for q in rows),
        "said": "".join(_said(verdict.reason) for verdict in verdicts),
        "knowledge": "".join("k" if run.shop.queries[q].family == "knowledge" else "-" for q in rows),
        "inconsistent": float(np.mean(known)) if known else None,
    }


def _said(reason: str | None) -> str:
    """First letter of the use that a reason states, "x" where it states none."""
    lines = [line for line in (reason or "").splitlines() if line.startswith(f"{CONTEXT_STEP} ")]
    return lines[0].split()[1][:1] if lines and len(lines[0].split()) == 2 else "x"


app = typer.Typer(add_completion=False, help=__doc__)
add_run(app, QUEUE, Settings, tuple(ARMS), make)


def by_kind(found: Mapping[str, Any], gold: np.ndarray) -> dict[str, float]:
    """Accuracy by what the retrieved text is worth, on all and on knowledge queries, and of the stated use."""
    predicted = np.asarray([-1 if label == "x" else int(label) for label in found["predicted"]])
    right, kinds, knowledge, worth, said = (
        predicted == gold, *(np.asarray(list(found[name])) for name in ("kinds", "knowledge", "worth", "said"))
    )  # fmt: skip
    scores = {kind: _mean(right[kinds == kind[0]]) for kind in KINDS}
    scores |= {f"knowledge, {kind}": _mean(right[(kinds == kind[0]) & (knowledge == "k")]) for kind in KINDS[:3]}
    if (said == "x").all():
        return scores
    with_text = kinds != "n"
    scores["use"] = _mean((said == worth)[with_text])
    scores["used or not"] = _mean(((said == "i") == (worth == "i"))[with_text & (said != "x")])
    return scores | {f"use, {kind}": _mean((said == worth)[kinds == kind[0]]) for kind in KINDS[:3]}


def kind_gaps(
    arm: list[dict[str, Any]], other: list[dict[str, Any]], gold: np.ndarray, weights: np.ndarray
) -> list[str]:
    """Accuracy of `arm` minus that of `other` by what the text is worth, over the seeds of both, 95 % over queries.

    weights: (B + 1, N), the first row the sample itself. Nothing where the two read other texts.
    """
    seeds = {one["seed"] for one in arm} & {one["seed"] for one in other}
    if not seeds or arm[0]["kinds"] != other[0]["kinds"]:
        return ["-"] * len(KINDS)
    right = [
        np.mean([[c == str(g) for c, g in zip(r["predicted"], gold, strict=True)] for r in rs if r["seed"] in seeds], 0)
        for rs in (arm, other)
    ]
    kinds = np.asarray(list(arm[0]["kinds"]))
    told = []
    for kind in KINDS:
        w = weights * (kinds == kind[0])
        gap = w @ (right[0] - right[1]) / np.maximum(w.sum(axis=1), 1e-12)
        told.append(interval(gap, "+.3f"))
    return told


def perfect_choice(arm: list[dict[str, Any]], without: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of an arm whose judge reads helpful texts and no others, as nobody knows them: a ceiling of choosing."""
    bare = {one["seed"]: one["predicted"] for one in without}
    return [
        {
            "seed": one["seed"],
            "predicted": "".join(
                reads if kind == "h" else bares
                for kind, reads, bares in zip(one["kinds"], one["predicted"], bare[one["seed"]], strict=True)
            ),
        }
        for one in arm
        if one["seed"] in bare
    ]


def choices(arms: Mapping[str, list[dict[str, Any]]], compared: Measured) -> list[list[str]]:
    """One row per arm that was tested without its texts, too: macro-F1 with, without, and with a perfect choice."""
    rows = [["arm", "seeds", "without texts, minus with", "perfect choice, minus with"]]
    for arm in [a for a in ARMS if f"{a}/without" in arms and a in arms]:
        best = perfect_choice(arms[arm], arms[f"{arm}/without"])
        gaps = (compared.difference(other, arms[arm]) for other in (arms[f"{arm}/without"], best))
        rows.append([arm, str(len(best)), *gaps])
    return rows


class Check(BaseModel):
    """What decides the numbers of `check`."""

    judge: str
    pairs: int
    shop: ShopSettings


READINGS = ("nothing", "right", "hearsay", "wrong", "advertisement", "elsewhere")


def standard_texts(shop: Shop, q: int) -> dict[str, str | None]:
    """What a knowledge query's prompt can hold, by READINGS.

    hearsay and wrong tell the same wrong value; elsewhere is hearsay of another attribute, as in the corpus.
    """
    query, world = shop.queries[q], shop.world
    (wanted,) = query.constraints
    standard = Standard(query.term, wanted.attribute, wanted.value)
    count = len(world.taxonomy.values[wanted.attribute])
    wrong = standard_text(world, standard, (wanted.value + 1 + q % (count - 1)) % count)
    surface = world.taxonomy.category_surfaces[query.category][0]
    ads = [text.text for text in shop.corpus if not text.subject and f" : {surface} " in text.text]
    other = replace(standard, attribute=(wanted.attribute + 1 + q % 11) % len(world.taxonomy.attributes), value=q % 6)
    elsewhere = HEARSAY + standard_text(world, other)
    told = (None, standard_text(world, standard), HEARSAY + wrong, wrong, ads[0], elsewhere)
    return dict(zip(READINGS, told, strict=True))


@app.command()
def check(
    judge: Annotated[Path, typer.Option(help="A judge folder.")],
    name: Annotated[str, typer.Option(help="Of the result.")],
    pairs: Annotated[int, typer.Option(help="Test pairs of knowledge queries.")] = 250,
) -> None:
    """Whether labels of knowledge queries hang on the text: one judge, the same pairs, each text in turn."""
    from goodrate.relevance.judge import Judge

    settings, loaded = Settings(), Judge.load(judge)
    shop = taosr1.shop_of(settings.shop.model_dump_json())
    test = judged_pairs(shop, "test", 100_000, seed=0)
    chosen = [n for n, q in enumerate(test.rows.tolist()) if shop.queries[q].family == "knowledge"]
    chosen = np.random.default_rng(0).permutation(chosen)[:pairs].tolist()
    texts = {int(test.rows[n]): standard_texts(shop, int(test.rows[n])) for n in chosen}

    def make_reading(job: Job) -> dict[str, Any]:
        read = [replace(test.pairs[n], context=texts[int(test.rows[n])][job.arm]) for n in chosen]
        labels = [verdict.label for verdict in loaded.judge(read)]
        right = [label == gold for label, gold in zip(labels, test.gold[chosen].tolist(), strict=True)]
        said = "".join("x" if label is None else str(label) for label in labels)
        return {"accuracy": float(np.mean(right)), "right": [int(one) for one in right], "predicted": said}

    queue = Queue("context_check")
    about = Check(judge=name, pairs=pairs, shop=settings.shop)
    queue.run([Job(reading, 0, about) for reading in READINGS], make_reading)
    weights = resampled(test.rows[chosen])
    alike = [r for r in queue.found() if {**r["settings"], "judge": name} == about.model_dump(mode="json")]
    judges = sorted({r["settings"]["judge"] for r in alike})
    right = {r: np.mean([one["right"] for one in alike if one["arm"] == r], axis=0) for r in READINGS}
    print(f"mean over {len(judges)} judges: {', '.join(judges)}")
    for reading in READINGS:
        gap = (weights @ (right[reading] - right["nothing"])) / weights.sum(1)
        print(f"{reading}: {right[reading].mean():.3f}, minus nothing {interval(gap, '+.3f')}")


def _mean(values: np.ndarray) -> float:
    """NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


@app.command()
def table(
    against: Annotated[str, typer.Option(help="Arms that differences are taken to.")] = "rag_sft,rag_grpo",
    write: Annotated[bool, typer.Option("--write", help="Into docs/experiments.md, between its marks.")] = False,
) -> None:
    """Macro-F1, paired differences, accuracy by kind of text and of the stated use, means over seeds."""
    parts: list[str] = []
    for key, arms in QUEUE.grouped(Settings).items():
        settings = Settings.model_validate(next(iter(arms.values()))[0]["settings"])
        compared = Measured(settings, settings.test_pairs)
        test = judged_pairs(taosr1.shop_of(settings.shop.model_dump_json()), "test", settings.test_pairs, seed=0)
        gold, weights = test.gold, resampled(test.rows)
        others = against.split(",")
        rows = [["arm", "seeds", "macro-F1", "accuracy", *(f"minus {o}" for o in others), "minutes"]]
        details: list[list[str]] = []
        by_kinds = [["arm minus rag_grpo", *KINDS]]
        for arm in [a for a in ARMS if a in arms]:
            results = arms[arm]
            values = compared.values(results)
            gaps = [compared.difference(results, arms.get(o, [])) if arm != o else "-" for o in others]
            rows.append([
                arm, str(len(results)), interval(values),
                f"{np.mean([r['accuracy'] for r in results]):.3f}", *gaps,
                f"{np.mean([r['minutes'] for r in results]):.1f}",
            ])  # fmt: skip
            if arm != "rag_grpo":
                by_kinds.append([arm, *kind_gaps(results, arms.get("rag_grpo", []), gold, weights)])
            each = [by_kind(r, gold) for r in results]
            means = (np.mean([e.get(name, np.nan) for e in each]) for name in DETAILS)
            details.append([arm, *("-" if np.isnan(one) else f"{one:.3f}" for one in means)])
        told = changes(settings, Settings()) or "default"
        tables = (rows, [["arm", *DETAILS], *details], by_kinds, choices(arms, compared))
        parts += [f"**{told}** (settings `{key}`)", *(markdown(rows) for rows in tables if len(rows) > 1)]
    parts += collapses(QUEUE, Settings)
    put("\n\n".join(parts), write, BEGIN, END)


DETAILS = (*KINDS, *(f"knowledge, {kind}" for kind in KINDS[:3]), "use", "used or not",
           *(f"use, {kind}" for kind in KINDS[:3]))  # fmt: skip

if __name__ == "__main__":
    app()
