"""TaoSR1 on the shop: SFT, DPO, GRPO and the controls without which a gain means nothing.

python benchmarks/taosr1.py run --seeds 0,1,2                 one JSON per (arm, seed) in benchmarks/results/taosr1
python benchmarks/taosr1.py run --seeds 0 --arms label_first/grpo,label_first/labels
python benchmarks/taosr1_table.py                             the tables of docs/experiments.md from all that is there

All arms of an order start from one SFT judge per seed; it reads few pairs with their reasons, the later stages read the
labels of other pairs. Several processes may work on the queue.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from experiment import Job, Queue, add_run, settings_key
from goodrate.demo.stages import JudgedPairs, judged_pairs
from goodrate.evaluation.classification import classify, constant_label, likeliest
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.collapse import Collapsed
from goodrate.learning.fit import FitSettings
from goodrate.learning.policy_terms import PolicyTermSettings
from goodrate.learning.preferences import PreferenceTermSettings
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.judge_rollouts import PairSampling, sample_rollouts
from goodrate.relevance.listing import listing
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import Rationale, label_text, parse, step_lines, write
from goodrate.run_folder import RunFolder
from goodrate.shop.gates import pairs_of, shortcuts
from goodrate.shop.shop import Shop, ShopSettings, generate

QUEUE = Queue("taosr1")
TEST_PAIRS, DEV_PAIRS, REASONS, PASSED = 4000, 1000, 1000, 250  # REASONS: pairs whose steps are decoded
TRIVIAL = ("constant", "bag_of_words")


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    shop: ShopSettings = ShopSettings(items=5000, queries=2000)
    rationales: int = 300
    labels: int = 12000
    sft_seconds: float = 100.0
    stage_seconds: float = 400.0
    sft_rate: float = 1e-3
    continued_rate: float = 3e-4
    dpo_prompts: int = 3000
    dpo_optimizer: Literal["adamw", "muon"] = "muon"
    dpo_rate: float = 3e-4
    dpo_nll: float = 0.0
    grpo_optimizer: Literal["adamw", "muon"] = "muon"
    grpo_rate: float = 1e-3
    grpo_kl: float = 0.02
    reduction: Literal["sequence_mean", "token_mean"] = "sequence_mean"
    rollouts: RolloutSettings = RolloutSettings(screening=2, oversampling=3.0)
    pool_confidence: float = 1.0
    max_new_tokens: int = 96
    rules: int | None = None  # retrieved rules in every prompt
    sft_updates: int | None = None  # in place of sft_seconds, for machines that others use, too
    stage_updates: int | None = None  # in place of stage_seconds


@dataclass(frozen=True)
class Part:
    """Query and item positions of pairs, and their labels."""

    rows: np.ndarray
    items: np.ndarray
    gold: np.ndarray


@dataclass(frozen=True)
class Run:
    """What the stages of one (settings, order, seed) work on."""

    settings: Settings
    order: str
    seed: int
    shop: Shop
    reasoned: Part
    labelled: Part
    work: Path

    @property
    def form(self) -> JudgeFormat:
        """What this order's judge reads and writes."""
        s, book = self.settings, self.shop.book.hash
        given = {"order": self.order, "rule_book_hash": book, "max_new_tokens": s.max_new_tokens, "rules": s.rules or 0}
        return JudgeFormat.model_validate(given)

    @functools.cached_property
    def finder(self) -> Any:
        """What finds the rules for the prompts, None where they hold none."""
        return self.form.finder()

    def prompt(self, q: int, i: int) -> tuple[str, str]:
        """The prompt of a pair."""
        query = self.shop.queries[q]
        rules = self.finder.line(query.text, query.facts) if self.finder else ""
        item = listing(self.shop.records[i])
        return judge_prompt(query.text, item, query.facts, self.context(q), self.form.template, rules)

    def context(self, q: int) -> str | None:
        """The retrieved text in the prompts of a query; none here."""
        return None

    def rationale(self, q: int, i: int) -> Rationale:
        """The true steps of a pair."""
        return self.shop.rationale(q, i)

    @property
    def stage(self) -> FitSettings:
        """The budget of a stage after SFT."""
        s = self.settings
        told: dict[str, Any] = {"updates": s.stage_updates} if s.stage_updates else {"seconds": s.stage_seconds}
        return FitSettings(**told, seed=self.seed)

    def prompts(self, part: Part) -> list[JudgePrompt]:
        """Prompts with their gold labels."""
        pairs = zip(part.rows.tolist(), part.items.tolist(), part.gold.tolist(), strict=True)
        return [JudgePrompt(f"{q}-{i}", *self.prompt(q, i), label) for q, i, label in pairs]

    def reasons(self, part: Part) -> dict[str, str]:
        """The true completions by example_id."""
        pairs = zip(part.rows.tolist(), part.items.tolist(), strict=True)
        return {f"{q}-{i}": write(self.rationale(q, i), self.order) for q, i in pairs}


