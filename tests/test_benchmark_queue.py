"""The experiments' queue: made once, named by settings, claimed by one process, kept with what made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import context_arms  # noqa: E402
import retrieval_grpo  # noqa: E402
import taosr1  # noqa: E402
from goodrate.evaluation.classification import classify  # noqa: E402
from goodrate.evaluation.significance import Interval  # noqa: E402
from goodrate.scale import FOUR_LEVEL  # noqa: E402
from goodrate.shop.shop import ShopSettings  # noqa: E402
from lib import retrieval_tables, shop_arms, statistics  # noqa: E402
from lib.forest import Row, as_rows  # noqa: E402
from lib.queue import Job, Queue, changes  # noqa: E402
from lib.shop_data import retrieval_ground  # noqa: E402


class Settings(BaseModel):
    rate: float = 0.1


def test_a_result_is_made_once_and_other_settings_are_another_result(tmp_path: Path) -> None:
    queue = Queue("toy", tmp_path / "results", tmp_path / "runs")
    computed: list[str] = []

    def measure(job: Job) -> dict[str, float]:
        computed.append(job.name)
        return {"accuracy": 0.5}

    jobs = [Job("a/b", seed, Settings(rate=rate)) for seed in (0, 1) for rate in (0.1, 0.2)]
    queue.run(jobs[:2], measure)
    queue.run(jobs, measure)
    assert computed == [job.name for job in jobs] and len(set(computed)) == 4
    result = json.loads(queue.path(jobs[1]).read_text())
    assert (result["arm"], result["seed"], result["settings"], result["accuracy"]) == ("a/b", 0, {"rate": 0.2}, 0.5)
    assert {"commit", "hardware", "minutes", "torch"} <= {*result, *result["versions"]}
    assert len(queue.results()) == 4 and queue.by_arm().keys() == {"a/b"}
    assert [len(arms["a/b"]) for arms in queue.by_settings(Settings).values()] == [2, 2]
    assert changes(Settings(rate=0.2)) == "--set rate=0.2" and changes(Settings()) == "default"


def test_every_stored_result_is_named_by_its_settings() -> None:
    """A queue that named one otherwise would compute it again."""
    named = [(taosr1.QUEUE, taosr1.Settings), (context_arms.QUEUE, context_arms.Settings)]
    for queue, settings_type in [*named, (retrieval_grpo.QUEUE, retrieval_grpo.Settings)]:
        paths = sorted(queue.folder.glob("*.json"))
        results = [(path, json.loads(path.read_text())) for path in paths]
        jobs = [(p, Job(r["arm"], r["seed"], settings_type.model_validate(r["settings"]))) for p, r in results]
        assert paths and [path.stem for path, _ in jobs] == [job.name for _, job in jobs]


def test_a_job_that_fails_leaves_no_result_and_one_in_work_is_passed_over(tmp_path: Path) -> None:
    queue, job = Queue("toy", tmp_path / "results", tmp_path / "runs"), Job("a", 0, Settings())

    def fails(job: Job) -> dict[str, float]:
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        queue.run([job], fails)
    assert not queue.path(job).exists()
    other = f"""
