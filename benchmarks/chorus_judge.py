"""A judge on human labels (Chorus): trained on half the query groups, measured on the judged lists of the others.

python benchmarks/chorus_judge.py --seeds 0,1,2,3,4     one JSON per (arm, seed) in benchmarks/results/chorus_judge
python benchmarks/chorus_judge.py --judge silver        on silver pairs too; grpo: and then by GRPO; guided: by GRPO
                                                        with guided replay; cross: MiniLM as a cross-encoder
python benchmarks/chorus_table.py                       the table of all that is there

A result whose settings are unchanged is not made again; a run that was cut off goes on where it was. Results hold
numbers only, no text of the data.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from chorus_data import Chorus, cosines, lexical_scores, load, minilm_folder, movable, silver_pairs
from goodrate.evaluation.classification import area_under_curve, classify, constant_label, with_intervals
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, bootstrap_over_groups
from goodrate.evaluation.systems import Task, random_runs
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import GRADED_0_3 as SCALE
from goodrate.settings import settings_hash

RESULTS = Path(__file__).parent / "results" / "chorus_judge"
WORK = Path(__file__).parents[1] / "runs" / "chorus_judge"
FREE = ("random", "constant", "bm25", "cosine")  # arms that learn nothing: one seed
WEIGHTS = (0.03, 0.1, 0.3, 1.0)
ARMS = (*FREE, *(f"{sum_}{judge}" for judge in ("judge", "judge_silver", "judge_grpo", "judge_guided", "cross_encoder")
                 for sum_ in ("", "cosine+")))  # fmt: skip


class Settings(BaseModel):
    """All that decides the numbers. The hash of it names the result."""

    model_config = ConfigDict(extra="forbid")
    split_seed: int = 0
    item_chars: int = 120
    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 32
    max_tokens: int = 80
    label_weight: float = 1.0

    arm: ClassVar[str] = "judge"


class SilverSettings(Settings):
    """The judge trained on silver pairs too: query words out of titles, see chorus_data.silver_pairs."""

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


class CrossSettings(Settings):
    """MiniLM reads query and item together, with a classifier of the grades on top. Rate and epochs chosen on dev."""

    epochs: int = 6
    learning_rate: float = 2e-4

    arm: ClassVar[str] = "cross_encoder"


JUDGES: dict[str, type[Settings]] = {
    "labels": Settings, "silver": SilverSettings, "grpo": GrpoSettings, "guided": GuidedSettings,
    "cross": CrossSettings,
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
    """Make the results that are not there yet."""
    import torch

    torch.set_num_threads(threads)
    settings = JUDGES[judge].model_validate(dict(text.split("=", 1) for text in change or []))
    chorus = load(settings.split_seed, settings.item_chars)
    for arm in FREE:
        if part == "test" and not result_file(arm, 0, settings, part).is_file():
            start = time.perf_counter()
            keep(arm, 0, settings, part, free_arm(chorus, arm, part), start)
    for seed in [int(text) for text in seeds.split(",")]:
        if not result_file(f"cosine+{settings.arm}", seed, settings, part).is_file():
            judge_seed(chorus, settings, seed, part)


def judge_seed(chorus: Chorus, settings: Settings, seed: int, part: str) -> None:
    """Train one judge and keep its result and that of its sum with the cosine."""
    start = time.perf_counter()
    probabilities = judge_of(chorus, settings, seed)
    p = probabilities(part)
    gain, positive = SCALE.expected_gain(p), p[:, SCALE.is_positive].sum(axis=1)
    if not result_file(settings.arm, seed, settings, part).is_file():  # its minutes are those of the training
        keep(settings.arm, seed, settings, part, measured(chorus, part, gain, positive, p.argmax(axis=1)), start)
    dev_gain, dev_cosine = SCALE.expected_gain(probabilities("dev")), cosines(chorus, "dev")
    weight = chosen_weight(chorus, dev_cosine, dev_gain)
    together = cosines(chorus, part) + weight * gain
    limit = threshold(chorus, dev_cosine + weight * dev_gain)
    found = {"weight": weight, **measured(chorus, part, together, together, None, limit)}
    keep(f"cosine+{settings.arm}", seed, settings, part, found, start)


def judge_of(chorus: Chorus, settings: Settings, seed: int) -> Callable[[str], np.ndarray]:
    """The trained arm: part -> probabilities (N, L) of its pairs."""
    if isinstance(settings, CrossSettings):
        from chorus_cross import train_cross_encoder

        told = settings.model_dump(include={"epochs", "learning_rate", "batch_size", "max_tokens"})
        pairs = [(query, chorus.texts[item], label) for query, item, label in chorus.rows("train")]
        score = train_cross_encoder(pairs, len(SCALE), seed, **told)
        return lambda part: score([(query, chorus.texts[item]) for query, item, _ in chorus.rows(part)])
    folder = trained(chorus, settings, seed)
    if isinstance(settings, GrpoSettings):
        folder = reinforced(chorus, settings, folder, seed)
    return lambda part: judged(chorus, folder, part)


def reinforced(chorus: Chorus, settings: GrpoSettings, start: Path, seed: int) -> Path:
    """The folder of the judge after GRPO; a run that was cut off goes on."""
    from goodrate.examples.prompts import JudgePrompt
    from goodrate.learning.fit import FitSettings
    from goodrate.learning.policy_terms import PolicyTermSettings
    from goodrate.learning.rollout_source import RolloutSettings
    from goodrate.models.adapter import LoraSettings
    from goodrate.recipes import judge_grpo, judge_guided
    from goodrate.relevance.prompts import judge_prompt

    prompts = [
        JudgePrompt(f"{query}/{item}", *judge_prompt(query, chorus.texts[item], template="nano"), label)
        for query, item, label in chorus.rows("train")
    ]
    told: dict[str, Any] = {
        "judge": str(start), "optimizer": "adamw", "learning_rate": settings.grpo_rate, "lora": LoraSettings(),
        "loss": PolicyTermSettings(kl=settings.kl),
        "rollouts": RolloutSettings(prompts=settings.prompts, max_new_tokens=8),
        "fit": FitSettings(updates=settings.updates, seed=seed),
    }  # fmt: skip
    if isinstance(settings, GuidedSettings):
        recipe, out = judge_guided.Settings(**told, weights=None), WORK / f"{settings_hash(settings)}-{seed}-guided"
        return judge_guided.train(recipe, prompts, out, print_record)
    out = WORK / f"{settings_hash(settings)}-{seed}-grpo"
    return judge_grpo.train(judge_grpo.Settings(**told), prompts, out, print_record)


def chosen_weight(chorus: Chorus, cosine: np.ndarray, gain: np.ndarray) -> float:
    """The weight of the judge beside the cosine (both lie in 0..1) with the best nDCG@10 on dev, the smaller of equals.

    cosine, gain: (N,) scores of the dev pairs.
    """
    rows, qrels = chorus.rows("dev"), movable(chorus.parts["dev"])

    def ndcg(weight: float) -> float:
        table = evaluate_run(_run(rows, cosine + weight * gain), qrels, SCALE, ["ndcg@10"], judged_only=True)
        return float(np.nanmean(numbers(table, "ndcg@10")))

    return max(WEIGHTS, key=lambda weight: (round(ndcg(weight), 6), -weight))


def threshold(chorus: Chorus, dev_scores: np.ndarray) -> float:
    """The score from which a pair is called good: the best F1 on dev."""
    good = SCALE.is_positive[[label for _, _, label in chorus.rows("dev")]]
    return max(np.unique(dev_scores), key=lambda limit: good_f1(good, dev_scores >= limit))


def good_f1(good: np.ndarray, called: np.ndarray) -> float:
    """F1 of (N,) bool against bool, 0 without a hit."""
    return float(2 * (good & called).sum() / max(1, good.sum() + called.sum()))


def trained(chorus: Chorus, settings: Settings, seed: int) -> Path:
    """The folder of a trained judge; a run that was cut off goes on."""
    from goodrate.examples.prompts import JudgePrompt
    from goodrate.recipes import judge_sft
    from goodrate.recipes.judge_folder import JudgeFormat
    from goodrate.relevance.prompts import judge_prompt
    from goodrate.relevance.rationale import label_text

    examples = [
        JudgePrompt(
            f"{query}/{item}",
            *judge_prompt(query, chorus.texts[item], template="nano"),
            label,
            f"{label_text(label)}\n",
        )  # fmt: skip
        for query, item, label in chorus.rows("train")
    ]
    if isinstance(settings, SilverSettings):
        examples += [
            JudgePrompt(
                f"{query}/silver",
                *judge_prompt(query, text, template="nano"),
                label,
                f"{label_text(label)}\n",
                settings.silver_weight,
            )  # fmt: skip
            for query, text, label in silver_pairs(chorus, settings.silver, seed)
        ]
    recipe = judge_sft.Settings(
        model=str(decoder_folder(seed)),
        format=JudgeFormat(scale=SCALE.name, template="nano", item_form="text", max_new_tokens=8),
        **settings.model_dump(include={"epochs", "learning_rate", "batch_size", "max_tokens", "label_weight"}),
        fit=judge_sft.FitSettings(seed=seed),
    )
    return judge_sft.train(recipe, examples, WORK / f"{settings_hash(supervised(settings))}-{seed}", print_record)


def supervised(settings: Settings) -> Settings:
    """The settings of the supervised part alone."""
    kind = SilverSettings if isinstance(settings, SilverSettings) else Settings
    return kind.model_validate(settings.model_dump(include=set(kind.model_fields)))


def print_record(record: Any) -> None:
    """One line of a training's progress."""
    print(json.dumps(record, default=str)[:160], flush=True)


