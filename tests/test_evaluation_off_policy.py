"""Off-policy values against known ones: by hand, on a synthetic shop whose true values are known, from files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate.api.policies import evaluate_policy
from goodrate.evaluation.off_policy import off_policy_value
from goodrate.evaluation.policy_log import read_policy_log
from goodrate.evaluation.reward_model import cross_fitted, encoded

ACTIONS = 4


def test_the_three_estimates_by_hand() -> None:
    # weights .2/.4 = .5, .6/.2 = 3, 0/.5 = 0, .9/.9 = 1; weighted rewards .5, 0, 0, 2
    found = off_policy_value(
        [1, 0, 1, 2], [0.4, 0.2, 0.5, 0.9], [0.2, 0.6, 0.0, 0.9],
        predicted=[0.5, 1.0, 0.0, 1.0], predicted_target=[0.25, 0.5, 0.75, 1.0],
    )  # fmt: skip
    assert found.logged.value == 1.0
    assert found.ips.value == pytest.approx(2.5 / 4)
    assert found.snips.value == pytest.approx(2.5 / 4.5)
    # .25 + .5 * .5 = .5; .5 + 3 * -1 = -2.5; .75 + 0; 1 + 1 * 1 = 2
    assert found.dr is not None and found.dr.value == pytest.approx((0.5 - 2.5 + 0.75 + 2) / 4)
    assert found.mean_weight.value == pytest.approx(4.5 / 4)
    assert found.effective_rows == pytest.approx(4.5**2 / (0.25 + 9 + 1))
    assert (found.largest_weight, found.clipped, found.rows, found.groups) == (pytest.approx(3), 0, 4, 4)


def test_clipping_is_counted() -> None:
    found = off_policy_value([1, 0, 1, 2], [0.4, 0.2, 0.5, 0.9], [0.2, 0.6, 0.0, 0.9], clip=0.8)
    # weights .5, .8, 0, .8
    assert found.ips.value == pytest.approx((0.5 + 1.6) / 4) and found.snips.value == pytest.approx(2.1 / 2.1)
    assert (found.clipped, found.clip, found.largest_weight) == (2, 0.8, pytest.approx(3))


def world(rows: int, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Decisions of a logging policy in two contexts, all that is known of them, and the target's true value."""
    rng = np.random.default_rng(seed)
    chance = np.array([[0.05, 0.1, 0.2, 0.4], [0.3, 0.05, 0.1, 0.05]])  # of a reward, by context and action
    logging = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    target = np.array([[0.05, 0.05, 0.2, 0.7], [0.7, 0.1, 0.1, 0.1]])
    share = np.array([0.6, 0.4])
    context = rng.choice(2, rows, p=share)
    action = (rng.random(rows)[:, None] > logging[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(rows) < chance[context, action]).astype(float)
    log = {"context": context, "action": action, "reward": reward, "propensity": logging[context, action],
           "target": target[context, action], "logging": logging, "policy": target}  # fmt: skip
    return log, float((share[:, None] * target * chance).sum())


def test_a_known_value_is_found() -> None:
    log, truth = world(20_000, seed=0)
    assert truth == pytest.approx(0.6 * (0.0025 + 0.005 + 0.04 + 0.28) + 0.4 * (0.21 + 0.005 + 0.01 + 0.005))
    text = pl.DataFrame({"context": log["context"].astype(str)})
    predicted = cross_fitted(encoded(text, 20_000), log["action"], log["reward"], log["policy"], log["context"])
    found = off_policy_value(
        log["reward"], log["propensity"], log["target"], predicted=predicted[0], predicted_target=predicted[1]
    )
    assert found.dr is not None
    for value in (found.ips, found.snips, found.dr):
        assert value.low < truth < value.high and value.high - value.low < 0.04
    assert abs(found.logged.value - truth) > 0.1  # the log's own policy is far worse
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low
    assert found.warnings == []


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(150):
        log, truth = world(800, seed)
        value = off_policy_value(log["reward"], log["propensity"], log["target"], seed=seed, resamples=300).ips
        held.append(value.low <= truth <= value.high)
    assert 0.89 <= np.mean(held) <= 0.99  # 95 % in 150 tries: standard error 1.8 points


def test_snips_forgives_a_wrong_scale_and_dr_wrong_propensities() -> None:
    log, truth = world(20_000, seed=1)
    halved = off_policy_value(log["reward"], log["propensity"], log["target"] / 2)
    assert halved.ips.value == pytest.approx(truth / 2, abs=0.02) and halved.snips.low < truth < halved.snips.high
    assert halved.mean_weight.high < 1 and "the mean weight is 0.4" in halved.warnings[0]
    chance = np.array([[0.05, 0.1, 0.2, 0.4], [0.3, 0.05, 0.1, 0.05]])  # the true rewards
    known, wanted = chance[log["context"], log["action"]], (log["policy"] * chance).sum(axis=1)[log["context"]]
    wrong = off_policy_value(
        log["reward"], np.full(20_000, 0.5), log["target"], predicted=known, predicted_target=wanted
    )
    assert wrong.dr is not None and wrong.dr.low < truth < wrong.dr.high
    assert not wrong.ips.low < truth < wrong.ips.high


def test_groups_are_resampled_whole() -> None:
    log, _ = world(4_000, seed=2)
    ten_times = [np.repeat(log[name], 10) for name in ("reward", "propensity", "target")]
    session = np.repeat(np.arange(4_000), 10)
    once = off_policy_value(log["reward"], log["propensity"], log["target"]).ips
    copied = off_policy_value(*ten_times, groups=session)
    assert copied.groups == 4_000 and copied.rows == 40_000
    assert copied.ips.high - copied.ips.low == pytest.approx(once.high - once.low, rel=0.1)
    rows = off_policy_value(*ten_times).ips
    assert rows.high - rows.low < 0.5 * (once.high - once.low)


def test_a_log_that_lacks_the_target_is_told() -> None:
    log, truth = world(20_000, seed=3)
    kept = log["action"] != 3  # the log never does what the target does most
    found = off_policy_value(log["reward"][kept], log["propensity"][kept], log["target"][kept])
    assert "the log lacks some of what the target does" in found.warnings[0]
    few = off_policy_value([1, 0, 1] * 100, [1e-6, *[0.5] * 299], [0.5] * 300)
    assert any("are worth 1.0 of equal weight" in warning for warning in few.warnings)


def test_the_reward_model_never_sees_its_row() -> None:
    rewards = np.zeros(50)
    rewards[7] = 1.0
    action = np.zeros(50, dtype=int)
    words = encoded(pl.DataFrame({"x": [f"{n}" for n in range(50)]}), 50)
    taken, _ = cross_fitted(words, action, rewards, np.ones((1, 1)), action)
    assert taken[7] < 0.1  # a model that had seen it would know the row by its x
    numbers = encoded(pl.DataFrame({"x": range(50)}), 50)
    real, wanted = cross_fitted(numbers, action, np.arange(50.0), np.ones((1, 1)), action)
    assert np.abs(real - np.arange(50)).max() < 2 and real.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"propensity": [0.0, 0.5]}, "propensity, row 1: expected a probability above 0"),
        ({"propensity": [0.5, 1.2]}, "propensity, row 2"),
        ({"target": [0.5, -0.1]}, "target, row 2: expected a probability"),
        ({"reward": [0.5, float("nan")]}, "reward, row 2: expected a finite number"),
        ({"target": [0.0, 0.0]}, "0 in every row"),
        ({"reward": []}, "equal lengths"),
        ({"clip": 0.0}, "clip 0.0: expected a weight above 0"),
        ({"predicted": [1.0, 1.0]}, "both predictions"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict, expected: str) -> None:
    arguments = {"reward": [1, 0], "propensity": [0.5, 0.5], "target": [0.5, 0.5], **changed}
    with pytest.raises(ValueError, match=expected):
        off_policy_value(**arguments)