@functools.cache
def shop_of(settings: str) -> Shop:
    """A shop by its settings as JSON."""
    return generate(ShopSettings.model_validate_json(settings))


def begun(settings: Settings, order: str, seed: int) -> Run:
    """The run's data: which pairs bring reasons and which bring labels is drawn with the seed."""
    shop = shop_of(settings.shop.model_dump_json())
    rows, items, gold = pairs_of(shop, "train")
    drawn = np.random.default_rng([seed, 71]).permutation(len(rows))
    few, many = drawn[: settings.rationales], drawn[settings.rationales : settings.rationales + settings.labels]
    reasoned, labelled = (Part(rows[chosen], items[chosen], gold[chosen]) for chosen in (few, many))
    return Run(settings, order, seed, shop, reasoned, labelled, QUEUE.work / f"{settings_key(settings)}-{seed}")


def sft(run: Run, model: Path, examples: list[JudgePrompt], out: Path, seconds: float, rate: float,
        updates: int | None = None, form: JudgeFormat | None = None) -> Path:  # fmt: skip
    """Supervised training, with the optimizer and batch of the demo."""
    budget: dict[str, Any] = {"updates": updates} if updates else {"seconds": seconds}
    recipe = judge_sft.Settings(
        model=str(model), format=form or run.form, optimizer="muon", learning_rate=rate, batch_size=32,
        micro_tokens=4096, label_weight=8.0, epochs=1000, fit=FitSettings(**budget, seed=run.seed),
    )  # fmt: skip
    return judge_sft.train(recipe, examples, out)


def with_reasons(run: Run, part: Part) -> list[JudgePrompt]:
    """Prompts with the true completion."""
    reasons = run.reasons(part)
    return [replace(p, completion=reasons[p.example_id]) for p in run.prompts(part)]


def with_labels(run: Run, part: Part) -> list[JudgePrompt]:
    """Prompts with the label alone."""
    return [replace(p, completion=f"{label_text(p.label)}\n") for p in run.prompts(part)]


def start(run: Run) -> Path:
    """The SFT judge that all stages of an order start from."""
    s, out = run.settings, run.work / f"{run.order}-sft"
    return sft(run, Path("nano"), with_reasons(run, run.reasoned), out, s.sft_seconds, s.sft_rate)


def label_only(run: Run, out: Path) -> Path:
    """SFT on the labels of the reasoned pairs, no reasons at all."""
    return sft(run, Path("nano"), with_labels(run, run.reasoned), out, run.settings.sft_seconds, run.settings.sft_rate)


def continued(run: Run, out: Path) -> Path:
    """More SFT on the same reasoned pairs, as long as a stage takes."""
    examples, s = with_reasons(run, run.reasoned), run.settings
    return sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate)


def labels(run: Run, out: Path) -> Path:
    """SFT on the labels that DPO and GRPO see, as long as a stage takes. A judge that says nothing but the label."""
    examples, s = with_labels(run, run.labelled), run.settings
    form = run.form.model_copy(update={"order": "label_first"})
    return sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate, form=form)


