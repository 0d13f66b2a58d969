"""When to trust a retrieved text: SFT, RAG SFT, RAG DPO, RAG GRPO, DyKnow-RAG and its controls, on the shop.

python benchmarks/context_arms.py run --seeds 0                     one JSON per (arm, seed); several processes may work
python benchmarks/context_arms.py run --seeds 0,1,2 --arms rag_sft,rag_grpo,dyknow
python benchmarks/context_arms.py check --judge DIR --name NAME     one judge, each kind of text in turn
python benchmarks/context_arms.py table --write                     benchmarks/results/context_arms.md

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

from goodrate.evaluation.classification import FAILED
from goodrate.evaluation.significance import Interval
from goodrate.learning.collapse import Collapsed
from goodrate.recipes import judge_context
from goodrate.recipes.judge_context import ContextPrompt
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.context import ContextFinder, ContextText, joined
from goodrate.relevance.rationale import CONTEXT_STEP, Rationale
from goodrate.run_folder import write_atomic
from goodrate.shop.knowledge import HEARSAY, kind_of, standard_text, use_of
from goodrate.shop.queries import Standard
from goodrate.shop.shop import Shop, ShopSettings
from lib import shop_arms
from lib.judging import label_scores, open_judge, with_contexts
from lib.queue import ByArm, Job, Queue, Results, changes, experiment, settings_key
from lib.shop_arms import NANO, ArmSettings, Run, macro_f1_of
from lib.shop_data import JudgedPairs, judged_pairs, shop_of
from lib.statistics import MacroF1, as_digits, from_digits, quantiles, resampled, shared_seeds
from lib.tables import add_table, arm_table, averaged, markdown, minus, shown

QUEUE, CHECKS = Queue("context_arms"), Queue("context_check")
KINDS = ("helpful", "irrelevant", "misleading", "none")  # none: nothing was found
TOP = 3


class Settings(ArmSettings):
    """Those of all judge arms, with few labels, and what these methods add."""

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
    **{f"{arm}/without": Arm("rag", method, tested="hidden") for arm, method in
       (("rag_sft", ""), ("rag_grpo", "grpo"), ("dyknow", "dyknow"))},
}  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """The best texts of every query, best first, as places in the shop's corpus; seed: of the shuffling."""

    shop: Shop
    places: dict[int, list[int]]
    seed: int

    def of(self, q: int, reads: str) -> list[int]:
        """What a query's prompts hold."""
        if reads in ("none", "hidden"):
            return []
        other = self._shuffled[q] if reads == "shuffled" else q
        return self.places[other][: TOP if reads == "top3" else 1]

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
    """The texts of all queries, searched once for each shop and corpus and stored in the work folder."""
    searched = repr([[query.text for query in shop.queries], shop.corpus])
    key = f"{settings_key(shop.settings)}-{hashlib.sha256(searched.encode()).hexdigest()[:8]}"
    stored = QUEUE.work / f"texts-{key}.json"
    if not stored.is_file():
        place = {text.id: n for n, text in enumerate(shop.corpus)}
        finder = ContextFinder([ContextText(t.id, t.text) for t in shop.corpus], QUEUE.work / f"texts-{key}")
        places = [[place[text.id] for text in finder.find(query.text, TOP)] for query in shop.queries]
        write_atomic(stored, json.dumps(places))
    return Texts(shop, dict(enumerate(json.loads(stored.read_text(encoding="utf-8")))), seed)


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
    s, hidden = run.settings, replace(run, reads="hidden")
    examples = shop_arms.with_reasons(run, run.reasoned)
    if run.reads not in ("none", "hidden"):
        drawn = random.Random(run.seed)
        both = zip(examples, shop_arms.with_reasons(hidden, run.reasoned), strict=True)
        examples = [without if drawn.random() < s.bare else with_text for with_text, without in both]
    return shop_arms.sft(run, NANO, examples, run.work / f"sft-{run.reads}", s.sft_seconds, s.sft_rate, s.sft_updates)


