"""A judge's prompt as text, with all that is known about its answer: what every judge recipe learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JudgePrompt:
    """The two parts of a judge's prompt, the gold label position, and what else is known of the answer.

    completion: the true one (the target of SFT, the oracle of DPO), None where nobody wrote it. weight: how much the
    prompt counts (silver labels: 0.5). steps: true lines of the steps that somebody verified, by step name.
    context_prefix: the prefix with the retrieved text, None without one. context_kind: what that text is worth
    (helpful, irrelevant, misleading), empty where nobody knows.
    """

    example_id: str
    prefix: str
    suffix: str
    label: int
    completion: str | None = None
    weight: float = 1.0
    steps: Mapping[str, str] = field(default_factory=dict)
    context_prefix: str | None = None
    context_kind: str = ""

    @property
    def served(self) -> tuple[str, str]:
        """The prompt that the trained judge will be asked with: with the retrieved text where there is one."""
        return self.context_prefix or self.prefix, self.suffix
