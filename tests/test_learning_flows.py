"""Five methods on the bare contracts, one code path: rollout -> reward -> advantage -> terms -> update -> fit.

The policy is a table with two logits per token, so every gradient can be written down: with p the probability of the
chosen token, d log p / d its logit = 1 - p. fit runs one SGD step of rate 1, so gradient = before - after.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor

from goodrate.learning import advantages as adv
from goodrate.learning import losses, rewards, sampling
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import Prompts, Ranking, Rollout, Term, Update

torch.set_num_threads(1)
ONE_STEP = FitSettings(updates=1, schedule="constant", warmup=0, clip_norm=math.inf, precision="fp32")
CLIPS = {"clip_low": 0.2, "clip_high": 0.2}


class Table(nn.Module):
    """Holds p(chosen token) per token and view; forward gives the log probabilities (N, T) of every view."""

    def __init__(self, **views: Tensor) -> None:
        super().__init__()
        logits = {view: torch.stack([torch.zeros_like(p), torch.log(p / (1 - p))], -1) for view, p in views.items()}
        self.logits = nn.ParameterDict({view: nn.Parameter(value) for view, value in logits.items()})

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {view: torch.log_softmax(table, -1)[batch["rows"], :, 1] for view, table in self.logits.items()}


class Once:
    """A source of one update."""

    def __init__(self, update: Update) -> None:
        self._update = update

    def next(self, step: int) -> Update | None:
        return self._update if step == 0 else None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def learn(model: nn.Module, batch: dict[str, Any], terms: list[Term], split: bool = False) -> dict[str, float]:
    """One step of fit; split: every row is a micro-batch of its own, which must change nothing."""
    rows = batch["rows"]
    batches = (
        [{name: value[i : i + 1] for name, value in batch.items()} for i in range(len(rows))] if split else [batch]
    )
    return fit(model, Once(Update(batches, terms)), [torch.optim.SGD(model.parameters(), lr=1.0)], ONE_STEP).last


def chosen_gradient(model: Table, view: str, p: Tensor) -> Tensor:
    """Gradient on the chosen token's logit, read off the step that fit made."""
    return torch.log(p / (1 - p)) - model.logits[view].detach()[..., 1]


def rollout(group: list[int], arm: list[int], mask: Tensor, behaviour: Tensor, view: str) -> Rollout:
    num = len(group)
    prompts = Prompts(tuple(f"e{g}" for g in group), ((1, 2),) * num, view)
    ids = torch.ones_like(mask, dtype=torch.long)
    return Rollout(
        torch.arange(num),
        tensor(group),
        tensor(arm),
        prompts,
        ids,
        mask,
        behaviour,
        ("stop",) * num,
        (None,) * num,
    )