def both_prompts(run: ContextRun) -> list[ContextPrompt]:
    """The labelled prompts without their texts, and with them."""
    full, bare = run.prompts(run.labelled), replace(run, reads="hidden").prompts(run.labelled)
    kinds = [run.texts.kind(q, run.reads) for q in run.labelled.rows.tolist()]
    return [
        ContextPrompt(p.example_id, p.prefix, p.suffix, p.label, with_text.prefix, kind)
        for p, with_text, kind in zip(bare, full, kinds, strict=True)
    ]


def trained(run: ContextRun, name: str, arm: Arm) -> Path:
    """The judge of an arm."""
    begins = replace(run, reads="none") if arm.start == "sft" else run
    # A shuffled text is worth nothing: the judge that meets it has learned from texts that were retrieved.
    begins = replace(begins, reads="retrieved") if begins.reads == "shuffled" else begins
    judge = start(begins)
    if arm.start == "dpo":
        judge = shop_arms.dpo(run, run.work / f"dpo-{run.reads}", judge)
    out = run.work / f"{arm.method}-{name.replace('/', '-').removesuffix('-without')}"
    if arm.method == "grpo":
        return shop_arms.grpo(run, out, judge)
    if arm.method == "dyknow":
        settings = judge_context.Settings(**shop_arms.grpo_settings(run, judge), **arm.change)
        return judge_context.train(settings, both_prompts(run), out)
    return judge