def decoder_folder(seed: int) -> Path:
    """MiniLM as a causal LM. The package has no language-model head, so its transform starts as identity + noise."""
    import torch

    from goodrate.models.causal_lm import CausalLM
    from goodrate.run_folder import new_folder

    folder = WORK / f"minilm-decoder-{seed}"
    if not folder.is_dir():
        torch.manual_seed(seed)
        model = CausalLM.load(minilm_folder(), precision="fp32")
        dense = model.network.cls.predictions.transform.dense
        with torch.no_grad():
            dense.weight.add_(torch.eye(dense.weight.shape[0]))
        with new_folder(folder) as beside:
            model.save(beside)
    return folder


def judged(chorus: Chorus, folder: Path, part: str) -> np.ndarray:
    """Probabilities (N, L) of the part's pairs."""
    from goodrate.relevance.judge import Judge, Pair

    p = Judge.load(folder).probabilities([Pair(query, chorus.texts[item]) for query, item, _ in chorus.rows(part)])
    assert not np.isnan(p).any(), "a prompt did not fit"
    return p


def free_arm(chorus: Chorus, arm: str, part: str) -> dict[str, Any]:
    """The numbers of an arm that learns nothing."""
    if arm == "random":
        task = Task(chorus.parts[part].queries(), chorus.parts[part].qrels(), judged_only=True)
        return measured(chorus, part, random_runs(task, [], orders=200).runs, None, None)
    if arm == "constant":
        label = constant_label([label for _, _, label in chorus.rows("train")])
        same = np.zeros(len(chorus.rows(part)))
        return measured(chorus, part, same, same, np.full(len(same), label))
    score = cosines if arm == "cosine" else _bm25
    scores = score(chorus, part)
    return measured(chorus, part, scores, scores, None, threshold(chorus, score(chorus, "dev")))


