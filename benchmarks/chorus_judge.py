"""A judge on human labels (Chorus): trained on half the query groups, measured on the judged lists of the others.

python benchmarks/chorus_judge.py run --seeds 0,1,2,3,4    one JSON per (arm, seed) in benchmarks/results/chorus_judge
python benchmarks/chorus_judge.py run --judge silver       on silver pairs too; grpo: and then by GRPO; guided: by GRPO
                                                           with guided replay
python benchmarks/chorus_judge.py table --write            benchmarks/results/chorus_judge.md

A result whose settings are unchanged is not computed again; a run that was cut off goes on where it was. Results hold
numbers only, no text of the data. The arm cross_encoder (MiniLM reads query and item in one row) is of this script at
commit 27add66.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from goodrate.evaluation import significance
from goodrate.evaluation.classification import area_under_curve, classify, constant_label, with_intervals
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, bootstrap_over_groups
from goodrate.evaluation.systems import Task, random_runs
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.scale import GRADED_0_3 as SCALE
from goodrate.settings import settings_hash
from lib import chorus_arms
from lib.chorus_arms import Chorus, as_run, cosines, minilm_folder, movable
from lib.queue import Job, Queue, Results
from lib.statistics import shared_seeds
from lib.tables import add_table, markdown, mean, shown

QUEUE = Queue("chorus_judge")
FREE = ("random", "constant", "bm25", "cosine")  # arms that learn nothing: one seed
WEIGHTS = (0.03, 0.1, 0.3, 1.0)
ARMS = (*FREE, *(f"{sum_}{judge}" for judge in ("judge", "judge_silver", "judge_grpo", "judge_guided", "cross_encoder")
                 for sum_ in ("", "cosine+")))  # fmt: skip


class Settings(BaseModel):
    """All that decides the numbers. The hash of it names the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    split_seed: int = 0
    item_chars: int = 120
    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 32
    max_tokens: int = 80
    label_weight: float = 1.0

    arm: ClassVar[str] = "judge"


class SilverSettings(Settings):
    """The judge trained on silver pairs too: query words out of titles, see lib.chorus_arms.silver_pairs."""

    silver: int = 3000
    silver_weight: float = 0.5
    epochs: int = 2

    arm: ClassVar[str] = "judge_silver"


class GrpoSettings(SilverSettings):
    """The same judge, then GRPO with an adapter on the labels of the training queries."""

    updates: int = 60
    grpo_rate: float = 3e-4
    prompts: int = 32
    kl: float = 0.02

    arm: ClassVar[str] = "judge_grpo"


class GuidedSettings(GrpoSettings):
    """As GRPO, with guided replay: stuck prompts are asked again with their label as a hint (nobody knows steps)."""

    arm: ClassVar[str] = "judge_guided"


JUDGES: dict[str, type[Settings]] = {
    "labels": Settings, "silver": SilverSettings, "grpo": GrpoSettings, "guided": GuidedSettings,
}  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    seeds: Annotated[str, typer.Option(help="Of the judge: 0,1,2,3,4.")] = "0,1,2,3,4",
    part: Annotated[str, typer.Option(help="What is measured: test, or dev for screening.")] = "test",
    change: Annotated[list[str] | None, typer.Option("--set", help="A setting to change: epochs=2.")] = None,
    judge: Annotated[str, typer.Option(help=f"Of {', '.join(JUDGES)}.")] = "labels",
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
) -> None:
    """Compute the results that are not there yet."""
    import torch

    torch.set_num_threads(threads)
    settings = JUDGES[judge].model_validate(dict(text.split("=", 1) for text in change or []))
    arms = [(arm, int(seed)) for seed in seeds.split(",") for arm in (settings.arm, f"cosine+{settings.arm}")]
    free = [(arm, 0) for arm in FREE if part == "test"]
    QUEUE.run([job_of(arm, seed, settings, part) for arm, seed in [*free, *arms]], lambda job: measure(job, part))