def labels_once(run: Run, out: Path) -> Path:
    """SFT on the labels of as many prompts as GRPO sampled from, each read once."""
    grpo(run, run.work / f"{run.order}-grpo")
    records = RunFolder(run.work / f"{run.order}-grpo").metrics()
    each = np.mean([record["sampled_groups"] for record in records])
    updates = max(1, round(each * records[-1]["update"] / 32))
    examples, form = with_labels(run, run.labelled), run.form.model_copy(update={"order": "label_first"})
    return sft(run, start(run), examples, out, 0.0, run.settings.continued_rate, updates, form)


def oracle(run: Run, out: Path) -> Path:
    """SFT on the true reasons of the pairs of which DPO and GRPO see the label: what nobody has on own data."""
    examples, s = with_reasons(run, run.labelled), run.settings
    return sft(run, start(run), examples, out, s.stage_seconds, s.continued_rate)


def dpo(run: Run, out: Path, judge: Path | None = None) -> Path:
    """Pass@N DPO, from SFT or from another judge; its seconds are those of sampling and training together.

    Two epochs: on dev 2, 4 and 8 had macro-F1 0.854, 0.842 and 0.829; 4 and 8 with nll 0.2 had 0.844 and 0.835.
    """
    s, prompts = run.settings, run.prompts(run.labelled)[: run.settings.dpo_prompts]
    recipe = judge_dpo.Settings(
        judge=str(judge or start(run)), optimizer=s.dpo_optimizer, learning_rate=s.dpo_rate, batch_size=64, epochs=2,
        sampling=PairSampling(max_new_tokens=s.max_new_tokens), loss=PreferenceTermSettings(nll=s.dpo_nll),
        fit=run.stage,
    )  # fmt: skip
    return judge_dpo.train(recipe, prompts, out)


def grpo(run: Run, out: Path, judge: Path | None = None) -> Path:
    """GRPO on the labels, from SFT or from another judge."""
    confidence = run.settings.pool_confidence if run.order == "label_first" else 1.0
    recipe = judge_grpo.Settings(**grpo_settings(run, judge or start(run)), pool_confidence=confidence)
    return judge_grpo.train(recipe, run.prompts(run.labelled), out)


def grpo_settings(run: Run, judge: Path) -> dict[str, Any]:
    """What every arm that trains on rollouts is told."""
    s = run.settings
    return {
        "judge": str(judge), "optimizer": s.grpo_optimizer, "learning_rate": s.grpo_rate,
        "loss": PolicyTermSettings(kl=s.grpo_kl, reduction=s.reduction), "rollouts": s.rollouts,
        "fit": run.stage,
    }  # fmt: skip


def dpo_grpo(run: Run, out: Path) -> Path:
    """The whole chain."""
    return grpo(run, out, dpo(run, run.work / f"{run.order}-dpo"))


def rejection(run: Run, out: Path) -> Path:
    """SFT on own samples that got the label right, one a prompt; its seconds are those of sampling and training."""
    samples = RunFolder(run.work / f"{run.order}-rejection-samples")
    if not samples.stage_done("samples"):
        began = time.monotonic()
        kept = right_samples(run)
        samples.write("samples.json", json.dumps([asdict(example) for example in kept]))
        samples.mark_done("samples", {"seconds": time.monotonic() - began})
    kept = [JudgePrompt(**e) for e in json.loads((samples.path / "samples.json").read_text("utf-8"))]
    left = run.settings.stage_seconds - samples.stage_payload("samples")["seconds"]
    return sft(run, start(run), kept, out, left, run.settings.continued_rate)


