"""Nothing puts a CPU tensor beside a device's: on fake tensors of the meta device, which every machine has.

A fake tensor computes shapes and devices alone, and refuses to be mixed with one of another device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import tiny_models
from goodrate.learning import losses
from goodrate.learning.contrastive import TwoTower, contrastive_term, matryoshka_terms
from goodrate.learning.graded_lists import terms_of
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms
from goodrate.learning.preferences import PreferenceTermSettings, preference_terms
from goodrate.learning.ranking_source import QueryExample, RankingSettings, RankingSource
from goodrate.learning.ranking_terms import RankingTermSettings, ranking_terms
from goodrate.learning.records import Term, Update, on_device
from goodrate.learning.reduction import reduced
from goodrate.learning.token_examples import LANGUAGE_TERM
from goodrate.models.causal_lm import CausalLM
from goodrate.models.encoder import Encoder
from goodrate.models.head import head_logits
from goodrate.models.label_forward import label_logits
from goodrate.models.token_logprobs import token_logprobs
from goodrate.recipes.scalar_step_judge import STEP_TERM, StepExample, StepScorer, step_probabilities
from goodrate.relevance.rationale import STEPS

torch.set_num_threads(1)


DEVICE = torch.device("meta")


@contextmanager
def pretended() -> Iterator[None]:
    """Inside it every tensor is fake: shapes and devices, and no numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """A device that is not the CPU."""
    with pretended():
        yield DEVICE


