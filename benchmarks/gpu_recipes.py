"""Every recipe for a few updates on the embedded shop, on whatever device torch finds: what gpu_check.py runs."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.contrastive import Pair as Example
from goodrate.learning.fit import FitSettings
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.rollout_source import NothingToLearn, RolloutSettings
from goodrate.models import causal_lm
from goodrate.models.adapter import LoraSettings
from goodrate.models.encoder import Encoder
from goodrate.models.nano import nano_folder
from goodrate.recipes import (
    base,
    judge_context,
    judge_dpo,
    judge_grpo,
    judge_guided,
    judge_sft,
    judge_stepwise,
    nano,
    retriever_contrastive,
    retriever_grpo,
    step_judge,
)
from goodrate.recipes.guided_replay import ReplaySettings
from goodrate.recipes.judge_rollouts import PairSampling, sample_rollouts
from goodrate.recipes.retriever_rewards import JudgedRelevance, RetrievalGrades
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.listing import listings
from goodrate.relevance.pairs import JudgedPair
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import ShopSettings, generate

Record = dict[str, Any]
LOGGED = ("loss", "gradient_norm", "kl", "reward", "accuracy", "length", "share_all_right")


@dataclass(frozen=True)
class Size:
    """How much of everything. start: updates of the judges that the others start from. bare: the label-first one writes
    labels alone, which takes it few updates to learn.
    """

    items: int = 600
    queries: int = 120
    pairs: int = 256
    start: int = 60
    updates: int = 3
    prompts: int = 6
    group: int = 4
    tokens: int = 80
    bare: bool = False


FULL = Size()
SMALL = Size(items=200, queries=30, pairs=48, start=12, updates=2, prompts=3, group=4, tokens=72, bare=True)


class World:
    """Judged pairs of a shop's training part, as every recipe reads them."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.shop = shop = generate(ShopSettings(seed=11, items=size.items, queries=size.queries, knowledge_share=0.2))
        every = np.stack(pairs_of(shop, "train"), axis=1)
        self.rows = every[np.sort(np.random.default_rng(0).permutation(len(every))[: size.pairs])].tolist()
        self.model = causal_lm.CausalLM.load("nano", device="cpu")  # its tokenizer cuts the prompts

    def prompts(self, order: str = "label_first", contexts: bool = False, bare: bool = False) -> list[JudgePrompt]:
        """With labels, true steps and true completions. contexts: a retrieved text too. bare: the label alone."""
        pairs = []
        for query, item, label in self.rows:
            asked, text = self.shop.queries[query], self.shop.chunks[query]
            reason = None if bare else self.shop.rationale(query, item)
            pair = JudgedPair(asked.text, self.shop.records[item], asked.facts, label=label, reason=reason)
            pairs.append(replace(pair, context=text.text, context_kind=text.kind) if contexts else pair)
        return judge_prompts(self.model, pairs, self.form(order), label_completions=True, both_views=contexts)[0]

    def form(self, order: str) -> JudgeFormat:
        """How the judges of this check read and write."""
        known = {"template": "nano", "rule_book_hash": self.shop.book.hash, "max_new_tokens": self.size.tokens}
        return JudgeFormat(order=order, **known)  # type: ignore[arg-type]

    @cached_property
    def good(self) -> dict[int, list[int]]:
        """Items with the best label, by query."""
        best: dict[int, list[int]] = {}
        for query, item, label in self.rows:
            if label == len(self.shop.book.scale.labels) - 1:
                best.setdefault(query, []).append(item)
        return best


@dataclass
class Check:
    """One pass over the recipes. folder: where its run lies. starts: judges and encoder that they start from."""

    world: World
    folder: Path
    starts: Path
    precision: str
    records: list[Record] = field(default_factory=list)

    @property
    def fit(self) -> FitSettings:
        """A few updates at a constant rate."""
        return fitting(self.world.size.updates, self.precision)

    def policy(self, recipe: ModuleType, start: str = "label_first", contexts: bool = False, **more: Any) -> Path:
        """A recipe on rollouts: groups of the shop's prompts, whatever their label."""
        size = self.world.size
        rollouts = RolloutSettings(
            prompts=size.prompts, group_size=size.group, max_new_tokens=size.tokens, balanced=False, oversampling=2.5,
            rounds=4, inner_steps=more.pop("inner_steps", 1),
        )  # fmt: skip
        settings = recipe.Settings(judge=str(self.starts / start), rollouts=rollouts, fit=self.fit, **more)
        prompts = self.world.prompts(start, contexts)
        return Path(recipe.train(settings, prompts, self.folder, self.records.append))