def job_of(arm: str, seed: int, settings: Settings, part: str) -> Job:
    """A result is named by arm, part, seed and the settings that matter to the arm."""
    shared = Settings(split_seed=settings.split_seed, item_chars=settings.item_chars)
    name = f"{arm}-{part}-seed{seed}-{settings_hash(shared if arm in FREE else settings)}"
    return Job(arm, seed, settings, name)


@functools.cache
def chorus_of(split_seed: int, item_chars: int) -> Chorus:
    """The data, read once."""
    return chorus_arms.load(split_seed, item_chars)


def measure(job: Job, part: str) -> dict[str, Any]:
    """The numbers of an arm on a part."""
    settings = job.settings
    assert isinstance(settings, Settings)
    chorus = chorus_of(settings.split_seed, settings.item_chars)
    if job.arm in FREE:
        return {"part": part, **free_arm(chorus, job.arm, part)}
    probabilities = judge_of(settings, job.seed)
    p = probabilities(part)
    gain, positive = SCALE.expected_gain(p), p[:, SCALE.is_positive].sum(axis=1)
    if not job.arm.startswith("cosine+"):
        return {"part": part, **measured(chorus, part, gain, positive, p.argmax(axis=1))}
    dev_gain, dev_cosine = SCALE.expected_gain(probabilities("dev")), cosines(chorus, "dev")
    weight = chosen_weight(chorus, dev_cosine, dev_gain)
    together = cosines(chorus, part) + weight * gain
    limit = threshold(chorus, dev_cosine + weight * dev_gain)
    return {"part": part, "weight": weight, **measured(chorus, part, together, together, None, limit)}


@functools.cache
def judge_of(settings: Settings, seed: int) -> Callable[[str], np.ndarray]:
    """The trained arm: part -> probabilities (N, L) of its pairs."""
    chorus = chorus_of(settings.split_seed, settings.item_chars)
    folder = trained(chorus, settings, seed)
    if isinstance(settings, GrpoSettings):
        folder = reinforced(chorus, settings, folder, seed)

    def probabilities(part: str) -> np.ndarray:
        p = open_judge(folder).pair_probabilities(chorus.pairs(part))
        assert not np.isnan(p).any(), "a prompt did not fit"
        return p

    return probabilities


FORM = JudgeFormat(scale=SCALE.name, template="nano", item_form="text", max_new_tokens=8)


def trained(chorus: Chorus, settings: Settings, seed: int) -> Path:
    """The folder of a trained judge; a run that was cut off goes on."""
    from goodrate.recipes import judge_sft

    kind, pairs = Settings, chorus.pairs("train")
    if isinstance(settings, SilverSettings):
        kind = SilverSettings  # of the supervised part alone
        pairs += chorus_arms.silver_pairs(chorus, settings.silver, seed, settings.silver_weight)
    recipe = judge_sft.Settings(
        model=str(decoder_folder(seed)), format=FORM, fit=judge_sft.FitSettings(seed=seed),
        **settings.model_dump(include={"epochs", "learning_rate", "batch_size", "max_tokens", "label_weight"}),
    )  # fmt: skip
    own = kind.model_validate(settings.model_dump(include=set(kind.model_fields)))
    prompts, _ = judge_prompts(CausalLM.load(recipe.model), pairs, FORM, label_completions=True)
    return judge_sft.train(recipe, prompts, QUEUE.work / f"{settings_hash(own)}-{seed}", print_record)


