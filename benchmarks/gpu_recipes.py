"""Every recipe for a few updates on the embedded shop, on whatever device torch finds: what gpu_check.py runs.

Nothing here needs polars, lancedb or another table: the shop is made in memory and items are read as listings.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from goodrate.demo.stages import JudgedPairs, training_pairs
from goodrate.learning.contrastive import Pair
from goodrate.learning.fit import FitSettings
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.ranking_terms import RankingTermSettings
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
from goodrate.recipes.judge_context import ContextPrompt
from goodrate.recipes.judge_folder import JudgeExample, JudgeFormat
from goodrate.recipes.judge_rollouts import PairSampling
from goodrate.recipes.judge_steps import KnownPrompt
from goodrate.recipes.retriever_rewards import JudgedRelevance, RetrievalGrades
from goodrate.relevance.judge import Judge
from goodrate.relevance.listing import listing
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import label_text, step_lines, write
from goodrate.shop.shop import ShopSettings, generate

Record = dict[str, Any]
LOGGED = ("loss", "gradient_norm", "kl", "reward", "accuracy", "length", "share_all_right", "precision")


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
    """The shop's training pairs in every form that a recipe reads."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.shop = generate(ShopSettings(seed=11, items=size.items, queries=size.queries, knowledge_share=0.2))
        self.pairs: JudgedPairs = training_pairs(self.shop, 0, 0, size.pairs)

    @cached_property
    def prompts(self) -> list[KnownPrompt]:
        """Prompts with labels and true steps."""
        return [
            KnownPrompt(f"p{n}", *self._prompt(n), int(self.pairs.gold[n]), step_lines(self._reason(n)))
            for n in range(len(self.pairs.pairs))
        ]

    @cached_property
    def context_prompts(self) -> list[ContextPrompt]:
        """The same with the text of their query."""
        made = []
        for n, prompt in enumerate(self.prompts):
            chunk = self.shop.chunks[int(self.pairs.rows[n])]
            prefix, _ = self._prompt(n, chunk.text)
            made.append(
                ContextPrompt(prompt.example_id, prompt.prefix, prompt.suffix, prompt.label, prefix, chunk.kind)
            )
        return made

    def examples(self, order: str, bare: bool = False) -> list[JudgeExample]:
        """What SFT reads; bare: the label alone."""
        form: Any = order
        return [
            JudgeExample(p.prefix, p.suffix, f"{label_text(p.label)}\n" if bare else write(self._reason(n), form))
            for n, p in enumerate(self.prompts)
        ]

    @property
    def oracle(self) -> dict[str, str]:
        """Right completions by prompt."""
        return {p.example_id: write(self._reason(n), "label_first") for n, p in enumerate(self.prompts)}

    @cached_property
    def listings(self) -> list[str]:
        """Every item as text."""
        return [listing(record) for record in self.shop.records]

    @cached_property
    def good(self) -> dict[str, list[int]]:
        """Positions of the items with the best label, by query text."""
        found: dict[str, list[int]] = {}
        for query, item, label in zip(self.pairs.rows, self.pairs.items, self.pairs.gold, strict=True):
            if label == self.pairs.gold.max():
                found.setdefault(self.shop.queries[int(query)].text, []).append(int(item))
        return found

    def form(self, order: str) -> JudgeFormat:
        """How the judges of this check read and write."""
        return JudgeFormat(
            template="nano", order=order, rule_book_hash=self.shop.book.hash, max_new_tokens=self.size.tokens
        )  # type: ignore[arg-type]

    def _prompt(self, n: int, context: str | None = None) -> tuple[str, str]:
        pair = self.pairs.pairs[n]
        return judge_prompt(pair.query, pair.item_text, pair.facts, context, "nano")

    def _reason(self, n: int) -> Any:
        return self.shop.rationale(int(self.pairs.rows[n]), int(self.pairs.items[n]))


@dataclass
class Check:
    """One pass over the recipes. folder: where its runs lie. starts: judges and encoder that they start from."""

    world: World
    folder: Path
    starts: Path
    precision: str
    records: list[Record] = field(default_factory=list)

    @property
    def fit(self) -> FitSettings:
        """A few updates at a constant rate."""
        return FitSettings(
            updates=self.world.size.updates, precision=self.precision, schedule="constant", warmup=0.0, log_every=1,
            tensorboard=False,
        )  # type: ignore[arg-type]  # fmt: skip

    @property
    def rollouts(self) -> RolloutSettings:
        """Groups of the shop's prompts, whatever their label."""
        size = self.world.size
        return RolloutSettings(
            prompts=size.prompts, group_size=size.group, max_new_tokens=size.tokens, balanced=False, oversampling=2.5,
            rounds=4,
        )  # fmt: skip

    def policy(self, start: str = "label_first", **more: Any) -> dict[str, Any]:
        """What all recipes on rollouts are told."""
        return {"judge": str(self.starts / start), "rollouts": self.rollouts, "fit": self.fit, **more}


