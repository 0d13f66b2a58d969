"""Preference pairs from a policy's own samples, and the source that trains on them (DPO).

Paper: TaoSR1 stage 2 (arXiv 2508.12365): self-correction where some samples are right, oracle guidance where none is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.losses import cross_entropy, dpo
from goodrate.learning.policy import REFERENCE, micro_batches
from goodrate.learning.records import MicroBatch, Outputs, Prompts, Rollout, Term, Update
from goodrate.learning.source import EpochOrder
from goodrate.strict_json import dumps, parse

Kind = Literal["self", "oracle"]


@dataclass(frozen=True)
class PreferencePair:
    """One prompt and two completions as token ids, the better one first."""

    example_id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    kind: Kind

    def to_json(self) -> str:
        """One line of JSON."""
        return dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> PreferencePair:
        """What to_json wrote."""
        raw = parse(line)
        tokens = {name: tuple(raw[name]) for name in ("prompt", "chosen", "rejected")}
        return cls(example_id=raw["example_id"], kind=raw["kind"], **tokens)


def preference_pairs(
    rollout: Rollout,
    correct: Tensor,
    sound: Tensor,
    confidence: Tensor,
    oracle: Callable[[str], tuple[int, ...] | None],
    max_oracle_share: float = 1.0,
) -> tuple[list[PreferencePair], dict[str, int]]:
    """One pair per prompt, and how many prompts went which way.

    rejected: the wrong sample with the highest confidence. chosen: a right sample, a sound one (readable, not
    contradicting itself) before others and then the most confident; where none is right, what the oracle writes.
    Prompts that are all right give no pair; neither do those without gold, or that the oracle declines (None).

    correct: (N,) 1, 0 or NaN. sound: (N,) bool. confidence: (N,) any number. max_oracle_share: oracle pairs beyond this
    share of all pairs are dropped, the last first. counts: self, oracle, all_right, unscored, declined, over_share.
    """
    pairs: list[PreferencePair] = []
    counts: Counter[str] = Counter()
    for group in torch.unique(rollout.group).tolist():
        rows = (rollout.group == group).nonzero()[:, 0]
        right, wrong = rows[correct[rows] == 1], rows[correct[rows] == 0]
        if not len(wrong):
            counts["all_right" if len(right) else "unscored"] += 1
            continue
        example = int(rollout.example_id[rows[0]])
        name = rollout.sampled_under.example_ids[example]
        rejected = _tokens(rollout, int(wrong[confidence[wrong].argmax()]))
        kind: Kind = "self" if len(right) else "oracle"
        chosen = _tokens(rollout, _best(right, sound, confidence)) if len(right) else oracle(name)
        if chosen is None:
            counts["declined"] += 1
            continue
        pairs.append(PreferencePair(name, rollout.sampled_under.token_ids[example], chosen, rejected, kind))
    return _capped(pairs, max_oracle_share, counts)


def _best(right: Tensor, sound: Tensor, confidence: Tensor) -> int:
    """The sound one, then the most confident."""
    return max(right.tolist(), key=lambda row: (bool(sound[row]), float(confidence[row]), -row))


def _tokens(rollout: Rollout, row: int) -> tuple[int, ...]:
    return tuple(rollout.completion_ids[row][rollout.mask[row]].tolist())


def _capped(
    pairs: list[PreferencePair], share: float, counts: Counter[str]
) -> tuple[list[PreferencePair], dict[str, int]]:
    """At most `share` oracle pairs: with s self pairs, share / (1 - share) * s of them."""
    own = [pair for pair in pairs if pair.kind == "self"]
    guided = [pair for pair in pairs if pair.kind == "oracle"]
    allowed = len(guided) if share >= 1 else int(share / (1 - share) * len(own) + 1e-9)
    dropped = {pair.example_id for pair in guided[allowed:]}
    counts.update({"self": len(own), "oracle": min(allowed, len(guided)), "over_share": len(dropped)})
    within = [pair for pair in pairs if not (pair.kind == "oracle" and pair.example_id in dropped)]
    return within, dict(counts)


class PreferenceTermSettings(BaseModel):
    """The DPO loss."""

    model_config = ConfigDict(extra="forbid")
    beta: float = Field(default=0.1, gt=0, description="how far the policy may go from the reference")
    nll: float = Field(default=0.0, ge=0, description="weight of the chosen completion's own likelihood; 0 = plain DPO")


def preference_terms(settings: PreferenceTermSettings) -> tuple[list[Term], list[Term]]:
    """(terms, diagnostics) for micro-batches whose rows are chosen, rejected, chosen, rejected, ...

    Values stand on the rows of the chosen; the mask "pair" selects them.
    """

    def pairwise(values: Tensor) -> Tensor:
        """(N / 2,) values on the even rows of (N,)."""
        return torch.stack([values, torch.zeros_like(values)], dim=1).flatten()

    def sums(outputs: Outputs, batch: MicroBatch) -> tuple[Tensor, ...]:
        totals = [(outputs[name] * batch["scored"]).sum(1) for name in ("plain", REFERENCE)]
        return totals[0][0::2], totals[0][1::2], totals[1][0::2], totals[1][1::2]

    def loss(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return pairwise(dpo(*sums(outputs, batch), beta=settings.beta))

    def preferred(outputs: Outputs, batch: MicroBatch) -> Tensor:
        chosen, rejected, old_chosen, old_rejected = sums(outputs, batch)
        return pairwise((chosen - old_chosen > rejected - old_rejected).float())

    def moved(which: int) -> Any:
        """How much likelier the chosen (0) or the rejected (1) became since the start, in nats."""
        return lambda outputs, batch: pairwise(sums(outputs, batch)[which] - sums(outputs, batch)[which + 2])

    def first_token_margin(outputs: Outputs, batch: MicroBatch) -> Tensor:
        first = outputs["plain"][:, 0]
        return pairwise(first[0::2] - first[1::2])

    terms = [Term("dpo", loss, "pair", unit="pair")]
    if settings.nll > 0:
        likelihood = Term(
            "nll", lambda outputs, batch: cross_entropy(outputs["plain"]), "chosen_tokens", "sequence_mean",
            weight=settings.nll,
        )  # fmt: skip
        terms.append(likelihood)
    diagnostics = [
        Term("preferred", preferred, "pair"),
        Term("chosen_moved", moved(0), "pair"),
        Term("rejected_moved", moved(1), "pair"),
        Term("label_margin", first_token_margin, "pair"),
    ]
    return terms, diagnostics


def pair_rollout(pairs: Sequence[PreferencePair]) -> Rollout:
    """Pairs as groups of two, the chosen first."""
    rows = [tokens for pair in pairs for tokens in (pair.chosen, pair.rejected)]
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    flat = torch.tensor([token for row in rows for token in row])
    group = torch.arange(len(pairs)).repeat_interleave(2)
    return Rollout(
        example_id=group,
        group=group,
        arm=torch.zeros_like(group),
        sampled_under=Prompts(tuple(p.example_id for p in pairs), tuple(p.prompt for p in pairs)),
        completion_ids=torch.zeros(mask.shape, dtype=torch.long).masked_scatter(mask, flat),
        mask=mask,
        behaviour_logprobs=None,
        finish_reason=("stop",) * len(rows),
        parsed=(None,) * len(rows),
    )


class PreferenceSource:
    """Updates over preference pairs, epoch by epoch."""

    def __init__(
        self,
        pairs: Sequence[PreferencePair],
        settings: PreferenceTermSettings,
        *,
        batch_size: int,
        micro_tokens: int,
        seed: int,
        epochs: int | None = 1,
    ) -> None:
        """micro_tokens: of a micro-batch; it changes memory and speed, never the update."""
        if not pairs:
            raise ValueError("no preference pairs to train on")
        lengths = [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs]
        self._pairs, self._terms, self._micro_tokens = pairs, preference_terms(settings), micro_tokens
        self._order = EpochOrder(lengths, batch_size, seed, epochs)
        self._state = {"sha256": hashlib.sha256(repr(list(pairs)).encode()).hexdigest(), "seed": seed}

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the pairs."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        rollout = pair_rollout([self._pairs[row] for row in rows])
        first = torch.arange(len(rollout.parsed)) % 2 == 0
        tensors = {"pair": first, "chosen_tokens": rollout.mask & first[:, None]}
        terms, diagnostics = self._terms
        return Update(micro_batches(rollout, tensors, self._micro_tokens), terms, {}, diagnostics)

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on; the position is the update's number."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other pairs."""
        if state != self._state:
            raise ValueError("the checkpoint was made with other preference pairs")
