"""Updates from rankings: a retriever's own top K of the catalogue, graded, is what it learns from (Retrieval-GRPO).

Paper: arXiv 2511.13885. The policy of a query is the softmax of its scores over its K candidates.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.item_matrix import ItemMatrix, top_k
from goodrate.learning.records import MicroBatch, Ranking, Reward, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of
from goodrate.models.encoder import Encoder
from goodrate.models.precision import autocast

Grade = Callable[[Sequence[int], Tensor], Reward]  # query rows (P,), candidates (P, K) -> Reward of the P * K pairs
Pool = Literal["catalogue", "part", "batch", "start"]
Credit = Callable[[Ranking, Reward], Mapping[str, Tensor]]  # what the terms read beside scores: (P, K) each


class RankingSettings(BaseModel):
    """How candidates are found and which queries become an update."""

    model_config = ConfigDict(extra="forbid")
    queries: int = Field(default=32, gt=0, description="queries in one update")
    candidates: int = Field(default=16, gt=1, description="K, the top of the current policy")
    pool: Pool = Field(
        default="catalogue",
        description="top K of the catalogue; of a part drawn at random, whose top reaches deeper; of a freshly encoded "
        "part as in the paper (batch); of the catalogue by the start, which never changes: offline mining (start)",
    )
    pool_size: int = Field(default=512, gt=1, description="items of a part: the update's positives and random ones")
    refresh_items: int = Field(default=256, gt=0, description="items of the matrix encoded anew before an update")
    random_items: int = Field(default=64, ge=0, description="negatives of the InfoNCE anchor from the whole catalogue")
    temperature: float = Field(default=0.05, gt=0, description="of the policy's softmax over K")
    min_spread: float = Field(default=1e-3, ge=0, description="queries whose rewards differ by less teach nothing")
    inner_steps: int = Field(default=1, gt=0, description="optimizer steps on the same rankings")


@dataclass(frozen=True)
class QueryExample:
    """A query, an item that answers it (the anchor's positive), and all items known to answer it."""

    text: str
    positive: int
    known: AbstractSet[int]


def ranking_logprobs(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """log softmax(scores / temperature) over the masked-in candidates of each query; (P, K), 0 where masked out."""
    scaled = (scores / temperature).masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.log_softmax(scaled, dim=1).masked_fill(~mask, 0.0)


def spread_enough(outcome: Tensor, floor: float) -> Tensor:
    """Whether the known rewards (P, K) of a query differ by more than `floor`; (P,) bool."""
    known = ~outcome.isnan()
    most = torch.where(known, outcome, float("-inf")).amax(1)
    least = torch.where(known, outcome, float("inf")).amin(1)
    return (most - least > floor) & known.any(1)


class RankingSource:
    """One update: queries, their top K under the current weights, rewards, credit. State: matrix and order."""

    def __init__(
        self, settings: RankingSettings, encoder: Encoder, queries: Sequence[QueryExample], items: Sequence[str],
        grade: Grade, credit: Credit, terms: tuple[Sequence[Term], Sequence[Term]], *, seed: int,
        reference: Encoder | None = None, epochs: int | None = None,
    ) -> None:  # fmt: skip
        """items: texts of the whole catalogue. reference: the frozen start, for the KL term; None without one."""
        if not queries:
            raise ValueError("no queries to rank for")
        if settings.candidates > len(items):
            raise ValueError(f"candidates = {settings.candidates}, but the catalogue has {len(items)} items")
        self._settings, self._encoder, self._queries, self._items = settings, encoder, queries, items
        self._grade, self._credit, self._terms, self._seed = grade, credit, terms, seed
        self._order = EpochOrder([1] * len(queries), settings.queries, seed, epochs)
        self._matrix = ItemMatrix(items, encoder) if settings.pool in ("catalogue", "part") else None
        if settings.pool == "start" and reference is None:
            raise ValueError("pool 'start' ranks by the frozen start, which is not given")
        ahead = settings.pool != "batch"
        self._reference = None if reference is None else _Reference(reference, [q.text for q in queries], items, ahead)
        self._pending: Update | None = None
        digest = hashlib.sha256(repr([(q.text, q.positive) for q in queries]).encode()).hexdigest()
        self._about = {"queries": digest, "items": len(items), "seed": seed, "settings": settings.model_dump_json()}

    @property
    def batches_per_epoch(self) -> int:
        """Updates with new rankings in one pass over the queries."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch; new rankings every inner_steps updates."""
        if not self.reads_model(step):
            return self._pending
        number = step // self._settings.inner_steps
        rows = self._order.rows(number)
        self._pending = None if rows is None else self._collect(rows, number)
        return self._pending

    def reads_model(self, step: int) -> bool:
        """Whether the update of that number ranks with the encoder as it then is."""
        return step % self._settings.inner_steps == 0 or self._pending is None

    def _collect(self, rows: Sequence[int], number: int) -> Update:
        """Rank, grade, credit, and lay out the micro-batch."""
        clock = _Clock()
        candidates = self._candidates(rows, number, clock)
        with clock.part("layout"):
            batch = self._laid_out(candidates, rows, number)
        with clock.part("grading"):
            reward = self._grade(rows, candidates)
        batch["mask"] = ~reward.outcome.view(candidates.shape).isnan()  # what has no grade is in no list
        behaviour = self._behaviour(batch) if self._settings.inner_steps > 1 else None
        ranking = Ranking(torch.tensor(rows), candidates, behaviour, torch.tensor(rows), batch["mask"])
        return self._update(batch, ranking, reward, clock)

    def _candidates(self, rows: Sequence[int], number: int, clock: _Clock) -> Tensor:
        """Item positions (P, K), best first under the matrix, the fresh pool, or the start."""
        count, texts = self._settings.candidates, [self._queries[row].text for row in rows]
        if self._settings.pool == "start":
            assert self._reference is not None
            return torch.from_numpy(self._reference.top(rows, count))
        whole = self._settings.pool == "catalogue"
        pool = np.arange(len(self._items)) if whole else np.asarray(self._pool(rows, number))
        with clock.part("refresh"):
            if self._matrix is not None:
                self._matrix.refresh(self._settings.refresh_items, number)
                vectors = self._matrix.vectors if whole else self._matrix.vectors[pool]
            else:
                vectors = self._encoder.encode_items([self._items[item] for item in pool.tolist()])
        with clock.part("ranking"):
            places = top_k(self._encoder.encode_queries(texts), vectors, count)
        return torch.from_numpy(pool[places])

    def _behaviour(self, batch: Mapping[str, Any]) -> Tensor:
        """Log probabilities (P, K) under the weights that ranked, in the arithmetic of the loss; on the CPU."""
        encoder = self._encoder
        with torch.no_grad(), autocast(encoder.precision, encoder.device):
            scores = encoder.embed_tokens(batch["queries"]) @ encoder.embed_tokens(batch["candidates"]).T
        scores = scores.float().cpu().gather(1, batch["place"])  # a source lays out on the CPU, fit moves the update
        return ranking_logprobs(scores, batch["mask"], self._settings.temperature)

    def _pool(self, rows: Sequence[int], number: int) -> list[int]:
        """The positives of the batch and random items, distinct."""
        rng = np.random.default_rng(seed_of(self._seed, number, "pool"))
        drawn = rng.choice(len(self._items), min(self._settings.pool_size, len(self._items)), replace=False)
        return list(dict.fromkeys([*(self._queries[row].positive for row in rows), *drawn.tolist()]))

    def _laid_out(self, candidates: Tensor, rows: Sequence[int], number: int) -> dict[str, Any]:
        """The micro-batch: distinct items once, where each candidate stands among them, and the anchor's part."""
        rng = np.random.default_rng(seed_of(self._seed, number, "negatives"))
        count = min(self._settings.random_items, len(self._items))
        random = rng.choice(len(self._items), count, replace=False).tolist()
        examples = [self._queries[row] for row in rows]
        anchored = [*(example.positive for example in examples), *random]
        distinct = list(dict.fromkeys([*anchored, *candidates.flatten().tolist()]))
        column = {item: place for place, item in enumerate(distinct)}
        against = torch.zeros(len(distinct), dtype=torch.bool)
        against[[column[item] for item in anchored]] = True
        known = torch.tensor([[item in example.known for item in distinct] for example in examples])
        return {
            "queries": self._encoder.tokenize([example.text for example in examples], "query"),
            "candidates": self._encoder.tokenize([self._items[item] for item in distinct], "item"),
            "place": torch.tensor([[column[item] for item in row] for row in candidates.tolist()]),
            "positive": torch.tensor([column[example.positive] for example in examples]),
            "allowed": against[None] & ~known,
            "weights": torch.ones(len(rows)),
            "anchored": torch.ones(len(rows), dtype=torch.bool),
        }

    def _update(self, batch: dict[str, Any], ranking: Ranking, reward: Reward, clock: _Clock) -> Update:
        """Credit and facts; queries without spread are masked out of the policy terms, not of the anchor."""
        outcome = reward.outcome.view(ranking.candidates.shape)
        kept = spread_enough(outcome, self._settings.min_spread)
        batch |= self._credit(ranking, reward)
        batch |= {"mask": batch["mask"] & kept[:, None], "kept": kept}
        if ranking.behaviour_logprobs is not None:
            batch["behaviour"] = ranking.behaviour_logprobs
        if self._reference is not None:
            scores = self._reference.scores(ranking.query.tolist(), ranking.candidates)
            batch["reference"] = ranking_logprobs(scores, ranking.mask, self._settings.temperature)
        terms, diagnostics = self._terms
        return Update([batch], terms, self._facts(ranking, reward, kept, clock), diagnostics)

    def _facts(self, ranking: Ranking, reward: Reward, kept: Tensor, clock: _Clock) -> dict[str, float]:
        spread = reward.outcome.view(ranking.candidates.shape)
        return {
            "reward": float(reward.outcome.nanmean()),
            **{f"reward/{name}": float(part.nanmean()) for name, part in reward.parts.items()},
            "unscored": float(reward.outcome.isnan().float().mean()),
            "reward_deviation": float(spread.nan_to_num(0.0).std(1, correction=0).mean()),
            "share_kept": float(kept.float().mean()),
            "known_in_candidates": self._found(ranking),
            **({"matrix_age": self._matrix.age} if self._matrix is not None else {}),
            **clock.seconds,
        }

    def _found(self, ranking: Ranking) -> float:
        """Share of the candidates that are known to answer their query."""
        pairs = zip(ranking.query.tolist(), ranking.candidates.tolist(), strict=True)
        return float(np.mean([item in self._queries[row].known for row, items in pairs for item in items]))

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on, the item matrix, and rankings that have inner steps left."""
        pending = self._pending.micro_batches[0] if self._pending and self._settings.inner_steps > 1 else None
        matrix = None if self._matrix is None else self._matrix.state_dict()
        return {**self._about, "matrix": matrix, "pending": pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError naming what differs when the data or the settings are others."""
        refuse_other_data(self._about, state)
        if self._matrix is not None:
            self._matrix.load_state_dict(state["matrix"])
        if state["pending"] is not None:
            pending: MicroBatch = state["pending"]
            self._pending = Update([pending], self._terms[0], {}, self._terms[1])


class _Reference:
    """The frozen start's vectors: of all queries, and of all items (ahead) or only of those that are asked for.

    A batch pool is for catalogues that nobody wants to encode whole.
    """

    def __init__(self, encoder: Encoder, queries: Sequence[str], items: Sequence[str], ahead: bool) -> None:
        self._encoder, self._texts = encoder, items
        self._queries = torch.from_numpy(encoder.encode_queries(queries))
        self._items = torch.from_numpy(encoder.encode_items(items)) if ahead else None

    def scores(self, rows: Sequence[int], candidates: Tensor) -> Tensor:
        """Cosines (P, K) of the candidates."""
        distinct, place = torch.unique(candidates, return_inverse=True)
        return (self._queries[list(rows)][:, None] * self._vectors(distinct)[place]).sum(-1)

    def _vectors(self, items: Tensor) -> Tensor:
        if self._items is not None:
            return self._items[items]
        return torch.from_numpy(self._encoder.encode_items([self._texts[item] for item in items.tolist()]))

    def top(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Its own best item positions (P, count), where it has the whole catalogue."""
        assert self._items is not None
        return top_k(self._queries[list(rows)].numpy(), self._items.numpy(), count)


class _Clock:
    """Seconds of the parts of making an update, and which share of it was grading."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def part(self, name: str) -> Any:
        """A context whose time is kept under seconds_<name>."""
        return _Part(self.seconds, f"seconds_{name}")


class _Part:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._name] = time.perf_counter() - self._start