import sys; sys.path[:0] = [{str(BENCHMARKS)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_benchmark_queue import Job, Queue, Settings
Queue("toy", Path({str(tmp_path / "results")!r}), Path({str(tmp_path / "runs")!r})).run(
    [Job("a", 0, Settings())], lambda job: 1 / 0)
"""

    def while_another_comes(job: Job) -> dict[str, float]:
        assert subprocess.run([sys.executable, "-c", other], timeout=600).returncode == 0  # it did not make it
        return {"accuracy": 1.0}

    queue.run([job], while_another_comes)
    assert json.loads(queue.path(job).read_text())["accuracy"] == 1.0


def test_the_tables_macro_f1_is_that_of_the_library_under_any_weights() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 4, 200), rng.integers(-1, 4, 200)
    weights = np.stack([np.ones(200), rng.integers(0, 3, 200)]).astype(float)
    values = statistics.macro_f1(statistics.confusions(gold, predicted, weights, 4))
    repeated = np.repeat(np.arange(200), weights[1].astype(int))
    assert values[0] == pytest.approx(classify(gold, predicted, FOUR_LEVEL).macro_f1)
    assert values[1] == pytest.approx(classify(gold[repeated], predicted[repeated], FOUR_LEVEL).macro_f1)


def test_resamples_draw_whole_queries() -> None:
    queries = np.asarray([7, 7, 3, 9, 9, 9])
    weights = statistics.resampled(queries, count=50)
    assert weights.shape == (51, 6) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()  # three queries are drawn


def test_arms_are_settings_that_exist_and_differ() -> None:
    arms = [retrieval_grpo.Settings.model_validate(change) for change in retrieval_grpo.ARMS.values()]
    assert len({one.model_dump_json() for one in arms}) == len(retrieval_grpo.ARMS)
    assert len(set(taosr1.ARMS)) == len(taosr1.ARMS)


def test_the_table_pairs_by_query_over_the_seeds_that_both_arms_have() -> None:
    def result(seed: int, values: str) -> dict[str, Any]:
        return {"seed": seed, "tail": "001", "by_query": {"hitrate@100": values}}

    first = [result(0, "0.5 0.5 nan"), result(1, "0.7 0.7 nan")]
    ours = [result(0, "0.75 0.75 1.0"), result(2, "9 9 9")]
    assert retrieval_tables.values(first, "hitrate@100")[:2].tolist() == pytest.approx([0.6, 0.6])
    assert retrieval_tables.gap(ours, first, "hitrate@100") == "+0.250 (+0.250 to +0.250)"
    assert retrieval_tables.gap(first, first, "hitrate@100") == retrieval_tables.gap(ours, [], "x") == "-"
    assert retrieval_tables.tail(ours).tolist() == [False, False, True]
    spent = [{"seconds": s, "seconds_grading": g, "seconds_refresh": 2.0, "judged": 30_000, "distinct": 30_000}
             for s, g in ((40.0, 30.0), (100.0, 60.0))]  # fmt: skip
    row = retrieval_tables.costs({"grpo": [{"cost": one} for one in spent]})[1]
    # the quietest: 40 - 30 seconds, a fifth of them refresh; the judge 30 of 40
    assert row[4:8] == ["10", "20%", "30 s", "75%"]


def test_a_difference_is_over_the_seeds_that_both_arms_have_and_none_without() -> None:
    compared = statistics.MacroF1(np.asarray([0, 0, 1, 1]), np.asarray([0, 1, 2, 3]))
    ours = [{"seed": 0, "predicted": "0011"}, {"seed": 1, "predicted": "xxxx"}]
    theirs = [{"seed": 0, "predicted": "1100"}]
    gap = compared.difference(ours, theirs)
    assert gap is not None and (gap.value, gap.low, gap.high) == (1.0, 1.0, 1.0)  # 1 - 0; seed 1 is ours alone
    assert compared.level(ours).value == 0.5  # (1 + 0) / 2
    assert compared.difference(ours, ours) is None and compared.difference(ours, []) is None


def test_forest_rows_keep_their_groups_and_fall_within_them() -> None:
    rows = [
        Row(group, method, "SFT", seeds, {"macro-F1": Interval(value, value - 0.1, value + 0.1, 9)})
        for group, method, seeds, value in (("b", "x", 3, 0.1), ("a", "y", 1, 0.3), ("b", "z", 3, 0.2))
    ]
    assert [row[:4] for row in as_rows(rows)[1:]] == [
        ["b", "z", "SFT", "3"], ["b", "x", "SFT", "3"], ["a", "y", "SFT", "1"]
    ]  # fmt: skip
    assert as_rows(rows)[1][4] == "+0.200 (+0.100 to +0.300)"


def test_a_wrong_pair_of_the_noisy_reward_is_always_wrong_in_the_same_way() -> None:
    ground = retrieval_ground(300, 60)
    settings = retrieval_grpo.Settings(reward="noise", noise=0.3, shop_items=300, shop_queries=60)
    noisy, truth = (
        retrieval_grpo.relevance(settings.model_copy(update={"reward": kind}), 0, ground) for kind in ("noise", "truth")
    )
    rows, items = np.repeat(np.arange(20), 300), np.tile(np.arange(300), 20)
    values = noisy(rows, items)
    assert (values == noisy(rows, items)).all()
    # 0.3 are drawn anew from four grades: some of them fall on the true one
    assert 0.1 < (values != truth(rows, items)).mean() < 0.3


def test_accuracy_by_what_the_text_is_worth_and_of_what_is_said_of_it() -> None:
    found = {"predicted": "3x10", "kinds": "hhmn", "knowledge": "k-k-", "worth": "upii", "said": "uuix"}
    scores = context_arms.by_kind(found, np.asarray([3, 1, 0, 0]))
    assert (scores["helpful"], scores["misleading"], scores["none"]) == (0.5, 0.0, 1.0)
    assert (scores["knowledge, helpful"], scores["knowledge, misleading"]) == (1.0, 0.0)
    # Of the three with a text: used, partly used and ignored were right; it said used, used and ignored.
    assert (scores["use"], scores["used or not"]) == (pytest.approx(2 / 3), 1.0)
    assert "use" not in context_arms.by_kind({**found, "said": "xxxx"}, np.asarray([3, 1, 0, 0]))


def test_shuffled_texts_are_those_of_other_queries_of_the_same_split(tmp_path: Path) -> None:
    settings = context_arms.Settings(shop=ShopSettings(items=300, queries=60, knowledge_share=0.5), rationales=20)
    plain = shop_arms.run_of(Queue("toy", tmp_path, tmp_path), settings, "reason_first", 1)
    run, shop = context_arms.ContextRun(**plain.__dict__, reads="shuffled"), plain.shop
    split = {query.text: part for query, part in zip(shop.queries, shop.split.tolist(), strict=True)}
    partner = context_arms.partners(shop, 1)
    assert sorted(partner) == sorted(partner.values()) and all(split[q] == split[p] for q, p in partner.items())
    assert sum(q == p for q, p in partner.items()) < 6
    texts = {pair.query: pair for pair in run.with_texts(run.reasoned, "retrieved")}
    for pair in run.with_texts(run.reasoned, "shuffled"):
        other = texts.get(partner[pair.query])
        assert pair.context and (other is None or pair.context == other.context)
        assert pair.reason and (pair.reason.context == "ignore") == (pair.context_kind != "helpful")
    hidden = run.with_texts(run.reasoned, "hidden")
    assert {(pair.context, pair.reason.context if pair.reason else None) for pair in hidden} == {(None, "ignore")}
    assert run.with_texts(run.reasoned, "none") == run.reasoned and run.form.contexts == 1
    longer = [
        (len(many.context or ""), len(texts[many.query].context or ""))
        for many in run.with_texts(plain.reasoned, "top3")
    ]
    assert all(many >= one for many, one in longer) and any(many > one for many, one in longer)


def test_arms_learn_from_pairs_apart_and_label_arms_from_no_reason(tmp_path: Path) -> None:
    settings = shop_arms.ArmSettings(shop=ShopSettings(items=300, queries=60), rationales=5, labels=7)
    run = shop_arms.run_of(Queue("toy", tmp_path, tmp_path), settings, "reason_first", 0)
    reasoned, labelled = ({(pair.query, pair.item_id) for pair in part} for part in (run.reasoned, run.labelled))
    assert (len(reasoned), len(labelled)) == (5, 7) and not reasoned & labelled
    assert all(prompt.completion is None and not prompt.steps for prompt in run.label_prompts(run.labelled))
    assert [p.completion for p in run.label_answers(run.labelled)] == [f"{pair.label + 1}\n" for pair in run.labelled]
    for prompt, pair in zip(run.prompts(run.reasoned), run.reasoned, strict=True):
        assert prompt.completion and prompt.completion.endswith(f"\n{pair.label + 1}\n") and prompt.steps


def test_every_arm_of_context_choice_names_a_known_start_and_method() -> None:
    for arm in context_arms.ARMS.values():
        assert arm.start in ("sft", "rag", "dpo") and arm.method in ("", "grpo", "dyknow")
        assert {arm.reads, arm.tested or arm.reads} <= {"none", "hidden", "retrieved", "shuffled", "top3"}
        assert arm.method == "dyknow" or not arm.change