def measure(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    arm, settings = ARMS[job.arm], job.settings
    plain = shop_arms.run_of(QUEUE, settings, "reason_first", job.seed)  # type: ignore[arg-type]
    run = ContextRun(**plain.__dict__, texts=texts_of(plain.shop, job.seed), reads=arm.reads)
    try:
        folder = trained(run, job.arm, arm)
    except Collapsed as error:
        return {"collapsed": str(error)}
    test = judged_pairs(plain.shop, "test", settings.test_pairs, seed=0)  # type: ignore[attr-defined]
    return {**measured(run, test, folder, arm.tested or arm.reads), "training": shop_arms.trace(folder.parent)}


def measured(run: ContextRun, test: JudgedPairs, folder: Path, reads: str) -> dict[str, Any]:
    """Scores of a judge folder that reads these texts, and what it states of every one of them."""
    rows, query = test.rows.tolist(), run.shop.queries
    pairs = with_contexts(test.pairs, [run.texts.line(q, reads) for q in rows])
    verdicts = open_judge(folder).judge(pairs, reasons=True)
    predicted = np.asarray([FAILED if verdict.label is None else verdict.label for verdict in verdicts])
    known = [verdict.inconsistent for verdict in verdicts if verdict.inconsistent is not None]
    return {
        **label_scores(run.shop, test, predicted),
        "kinds": "".join(run.texts.kind(q, reads if reads in ("shuffled", "top3") else "retrieved")[0] for q in rows),
        "worth": "".join(use_of(query[q], run.texts.kind(q, reads))[0] for q in rows),
        "said": "".join(_stated_use(verdict.reason) for verdict in verdicts),
        "knowledge": "".join("k" if query[q].family == "knowledge" else "-" for q in rows),
        "inconsistent": float(np.mean(known)) if known else None,
    }


def _stated_use(reason: str | None) -> str:
    """First letter of the use that a reason states, "x" where it states none."""
    lines = [line for line in (reason or "").splitlines() if line.startswith(f"{CONTEXT_STEP} ")]
    return lines[0].split()[1][:1] if lines and len(lines[0].split()) == 2 else "x"


app = experiment(__doc__, QUEUE, Settings, tuple(ARMS), measure)


class Check(BaseModel):
    """What decides the numbers of `check`."""

    judge: str
    pairs: int
    shop: ShopSettings


READINGS = {
    "nothing": "nothing", "right": "the standard, right", "hearsay": "another value of its attribute, as hearsay",
    "wrong": "the same, without the mark", "advertisement": "an advertisement",
    "elsewhere": "hearsay of another attribute",
}  # fmt: skip


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
    texts = (None, standard_text(world, standard), HEARSAY + wrong, wrong, ads[0], elsewhere)
    return dict(zip(READINGS, texts, strict=True))


def checked_pairs(settings: Check) -> tuple[JudgedPairs, list[int]]:
    """The test pairs of the shop, and which of them, of knowledge queries, are asked."""
    shop = shop_of(settings.shop)
    test = judged_pairs(shop, "test", 100_000, seed=0)
    knowledge = [n for n, q in enumerate(test.rows.tolist()) if shop.queries[q].family == "knowledge"]
    return test, np.random.default_rng(0).permutation(knowledge)[: settings.pairs].tolist()


@app.command()
def check(
    judge: Annotated[Path, typer.Option(help="A judge folder.")],
    name: Annotated[str, typer.Option(help="Of the result.")],
    pairs: Annotated[int, typer.Option(help="Test pairs of knowledge queries.")] = 250,
) -> None:
    """Whether labels of knowledge queries hang on the text: one judge, the same pairs, each text in turn."""
    settings, loaded = Check(judge=name, pairs=pairs, shop=Settings().shop), open_judge(judge)
    test, chosen = checked_pairs(settings)
    texts = {int(test.rows[n]): standard_texts(shop_of(settings.shop), int(test.rows[n])) for n in chosen}

    def measure_reading(job: Job) -> dict[str, Any]:
        read = with_contexts([test.pairs[n] for n in chosen], [texts[int(test.rows[n])][job.arm] for n in chosen])
        labels = np.asarray([FAILED if verdict.label is None else verdict.label for verdict in loaded.judge(read)])
        right = labels == test.gold[chosen]
        return {"accuracy": float(right.mean()), "right": right.astype(int).tolist(), "predicted": as_digits(labels)}

    CHECKS.run([Job(reading, 0, settings) for reading in READINGS], measure_reading)


def readings() -> list[str]:
    """The table of `check`: mean over judges that were asked the same pairs."""
    groups: dict[str, ByArm] = {}
    for result in CHECKS.results():
        alike = Check.model_validate({**result["settings"], "judge": ""}).model_dump_json()
        groups.setdefault(alike, {}).setdefault(result["arm"], []).append(result)
    parts: list[str] = []
    for alike, arms in groups.items():
        test, chosen = checked_pairs(Check.model_validate_json(alike))
        weights = resampled(test.rows[chosen])
        right = {arm: np.mean([one["right"] for one in results], axis=0) for arm, results in arms.items()}
        rows = [["text in the prompt", "accuracy", "minus nothing"]]
        for arm in [arm for arm in READINGS if arm in right]:
            gap = quantiles((weights @ (right[arm] - right["nothing"])) / weights.sum(1))
            rows.append([READINGS[arm], f"{right[arm].mean():.3f}", "-" if arm == "nothing" else shown(gap, "+.3f")])
        count = f"{len(chosen)} test pairs of knowledge queries, {len(arms['nothing'])} judges that saw no text"
        parts += [f"**Whether the text matters** ({count} in training)", markdown(rows)]
    return parts


def by_kind(result: Mapping[str, Any], gold: np.ndarray) -> dict[str, float]:
    """Accuracy by what the retrieved text is worth, on all and on knowledge queries, and of the stated use."""
    right = from_digits(result["predicted"]) == gold
    kinds, knowledge, worth, use = (np.asarray(list(result[n])) for n in ("kinds", "knowledge", "worth", "said"))
    parts = {kind: (right, kinds == kind[0]) for kind in KINDS}
    parts |= {f"knowledge, {kind}": (right, (kinds == kind[0]) & (knowledge == "k")) for kind in KINDS[:3]}
    if (use != "x").any():
        same, ignored, with_text = use == worth, (use == "i") == (worth == "i"), kinds != "n"
        parts |= {"use": (same, with_text), "used or not": (ignored, with_text & (use != "x"))}
        parts |= {f"use, {kind}": (same, kinds == kind[0]) for kind in KINDS[:3]}
    return {name: float(one[mask].mean()) if mask.any() else float("nan") for name, (one, mask) in parts.items()}


def kind_gaps(arm: Results, other: Results, gold: np.ndarray, weights: np.ndarray) -> list[Interval | None]:
    """Accuracy of `arm` minus that of `other` by what the text is worth, over the seeds of both, 95 % over queries.

    weights: (B + 1, N), the first row the sample itself. Nothing where the two read other texts.
    """
    both = shared_seeds(arm, other)
    if not both[0] or arm[0]["kinds"] != other[0]["kinds"]:
        return [None] * len(KINDS)
    ours, theirs = (np.mean([from_digits(r["predicted"]) == gold for r in results], axis=0) for results in both)
    kinds = np.asarray(list(arm[0]["kinds"]))
    parts = [weights * (kinds == kind[0]) for kind in KINDS]
    return [quantiles(part @ (ours - theirs) / np.maximum(part.sum(axis=1), 1e-12)) for part in parts]


def perfect_choice(arm: Results, without: Results) -> Results:
    """Results of an arm whose judge reads helpful texts and no others, as nobody knows them: a ceiling of choosing."""
    bare, results = {one["seed"]: one["predicted"] for one in without}, []
    for one in [one for one in arm if one["seed"] in bare]:
        labels = zip(one["kinds"], one["predicted"], bare[one["seed"]], strict=True)
        results.append({"seed": one["seed"], "predicted": "".join(a if k == "h" else b for k, a, b in labels)})
    return results


def choices(arms: ByArm, compared: MacroF1) -> list[list[str]]:
    """One row per arm that was tested without its texts, too: macro-F1 with, without, and with a perfect choice."""
    rows = [["arm", "seeds", "without texts, minus with", "perfect choice, minus with"]]
    for arm in [a for a in ARMS if f"{a}/without" in arms and a in arms]:
        best = perfect_choice(arms[arm], arms[f"{arm}/without"])
        gaps = (shown(compared.difference(other, arms[arm]), "+.3f") for other in (arms[f"{arm}/without"], best))
        rows.append([arm, str(len(best)), *gaps])
    return rows


DETAILS = (*KINDS, *(f"knowledge, {kind}" for kind in KINDS[:3]), "use", "used or not",
           *(f"use, {kind}" for kind in KINDS[:3]))  # fmt: skip


def render() -> str:
    """Macro-F1, paired differences, accuracy by kind of text and of the stated use, means over seeds."""
    parts: list[str] = []
    for key, arms in QUEUE.by_settings(Settings).items():
        settings = Settings.model_validate(next(iter(arms.values()))[0]["settings"])
        compared = macro_f1_of(settings, settings.test_pairs)
        test = judged_pairs(shop_of(settings.shop), "test", settings.test_pairs, seed=0)
        weights, details, by_kinds = resampled(test.rows), [["arm", *DETAILS]], [["arm minus rag_grpo", *KINDS]]
        for arm in [a for a in ARMS if a in arms]:
            each = [by_kind(r, test.gold) for r in arms[arm]]
            means = (np.mean([e.get(name, np.nan) for e in each]) for name in DETAILS)
            details.append([arm, *("-" if np.isnan(one) else f"{one:.3f}" for one in means)])
            if arm != "rag_grpo":
                gaps = kind_gaps(arms[arm], arms.get("rag_grpo", []), test.gold, weights)
                by_kinds.append([arm, *(shown(gap, "+.3f") for gap in gaps)])
        scores = {"macro-F1": lambda r, c=compared: shown(c.level(r)), **averaged({"accuracy": "accuracy"})}
        scores |= {**minus(arms, ("rag_sft", "rag_grpo"), compared), **averaged({"minutes": "minutes"}, ".1f")}
        parts += [f"**{changes(settings)}** (settings `{key}`)", arm_table(arms, ARMS, scores)]
        parts += [markdown(rows) for rows in (details, by_kinds, choices(arms, compared)) if len(rows) > 1]
    return "\n\n".join([*parts, *QUEUE.collapses(Settings), *readings()])


add_table(app, "context_arms", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