NEEDS = {
    "judge_dpo": ("label_first",), "judge_grpo": ("label_first",), "judge_grpo_inner": ("label_first",),
    "judge_grpo_lora": ("label_first",), "judge_context": ("label_first",), "judge_guided": ("reason_first",),
    "judge_stepwise": ("reason_first", "steps"), "step_judge_scalar": ("reason_first",),
    "step_judge_generative": ("reason_first",), "retriever_grpo": ("label_first", "encoder"),
}  # fmt: skip


def start_judges(world: World, folder: Path, names: Sequence[str]) -> dict[str, float]:
    """The judges and the encoder that these checks start from, trained on this device; seconds of each."""
    needed = {start for name in names for start in NEEDS.get(name, ())}
    taken = {}
    for start in (start for start in ("label_first", "reason_first", "steps", "encoder") if start in needed):
        began = time.perf_counter()
        _start(world, folder, start)
        taken[start] = round(time.perf_counter() - began, 2)
    return taken


def _start(world: World, folder: Path, start: str) -> None:
    """Train one of them into the folder of its name."""
    fit = FitSettings(updates=world.size.updates, tensorboard=False)
    if start == "encoder":
        _encoder().save(folder / start)
    elif start == "steps":
        prompts = world.prompts[: 8 * world.size.prompts]
        step_judge.train(_step_settings(folder, "scalar", fit), prompts, folder / "steps_run").rename(folder / start)
    else:
        examples = world.examples(start, world.size.bare and start == "label_first")
        settings = _sft(world, start, world.size.start, "auto")
        judge_sft.train(settings, examples, folder / f"{start}_run").rename(folder / start)


def _sft(world: World, order: str, updates: int, precision: str) -> judge_sft.Settings:
    return judge_sft.Settings(
        model=str(nano_folder()), format=world.form(order), optimizer="adamw", learning_rate=1e-3, batch_size=16,
        label_weight=4.0, epochs=10_000,
        fit=FitSettings(updates=updates, precision=precision, schedule="constant", log_every=1, tensorboard=False),
    )  # type: ignore[arg-type]  # fmt: skip


def _step_settings(starts: Path, kind: str, fit: FitSettings) -> step_judge.Settings:
    return step_judge.Settings(
        model=str(starts / "reason_first"), kind=kind, samples=4, batch_size=16, epochs=10_000, fit=fit
    )  # type: ignore[arg-type]


def _encoder() -> Encoder:
    return Encoder.create(
        nano_folder() / "tokenizer.json", 64, 2, query_prompt="query: ", item_prompt="item: ", max_length=96
    )


def base_model(c: Check) -> Path:
    """The shipped base's recipe at a tiny size."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(nano_folder()))
    network = base.NetworkSettings(hidden=48, layers=2, heads=4, key_value_heads=2, intermediate=96)
    settings = base.Settings(network=network, batch_size=8, fit=c.fit)
    return base.train_base(settings, nano.document_stream(tokenizer), tokenizer, c.folder, progress=c.records.append)


def sft(c: Check) -> Path:
    """Supervised fine-tuning of the shipped base."""
    settings = _sft(c.world, "label_first", c.world.size.updates, c.precision)
    return judge_sft.train(settings, c.world.examples("label_first"), c.folder, c.records.append)


def sft_lora(c: Check) -> Path:
    """The same, an adapter alone."""
    settings = _sft(c.world, "reason_first", c.world.size.updates, c.precision)
    settings.lora = LoraSettings(rank=4)
    return judge_sft.train(settings, c.world.examples("reason_first"), c.folder, c.records.append)


def dpo(c: Check) -> Path:
    """Preference pairs of its own samples."""
    size = c.world.size
    settings = judge_dpo.Settings(
        judge=str(c.starts / "label_first"), batch_size=8, epochs=100, fit=c.fit,
        sampling=PairSampling(samples=3, max_new_tokens=size.tokens),
    )  # fmt: skip
    prompts = c.world.prompts[: 4 * size.prompts]
    return judge_dpo.train(settings, prompts, c.world.oracle, c.folder, c.records.append)


def grpo(c: Check) -> Path:
    """GRPO on labels."""
    return judge_grpo.train(judge_grpo.Settings(**c.policy()), c.world.prompts, c.folder, c.records.append)


def grpo_inner(c: Check) -> Path:
    """GRPO whose rollouts serve two steps: ratio, clip and the sampler's own log probabilities."""
    settings = judge_grpo.Settings(**c.policy())
    settings.rollouts.inner_steps = 2
    return judge_grpo.train(settings, c.world.prompts, c.folder, c.records.append)


def grpo_lora(c: Check) -> Path:
    """GRPO of an adapter, which is its own reference."""
    settings = judge_grpo.Settings(**c.policy(lora=LoraSettings(rank=4)))
    return judge_grpo.train(settings, c.world.prompts, c.folder, c.records.append)


