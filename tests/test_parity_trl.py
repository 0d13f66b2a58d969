"""Our GRPO and DPO beside TRL's trainers: one tiny model, one fixed batch, the loss and every parameter's gradient.

Run where the extra `parity` is installed. TRL does all it does in training except sampling: its trainers get the fixed
completions and rewards, make their own advantages, reference log probabilities and batches, and their own compute_loss
is called. Ours goes a recipe's way: Rollout, group_relative, policy_terms, micro-batches, PolicyScorer, accumulate.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from goodrate.learning.advantages import group_relative, to_tokens  # noqa: E402
from goodrate.learning.fit import accumulate  # noqa: E402
from goodrate.learning.policy import PolicyScorer, micro_batches  # noqa: E402
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms  # noqa: E402
from goodrate.learning.preferences import PreferencePair, PreferenceSource, PreferenceTermSettings  # noqa: E402
from goodrate.learning.records import MicroBatch, Outputs, Prompts, Rollout, Term, Update  # noqa: E402
from goodrate.learning.reference import freeze_reference  # noqa: E402
from goodrate.models.completion_forward import CompletionBatch, completion_logprobs  # noqa: E402
from lib.trl_peer import quiet, random_qwen3, trainer_settings, word_tokenizer  # noqa: E402

TOLERANCE = 1e-5
MICRO_TOKENS = 40  # ours is cut into two micro-batches or more, TRL's is whole
TRL_EPSILON = 1e-4  # what TRL adds to the sample deviation
REDUCTIONS = {"grpo": "sequence_mean", "bnpo": "token_mean", "dapo": "token_mean", "dr_grpo": "fixed_length"}


VOCABULARY, GROUP, LONGEST = 64, 4, 9
PROMPTS = ((5, 9, 11, 3), (7, 12), (21, 22, 23, 24, 25, 26))
LENGTHS = (3, 9, 1, 5, 4, 4, 7, 2, 6, 1, 8, 3)  # three groups of four
# A group with different rewards, one with an unscorable completion, one without spread.
REWARDS = (1.0, 0.0, 0.25, 0.0, None, 1.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5)


def networks(folder: Path) -> tuple[Any, Any]:
    """(policy, reference): two random Qwen3 networks in fp32, a little apart; the reference lies in the folder."""
    from transformers import Qwen3ForCausalLM

    reference = random_qwen3(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, initializer_range=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    reference.save_pretrained(folder)
    policy = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return policy.train(), reference


def completions() -> list[tuple[int, ...]]:
    """The fixed completions, of unequal lengths."""
    draw = torch.Generator().manual_seed(1)
    return [tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist()) for length in LENGTHS]


def rollout(policy: Any, temperature: float) -> Rollout:
    """The fixed batch; its behaviour is the policy with noise of 0.3 nats a token, so that some ratios are clipped."""
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(LONGEST)[None] < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids = ids.masked_scatter(mask, torch.tensor([token for row in completions() for token in row]))
    group = torch.arange(len(PROMPTS)).repeat_interleave(GROUP)
    with torch.no_grad():
        now, _ = completion_logprobs(policy, CompletionBatch(PROMPTS, group, ids, mask), temperature, "plain")
    noise = 0.3 * torch.randn(now.shape, generator=torch.Generator().manual_seed(2))
    return Rollout(
        example_id=group, group=group, arm=torch.zeros_like(group),
        sampled_under=Prompts(tuple(f"p{i}" for i in range(len(PROMPTS))), PROMPTS),
        completion_ids=ids, mask=mask, behaviour_logprobs=(now + noise) * mask,
        finish_reason=("stop",) * len(LENGTHS), parsed=(None,) * len(LENGTHS), temperature=temperature,
    )  # fmt: skip


def preference_pairs() -> list[PreferencePair]:
    """Four pairs out of the fixed completions."""
    rows = completions()
    pairs = [(0, 1, 3), (0, 0, 1), (1, 6, 5), (2, 8, 10)]
    return [
        PreferencePair(f"p{number}", PROMPTS[prompt], rows[chosen], rows[rejected], "self")
        for number, (prompt, chosen, rejected) in enumerate(pairs)
    ]


@dataclass(frozen=True)
class GrpoCase:
    """One way to make the loss. Off-policy: old log probabilities that differ from the new, so that clipping acts."""

    loss_type: str
    beta: float
    on_policy: bool
    temperature: float = 1.0
    weighted_kl: bool = False  # TRL's default: the KL of a token times its ratio (DeepSeek-V3.2, arXiv 2512.02556)

    @property
    def name(self) -> str:
        """What the case is called in the result."""
        policy = "on-policy" if self.on_policy else "clipped"
        kl = ", KL times ratio" if self.weighted_kl else ""
        return f"GRPO {self.loss_type}, beta {self.beta}, {policy}, temperature {self.temperature}{kl}"


@dataclass(frozen=True)
class Measured:
    """A loss, the gradient of each parameter, and the share of tokens whose ratio is outside the clips."""

    loss: float
    gradients: dict[str, Tensor]
    clipped: float = 0.0


@dataclass(frozen=True)
class Difference:
    """Ours against TRL's. loss: |ours - theirs| / scale. gradient: |ours - theirs| / |theirs| (L2), worst parameter."""

    case: str
    ours: float
    theirs: float
    loss: float
    gradient: float
    worst_parameter: str
    clipped: float


