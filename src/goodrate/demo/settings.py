"""What the demo does and how many updates each stage gets."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DemoSettings(BaseModel):
    """The demo's settings. Budgets are updates: the same command gives the same table on a slow and a fast machine."""

    model_config = ConfigDict(extra="forbid")
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    items: int = Field(default=5000, ge=200)
    queries: int = Field(default=2000, ge=100)
    encoder_updates: int = Field(default=350, gt=0, description="updates of the contrastive stage")
    encoder_hidden: int = Field(default=128, gt=0, multiple_of=4)
    encoder_layers: int = Field(default=2, gt=0)
    judge_updates: int = Field(default=280, gt=0, description="updates of the judge's fine-tuning")
    judge_pairs: int = Field(default=24_000, gt=0, description="judged training pairs that the judge may read")
    depth: int = Field(default=50, gt=0, description="retrieved items that the judge sees per query")
    queries_measured: int = Field(default=200, gt=0, description="test queries in the table")

    def of_demo(self) -> DemoSettings:
        """The settings of the demo alone."""
        return DemoSettings.model_validate(self.model_dump(include=set(DemoSettings.model_fields)))


class LearningSettings(DemoSettings):
    """The demo's settings, and those of the two chains that learn by reinforcement."""

    retriever_updates: int = Field(default=150, gt=0, description="updates of retriever_grpo")
    retriever_objective: Literal["grpo", "listwise"] = Field(
        default="grpo", description="loss on the judge's rewards; listwise is not RL and gained more on the shop"
    )
    candidates: int = Field(default=16, gt=1, description="K, the retriever's own top that the judge grades")
    rationales: int = Field(default=300, gt=0, description="pairs with reasons, for the chain's SFT")
    labels: int = Field(default=1500, gt=0, description="pairs with labels alone, for the chain's GRPO")
    sft_updates: int = Field(default=220, gt=0, description="updates of the chain's SFT")
    grpo_updates: int = Field(default=40, gt=0, description="updates of the chain's GRPO")
    pairs_measured: int = Field(default=1000, gt=0, description="test pairs that both judges of the chain read")
