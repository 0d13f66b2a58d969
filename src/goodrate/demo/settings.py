"""What the demo does and how long each stage may take."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DemoSettings(BaseModel):
    """The demo's settings. Seconds are training time on this machine; set updates for a run that repeats exactly."""

    model_config = ConfigDict(extra="forbid")
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    items: int = Field(default=5000, ge=200)
    queries: int = Field(default=2000, ge=100)
    encoder_seconds: float = Field(default=75.0, gt=0, description="budget of the contrastive stage")
    encoder_hidden: int = Field(default=128, gt=0)
    encoder_layers: int = Field(default=2, gt=0)
    judge_seconds: float = Field(default=210.0, gt=0, description="budget of the judge's fine-tuning")
    judge_updates: int | None = Field(default=None, gt=0, description="instead of judge_seconds: a repeatable budget")
    encoder_updates: int | None = Field(default=None, gt=0, description="instead of encoder_seconds")
    judge_pairs: int = Field(default=24_000, gt=0, description="judged training pairs that the judge may read")
    depth: int = Field(default=50, gt=0, description="retrieved items that the judge sees per query")
    queries_measured: int = Field(default=300, gt=0, description="test queries in the table")

    def of_demo(self) -> DemoSettings:
        """The settings of the demo alone."""
        return DemoSettings.model_validate(self.model_dump(include=set(DemoSettings.model_fields)))


class LearningSettings(DemoSettings):
    """The demo's settings, and those of the two chains that learn by reinforcement."""

    retriever_seconds: float = Field(default=150.0, gt=0, description="budget of retriever_grpo")
    retriever_updates: int | None = Field(default=None, gt=0, description="instead of retriever_seconds")
    retriever_objective: Literal["grpo", "listwise"] = Field(
        default="grpo", description="loss on the judge's rewards; listwise is not RL and gained more on the shop"
    )
    candidates: int = Field(default=16, gt=1, description="K, the retriever's own top that the judge grades")
    rationales: int = Field(default=300, gt=0, description="pairs with reasons, for the chain's SFT")
    labels: int = Field(default=1500, gt=0, description="pairs with labels alone, for the chain's GRPO")
    sft_seconds: float = Field(default=100.0, gt=0, description="budget of the chain's SFT")
    sft_updates: int | None = Field(default=None, gt=0, description="instead of sft_seconds")
    grpo_seconds: float = Field(default=300.0, gt=0, description="budget of the chain's GRPO")
    grpo_updates: int | None = Field(default=None, gt=0, description="instead of grpo_seconds")
    pairs_measured: int = Field(default=1000, gt=0, description="test pairs that both judges of the chain read")