def write_world(folder: Path, rows: int = 5_000) -> float:
    """log.csv with clicks, and target.csv; returns the true value."""
    log, truth = world(rows, seed=4)
    pl.DataFrame({
        "clicked": log["reward"].astype(int), "p": log["propensity"], "item": log["action"], "page": log["context"],
        "target_propensity": log["target"], "session": np.arange(rows) // 5,
    }).write_csv(folder / "log.csv")  # fmt: skip
    pl.DataFrame({
        "action": [*range(ACTIONS)] * 2, "page": [0] * ACTIONS + [1] * ACTIONS, "probability": log["policy"].ravel()
    }).write_csv(folder / "target.csv")  # fmt: skip
    return truth


MAP = {"reward": "clicked", "propensity": "p", "action": "item"}


def test_a_log_and_a_target_from_files(tmp_path: Path) -> None:
    truth = write_world(tmp_path)
    plain = evaluate_policy(tmp_path / "log.csv", mapping={"reward": "clicked", "propensity": "p"})
    table = evaluate_policy(
        tmp_path / "log.csv", tmp_path / "target.csv", mapping=MAP, features=["page"], group="session"
    )
    assert plain.ips.value == pytest.approx(table.ips.value) and plain.dr is None and table.dr is not None
    assert table.groups == 1_000 and table.dr.low < truth < table.dr.high


