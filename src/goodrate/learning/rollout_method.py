"""What a method is asked by the source of rollouts, and what most methods answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from goodrate.learning.records import Prompts, Reward, Rollout, Term, View


@dataclass(frozen=True)
class PolicyExample:
    """What is sampled from: prompt token ids, and the gold label position for quotas and grading (-1: unknown)."""

    example_id: str
    token_ids: tuple[int, ...]
    label: int


class Ask(Protocol):
    """Sampling as a method sees it: G completions of every example, the group's number being the example's place."""

    def __call__(
        self, examples: Sequence[PolicyExample], token_ids: Sequence[tuple[int, ...]] | None = None,
        *, size: int | None = None, share: float = 1.0, view: View = "plain", arm: int = 0,
    ) -> Rollout:  # fmt: skip
        """token_ids: other prompts than the examples' own, for another view. size: None = this share of the group size,
        which is smaller while prompts are screened.
        """
        ...


class PlainSampling:
    """What most methods do: one arm under the plain prompt, no second try, no state."""

    def sampled(self, ask: Ask, examples: Sequence[PolicyExample]) -> Rollout:
        """The rollouts of some examples."""
        return ask(examples)

    def replayed(
        self, rollout: Rollout, reward: Reward, examples: Sequence[PolicyExample], ask: Ask, number: int
    ) -> tuple[Rollout, Reward, Mapping[str, int]]:
        """Rollouts and rewards after a second try where the first went wrong, and counts for the log.

        number: of the update.
        """
        return rollout, reward, {}

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """The prompts under which completions are scored, the sampling prompts first; () = those alone."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the method."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Method(Protocol):
    """What a method adds to sampling: arms, second tries, grading, credit and loss terms. See PlainSampling too."""

    def sampled(self, ask: Ask, examples: Sequence[PolicyExample]) -> Rollout:
        """The rollouts of some examples, through `ask`."""
        ...

    def replayed(
        self, rollout: Rollout, reward: Reward, examples: Sequence[PolicyExample], ask: Ask, number: int
    ) -> tuple[Rollout, Reward, Mapping[str, int]]:
        """Rollouts and rewards after a second try, and counts for the log."""
        ...

    def views(self, rollout: Rollout) -> Sequence[Prompts]:
        """The prompts under which completions are scored."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the method."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...

    def parse(self, completion: Any) -> Any:
        """What a completion says; None where it cannot be read."""
        ...

    def correct(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Tensor:
        """Reward.correct of `grade`, at no cost but reading: screening asks for nothing else."""
        ...

    def grade(self, rollout: Rollout, examples: Sequence[PolicyExample]) -> Reward:
        """Rewards (N,) of rollouts; examples: by group, whatever the arm."""
        ...

    def credit(self, rollout: Rollout, reward: Reward) -> Mapping[str, Tensor]:
        """What the terms read from the micro-batch: masks, advantages, each (N,) or (N, T)."""
        ...

    def terms(self) -> tuple[Sequence[Term], Sequence[Term]]:
        """Terms of the loss, and diagnostics."""
        ...

    def facts(self, rollout: Rollout, reward: Reward) -> Mapping[str, float]:
        """Numbers for the log, over everything that was sampled."""
        ...
