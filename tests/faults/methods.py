"""Trainings of a judge by its own rollouts, as their own tests run them, and logs that grow by one entry a call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenarios import Scenario, of_run

QUICK = {"updates": 4, "precision": "fp32", "schedule": "constant", "checkpoint_updates": 1}
ENTRIES = 60  # of a log, each told to be kept when its call has come back


def make_policies(folder: Path) -> None:
    """Two tiny judges: one that says its steps, one that is unsure of its label."""
    import test_recipes_judge_methods as steps
    import test_recipes_judge_policy as labels

    made = {"judge": steps.judge, "unsure": labels.unsure}
    for name, fixture in made.items():
        beside = folder / f"{name}-made"
        beside.mkdir(parents=True)

        class Made:
            def mktemp(self, _: str, beside: Path = beside) -> Path:
                return beside

        fixture.__wrapped__(Made()).rename(folder / name)


def _rolled(module: str, judge: str = "judge", **changed: Any) -> Scenario:
    """A training of rollouts on prompts of the tests."""

    def act(folder: Path) -> None:
        import importlib

        import test_recipes_judge_methods as steps
        import test_recipes_judge_policy as labels
        from goodrate.examples.prompts import JudgePrompt
        from goodrate.learning.fit import FitSettings
        from goodrate.learning.rollout_source import RolloutSettings
        from goodrate.recipes.judge_rollouts import PairSampling

        recipe = importlib.import_module(f"goodrate.recipes.{module}")
        prompts: Any = labels.prompts() if judge == "unsure" else steps.lamps()
        given: dict[str, Any] = {"judge": str(folder / judge), "learning_rate": 2e-3, "fit": FitSettings(**QUICK)}
        if module == "judge_context":
            shown = [(p, f"{p.prefix}context: red\n") for p in prompts]
            prompts = [JudgePrompt(p.example_id, p.prefix, p.suffix, p.label, context_prefix=text,
                                   context_kind="helpful") for p, text in shown]  # fmt: skip
        if module != "judge_dpo":
            long = 3 if judge == "unsure" else 90
            given["rollouts"] = RolloutSettings(prompts=4, group_size=4, temperature=0.7, max_new_tokens=long)
        else:
            given["sampling"] = PairSampling(samples=6, max_new_tokens=3)
        if module == "judge_guided":
            given["replay"] = steps.REPLAY
        recipe.train(recipe.Settings(**given, **changed), prompts, folder / "run")

    return Scenario(act, lambda folder: of_run(folder / "run"))


def _step_judge(folder: Path) -> None:
    import test_recipes_judge_methods as steps
    from goodrate.learning.fit import FitSettings
    from goodrate.recipes import step_judge

    fit = FitSettings(**{**QUICK, "updates": 12})
    settings = step_judge.Settings(
        model=str(folder / "judge"), batch_size=16, epochs=20, max_tokens=250, samples=3, fit=fit
    )
    step_judge.train(settings, steps.lamps(), folder / "run")


def _curriculum(folder: Path) -> None:
    import test_recipes_judge_methods as steps
    from goodrate.learning.fit import FitSettings
    from goodrate.learning.rollout_source import RolloutSettings
    from goodrate.recipes import judge_curriculum

    stage = judge_curriculum.CurriculumStage
    rollouts = RolloutSettings(prompts=4, group_size=4, temperature=0.7, max_new_tokens=90, oversampling=3)
    stages = [stage(low=0.1, high=1.0, outcome_weight=0.3, critical=False),
              stage(low=0.0, high=1.0, outcome_weight=1.0, critical=True)]  # fmt: skip
    settings = judge_curriculum.Settings(
        judge=str(folder / "judge"), learning_rate=1e-3, rollouts=rollouts, stages=stages,
        fit=FitSettings(updates=4, precision="fp32", checkpoint_updates=1),
    )  # fmt: skip
    judge_curriculum.train(settings, steps.lamps(), folder / "run")


def _base(folder: Path) -> None:
    import test_recipes_language_models as models
    from goodrate.learning.fit import FitSettings
    from goodrate.recipes import base

    fit = FitSettings(updates=30, precision="fp32", checkpoint_updates=4, log_every=1)
    base.train_base(base.Settings(network=models.TINY, batch_size=4, learning_rate=1e-2, fit=fit),
                    models.documents, models.toy_tokenizer(), folder / "run")  # fmt: skip


def _click_index(folder: Path) -> None:
    import test_recipes_click_ranker as clicks
    from goodrate.api.index import Index
    from goodrate.catalog.items import Catalog

    Index.create(folder / "ix", Catalog(clicks.ITEMS))
    clicks.impressions("i07", 1, pages=10).write_parquet(folder / "log.parquet")


def _click_ranker(folder: Path) -> None:
    import goodrate as gr
    import test_recipes_click_ranker as clicks

    gr.train("click_ranker", out=folder / "run", events=folder / "log.parquet", index=folder / "ix",
             **{**clicks.FAST, "epochs": 6, "fit": {"checkpoint_updates": 2}})  # fmt: skip


# ---- logs: whatever was acknowledged is there


def _acknowledged(
    write: Callable[[Path], Callable[[int], object]], entries: int = ENTRIES
) -> Callable[[Path], None]:  # fmt: skip
    """Write so many entries, those of an earlier trial left out, and note each when its call has come back."""

    def act(folder: Path) -> None:
        kept = folder / "acknowledged"
        done = len(kept.read_bytes()) if kept.exists() else 0
        entry = write(folder)
        with open(kept, "ab", buffering=0) as notes:
            for number in range(done, entries):
                entry(number)
                notes.write(b".")
                os.fsync(notes.fileno())

    return act


def _grades(folder: Path) -> Callable[[int], object]:
    from goodrate.scale import FOUR_LEVEL
    from goodrate.serving.workbench.grading import Grading, QueuedPair, Vote
    from goodrate.serving.workbench.store import Workbench

    grading = Grading(Workbench(folder / "team"))
    grading.set_up(FOUR_LEVEL, None)
    grading.add([QueuedPair("red lamp", f"i{n}", f"lamp {n}", "top") for n in range(ENTRIES)])
    places = [row["place"] for row in grading.pairs()]
    return lambda n: grading.vote(Vote(places[n], "ann", "label", FOUR_LEVEL.labels[n % 4], token=f"t{n}"))


def _graded(folder: Path) -> Any:
    from goodrate.serving.workbench.grading import Grading
    from goodrate.serving.workbench.store import Workbench

    votes = Grading(Workbench(folder / "team")).votes("ann")
    return sorted((vote["item_id"], vote["label"]) for vote in votes)


def _weights(folder: Path) -> Callable[[int], object]:
    import numpy as np

    from goodrate.serving.online_weights import ClickSession, OnlineWeights

    online = OnlineWeights(folder / "weights.toml")
    rng = np.random.default_rng(3)
    features = rng.random((ENTRIES, 4, len(online.channels)))

    def learn(number: int) -> None:
        if online.sessions > number:
            return  # was kept, and the process killed before it could be noted
        ids = ["a", "b", "c", "d"]
        session = ClickSession("red lamp", tuple(ids), (1, 2, 3, 4), (ids[number % 4],))
        assert online.learn(session, ids, features[number])

    return learn


def _learned(folder: Path) -> Any:
    from goodrate.serving.online_weights import OnlineWeights

    online = OnlineWeights(folder / "weights.toml")
    lines = [json.loads(line) for line in (folder / "weights.log.jsonl").read_text().splitlines()]
    return {"sessions": online.sessions, "weights": online.weights, "logged": [line["session"] for line in lines]}


def _of_run(act: Callable[[Path], None], before: Callable[[Path], None] | None = None) -> Scenario:
    return Scenario(act, lambda folder: of_run(folder / "run"), before)


# Those that begin with a judge of make_policies.
POLICIES = {
    "judge_grpo", "judge_dpo", "judge_stepwise", "judge_guided", "judge_context", "judge_curriculum", "step_judge",
}  # fmt: skip
METHODS = {
    "judge_grpo": _rolled("judge_grpo", "unsure"),
    "judge_dpo": _rolled("judge_dpo", "unsure"),
    "judge_stepwise": _rolled("judge_stepwise"),
    "judge_guided": _rolled("judge_guided"),
    "judge_context": _rolled("judge_context"),
    "judge_curriculum": _of_run(_curriculum),
    "step_judge": _of_run(_step_judge),
    "base": _of_run(_base),
    "click_ranker": _of_run(_click_ranker, _click_index),
    "grades": Scenario(_acknowledged(_grades), _graded),
    "online_weights": Scenario(_acknowledged(_weights), _learned),
}