def test_a_reward_may_be_true_or_false(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("reward,propensity,target_propensity\nTrue,0.5,0.5\nfalse,0.5,0.25\n1,0.5,1\n")
    assert read_policy_log(log).frame["reward"].to_list() == [1.0, 0.0, 1.0]


def test_an_action_that_the_target_does_not_name_has_no_chance(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reward,propensity,action\n1,0.5,a\n1,0.25,b\n0,0.25,c\n")
    (tmp_path / "target.csv").write_text("action,probability\na,0.5\nb,0.5\n")
    found = evaluate_policy(tmp_path / "log.csv", tmp_path / "target.csv")
    assert found.ips.value == pytest.approx((1 + 2 + 0) / 3)


BAD = {
    "no_column": ("reward,propensity\n1,.5\n", None, "no column 'target_propensity'"),
    "propensity": ("reward,propensity,target_propensity\n1,.5,.5\n0,0,.5\n", None,
                   "row 3, column propensity: expected a probability above 0"),
    "reward": ("reward,propensity,target_propensity\nx,.5,.5\n", None, "row 2, column reward: expected a finite"),
    "target": ("reward,propensity,target_propensity\n1,.5,7\n", None, "row 2, column target_propensity: expected"),
    "sum": ("reward,propensity,action\n1,.5,a\n", "action,probability\na,.5\nb,.4\n", "add up to 0.9; expected 1"),
    "twice": ("reward,propensity,action\n1,.5,a\n", "action,probability\na,.5\na,.5\n", "row 3, column action: .*aga"),
    "context": ("reward,propensity,action,page\n1,.5,a,9\n", "action,page,probability\na,1,1\n",
                "row 2, column page: expected a value that target.csv has probabilities for"),
    "no_action": ("reward,propensity,action\n1,.5,\n", "action,probability\na,1\n", "row 2, column action: exp"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_name_row_and_column(case: str, tmp_path: Path) -> None:
    log, target, expected = BAD[case]
    (tmp_path / "log.csv").write_text(log)
    if target is not None:
        (tmp_path / "target.csv").write_text(target)
    with pytest.raises(ValueError, match=expected):
        evaluate_policy(tmp_path / "log.csv", tmp_path / "target.csv" if target else None)


def test_the_command(tmp_path: Path) -> None:
    write_world(tmp_path)
    code = "import sys; from goodrate.cli import main; sys.argv[0] = 'goodrate'; main()"
    command = [sys.executable, "-c", code, "evaluate-policy", "log.csv", "--target", "target.csv", "--features", "page",
               "--map", "reward=clicked,propensity=p,action=item", "--clip", "3"]  # fmt: skip
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert shown.returncode == 0, shown.stderr
    assert "target, DR" in shown.stdout and "clipped to 3" in shown.stdout and "5,000 decisions" in shown.stdout
    told = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    found = evaluate_policy(tmp_path / "log.csv", tmp_path / "target.csv", mapping=MAP, features=["page"], clip=3)
    assert json.loads(told.stdout) == json.loads(json.dumps(found.as_dict()))
    wrong = subprocess.run([*command[:4], "none.csv"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert wrong.returncode == 2 and "no such file: none.csv" in wrong.stderr
