"""Rollouts: sampling completions in groups, and taking, joining and cutting what was sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from goodrate.learning.records import Prompts, Reward, Rollout

if TYPE_CHECKING:
    from goodrate.learning.sampler import Sampler
    from goodrate.models.decoding import Completion

Parse = Callable[["Completion"], Any]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn: G per prompt, at which temperature, how long, and which token ends them."""

    group_size: int
    temperature: float
    max_new_tokens: int
    stop_token_id: int | None
    batch_size: int = 256


def sample(
    sampler: Sampler, prompts: Prompts, sampling: Sampling, seeds: Sequence[int], parse: Parse, arm: int = 0
) -> Rollout:
    """G completions of each of P prompts: N = P * G rollouts, group = the prompt's number.

    seeds: one per rollout, prompt by prompt. Every prompt is read once for its group. Behaviour log probabilities are
    those of the unfiltered softmax at the sampling temperature. parse: None where a completion cannot be read.
    """
    assert len(seeds) == len(prompts) * sampling.group_size
    ids = [list(tokens) for tokens in prompts.token_ids for _ in range(sampling.group_size)]
    completions = sampler.generate(
        ids,
        sampling.max_new_tokens,
        sampling.stop_token_id,
        sampling.temperature,
        seed=list(seeds),
        batch_size=sampling.batch_size,
    )
    lengths = torch.tensor([len(completion.token_ids) for completion in completions])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    row = torch.arange(len(prompts)).repeat_interleave(sampling.group_size)
    return Rollout(
        example_id=row,
        group=row.clone(),
        arm=torch.full_like(row, arm),
        sampled_under=prompts,
        completion_ids=_filled(mask, [token for c in completions for token in c.token_ids], torch.long),
        mask=mask,
        behaviour_logprobs=_filled(mask, [value for c in completions for value in c.logprobs], torch.float),
        finish_reason=tuple(completion.finish_reason for completion in completions),
        parsed=tuple(parse(completion) for completion in completions),
        temperature=sampling.temperature,
    )