def grpo_cases() -> Iterator[GrpoCase]:
    """Four normalisations, with and without KL, on and off policy; another temperature; TRL's default KL."""
    for loss_type in REDUCTIONS:
        for beta in (0.0, 0.04):
            yield GrpoCase(loss_type, beta, on_policy=True)
            yield GrpoCase(loss_type, beta, on_policy=False)
    yield GrpoCase("grpo", 0.04, on_policy=False, temperature=0.7)
    yield GrpoCase("grpo", 0.04, on_policy=True, weighted_kl=True)
    yield GrpoCase("grpo", 0.04, on_policy=False, weighted_kl=True)


def gradients(network: Any) -> dict[str, Tensor]:
    """The gradient of each parameter, by name."""
    return {name: weight.grad.clone() for name, weight in network.named_parameters()}


def our_advantages(batch: Rollout) -> Tensor:
    """Advantages (N,) with TRL's scale; NaN where TRL's reward is None."""
    rewards = torch.tensor([float("nan") if reward is None else reward for reward in REWARDS])
    return group_relative(rewards, batch.group, scale="sample", epsilon=TRL_EPSILON)


def times_ratio(term: Term, on_policy: bool) -> Term:
    """The term with each token's value times new over old probability; the ratio has a gradient where it is 1."""

    def weighted(outputs: Outputs, batch: MicroBatch) -> Tensor:
        new = outputs["plain"]
        return term.loss(outputs, batch) * torch.exp(new - (new.detach() if on_policy else batch["behaviour"]))

    return replace(term, loss=weighted)


def our_grpo(case: GrpoCase, policy: Any, reference: Any) -> Measured:
    """Our loss and gradients."""
    network = copy.deepcopy(policy)
    batch = rollout(policy, case.temperature)
    tensors = {
        "mask": batch.mask,
        "advantages": to_tokens(our_advantages(batch), batch.mask),
        "behaviour": batch.behaviour_logprobs,
    }
    settings = PolicyTermSettings(kl=case.beta, reduction=REDUCTIONS[case.loss_type], fixed_length=LONGEST)
    terms, diagnostics = policy_terms(settings, on_policy=case.on_policy)
    if case.weighted_kl:
        terms = [times_ratio(term, case.on_policy) if term.name == "kl_loss" else term for term in terms]
    update = Update(micro_batches(batch, tensors, MICRO_TOKENS), terms, {}, diagnostics)
    assert len(update.micro_batches) > 1
    scorer = PolicyScorer(network, freeze_reference(reference) if case.beta else None)
    values = accumulate(scorer, update, lambda loss: loss.backward())
    return Measured(values["loss"], gradients(network), values["clipped"])