def right_samples(run: Run) -> list[JudgePrompt]:
    """One right completion of five for every prompt that has one."""
    prompts = run.prompts(run.labelled)[: run.settings.dpo_prompts]
    rollout, model = sample_rollouts(start(run), prompts, 5, run.seed, "rejection")
    kept: dict[int, JudgePrompt] = {}
    for row, (said, place) in enumerate(zip(rollout.parsed, rollout.group.tolist(), strict=True)):
        if place not in kept and said is not None and said.label == prompts[place].label:
            text = model.tokenizer.decode(rollout.completion_ids[row][rollout.mask[row]].tolist()[:-1])
            kept[place] = replace(prompts[place], completion=text)
    return list(kept.values())


def only_start(run: Run, out: Path) -> Path:
    """The SFT judge itself."""
    return start(run)


STAGES: dict[str, Callable[[Run, Path], Path]] = {
    "sft": only_start, "continued": continued, "labels_once": labels_once, "labels": labels, "rejection": rejection,
    "dpo": dpo, "grpo": grpo, "dpo+grpo": dpo_grpo, "oracle": oracle,
}  # fmt: skip
ARMS = (*TRIVIAL, "label_only", *(f"{order}/{stage}" for order in ("label_first", "reason_first") for stage in STAGES))


def make(job: Job) -> dict[str, Any]:
    """Train what the arm needs and measure it on the test pairs."""
    settings = job.settings
    assert isinstance(settings, Settings)
    order, _, stage = job.arm.rpartition("/")
    run = begun(settings, order or "label_first", job.seed)
    test = judged_pairs(run.shop, "test", TEST_PAIRS, seed=0)
    if job.arm in TRIVIAL:
        return scored(run.shop, test, trivial(run, test, job.arm))
    out = run.work / (f"{order}-{stage}" if order else job.arm)
    try:
        folder = STAGES[stage](run, out) if order else label_only(run, out)
    except Collapsed as error:
        return {"collapsed": str(error), "training": trace(out)}
    return {**judged(run, test, folder), "training": trace(folder.parent)}


def trace(folder: Path) -> dict[str, float]:
    """Updates of a training run, and the means of what it logged."""
    records = RunFolder(folder).metrics()
    names = ("label_cv", "share_kept", "share_screened", "sampled_groups", "groups", "kl", "length", "inconsistent")
    known = {name: [r[name] for r in records if name in r and r[name] == r[name]] for name in names}
    means = {name: float(np.mean(values)) for name, values in known.items() if values}
    return {"updates": float(records[-1]["update"]) if records else 0.0, **means}


def trivial(run: Run, test: JudgedPairs, arm: str) -> np.ndarray:
    """Labels of a judge without training worth the name."""
    if arm == "constant":
        return np.full(len(test.gold), constant_label(run.reasoned.gold))
    return shortcuts(run.shop, test.rows, test.items, run.seed)["bag_of_words"]


def judged(run: Run, test: JudgedPairs, folder: Path) -> dict[str, Any]:
    """Scores of a judge folder, and how its reasons stand to its labels."""
    from goodrate.relevance.judge import Judge

    judge = Judge.load(folder)
    p = judge.probabilities(test.pairs)
    predicted = likeliest(p)
    found = {**scored(run.shop, test, predicted), **hallucination(run.shop, test, judge)}
    return {**found, "tiers": tier_scores(run, judge, p, test.gold), "pass_at": passed(run, folder, test)}


