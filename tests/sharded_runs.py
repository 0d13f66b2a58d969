"""Short trainings of every kind of loss, in one process or as one of several: what test_learning_sharding compares."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import tiny_models
from goodrate.learning import fit as loop
from goodrate.learning.contrastive import Pair, PairSource, TwoTower
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms
from goodrate.learning.preferences import PreferencePair, PreferenceSource, PreferenceTermSettings
from goodrate.learning.reference import freeze_reference
from goodrate.learning.rollout_method import Method
from goodrate.learning.rollout_source import RolloutSettings, RolloutSource
from goodrate.learning.source import Source
from goodrate.learning.token_examples import TokenExample, TokenExampleSource, TokenScorer
from goodrate.models.adapter import Adapter, LoraSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from goodrate.run_folder import RunFolder, new_folder
from test_learning_rollout_source import EXAMPLES, FirstToken, credit, facts

UPDATES, BEGUN, CLIP = 3, 1, 0.05  # every gradient here is longer
EXAMPLES_OF_TEXT = [
    TokenExample(tuple((7 * n + i) % 90 + 2 for i in range(3 + n % 5)), (0.0, *[1.0] * (2 + n % 5))) for n in range(24)
]
PREFERENCES = [
    PreferencePair(f"p{n}", (5 + n, 9)[: 1 + n % 2], (20 + n, *[21] * (n % 3), 1), (40 + n, 1), "self")
    for n in range(12)
]


@dataclass
class Training:
    """What a run trains, on what, and the network whose weights are compared."""

    model: nn.Module
    source: Source
    network: Any
    weights: list[nn.Parameter]
    lm: CausalLM | None = None  # to be saved as a folder


def language(lora: bool) -> Training:
    """Cross-entropy on texts, of all weights or of an adapter."""
    lm = tiny_models.causal_lm()
    network = lm.network
    if lora:
        Adapter(network, LoraSettings(rank=2), seed=3)
    source = TokenExampleSource(EXAMPLES_OF_TEXT, 9, 24, seed=0)  # three micro-batches or four: shares differ
    weights = [p for p in network.parameters() if p.requires_grad]
    return Training(TokenScorer(network), source, network, weights, None if lora else lm)


def preferences(lora: bool) -> Training:
    """DPO against a frozen copy, or against the network with its adapter off."""
    network = tiny_models.causal_lm().network
    reference = Adapter(network, LoraSettings(rank=2), seed=3) if lora else freeze_reference(network)
    source = PreferenceSource(PREFERENCES, PreferenceTermSettings(), batch_size=6, micro_tokens=12, seed=0, epochs=2)
    weights = [p for p in network.parameters() if p.requires_grad]
    return Training(PolicyScorer(network, reference), source, network, weights)


def rollouts(lora: bool) -> Training:
    """GRPO on own completions with a KL to the start; two steps on the same rollouts."""
    policy = tiny_models.causal_lm()
    reference = Adapter(policy.network, LoraSettings(rank=2), seed=3) if lora else freeze_reference(policy.network)
    method = Method(FirstToken(), credit, policy_terms(PolicyTermSettings(kl=0.1), on_policy=False), facts)
    settings = RolloutSettings(
        prompts=6, group_size=4, max_new_tokens=3, rounds=6, inner_steps=2, micro_tokens=40
    )  # fmt: skip
    source = RolloutSource(settings, policy, EXAMPLES, method, num_labels=4, stop_token_id=1, seed=0)
    weights = [p for p in policy.network.parameters() if p.requires_grad]
    return Training(PolicyScorer(policy.network, reference), source, policy.network, weights)


def contrastive(lora: bool) -> Training:
    """InfoNCE; an update is one micro-batch, so that the second process has none of its own."""
    words = Path(os.environ["SHARDED_WORDS"])
    encoder = Encoder.create(words, hidden=16, layers=2, heads=2)
    items = {f"i{n}": f"lamp {n} red" for n in range(12)}
    pairs = [Pair(f"wants {n} red", f"i{n}") for n in range(12)]
    source = PairSource(pairs, items, {}, encoder.tokenize, batch_size=4, random_negatives=3, temperature=0.1, seed=0)
    return Training(TwoTower(encoder), source, encoder.network, list(encoder.network.parameters()))


KINDS: dict[str, Callable[[bool], Training]] = {
    "sft": language, "dpo": preferences, "grpo": rollouts, "contrastive": contrastive
}  # fmt: skip
CASES = [(kind, False) for kind in KINDS] + [("sft", True), ("grpo", True)]
RESUMED = [("sft", False), ("grpo", False), ("sft", True)]


def name_of(kind: str, lora: bool) -> str:
    return f"{kind}-lora" if lora else kind


def train(out: Path, kind: str, lora: bool, updates: int = UPDATES, sharding: str = "ddp") -> None:
    """So many updates of one kind in all, the run going on where it stands; each rank leaves its weights."""
    torch.set_num_threads(1)
    training = KINDS[kind](lora)
    # A long epsilon: a gradient that is nothing but rounding must not become a whole step.
    optimizer = torch.optim.AdamW(training.weights, 0.02, eps=1e-3)
    settings = FitSettings(
        updates=updates, precision="fp32", schedule="constant", warmup=0, log_every=1, evaluate_every=1, clip_norm=CLIP,
        sharding=sharding,  # type: ignore[arg-type]
    )  # fmt: skip
    with patch.object(loop, "write_curves"):  # pictures would take most of the time
        fit(
            training.model, training.source, [optimizer], settings, folder=RunFolder(out),
            evaluate=lambda update: {"size": sum(float(weight.detach().abs().sum()) for weight in training.weights)},
        )  # fmt: skip
    rank = os.environ.get("RANK", "alone")
    torch.save(training.network.state_dict(), out / f"rank{rank}.pt")
    stepped = [weight for group in optimizer.param_groups for weight in group["params"]]
    own = sum(getattr(weight, "to_local", lambda w=weight: w)().numel() for weight in stepped)
    torch.save({"own": own, "whole": sum(weight.numel() for weight in stepped)}, out / f"held{rank}.pt")
    if training.lm is not None:
        with new_folder(out / "model") as beside:
            training.lm.save(beside)


def train_each(out: str, sharding: str) -> None:
    """Every case from its start."""
    for kind, lora in CASES:
        train(Path(out) / name_of(kind, lora), kind, lora, sharding=sharding)


def train_all(out: str, sharding: str = "fsdp2") -> None:
    """Every case in `out`/two; the beginning of some in from_two; the rest of what one process began in from_one."""
    train_each(f"{out}/two", sharding)
    for kind, lora in RESUMED:
        train(Path(out) / "from_two" / name_of(kind, lora), kind, lora, BEGUN, sharding=sharding)
        train(Path(out) / "from_one" / name_of(kind, lora), kind, lora, sharding=sharding)