def reinforced(chorus: Chorus, settings: GrpoSettings, start: Path, seed: int) -> Path:
    """The folder of the judge after GRPO; a run that was cut off goes on."""
    from goodrate.learning.fit import FitSettings
    from goodrate.learning.policy_terms import PolicyTermSettings
    from goodrate.learning.rollout_source import RolloutSettings
    from goodrate.models.adapter import LoraSettings
    from goodrate.recipes import judge_grpo, judge_guided

    prompts, _ = judge_prompts(CausalLM.load(start), chorus.pairs("train"), FORM)
    how: dict[str, Any] = {
        "judge": str(start), "optimizer": "adamw", "learning_rate": settings.grpo_rate, "lora": LoraSettings(),
        "loss": PolicyTermSettings(kl=settings.kl),
        "rollouts": RolloutSettings(prompts=settings.prompts, max_new_tokens=8),
        "fit": FitSettings(updates=settings.updates, seed=seed),
    }  # fmt: skip
    out = QUEUE.work / f"{settings_hash(settings)}-{seed}-{settings.arm.removeprefix('judge_')}"
    if isinstance(settings, GuidedSettings):
        return judge_guided.train(judge_guided.Settings(**how, weights=None), prompts, out, print_record)
    return judge_grpo.train(judge_grpo.Settings(**how), prompts, out, print_record)


def print_record(record: Any) -> None:
    """One line of a training's progress."""
    print(json.dumps(record, default=str)[:160], flush=True)


def decoder_folder(seed: int) -> Path:
    """MiniLM as a causal LM. The package has no language-model head, so its transform starts as identity + noise."""
    import torch

    from goodrate.run_folder import new_folder

    folder = QUEUE.work / f"minilm-decoder-{seed}"
    if not folder.is_dir():
        torch.manual_seed(seed)
        model = CausalLM.load(minilm_folder(), precision="fp32")
        dense = model.network.cls.predictions.transform.dense
        with torch.no_grad():
            dense.weight.add_(torch.eye(dense.weight.shape[0]))
        with new_folder(folder) as beside:
            model.save(beside)
    return folder


def free_arm(chorus: Chorus, arm: str, part: str) -> dict[str, Any]:
    """The numbers of an arm that learns nothing."""
    if arm == "random":
        task = Task(chorus.parts[part].queries(), chorus.parts[part].qrels(), judged_only=True)
        return measured(chorus, part, random_runs(task, [], orders=200).runs, None, None)
    if arm == "constant":
        label = constant_label([label for _, _, label in chorus.rows("train")])
        same = np.zeros(len(chorus.rows(part)))
        return measured(chorus, part, same, same, np.full(len(same), label))
    lexical = functools.partial(chorus_arms.lexical_scores, folder=QUEUE.work / "lexical-index")
    score = cosines if arm == "cosine" else lexical
    scores = score(chorus, part)
    return measured(chorus, part, scores, scores, None, threshold(chorus, score(chorus, "dev")))


def ndcg_of(chorus: Chorus, part: str, order: Any) -> np.ndarray:
    """nDCG@10 of every query that an order can change. order: scores (N,) of the pairs, or a run."""
    run = order if isinstance(order, dict) else as_run([row[:2] for row in chorus.rows(part)], order)
    return numbers(evaluate_run(run, movable(chorus.parts[part]), SCALE, ["ndcg@10"], judged_only=True), "ndcg@10")


def chosen_weight(chorus: Chorus, cosine: np.ndarray, gain: np.ndarray) -> float:
    """The weight of the judge beside the cosine (both lie in 0..1) with the best nDCG@10 on dev, the smaller of equals.

    cosine, gain: (N,) scores of the dev pairs.
    """
    values = {weight: float(np.nanmean(ndcg_of(chorus, "dev", cosine + weight * gain))) for weight in WEIGHTS}
    return max(WEIGHTS, key=lambda weight: (round(values[weight], 6), -weight))


def threshold(chorus: Chorus, dev_scores: np.ndarray) -> float:
    """The score from which a pair is called good: the best F1 on dev."""
    good = SCALE.is_positive[[label for _, _, label in chorus.rows("dev")]]
    return max(np.unique(dev_scores), key=lambda limit: good_f1(good, dev_scores >= limit))


def good_f1(good: np.ndarray, called: np.ndarray) -> float:
    """F1 of (N,) bool against bool, 0 without a hit."""
    return float(2 * (good & called).sum() / max(1, good.sum() + called.sum()))