def guided(c: Check) -> Path:
    """Rule-aware rewards and guided replay from the first update on."""
    settings = judge_guided.Settings(**c.policy("reason_first", replay=ReplaySettings(warmup=0, accuracy=0.5)))
    return judge_guided.train(settings, c.world.prompts, c.folder, c.records.append)


def stepwise(c: Check) -> Path:
    """Step rewards, with a scalar step judge for what no stored verdict covers."""
    told = {"step_judge": str(c.starts / "steps"), "covered": ["category", "verdict"]}
    settings = judge_stepwise.Settings(**c.policy("reason_first", **told))
    return judge_stepwise.train(settings, c.world.prompts, c.folder, c.records.append)


def steps_scalar(c: Check) -> Path:
    """A head that scores steps; the trained judge is asked once."""
    return _steps(c, "scalar")


def steps_generative(c: Check) -> Path:
    """A model that writes a verdict per step; the trained judge is asked once."""
    return _steps(c, "generative")


def _steps(c: Check, kind: str) -> Path:
    prompts = c.world.prompts[: 8 * c.world.size.prompts]
    folder = step_judge.train(_step_settings(c.starts, kind, c.fit), prompts, c.folder, c.records.append)
    rollout, _ = step_judge.rolled(c.starts / "reason_first", prompts[:4], 2, 1, "check")
    mine = [prompts[group] for group in rollout.group.tolist()]
    verdicts = step_judge.open_step_judge(folder).judge(mine, rollout)
    assert verdicts.device.type == "cpu" and verdicts.shape[0] == len(mine)
    return folder


def context(c: Check) -> Path:
    """Two arms of a group, one of which reads a retrieved text."""
    return judge_context.train(
        judge_context.Settings(**c.policy()), c.world.context_prompts, c.folder, c.records.append
    )


def contrastive(c: Check) -> Path:
    """Two towers from scratch on good pairs."""
    w = c.world
    pairs = [Pair(query, str(item)) for query, items in w.good.items() for item in items]
    texts = {str(n): text for n, text in enumerate(w.listings)}
    settings = retriever_contrastive.Settings(
        encoder="from scratch", batch_size=16, random_negatives=16, epochs=100, matryoshka=[16], fit=c.fit
    )
    return retriever_contrastive.train(settings, pairs, texts, c.folder, encoder=_encoder(), progress=c.records.append)


def ranking(c: Check) -> Path:
    """A retriever on its own rankings, graded by the judge; two steps on each, with KL."""
    w = c.world
    queries = [QueryExample(query, items[0], frozenset(items)) for query, items in w.good.items()]
    facts = {query.text: query.facts for query in w.shop.queries}
    judge = Judge.load(c.starts / "label_first", precision=c.precision)
    relevance = JudgedRelevance(judge, [(q.text, facts[q.text]) for q in queries], w.listings)
    settings = retriever_grpo.Settings(
        encoder=str(c.starts / "encoder"), fit=c.fit, loss=RankingTermSettings(),
        rankings=RankingSettings(queries=6, candidates=8, refresh_items=32, random_items=8, inner_steps=2,
                                 min_spread=0.0),
    )  # fmt: skip
    return retriever_grpo.train(settings, queries, w.listings, RetrievalGrades(relevance), c.folder, c.records.append)


CASES: Mapping[str, Callable[[Check], Path]] = {
    "base": base_model, "judge_sft": sft, "judge_sft_lora": sft_lora, "judge_dpo": dpo, "judge_grpo": grpo,
    "judge_grpo_inner": grpo_inner, "judge_grpo_lora": grpo_lora, "judge_guided": guided, "judge_stepwise": stepwise,
    "step_judge_scalar": steps_scalar, "step_judge_generative": steps_generative, "judge_context": context,
    "retriever_contrastive": contrastive, "retriever_grpo": ranking,
}  # fmt: skip


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
            CASES[name](check)
    except ImportError as error:
        return {"status": "skipped", "why": str(error)}
    except NothingToLearn as error:
        return {"status": "failed", "why": str(error)}
    except Exception as error:  # one recipe's fault must not hide the others'
        return {"status": "failed", "why": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-2500:]}
    seconds = time.perf_counter() - began
    logged = [{n: float(r[n]) for n in LOGGED if isinstance(r.get(n), int | float)} for r in check.records]
    problem = _problem(logged, check.precision)
    told = {"status": "failed", "why": problem} if problem else {"status": "ok"}
    first = logged[0] if logged else {}
    return {**told, "seconds": round(seconds, 2), "first": first, "losses": [r["loss"] for r in logged]}


def _problem(logged: list[Record], precision: str) -> str | None:
    if not logged:
        return "no update was logged"
    if not all(math.isfinite(r["loss"]) and math.isfinite(r["gradient_norm"]) for r in logged):
        return "a loss or gradient is not finite"
    kl = abs(logged[0].get("kl", 0.0))
    return f"KL to the start is {kl:.2g} at the first update" if kl > (1e-5 if precision == "fp32" else 1e-2) else None


def device_name() -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