def fitting(updates: int, precision: str) -> FitSettings:
    """So many updates at a constant rate, all of them logged."""
    told = {"precision": precision, "schedule": "constant", "warmup": 0.0, "log_every": 1, "tensorboard": False}
    return FitSettings(updates=updates, **told)  # type: ignore[arg-type]


def start_judges(world: World, folder: Path, names: Sequence[str]) -> dict[str, float]:
    """The judges and the encoder that these checks start from, trained on this device; seconds of each."""
    needed = {start for name in names for start in CASES[name].needs}
    seconds = {}
    for start in (start for start in ("label_first", "reason_first", "steps", "encoder") if start in needed):
        began = time.perf_counter()
        if start == "encoder":
            _encoder().save(folder / start)
        elif start == "steps":
            _train_steps(world, folder, "scalar", "auto", folder / "steps_run").rename(folder / start)
        else:
            prompts = world.prompts(start, bare=world.size.bare and start == "label_first")
            settings = _sft(world, start, fitting(world.size.start, "auto"))
            judge_sft.train(settings, prompts, folder / f"{start}_run").rename(folder / start)
        seconds[start] = round(time.perf_counter() - began, 2)
    return seconds


def _sft(world: World, order: str, fit: FitSettings, lora: LoraSettings | None = None) -> judge_sft.Settings:
    return judge_sft.Settings(
        model="nano", format=world.form(order), optimizer="adamw", learning_rate=1e-3, batch_size=16, label_weight=4.0,
        epochs=10_000, fit=fit, lora=lora,
    )  # fmt: skip


def _train_steps(
    world: World, starts: Path, kind: str, precision: str, out: Path, records: list[Record] | None = None
) -> Path:
    settings = step_judge.Settings(
        model=str(starts / "reason_first"), kind=kind, samples=4, batch_size=16, epochs=10_000,  # type: ignore[arg-type]
        fit=fitting(world.size.updates, precision),
    )  # fmt: skip
    prompts = world.prompts("reason_first")[: 8 * world.size.prompts]
    return step_judge.train(settings, prompts, out, None if records is None else records.append)


def _encoder() -> Encoder:
    tokenizer = nano_folder() / "tokenizer.json"
    return Encoder.create(tokenizer, 64, 2, query_prompt="query: ", item_prompt="item: ", max_length=96)


def base_model(c: Check) -> Path:
    """The shipped base's recipe at a tiny size."""
    network = base.NetworkSettings(hidden=48, layers=2, heads=4, key_value_heads=2, intermediate=96)
    settings, tokenizer = base.Settings(network=network, batch_size=8, fit=c.fit), c.world.model.tokenizer
    return base.train_base(settings, nano.document_stream(tokenizer), tokenizer, c.folder, progress=c.records.append)


def sft(c: Check, order: str = "label_first", lora: LoraSettings | None = None) -> Path:
    """Supervised fine-tuning of the shipped base."""
    return judge_sft.train(_sft(c.world, order, c.fit, lora), c.world.prompts(order), c.folder, c.records.append)


def dpo(c: Check) -> Path:
    """Preference pairs of its own samples and of true completions."""
    settings = judge_dpo.Settings(
        judge=str(c.starts / "label_first"), batch_size=8, epochs=100, fit=c.fit,
        sampling=PairSampling(samples=3, max_new_tokens=c.world.size.tokens),
    )  # fmt: skip
    return judge_dpo.train(settings, c.world.prompts()[: 4 * c.world.size.prompts], c.folder, c.records.append)


def steps(c: Check, kind: str) -> Path:
    """A head that scores steps, or a model that writes a verdict per step; the trained judge is asked once."""
    folder = _train_steps(c.world, c.starts, kind, c.precision, c.folder, c.records)
    prompts = c.world.prompts("reason_first")[:4]
    rollout, _ = sample_rollouts(c.starts / "reason_first", prompts, 2, 1, "check")
    asked = [prompts[group] for group in rollout.group.tolist()]
    verdicts = step_judge.open_step_judge(folder).judge(asked, rollout)
    assert verdicts.device.type == "cpu" and verdicts.shape[0] == len(asked)
    return folder


def contrastive(c: Check) -> Path:
    """Two towers from scratch on good pairs."""
    queries = c.world.shop.queries
    pairs = [Example(queries[query].text, str(item)) for query, items in c.world.good.items() for item in items]
    texts = {str(n): text for n, text in enumerate(listings(c.world.shop.records))}
    settings = retriever_contrastive.Settings(
        encoder="from scratch", batch_size=16, random_negatives=16, epochs=100, matryoshka=[16], fit=c.fit
    )
    return retriever_contrastive.train(settings, pairs, texts, c.folder, encoder=_encoder(), progress=c.records.append)