def sample_shared(
    sampler: Sampler, prompts: Prompts, sampling: Sampling, seeds: Sequence[int], parse: Parse, arm: int = 0
) -> Rollout:
    """`sample`, its prompts divided among the processes of a run; every process gets the whole rollout.

    Every row has a seed of its own, so that the number of processes changes nothing but rounding.
    """
    from torch import distributed

    world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if world == 1:
        return sample(sampler, prompts, sampling, seeds, parse, arm)
    bounds = [len(prompts) * rank // world for rank in range(world + 1)]
    start, end = bounds[distributed.get_rank() :][:2]
    share = Prompts(prompts.example_ids[start:end], prompts.token_ids[start:end], prompts.view)
    size = sampling.group_size
    own = sample(sampler, share, sampling, seeds[start * size : end * size], parse, arm) if end > start else None
    shares: list[Rollout | None] = [None] * world
    distributed.all_gather_object(shares, own)
    return join([rollout for rollout in shares if rollout is not None])


def _filled(mask: Tensor, values: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The values, row by row, at the masked-in places of a tensor of zeros."""
    return torch.zeros(mask.shape, dtype=dtype).masked_scatter(mask, torch.tensor(values, dtype=dtype))


def take(rollout: Rollout, selected: Tensor) -> Rollout:
    """The rollouts where selected (N,) bool is true. Prompts stay as they are, so example_id keeps its meaning."""
    rows = selected.nonzero()[:, 0].tolist()
    behaviour = rollout.behaviour_logprobs
    return replace(
        rollout,
        **{name: getattr(rollout, name)[selected] for name in ("example_id", "group", "arm", "mask")},
        completion_ids=rollout.completion_ids[selected],
        behaviour_logprobs=None if behaviour is None else behaviour[selected],
        finish_reason=tuple(rollout.finish_reason[i] for i in rows),
        parsed=tuple(rollout.parsed[i] for i in rows),
    )


def take_reward(reward: Reward, selected: Tensor) -> Reward:
    """The rewards where selected (N,) bool is true."""
    return Reward(
        reward.outcome[selected],
        reward.correct[selected],
        reward.failed[selected],
        None if reward.steps is None else reward.steps[selected],
        {name: part[selected] for name, part in reward.parts.items()},
    )


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """One rollout of several, of one view and temperature: prompts one after the other, groups numbered anew."""
    assert len({r.sampled_under.view for r in rollouts}) == 1, "rollouts of several views"
    groups = [torch.unique(r.group, return_inverse=True)[1] for r in rollouts]
    starts = torch.tensor([0, *(int(g.max()) + 1 if len(g) else 0 for g in groups)]).cumsum(0).tolist()
    numbered = torch.cat([group + start for group, start in zip(groups, starts, strict=False)])
    return _joined(rollouts, *_stacked([r.sampled_under for r in rollouts]), numbered)


def join_arms(rollouts: Sequence[Rollout]) -> Rollout:
    """Arms of the same groups as one rollout: groups keep their numbers, prompts of the arms stand one after the other.

    The view of the whole is that of the first: "the prompt it was sampled under" is then each rollout's own.
    """
    return _joined(rollouts, *_stacked([r.sampled_under for r in rollouts]), torch.cat([r.group for r in rollouts]))


def add_rollouts(rollout: Rollout, more: Rollout, rows: Tensor, as_sampled: bool = False) -> Rollout:
    """More rollouts for some of the groups. They are scored under the group's prompt, whatever they were sampled under,
    or as_sampled: under their own.

    more: its groups are numbered 0 .. R - 1; rows: (R,) the groups of `rollout`, whose prompts have the same numbers.
    """
    placed = replace(more, group=rows[more.group])
    if as_sampled:
        return join_arms([rollout, placed])
    placed = replace(placed, example_id=placed.group)
    return _joined([rollout, placed], rollout.sampled_under, [0, 0], torch.cat([rollout.group, placed.group]))


def _stacked(prompts: Sequence[Prompts]) -> tuple[Prompts, list[int]]:
    """All prompts one after the other, and where each part begins."""
    starts = torch.tensor([0, *(len(part) for part in prompts)]).cumsum(0).tolist()
    names = tuple(name for part in prompts for name in part.example_ids)
    return Prompts(names, tuple(ids for part in prompts for ids in part.token_ids), prompts[0].view), starts[:-1]


def _joined(rollouts: Sequence[Rollout], prompts: Prompts, starts: Sequence[int], group: Tensor) -> Rollout:
    """One rollout of several with these prompts and groups."""
    assert len({r.temperature for r in rollouts}) == 1, "rollouts of several temperatures"
    width = max(r.mask.shape[1] for r in rollouts)
    behaviours = [r.behaviour_logprobs for r in rollouts]
    return Rollout(
        example_id=torch.cat([r.example_id + start for r, start in zip(rollouts, starts, strict=True)]),
        group=group,
        arm=torch.cat([r.arm for r in rollouts]),
        sampled_under=prompts,
        completion_ids=torch.cat([_widened(r.completion_ids, width, 0) for r in rollouts]),
        mask=torch.cat([_widened(r.mask, width, False) for r in rollouts]),
        behaviour_logprobs=None
        if any(b is None for b in behaviours)
        else torch.cat([_widened(b, width, 0.0) for b in behaviours if b is not None]),
        finish_reason=tuple(why for r in rollouts for why in r.finish_reason),
        parsed=tuple(parsed for r in rollouts for parsed in r.parsed),
        temperature=rollouts[0].temperature,
    )


def join_rewards(rewards: Sequence[Reward]) -> Reward:
    """The rewards of joined rollouts."""
    return Reward(
        torch.cat([r.outcome for r in rewards]),
        torch.cat([r.correct for r in rewards]),
        torch.cat([r.failed for r in rewards]),
        None if rewards[0].steps is None else torch.cat([r.steps for r in rewards if r.steps is not None]),
        {name: torch.cat([r.parts[name] for r in rewards]) for name in rewards[0].parts},
    )


def _widened(values: Tensor, width: int, fill: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=fill)