def tier_scores(run: Run, judge: Any, probabilities: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Macro-F1 of the three tiers: those of the likeliest label, of CumPT at 0.5, and of CumPT as tuned on dev."""
    from sklearn.metrics import f1_score

    from goodrate.relevance.calibration import softmax
    from goodrate.relevance.tiers import cumpt, tiers_of_labels
    from goodrate.relevance.tuning import tune

    scale, usable = run.shop.book.scale, ~np.isnan(probabilities).any(axis=1)
    dev = judged_pairs(run.shop, "dev", DEV_PAIRS, seed=0)
    card = tune(judge, dev.pairs, dev.gold).card
    tuned = softmax(np.log(np.clip(probabilities[usable], 1e-12, None)), card.temperature / judge.card.temperature)
    tiers = {
        "argmax": tiers_of_labels(probabilities[usable].argmax(axis=1), scale),
        "cumpt_0.5": cumpt(probabilities[usable], scale, 0.5),
        "cumpt_tuned": cumpt(tuned, scale, card.beta_cum),
    }
    wanted = tiers_of_labels(gold[usable], scale)
    scores = {name: float(f1_score(wanted, given, average="macro")) for name, given in tiers.items()}
    return {**scores, "beta_cum": card.beta_cum, "temperature": card.temperature}


def passed(run: Run, folder: Path, test: JudgedPairs) -> dict[str, float]:
    """pass@1..8 on some test prompts. Of a label-first judge it measures the spread of one token, not reasoning."""
    from goodrate.recipes.judge_folder import open_judge
    from goodrate.recipes.judge_rollouts import PairSampling, sample_pairs, tokenize_prompts
    from goodrate.recipes.label_grader import LabelGrader

    model, form, rules = open_judge(folder)
    part = Part(test.rows[:PASSED], test.items[:PASSED], test.gold[:PASSED])
    examples = tokenize_prompts(model, run.prompts(part), form.max_new_tokens)
    how = PairSampling(samples=8, max_new_tokens=form.max_new_tokens)
    _, counts = sample_pairs(model, LabelGrader(form, rules), examples, {}, how, run.seed)
    return {name: value for name, value in counts.items() if name.startswith("pass@")}


def scored(shop: Shop, test: JudgedPairs, predicted: np.ndarray) -> dict[str, Any]:
    """Scores, accuracy by family and on the tail, and every prediction, so that any two arms can be paired."""
    families = np.asarray([shop.queries[q].family for q in test.rows.tolist()])
    tail = np.asarray([shop.queries[q].tail for q in test.rows.tolist()])
    right = predicted == test.gold
    return {
        **classify(test.gold, predicted, shop.book.scale).as_dict(),
        "accuracy_by_family": {f: float(right[families == f].mean()) for f in sorted(set(families.tolist()))},
        "accuracy_tail": float(right[tail].mean()),
        "predicted": "".join("x" if label < 0 else str(label) for label in predicted.tolist()),
    }


def hallucination(shop: Shop, test: JudgedPairs, judge: Any) -> dict[str, Any]:
    """Own steps against the label (inconsistent), and true steps with a wrong label (strict), over readable reasons."""
    chosen = np.random.default_rng(0).permutation(len(test.gold))[:REASONS]
    verdicts = judge.judge([test.pairs[i] for i in chosen], reasons=True)
    known = [v.inconsistent for v in verdicts if v.inconsistent is not None]
    sound, strict = 0, 0
    for i, verdict in zip(chosen.tolist(), verdicts, strict=True):
        if verdict.reason_status != "ok":
            continue
        said = stated(verdict, judge.card.order)
        truth = step_lines(shop.rationale(int(test.rows[i]), int(test.items[i])))
        if all(said.get(step) == truth[step] for step in ("wants", "found", "category", "checks")):
            sound += 1
            strict += verdict.label != test.gold[i]
    return {
        "reasons": len(chosen), "reasons_readable": len(known),
        "inconsistent": float(np.mean(known)) if known else None,
        "sound_steps": sound / len(chosen), "strict_hallucination": strict / max(1, sound),
    }  # fmt: skip


def stated(verdict: Any, order: str) -> dict[str, str]:
    """The lines of a verdict's reason by step; none where it has no label or no reason."""
    if verdict.label is None or verdict.reason is None:
        return {}
    label = label_text(verdict.label)
    text = [label, verdict.reason] if order == "label_first" else [verdict.reason, label]
    return parse("\n".join(text) + "\n", order).steps


app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def main() -> None:
    """See run."""


add_run(app, QUEUE, Settings, ARMS, make)


if __name__ == "__main__":
    app()