def ranking(c: Check) -> Path:
    """A retriever on its own rankings, graded by the judge; two steps on each, with KL."""
    shop = c.world.shop
    queries = [QueryExample(shop.queries[q].text, items[0], frozenset(items)) for q, items in c.world.good.items()]
    judge = open_judge(c.starts / "label_first")
    relevance = JudgedRelevance(judge, [query.text for query in queries], shop.records)
    rankings = RankingSettings(queries=6, candidates=8, refresh_items=32, random_items=8, inner_steps=2, min_spread=0.0)
    settings = retriever_grpo.Settings(encoder=str(c.starts / "encoder"), fit=c.fit, rankings=rankings)
    grade = RetrievalGrades(relevance)
    return retriever_grpo.train(settings, queries, listings(shop.records), grade, c.folder, c.records.append)


def guided(c: Check) -> Path:
    """Rule-aware rewards and guided replay from the first update on."""
    return c.policy(judge_guided, "reason_first", replay=ReplaySettings(warmup=0, accuracy=0.5))


def stepwise(c: Check) -> Path:
    """Step rewards, with a scalar step judge for what no stored verdict covers."""
    return c.policy(judge_stepwise, "reason_first", step_judge=str(c.starts / "steps"), covered=["category", "verdict"])


@dataclass(frozen=True)
class Case:
    """A recipe to run, and what it starts from."""

    run: Callable[[Check], Path]
    needs: tuple[str, ...] = ()


LORA, LABEL, REASON = LoraSettings(rank=4), ("label_first",), ("reason_first",)
CASES: Mapping[str, Case] = {
    "base": Case(base_model),
    "judge_sft": Case(sft),
    "judge_sft_lora": Case(lambda c: sft(c, "reason_first", LORA)),
    "judge_dpo": Case(dpo, LABEL),
    "judge_grpo": Case(lambda c: c.policy(judge_grpo), LABEL),
    "judge_grpo_inner": Case(lambda c: c.policy(judge_grpo, inner_steps=2), LABEL),  # ratio, clip, sampler's own values
    "judge_grpo_lora": Case(lambda c: c.policy(judge_grpo, lora=LORA), LABEL),  # the adapter is its own reference
    "judge_guided": Case(guided, REASON),
    "judge_stepwise": Case(stepwise, ("reason_first", "steps")),
    "step_judge_scalar": Case(lambda c: steps(c, "scalar"), REASON),
    "step_judge_generative": Case(lambda c: steps(c, "generative"), REASON),
    "judge_context": Case(lambda c: c.policy(judge_context, contexts=True), LABEL),  # two arms in a group
    "retriever_contrastive": Case(contrastive),
    "retriever_grpo": Case(ranking, ("label_first", "encoder")),
}


@contextmanager
def exact(precision: str) -> Iterator[None]:
    """With "fp32" all models load in it inside, whatever the device has: a token sampled otherwise is another loss."""
    own = causal_lm.resolve_precision
    if precision == "fp32":
        causal_lm.resolve_precision = lambda precision, device: "fp32"  # type: ignore[assignment]
    try:
        yield
    finally:
        causal_lm.resolve_precision = own


def run_case(name: str, world: World, folder: Path, starts: Path, precision: str) -> Record:
    """What a recipe's updates logged, and whether that is as it must be."""
    check = Check(world, folder / f"{name}-{precision}", starts, precision)
    began = time.perf_counter()
    try:
        with exact(precision):
            CASES[name].run(check)
    except ImportError as error:
        return {"status": "skipped", "why": str(error)}
    except NothingToLearn as error:
        return {"status": "failed", "why": str(error)}
    except Exception as error:  # one recipe's fault must not hide the others'
        return {"status": "failed", "why": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-2500:]}
    seconds = time.perf_counter() - began
    logged = [{n: float(r[n]) for n in LOGGED if isinstance(r.get(n), int | float)} for r in check.records]
    problem = _problem(logged, check.precision)
    status = {"status": "failed", "why": problem} if problem else {"status": "ok"}
    first = logged[0] if logged else {}
    return {**status, "seconds": round(seconds, 2), "first": first, "losses": [r["loss"] for r in logged]}


def _problem(logged: list[Record], precision: str) -> str | None:
    if not logged:
        return "no update was logged"
    if not all(math.isfinite(r["loss"]) and math.isfinite(r["gradient_norm"]) for r in logged):
        return "a loss or gradient is not finite"
    kl = abs(logged[0].get("kl", 0.0))
    return f"KL to the start is {kl:.2g} at the first update" if kl > (1e-5 if precision == "fp32" else 1e-2) else None
