"""When to trust a retrieved text: SFT, RAG SFT, RAG DPO, RAG GRPO, DyKnow-RAG and its controls, on the shop.

python benchmarks/context_arms.py run --seeds 0                     one JSON per (arm, seed); several processes may work
python benchmarks/context_arms.py run --seeds 0,1,2 --arms rag_sft,rag_grpo,dyknow
python benchmarks/context_arms.py table --write                     benchmarks/results/context_arms.md

The shop has two fifths knowledge queries, whose label hangs on a standard that only a text tells; test names standards
that no training query does. Each query's text is the best of the shop's corpus by the house's retrieval; what it is
worth (helpful, irrelevant, misleading) follows from the truth. All arms of a seed read the same pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict

from goodrate.evaluation.significance import Interval
from goodrate.examples.contexts import ContextTexts, QueryContext, with_contexts
from goodrate.examples.settings import PairChoice
from goodrate.examples.shop_pairs import ShopPairs, sample_shop_pairs
from goodrate.examples.sources import shop_data
from goodrate.learning.collapse import Collapsed
from goodrate.recipes import judge_context
from goodrate.relevance.context import joined
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import CONTEXT_STEP
from goodrate.relevance.verdicts import Verdict
from goodrate.shop.knowledge import use_of
from goodrate.shop.shop import Shop, ShopSettings
from lib import shop_arms
from lib.judging import contradictions, label_scores, labels_of, stated_steps
from lib.queue import ByArm, Job, Queue, Results, changes, experiment
from lib.shop_arms import NANO, ArmSettings, Run, macro_f1_of
from lib.shop_data import shop_of
from lib.statistics import MacroF1, from_digits, quantiles, resampled, shared_seeds
from lib.tables import add_table, arm_table, averaged, markdown, minus, shown

QUEUE = Queue("context_arms")
KINDS = ("helpful", "irrelevant", "misleading", "none")  # none: nothing was found
COUNTS = {"none": 0, "top3": 3}  # texts in a prompt, else one


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
class ShuffledTexts(ContextTexts):
    """The best texts of another query in place of the query's own. partner: query -> that other one."""

    partner: Mapping[str, str] = field(default_factory=dict)

    def of(self, query: str, count: int) -> QueryContext:
        """They, and what the best of them is worth for the query itself."""
        texts = self.finder.find(self.partner[query], count)
        kind, use = self.worth(query, texts[0]) if texts else ("", self.hidden.use)
        return QueryContext(joined(texts), kind, use)


def partners(shop: Shop, seed: int) -> dict[str, str]:
    """Another query of the same split for every query."""
    rng = np.random.default_rng([seed, 83])
    splits = [np.flatnonzero(shop.split == part) for part in np.unique(shop.split)]
    pairs = [pair for part in splits for pair in zip(part.tolist(), rng.permutation(part).tolist(), strict=True)]
    return {shop.queries[own].text: shop.queries[other].text for own, other in pairs}


@functools.cache
def shop_texts(settings: str) -> ContextTexts:
    """The texts of a shop as training reads them. settings: of the shop, as JSON."""
    contexts = shop_data(shop_of(ShopSettings.model_validate_json(settings)), PairChoice()).contexts
    assert contexts is not None
    return contexts


@dataclass(frozen=True)
class ContextRun(Run):
    """A run whose prompts hold texts. reads: none (no judge of texts), hidden, retrieved, shuffled or top3."""

    reads: str

    @property
    def form(self) -> JudgeFormat:
        """Also: how many texts its judge reads."""
        return super().form.model_copy(update={"contexts": COUNTS.get(self.reads, 1)})

    def with_texts(self, pairs: list[JudgedPair], reads: str, hidden: float = 0.0) -> list[JudgedPair]:
        """The pairs with their texts. hidden: the share of them that shows none."""
        texts = shop_texts(self.shop.settings.model_dump_json())
        if reads == "shuffled":
            texts = ShuffledTexts(texts.texts, texts.worth, partner=partners(self.shop, self.seed))
        return with_contexts(pairs, texts, COUNTS.get(reads, 1), 1.0 if reads == "hidden" else hidden, self.seed)


def start(run: ContextRun) -> Path:
    """The SFT judge that reads as the run does; it has seen a share of its prompts without their text."""
    s, pairs = run.settings, run.with_texts(run.reasoned, run.reads, run.settings.bare)
    out = run.work / f"sft-{run.reads}"
    return shop_arms.sft(run, NANO, run.prompts(pairs), out, s.sft_seconds, s.sft_rate, s.sft_updates)


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
        return judge_context.train(settings, run.label_prompts(run.labelled, both_views=True), out)
    return judge


def measure(job: Job) -> dict[str, Any]:
    """Train the arm and measure it on the test pairs."""
    arm, settings = ARMS[job.arm], job.settings
    plain = shop_arms.run_of(QUEUE, settings, "reason_first", job.seed)  # type: ignore[arg-type]
    run = ContextRun(**plain.__dict__, reads=arm.reads)
    run = replace(run, labelled=run.with_texts(run.labelled, arm.reads))
    try:
        folder = trained(run, job.arm, arm)
    except Collapsed as error:
        return {"collapsed": str(error)}
    test = sample_shop_pairs(plain.shop, "test", settings.test_pairs, seed=0)  # type: ignore[attr-defined]
    return {**measured(run, test, folder, arm.tested or arm.reads), "training": shop_arms.trace(folder.parent)}


def measured(run: ContextRun, test: ShopPairs, folder: Path, reads: str) -> dict[str, Any]:
    """Scores of a judge folder that reads these texts, and what it states of every one of them."""
    queries, judge = [run.shop.queries[q] for q in test.queries.tolist()], open_judge(folder)
    shown_pairs = run.with_texts(test.pairs, reads)
    retrieved = run.with_texts(test.pairs, reads if reads in ("shuffled", "top3") else "retrieved")
    verdicts = judge.pair_verdicts(shown_pairs, reasons=True)
    known = contradictions(verdicts)
    return {
        **label_scores(run.shop, test, labels_of(verdicts, judge.scale)),
        "kinds": "".join((pair.context_kind or "none")[0] for pair in retrieved),
        "worth": "".join(use_of(q, pair.context_kind)[0] for q, pair in zip(queries, shown_pairs, strict=True)),
        "said": "".join(stated_use(verdict) for verdict in verdicts),
        "knowledge": "".join("k" if query.family == "knowledge" else "-" for query in queries),
        "inconsistent": float(np.mean(known)) if known else None,
    }


def stated_use(verdict: Verdict) -> str:
    """First letter of the use that a reason states, "x" where it states none."""
    words = stated_steps(verdict).get(CONTEXT_STEP, "").split()
    return words[1][:1] if len(words) == 2 else "x"


app = experiment(__doc__, QUEUE, Settings, tuple(ARMS), measure)


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
        test = sample_shop_pairs(shop_of(settings.shop), "test", settings.test_pairs, seed=0)
        weights, details, by_kinds = resampled(test.queries), [["arm", *DETAILS]], [["arm minus rag_grpo", *KINDS]]
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
    return "\n\n".join([*parts, *QUEUE.collapses(Settings)])


add_table(app, "context_arms", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