@pytest.mark.parametrize("split", [False, True])
def test_taosr1_grpo(split: bool) -> None:
    # Group 0: one of four is right. Group 1: both right, so the band drops it. Lengths 2, 1, 2, 2 | 1, 1.
    mask = tensor([[1, 1], [1, 0], [1, 1], [1, 1], [1, 0], [1, 0]]).bool()
    half = torch.full(mask.shape, 0.5)
    roll = rollout([0, 0, 0, 0, 1, 1], [0] * 6, mask, half.log(), "plain")
    reward = rewards.label_reward(tensor([3, 0, -1, 1, 2, 2]), tensor([3, 3, 3, 3, 2, 2]))
    assert reward.counts() == {"right": 3, "wrong": 2, "failed": 1, "unscorable": 0}
    kept = sampling.difficulty_band(reward.correct, roll.group)
    assert sampling.band_counts(reward.correct, roll.group, kept) == {"kept": 1, "all_right": 1}
    assert sampling.missing_groups({3: 1}, range(4), 1) == {
        0: 1,
        1: 1,
        2: 1,
    }  # what a refill has to bring after the filter
    a = adv.group_relative(reward.outcome, roll.group, scale="population")
    # sqrt(3), then -sqrt(3) / 3 three times, then no spread
    assert a.tolist() == pytest.approx([1.73205] + [-0.57735] * 3 + [0, 0], abs=1e-5)

    reference = tensor([[0.25, 0.5]] + [[0.75, 0.5]] * 5)
    batch = {
        "rows": torch.arange(6), "mask": mask & kept[:, None], "old": roll.behaviour_logprobs,
        "advantages": adv.to_tokens(a, mask), "reference": reference.log(),
    }  # fmt: skip

    def policy(outputs: Any, b: Any) -> Tensor:
        return losses.policy_gradient(outputs["plain"], b["old"], b["advantages"], **CLIPS)

    def kl(outputs: Any, b: Any) -> Tensor:
        return losses.kl_k3(outputs["plain"], b["reference"])

    terms = [
        Term("policy", policy, "mask", "sequence_mean"),
        Term("kl", kl, "mask", "sequence_mean", weight=0.02),
    ]
    model = Table(plain=half)
    record = learn(model, batch, terms, split)
    # Ratios are 1, every row counts once: -(sqrt 3 - 3 * sqrt(3) / 3) / 4 = 0.
    assert record["policy"] == pytest.approx(0, abs=1e-6)
    # k3: first label d = log(.25 / .5): .5 + .693147 - 1 = .193147; others d = log 1.5: 1.5 - .405465 - 1 = .094535;
    # reason tokens 0. Rows .193147 / 2, .094535 / 1, .094535 / 2 twice; mean .285643 / 4 = .071411; times .02
    assert record["kl"] == pytest.approx(0.02 * 0.071411, abs=1e-6)
    # Logit of the chosen token: 1/4 rows * 1/length * (1 - p = .5) * (-A + .02 (1 - e^d)).
    # Label of row 0: .0625 (-1.73205 + .02 * .5) = -.107628; row 1: .125 (.57735 - .02 * .5) = .070919;
    # rows 2, 3: half of it; reason tokens without the KL: .0625 * -1.73205 = -.108253 and .0625 * .57735 = .036084.
    expected = [[-0.107628, -0.108253], [0.070919, 0], [0.035459, 0.036084], [0.035459, 0.036084], [0, 0], [0, 0]]
    torch.testing.assert_close(chosen_gradient(model, "plain", half), tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("split", [False, True])
def test_agrl_guided_rollouts_are_scored_under_the_plain_prompt(split: bool) -> None:
    one = torch.ones(4, 1, dtype=torch.bool)
    # Two plain rollouts say a wrong label (p = .98), two guided ones the right one: p = 1 under the hint, .02 without.
    p = tensor([[0.98], [0.98], [0.02], [0.02]])
    plain = rollout([0, 0], [0, 0], one[:2], p[:2].log(), "plain")
    guided = rollout([0, 0], [1, 1], one[:2], torch.zeros(2, 1), "hint")
    assert (plain.sampled_under.view, guided.sampled_under.view) == ("plain", "hint")
    label = rewards.label_reward(tensor([0, 0, 3, 3]), torch.full((4,), 3))
    reward = rewards.rule_aware_reward(
        label, tensor([1.0, 1, 1, 1]), tensor([0.0, 0, 1, 1]), tensor([0.0, 0, 1, 1]),
        well_formed=tensor([True, False, True, True]), breaks_rule=torch.zeros(4).bool(),
    )  # fmt: skip
    assert reward.outcome.tolist() == [0.25, 0.0, 1.75, 1.75]
    group, arm = torch.cat([plain.group, guided.group]), torch.cat([plain.arm, guided.arm])
    # mean .9375; squares .6875^2 + .9375^2 + 2 * .8125^2 = 2.671875; population std sqrt(.667969) = .817294
    a = adv.group_relative(reward.outcome, group, scale="population", floor=0.1, clamp=2.0)
    assert a.tolist() == pytest.approx([-0.84119, -1.14708, 0.99414, 0.99414], abs=1e-5)

    batch = {
        "rows": torch.arange(4), "plain": (arm == 0)[:, None], "guided": (arm == 1)[:, None],
        "old": torch.cat([plain.behaviour_logprobs, guided.behaviour_logprobs]), "advantages": a[:, None],
    }  # fmt: skip

    def on_policy(outputs: Any, b: Any) -> Tensor:
        return losses.policy_gradient(outputs["plain"], b["old"], b["advantages"], **CLIPS)

    def shaped(outputs: Any, b: Any) -> Tensor:
        return losses.off_policy_shaped(outputs["plain"], b["old"], b["advantages"])

    model = Table(plain=p)
    terms = [
        Term("plain", on_policy, "plain", "sequence_mean", denominator="union"),
        Term("guided", shaped, "guided", "sequence_mean", denominator="union"),
    ]
    record = learn(model, batch, terms, split)
    assert record["plain"] == pytest.approx((0.84119 + 1.14708) / 4, abs=1e-5)  # four rollouts in the one mean, not two
    assert record["guided"] == pytest.approx(-2 * 0.99414 / 6 / 4, abs=1e-5)  # f(.02) = .02 / .12 = 1/6
    # plain: (1/4) * -A * (1 - .98); guided: (1/4) * -A * .1 * .02 / .12^2 * (1 - .02) = -.24854 * .138889 * .98
    expected = [[0.25 * 0.84119 * 0.02], [0.25 * 1.14708 * 0.02], [-0.033829], [-0.033829]]
    torch.testing.assert_close(chosen_gradient(model, "plain", p), tensor(expected), atol=2e-5, rtol=0)
    # The trap: with the plain ratio the same label token would get .02 instead of .1389, a seventh.
    trapped = Table(plain=p)
    learn(trapped, batch, [terms[0], Term("guided", on_policy, "guided", "sequence_mean", denominator="union")], split)
    weak = chosen_gradient(trapped, "plain", p)[2]
    assert float(weak) == pytest.approx(-0.25 * 0.99414 * 0.02 * 0.98, abs=2e-5)


@pytest.mark.parametrize("split", [False, True])
def test_she_steps_and_outcome(split: bool) -> None:
    mask = tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()
    step_id = tensor([[0, 0, 1], [0, 1, 1], [0, 1, -1]])
    half = torch.full(mask.shape, 0.5)
    roll = rollout([5, 5, 5], [0] * 3, mask, half.log(), "plain")
    outcome = rewards.label_reward(tensor([3, 1, 0]), torch.full((3,), 3))
    # The category step of each pair is stored; the verdict is the label itself; the step judge only fills holes.
    verified = tensor([[1.0, 1.0], [float("nan"), 0.0], [0.0, 0.0]])
    judged = tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    reward = rewards.step_reward(outcome, verified, judged)
    # Row 1: the judge calls its step right and the verdict is wrong, so its step is neutral.
    assert reward.steps.tolist() == [[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]]
    steps = adv.stepwise(reward.steps, roll.group, scale="population")
    # step 0: mean .5, std sqrt(.5 / 3) = .408248 -> 1.224745, 0, -1.224745; step 1: sqrt 2, -1 / sqrt 2 twice
    assert steps.flatten().tolist() == pytest.approx([1.224745, 1.414214, 0, -0.707107, -1.224745, -0.707107], abs=1e-5)
    outcomes = adv.group_relative(reward.outcome, roll.group, scale="population")  # sqrt 2, -1 / sqrt 2 twice
    credit = adv.to_tokens(steps, mask, step_id) + 0.5 * adv.to_tokens(outcomes, mask)
    expected = [[1.931852, 1.931852, 2.121320], [-0.353553, -1.060660, -1.060660], [-1.578298, -1.060660, 0]]
    torch.testing.assert_close(credit, tensor(expected), atol=2e-6, rtol=0)

    def policy(outputs: Any, b: Any) -> Tensor:
        old = outputs["plain"].detach()  # one update per rollout: no behaviour forward is needed
        return losses.policy_gradient(outputs["plain"], old, b["advantages"], **CLIPS)

    model = Table(plain=half)
    batch = {"rows": torch.arange(3), "mask": mask, "steps": step_id, "advantages": credit}
    record = learn(model, batch, [Term("policy", policy, "mask", "step_mean", steps="steps")], split)
    # rows: (1.931852 + 2.121320) / 2 = 2.026586; (-.353553 - 1.060660) / 2 = -.707107; (-1.578298 - 1.060660) / 2 =
    # -1.319479; their sum is 0, as steps and outcomes each sum to 0
    assert record["policy"] == pytest.approx(0, abs=1e-6)
    # token weight 1 / (3 rows * 2 steps * tokens of the step), times -A * .5
    w = tensor([[1 / 12, 1 / 12, 1 / 6], [1 / 6, 1 / 12, 1 / 12], [1 / 6, 1 / 6, 0]])
    torch.testing.assert_close(chosen_gradient(model, "plain", half), -0.5 * w * credit, atol=2e-6, rtol=0)
    assert float(chosen_gradient(model, "plain", half)[0, 2]) == pytest.approx(-0.5 * 2.121320 / 6, abs=2e-6)


def dyknow(correct: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """(own advantages, gated union advantages, beta) of two rollouts without and two with context."""
    outcome, group, arm = tensor(correct), torch.zeros(4).long(), tensor([0, 0, 1, 1])
    own = adv.group_relative(outcome, adv.arm_groups(group, arm), scale="population")
    gate = adv.context_gate(adv.accuracy_gap(outcome, group, arm))
    return own, adv.pooled(outcome, group, arm, gate), gate[1]


@pytest.mark.parametrize("split", [False, True])
def test_dyknow_rag_dual_groups_and_transfer(split: bool) -> None:
    # Without the chunk one of two is right; with it both: gap .5, beta 3.523188, alpha .1 / beta = .028383.
    own, transfer, beta = dyknow([1.0, 0.0, 1.0, 1.0])
    assert own.tolist() == [1.0, -1.0, 0.0, 0.0]
    assert float(beta[0]) == pytest.approx(3.523188, abs=1e-5)
    # union mean .75, std .433013: .577350, -1.732051; gated .028383 * .577350 and 3.523188 * -1.732051; 0 on arm 1
    assert transfer.tolist() == pytest.approx([0.016387, -6.102341, 0, 0], abs=1e-5)

    arm = tensor([0, 0, 1, 1])
    under_plain, under_context = tensor([[0.5], [0.5], [0.5], [0.5]]), tensor([[0.8], [0.2], [0.5], [0.5]])
    batch = {
        "rows": torch.arange(4), "arm0": (arm == 0)[:, None], "arm1": (arm == 1)[:, None],
        "own": own[:, None], "transfer": transfer[:, None], "reference": tensor([[0.5], [0.5], [0.25], [0.5]]).log(),
    }  # fmt: skip

    def policy(view: str) -> Any:
        return lambda o, b: losses.policy_gradient(o[view], o[view].detach(), b["own"], **CLIPS)

    def kl(view: str) -> Any:
        return lambda o, b: losses.kl_k3(o[view], b["reference"])

    terms = [
        Term("l0", policy("plain"), "arm0", "sequence_mean"),
        Term("l1", policy("context"), "arm1", "sequence_mean"),
        Term("lx", lambda o, b: losses.probability_weighted(o["context"], b["transfer"]), "arm0", "sequence_mean"),
        Term("kl0", kl("plain"), "arm0", "sequence_mean", weight=0.02),
        Term("kl1", kl("context"), "arm1", "sequence_mean", weight=0.02),
    ]
    model = Table(plain=under_plain, context=under_context)
    record = learn(model, batch, terms, split)
    assert record["l0"] == pytest.approx(0, abs=1e-6) and record["l1"] == 0 and record["kl0"] == 0
    # a mean over the two rollouts of arm 0, not over four: -(.8 * .016387 - .2 * 6.102341) / 2
    assert record["lx"] == pytest.approx(0.603679, abs=1e-5)
    assert record["kl1"] == pytest.approx(0.02 * 0.193147 / 2, abs=1e-6)  # one of two tokens, d = -log 2
    torch.testing.assert_close(
        chosen_gradient(model, "plain", under_plain), tensor([[-0.25], [0.25], [0], [0]]), atol=1e-6, rtol=0
    )
    # lx: -(1/2) T p (1 - p): -.5 * .016387 * .16 and .5 * 6.102341 * .16; kl1: .02 * .5 (rows) * .5 (1 - e^d) * .5
    expected = tensor([[-0.001311], [0.488187], [0.0025], [0.0]])
    torch.testing.assert_close(chosen_gradient(model, "context", under_context), expected, atol=2e-6, rtol=0)


def test_dyknow_gate_edges() -> None:
    # gap 0: union mean .5, std .5 -> 1, -1; alpha .05, beta 2
    assert dyknow([1.0, 0.0, 0.0, 1.0])[1].tolist() == pytest.approx([0.05, -2.0, 0, 0])
    # gap -1: alpha 1.390, the good answers without the chunk are taught under the chunk; beta .0719 is not used
    _, transfer, beta = dyknow([1.0, 1.0, 0.0, 0.0])
    assert float(beta[0]) == pytest.approx(0.072, abs=1e-3) and transfer.tolist() == pytest.approx(
        [1.39, 1.39, 0, 0], abs=1e-3
    )
    # all four right: nothing to learn
    assert dyknow([1.0] * 4)[1].tolist() == [0.0] * 4


class Scores(nn.Module):
    """A retriever reduced to its scores (P, K)."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"scores": self.scores[batch["rows"]]}


def test_retrieval_grpo() -> None:
    tau, k = 0.05, 4
    even = torch.zeros(1, k)
    ranking = Ranking(
        tensor([0]), tensor([[11, 12, 13, 14]]), torch.log_softmax(even / tau, 1), tensor([0]), torch.ones(1, k).bool()
    )
    # The published case: relevance .99, .99, .44, .29; quality and exclusivity of the irrelevant two are gated away.
    reward = rewards.retrieval_reward(
        tensor([0.99, 0.99, 0.44, 0.29]), tensor([0.0, 0, 1, 1]), tensor([0.0, 0, 1, 1]), gate="threshold", scale=0.2
    )
    groups = ranking.group.repeat_interleave(k)
    a = adv.group_relative(reward.outcome, groups, scale="population").view(1, k)
    assert a[0].tolist() == pytest.approx([0.986, 0.986, -0.749, -1.223], abs=5e-4)

    def policy(outputs: Any, b: Any) -> Tensor:
        return losses.policy_gradient(torch.log_softmax(outputs["scores"] / tau, 1), b["old"], b["advantages"], **CLIPS)

    def kl(outputs: Any, b: Any) -> Tensor:
        return losses.kl_categorical(torch.log_softmax(outputs["scores"] / tau, 1), b["reference"])

    def anchor(outputs: Any, b: Any) -> Tensor:
        return losses.info_nce(outputs["scores"], b["positive"], b["mask"], temperature=tau)

    old = ranking.behaviour_logprobs
    batch = {
        "rows": tensor([0]), "mask": ranking.mask, "queries": tensor([True]), "old": old, "reference": old,
        "advantages": a, "positive": tensor([0]),
    }  # fmt: skip
    terms = [
        Term("policy", policy, "mask"),
        Term("kl", kl, "queries", weight=0.05, unit="group"),
        Term("info_nce", anchor, "queries", weight=0.1, unit="update"),
    ]
    model = Scores(even.clone())
    record = learn(model, batch, terms)
    assert record["kl"] == 0 and record["policy"] == pytest.approx(0, abs=1e-6)
    assert record["info_nce"] == pytest.approx(0.1 * math.log(4), abs=1e-6)
    # Advantages sum to 0, so the softmax's normaliser drops out: d policy / d s_i = -A_i / (K tau) = -5 A_i.
    # info_nce: .1 (p_i - [i is positive]) / tau = .1 * -.75 / .05 = -1.5 for the positive, .5 for the others.
    expected = -a / (k * tau) + tensor([[-1.5, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(-model.scores.detach(), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="info_nce"):
        Update([batch, batch], terms)