def trl_grpo(case: GrpoCase, policy: Any, folder: Path) -> Measured:
    """TRL's loss and gradients. The reference is what the trainer loads from the policy's folder."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    network, written = copy.deepcopy(policy), completions()
    prompts = [list(prompt) for prompt in PROMPTS for _ in range(GROUP)]

    def sampled(texts: list[str], trainer: Any) -> dict[str, Any]:
        return {"prompt_ids": prompts, "completion_ids": [list(row) for row in written], "logprobs": None}

    settings = GRPOConfig(
        **trainer_settings(folder / "trl"), per_device_train_batch_size=len(LENGTHS), num_generations=GROUP,
        max_completion_length=LONGEST, loss_type=case.loss_type, beta=case.beta, temperature=case.temperature,
        scale_rewards="group", use_bias_correction_kl=case.weighted_kl,
    )  # fmt: skip
    dataset = Dataset.from_list([{"prompt": f"w{i}"} for i in range(3, 3 + len(LENGTHS))])
    trainer = GRPOTrainer(
        network, [lambda **_: list(REWARDS)], settings, dataset, processing_class=word_tokenizer(VOCABULARY),
        rollout_func=sampled,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trainer._generate_and_score_completions([{"prompt": "w3"}] * len(LENGTHS))
    if not case.on_policy:
        inputs["old_per_token_logps"] = rollout(policy, case.temperature).behaviour_logprobs
    loss = trainer.compute_loss(network, inputs)
    loss.backward()
    return Measured(float(loss.detach()), gradients(network))


def our_dpo(beta: float, policy: Any, reference: Any) -> Measured:
    """Our loss and gradients."""
    network, pairs = copy.deepcopy(policy), preference_pairs()
    source = PreferenceSource(
        pairs, PreferenceTermSettings(beta=beta), batch_size=len(pairs), micro_tokens=MICRO_TOKENS, seed=0
    )
    update = source.next(0)
    assert update is not None and len(update.micro_batches) > 1
    values = accumulate(PolicyScorer(network, freeze_reference(reference)), update, lambda loss: loss.backward())
    return Measured(values["loss"], gradients(network))


def trl_dpo(beta: float, policy: Any, reference: Any, folder: Path) -> Measured:
    """TRL's loss and gradients, through its own collator."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    network = copy.deepcopy(policy)
    settings = DPOConfig(**trainer_settings(folder / "trl"), beta=beta, loss_type="sigmoid")
    unused = Dataset.from_list([{"prompt": "w3", "chosen": " w4", "rejected": " w5"}])
    trainer = DPOTrainer(
        network, copy.deepcopy(reference), settings, train_dataset=unused, processing_class=word_tokenizer(VOCABULARY)
    )
    trainer.model.train()
    rows = [
        {"prompt_ids": list(pair.prompt), "chosen_ids": list(pair.chosen), "rejected_ids": list(pair.rejected)}
        for pair in preference_pairs()
    ]
    loss = trainer.compute_loss(network, trainer.data_collator(rows))
    loss.backward()
    return Measured(float(loss.detach()), gradients(network))


def difference(name: str, ours: Measured, theirs: Measured, scale: float) -> Difference:
    """scale: the size of the loss's summands. An on-policy loss is a sum of advantages that cancel, near 0 itself."""
    assert ours.gradients.keys() == theirs.gradients.keys()
    apart = {
        key: float((ours.gradients[key] - grad).norm() / grad.norm().clamp(min=1e-30))
        for key, grad in theirs.gradients.items()
    }
    worst = max(apart, key=lambda key: apart[key])
    gap = abs(ours.loss - theirs.loss) / max(abs(theirs.loss), scale)
    return Difference(name, ours.loss, theirs.loss, gap, apart[worst], worst, ours.clipped)


def compare() -> list[Difference]:
    """Every case, ours beside TRL's."""
    with quiet(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        policy, reference = networks(folder)
        scale = float(our_advantages(rollout(policy, 1.0)).abs().mean())
        gaps = [
            difference(case.name, our_grpo(case, policy, reference), trl_grpo(case, policy, folder), scale)
            for case in grpo_cases()
        ]
        ours, theirs = our_dpo(0.1, policy, reference), trl_dpo(0.1, policy, reference, folder)
        return [*gaps, difference("DPO sigmoid, beta 0.1", ours, theirs, scale=0.0)]


@pytest.mark.slow
def test_every_case_gives_the_loss_and_the_gradients_of_trl() -> None:
    cases = compare()
    assert len(cases) == 20 and {one.case: one for one in cases if max(one.loss, one.gradient) >= TOLERANCE} == {}
    clipped = {one.case: one.clipped for one in cases if "clipped" in one.case}
    assert len(clipped) == 10 and min(clipped.values()) > 0.3


@pytest.mark.slow
def test_the_kl_that_trl_weighs_by_the_ratio_is_another_gradient(tmp_path: Path) -> None:
    """On-policy the ratio is 1, so the loss is equal; its gradient is what TRL adds by default and GRPO does not."""
    case = GrpoCase("grpo", 0.04, on_policy=True)
    policy, reference = networks(tmp_path)
    with quiet():
        theirs = trl_grpo(replace(case, weighted_kl=True), policy, tmp_path)
    apart = difference("", our_grpo(case, policy, reference), theirs, scale=0.5)
    assert apart.loss < TOLERANCE < 1e-3 < apart.gradient