def on(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(*shape, device=device)


def yes(device: torch.device, *shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool, device=device)


def places(device: torch.device, *shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.long, device=device)


def test_the_device_refuses_a_cpu_tensor(gpu: torch.device) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        on(gpu, 3) + torch.ones(3)


LOSSES: dict[str, Callable[[torch.device], Tensor]] = {
    "cross_entropy": lambda d: losses.cross_entropy(on(d, 2, 3)),
    "policy_gradient": lambda d: losses.policy_gradient(*(on(d, 2, 3) for _ in "abc"), clip_low=0.2, clip_high=0.2),
    "off_policy_shaped": lambda d: losses.off_policy_shaped(on(d, 2, 3), on(d, 2, 3), on(d, 2, 3)),
    "probability_weighted": lambda d: losses.probability_weighted(on(d, 2, 3), on(d, 2, 3)),
    "kl_k3": lambda d: losses.kl_k3(on(d, 2, 3), on(d, 2, 3)),
    "binary": lambda d: losses.binary(on(d, 2, 3), on(d, 2, 3)),
    "kl_categorical": lambda d: losses.kl_categorical(on(d, 2, 3), on(d, 2, 3)),
    "listwise": lambda d: losses.listwise(on(d, 2, 3), on(d, 2, 3), yes(d, 2, 3)),
    "ranknet": lambda d: losses.ranknet(on(d, 2, 3), on(d, 2, 3), yes(d, 2, 3)),
    "lambda_loss": lambda d: losses.lambda_loss(on(d, 2, 3), on(d, 2, 3), yes(d, 2, 3)),
    "dpo": lambda d: losses.dpo(on(d, 2), on(d, 2), on(d, 2), on(d, 2), beta=0.1),
    "video_dpo": lambda d: losses.video_dpo(on(d, 2), on(d, 2), beta=0.1),
    "patch_dpo": lambda d: losses.patch_dpo(*(on(d, 2, 4) for _ in "wlso"), beta=0.1),
    "dense_dpo": lambda d: losses.dense_dpo(*(on(d, 2, 4) for _ in "wll"), beta=0.1),
    "soft_cross_entropy": lambda d: losses.soft_cross_entropy(on(d, 2, 3), on(d, 2, 3)),
    "info_nce": lambda d: losses.info_nce(on(d, 2, 3), places(d, 2), yes(d, 2, 3), temperature=0.1),
}


@pytest.mark.parametrize("name", list(losses.LOSS_UNITS))
def test_losses_stay_on_their_device(gpu: torch.device, name: str) -> None:
    assert LOSSES[name](gpu).device == gpu


def check(gpu: torch.device, terms: list[Term], outputs: dict[str, Tensor], batch: dict[str, Any]) -> None:
    """Every term, reduced, is a number on the device."""
    for term in terms:
        update = Update([batch], [term])
        assert reduced(term, term.loss(outputs, batch), update, batch, 1).device == gpu, term.name


@pytest.mark.parametrize("objective", ["grpo", "expected", "listwise", "ranknet", "lambda", "dpo"])
@pytest.mark.parametrize("chosen", ["highest", "lowest"])
def test_ranking_terms_stay_on_the_device(gpu: torch.device, objective: str, chosen: str) -> None:
    settings = RankingTermSettings(objective=objective, chosen=chosen, kl=0.1)  # type: ignore[arg-type]
    batch = {
        "place": places(gpu, 2, 3), "mask": yes(gpu, 2, 3), "kept": yes(gpu, 2), "anchored": yes(gpu, 2),
        "advantages": on(gpu, 2, 3), "rewards": on(gpu, 2, 3), "reference": on(gpu, 2, 3),
        "behaviour": on(gpu, 2, 3), "positive": places(gpu, 2), "allowed": yes(gpu, 2, 5), "weights": on(gpu, 2),
    }  # fmt: skip
    for on_policy in (True, False):
        terms, diagnostics = ranking_terms(settings, 0.05, on_policy)
        check(gpu, [*terms, *diagnostics], {"scores": on(gpu, 2, 5)}, batch)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean", "fixed_length", "step_mean"])
def test_policy_terms_stay_on_the_device(gpu: torch.device, reduction: str) -> None:
    named = {} if reduction == "step_mean" else {"reduction": reduction, "fixed_length": 4}
    terms, diagnostics = policy_terms(
        PolicyTermSettings(**named), False, steps="steps" if reduction == "step_mean" else None
    )
    batch = {
        "mask": yes(gpu, 2, 3), "first": yes(gpu, 2), "advantages": on(gpu, 2, 3), "behaviour": on(gpu, 2, 3),
        "steps": places(gpu, 2, 3),
    }  # fmt: skip
    outputs = {name: on(gpu, 2, 3) for name in ("plain", "reference", "entropy")}
    check(gpu, [*terms, *diagnostics], outputs, batch)


def test_other_terms_stay_on_the_device(gpu: torch.device) -> None:
    batch = {
        "mask": yes(gpu, 2, 3), "weights": on(gpu, 2, 3), "right": on(gpu, 2, 3), "scored": yes(gpu, 2, 3),
        "pair": yes(gpu, 2), "chosen_tokens": yes(gpu, 2, 3), "first": yes(gpu, 2),
    }  # fmt: skip
    outputs = {name: on(gpu, 2, 3) for name in ("logprobs", "steps", "plain", "reference")}
    check(gpu, [LANGUAGE_TERM, STEP_TERM], outputs, batch)
    terms, diagnostics = preference_terms(PreferenceTermSettings(nll=0.1))
    check(gpu, [*terms, *diagnostics], outputs, batch)
    graded = {
        "mask": yes(gpu, 2, 3), "graded": yes(gpu, 2, 3), "lists": yes(gpu, 2), "weights": on(gpu, 2, 3),
        "target": on(gpu, 2, 3, 4),
    }  # fmt: skip
    for order in ("pairwise", "lambda"):
        check(gpu, terms_of([0, 1, 3, 7], order, 1.0), {"logits": on(gpu, 2, 3, 4)}, graded)  # type: ignore[arg-type]
    pairs = {"positive": places(gpu, 2), "allowed": yes(gpu, 2, 5), "weights": on(gpu, 2), "mask": yes(gpu, 2)}
    scores = {"scores": on(gpu, 2, 5), "scores@8": on(gpu, 2, 5)}
    check(gpu, [contrastive_term(0.1)], scores, pairs)
    check(gpu, matryoshka_terms(0.1, [8]), scores, pairs)


def test_an_update_is_moved_whole() -> None:
    batch = {"ids": torch.ones(2), "queries": {"input_ids": torch.ones(2, 2)}, "temperature": 1.0, "prompts": ((1,),)}
    moved = on_device(Update([batch], [LANGUAGE_TERM]), torch.device("meta")).micro_batches[0]
    assert moved["ids"].device.type == moved["queries"]["input_ids"].device.type == "meta"
    assert moved["temperature"] == 1.0 and moved["prompts"] == ((1,),)


@pytest.fixture
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


def causal_lm(family: str = "qwen3") -> CausalLM:
    """A model on the device."""
    model = tiny_models.causal_lm(family)
    model.network.to(DEVICE)
    return model


@pytest.mark.usefixtures("without_autocast")
@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_token_logprobs_stay_on_the_device(family: str) -> None:
    network = causal_lm(family).network
    with pretended():
        states = on(DEVICE, 5, 32).requires_grad_()
        chosen, entropy = token_logprobs(network, states, places(DEVICE, 5), 0.7)
        gradient = torch.autograd.grad(chosen.sum(), states)[0]
        assert chosen.device == entropy.device == gradient.device == DEVICE
        assert head_logits(network, states, places(DEVICE, 4)).device == DEVICE


@pytest.mark.usefixtures("without_autocast")
def test_labels_are_judged_on_the_device() -> None:
    network = causal_lm().network
    pairs = [((5, 6, 7), (8, 9, n)) for n in range(10, 16)] + [((), (5, 6))]
    with pretended(), torch.no_grad():
        assert label_logits(network, pairs, places(DEVICE, 4), 0).device == DEVICE


@pytest.mark.usefixtures("without_autocast")
def test_a_scalar_step_judge_reads_on_the_device_and_answers_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = causal_lm()
    examples = [StepExample(tuple(range(n)), (n - 1,) * len(STEPS), (1.0,) * len(STEPS)) for n in (9, 4, 7)]
    scorer = StepScorer(model.network).to(DEVICE)
    with pretended():
        verdicts = step_probabilities(scorer, examples, model)
    assert verdicts.shape == (3, len(STEPS)) and verdicts.device.type == "cpu"


@pytest.mark.usefixtures("without_autocast")
def test_what_ranked_is_compared_on_the_cpu_where_updates_are_laid_out(tmp_path: Path) -> None:
    words = tiny_models.tokenizer_file(tmp_path)
    queries = [QueryExample("red", 0, frozenset({0})), QueryExample("blue", 1, frozenset({1}))]
    start = Encoder.create(words, hidden=16, layers=1, heads=2)
    none: Any = None
    settings = RankingSettings(queries=2, candidates=2, inner_steps=2)
    texts = ["red lamp", "blue chair", "lamp oak"]
    source = RankingSource(settings, start, queries, texts, none, none, ([], []), seed=0)
    start.network.to(DEVICE)
    batch = source._laid_out(torch.zeros(2, 2, dtype=torch.long), [0, 1], 0)
    batch["mask"] = torch.ones(2, 2, dtype=torch.bool)  # all have a grade
    with pretended():
        behaviour = source._behaviour(batch)
        scores = TwoTower(start)(batch)["scores"]
    assert behaviour.shape == (2, 2) and behaviour.device.type == "cpu" and scores.device == DEVICE