def _bm25(chorus: Chorus, part: str) -> np.ndarray:
    return lexical_scores(chorus, part, WORK / "lexical-index")


def measured(
    chorus: Chorus,
    part: str,
    order: Any,
    score: np.ndarray | None,
    labels: np.ndarray | None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Numbers of one arm: nDCG@10 per query that an order can change, AUC and F1 of good against bad, label agreement.

    order: scores (N,) or a list of runs. score: (N,) of good against bad. labels: (N,) predicted positions. limit: the
    score from which a pair is called good, for arms that predict no labels.
    """
    rows, qrels = chorus.rows(part), movable(chorus.parts[part])
    runs = order if isinstance(order, list) else [_run(rows, order)]
    tables = [numbers(evaluate_run(run, qrels, SCALE, ["ndcg@10"], judged_only=True), "ndcg@10") for run in runs]
    ndcg = np.mean(tables, axis=0)
    found: dict[str, Any] = {
        "pairs": len(rows),
        "queries": len(chorus.parts[part].queries()),
        "ndcg@10": bootstrap_interval(ndcg).as_dict(),
        "ndcg@10_by_query": [round(float(value), 6) for value in ndcg],
    }
    gold = np.asarray([label for _, _, label in rows])
    groups = [query for query, _, _ in rows]
    good = SCALE.is_positive[gold]
    if score is not None:
        auc = bootstrap_over_groups(lambda rows: area_under_curve(good[rows], score[rows]), groups)
        found["auc"] = auc.as_dict()
    if score is not None and limit is not None:
        called = score >= limit
        f1 = bootstrap_over_groups(lambda rows: good_f1(good[rows], called[rows]), groups)
        found["good_f1"] = f1.as_dict()
    if labels is not None:
        found["labels"] = classify(gold, labels, SCALE).as_dict()
        found |= {name: value.as_dict() for name, value in with_intervals(gold, labels, SCALE, groups).items()}
    return found


def _run(rows: list[tuple[str, str, int]], scores: np.ndarray) -> dict[str, list[tuple[str, float]]]:
    """The scores as a run."""
    run: dict[str, list[tuple[str, float]]] = {}
    for (query, item, _), score in zip(rows, scores.tolist(), strict=True):
        run.setdefault(query, []).append((item, score))
    return run


def result_file(arm: str, seed: int, settings: Settings, part: str) -> Path:
    """Where a result lies: named by arm, part, seed and the settings that matter to the arm."""
    shared = Settings(split_seed=settings.split_seed, item_chars=settings.item_chars)
    return RESULTS / f"{arm}-{part}-seed{seed}-{settings_hash(shared if arm in FREE else settings)}.json"


def keep(arm: str, seed: int, settings: Settings, part: str, found: dict[str, Any], start: float) -> None:
    """Write a result with what it takes to make it again."""
    about = {
        "arm": arm, "seed": seed, "part": part, "settings": settings.model_dump(), **code_versions(),
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "minutes": round((time.perf_counter() - start) / 60, 2),
    }  # fmt: skip
    path = result_file(arm, seed, settings, part)
    write_atomic(path, json.dumps({**about, **found}, indent=1) + "\n")
    print(path.name, {name: round(found[name]["value"], 4) for name in ("ndcg@10", "auc", "macro_f1") if name in found})


if __name__ == "__main__":
    app()