def measured(chorus: Chorus, part: str, order: Any, score: np.ndarray | None, labels: np.ndarray | None,
             limit: float | None = None) -> dict[str, Any]:  # fmt: skip
    """Numbers of one arm: nDCG@10 per query that an order can change, AUC and F1 of good against bad, label agreement.

    order: scores (N,) or a list of runs. score: (N,) of good against bad. labels: (N,) predicted positions. limit: the
    score from which a pair is called good, for arms that predict no labels.
    """
    ndcg = np.mean([ndcg_of(chorus, part, one) for one in (order if isinstance(order, list) else [order])], axis=0)
    groups, gold = [query for query, _, _ in chorus.rows(part)], np.asarray([row[2] for row in chorus.rows(part)])
    good = SCALE.is_positive[gold]
    measures: dict[str, Any] = {
        "pairs": len(gold),
        "queries": len(chorus.parts[part].queries()),
        "ndcg@10": bootstrap_interval(ndcg).as_dict(),
        "ndcg@10_by_query": [round(float(value), 6) for value in ndcg],
    }
    if score is not None:
        auc = bootstrap_over_groups(lambda rows: area_under_curve(good[rows], score[rows]), groups)
        measures["auc"] = auc.as_dict()
    if score is not None and limit is not None:
        called = score >= limit
        f1 = bootstrap_over_groups(lambda rows: good_f1(good[rows], called[rows]), groups)
        measures["good_f1"] = f1.as_dict()
    if labels is not None:
        measures["labels"] = classify(gold, labels, SCALE).as_dict()
        measures |= {name: value.as_dict() for name, value in with_intervals(gold, labels, SCALE, groups).items()}
    return measures


def by_query(results: Results) -> np.ndarray:
    """nDCG@10 (Q,) of every query, mean over seeds."""
    return np.mean([r["ndcg@10_by_query"] for r in results], axis=0)


def gap(results: Results, base: Results) -> str:
    """The paired difference and its p; an arm that learns nothing has one seed, which stands for all."""
    if results is base or not base:
        return "-"
    free = any(arm[0]["arm"] in FREE for arm in (results, base))
    ours, theirs = (results, base) if free else shared_seeds(results, base)
    if not ours or not shared_seeds(results, base)[0]:
        return "-"
    difference = significance.paired_bootstrap_difference(by_query(ours), by_query(theirs))
    p = significance.paired_randomisation(by_query(ours), by_query(theirs))
    return f"{shown(difference, '+.3f')}, p {p:.4f}"


def mean_interval(results: Results, name: str) -> str:
    """The mean over seeds of a value and of the ends of its interval over queries."""
    present = [r[name] for r in results if name in r]
    if not present or present[0]["value"] is None:
        return "-"
    value, low, high = (np.mean([one[end] for one in present]) for end in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


AGAINST = ("cosine", "judge_grpo")


def rows_of(part: str) -> list[list[str]]:
    """One row per arm and settings; seeds are averaged per query before the interval over queries is taken."""
    groups: dict[tuple[int, str], Results] = {}
    for path in sorted(QUEUE.folder.glob(f"*-{part}-seed*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        groups.setdefault((ARMS.index(result["arm"]), path.stem.rpartition("-")[2]), []).append(result)
    bases = [next((r for key, r in groups.items() if ARMS[key[0]] == base), []) for base in AGAINST]
    minus = [f"minus {base}" for base in AGAINST]
    rows = [["arm", "settings", "seeds", "nDCG@10", *minus, "AUC", "F1 good", "accuracy", "macro-F1", "minutes"]]
    for key in sorted(groups):
        results = groups[key]
        rows.append([
            ARMS[key[0]], key[1], str(len(results)), shown(bootstrap_interval(by_query(results))),
            *(gap(results, base) for base in bases),
            *(mean_interval(results, name) for name in ("auc", "good_f1", "accuracy", "macro_f1")),
            mean(results, "minutes", ".1f"),
        ])  # fmt: skip
    return rows


def render() -> str:
    """Order, agreement and paired differences on the test queries, then on dev."""
    return "\n\n".join(part for name in ("test", "dev") for part in (f"**{name} queries**", markdown(rows_of(name))))


add_table(app, "chorus_judge", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
