"""What a method of learning from rollouts is made of: a grader, credit and loss terms; arms and a replay in few.

A new method is a `Method` with the parts that it shares with others and the few that are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from goodrate.learning.records import Prompts, Reward, Rollout, Term, View


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as token ids, with the gold label position for quotas and grading (-1: unknown)."""

    example_id: str
    token_ids: tuple[int, ...]
    label: int


class SampleGroups(Protocol):
    """Sampling as a method sees it: G completions of every prompt, the group's number being the prompt's place."""

    def __call__(
        self, prompts: Sequence[TokenizedPrompt], token_ids: Sequence[tuple[int, ...]] | None = None,
        *, size: int | None = None, share: float = 1.0, view: View = "plain", arm: int = 0,
    ) -> Rollout:  # fmt: skip
        """token_ids: in place of the prompts' own, for another view. size: None = this share of the group size,
        which is smaller while prompts are screened.
        """
        ...


class Grader(Protocol):
    """Reads completions and rewards them."""

    def parse(self, completion: Any) -> Any:
        """What a completion says; None where it cannot be read."""
        ...

    def correct(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Tensor:
        """Reward.correct of `grade`, at no cost but reading: screening asks for nothing else."""
        ...

    def grade(self, rollout: Rollout, prompts: Sequence[TokenizedPrompt]) -> Reward:
        """Rewards (N,) of rollouts; prompts: by group, whatever the arm."""
        ...


class Arms(Protocol):
    """Under which prompts completions are sampled, and under which they are scored."""

    def sampled(self, sample_groups: SampleGroups, prompts: Sequence[TokenizedPrompt]) -> Rollout:
        """The rollouts of some prompts."""
        ...

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """The prompts under which completions are scored, the sampling prompts first; () = those alone."""
        ...


@dataclass(frozen=True)
class OneArm:
    """Sampled and scored under the prompts themselves, as most methods do."""

    def sampled(self, sample_groups: SampleGroups, prompts: Sequence[TokenizedPrompt]) -> Rollout:
        """One group of every prompt."""
        return sample_groups(prompts)

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """None but its own."""
        return ()


class Replay(Protocol):
    """Second tries where the first went wrong, and what is remembered of the prompts."""

    def replayed(
        self, rollout: Rollout, reward: Reward, prompts: Sequence[TokenizedPrompt], sample_groups: SampleGroups,
        number: int,
    ) -> tuple[Rollout, Reward, Mapping[str, int]]:  # fmt: skip
        """Rollouts and rewards after a second try, and counts for the log. number: of the update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


def no_facts(rollout: Rollout, reward: Reward) -> Mapping[str, float]:
    """Nothing beside what every method logs."""
    return {}


Credit = Callable[[Rollout, Reward], Mapping[str, Tensor]]
Facts = Callable[[Rollout, Reward], Mapping[str, float]]
Terms = tuple[Sequence[Term], Sequence[Term]]


@dataclass(frozen=True)
class Method:
    """The parts of a method.

    credit: what the terms read from a micro-batch, masks and advantages, (N,) or (N, T) each. terms: of the loss, and
    diagnostics. facts: numbers for the log, over everything that was sampled. replay: None = no second try.
    """

    grader: Grader
    credit: Credit
    terms: Terms
    facts: Facts = no_facts
    arms: Arms = field(default_factory=OneArm)
    replay: Replay | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the method."""
        return self.replay.state_dict() if self.replay else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.replay:
            self.replay.load_state_dict(state)
