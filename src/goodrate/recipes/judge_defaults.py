"""What a judge's training does where nobody said: by the size of its model. The one place of the rule.

| setting              | scratch bases (under 50M, `nano`) | pretrained models                                       |
|----------------------|-----------------------------------|---------------------------------------------------------|
| `learning_rate`      | 5e-4                              | 2e-5; 1e-5 from 1B parameters on; with `lora` ten times |
| `batch_size`         | 64 examples                       | 2,048 tokens: as many of mean length, from 4 to 64      |
| `epochs`             | 2                                 | 3                                                       |
| `format.template`    | checklist                         | nano (query, item, answer: labels teach the rest)       |
| `format.item_form`   | listing                           | short (title, brand, category, description, attributes) |
| `format.item_tokens` | as many as fit                    | 96                                                      |

The first column is what the embedded shop's figures were made with. The second is ours: a pretrained model knows words
and not our prompts, a real catalogue has specification sheets of hundreds of tokens whose beginning says most, and an
update of so many tokens takes seconds, not a minute, on a CPU. Ten times the rate for an adapter: Schulman et al. 2025,
"LoRA Without Regret".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goodrate.examples.prompts import JudgePrompt
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_sft import Settings

PRETRAINED, LARGE = 50_000_000, 1_000_000_000  # parameters from which on a model counts as pretrained, and as large
LORA_FACTOR = 10
BATCH_TOKENS, ITEM_TOKENS, EPOCHS = 2048, 96, 3
FEWEST, MOST = 4, 64  # examples in an update


def with_format(settings: Settings, model: CausalLM) -> Settings:
    """The settings with learning rate, epochs and format of a model of this size, where they were not set."""
    size = sum(weight.numel() for weight in model.network.parameters())
    if size < PRETRAINED:
        return settings
    rate = (1e-5 if size >= LARGE else 2e-5) * (LORA_FACTOR if settings.lora else 1)
    form = _filled(settings.format, template="nano", item_form="short", item_tokens=ITEM_TOKENS)
    filled = _filled(settings, learning_rate=rate, epochs=EPOCHS).model_copy(update={"format": form})
    if {"batch_size", "batch_tokens"} & settings.model_fields_set:
        return filled
    return filled.model_copy(update={"batch_tokens": BATCH_TOKENS})


def with_batch(settings: Settings, model: CausalLM, prompts: Sequence[JudgePrompt]) -> Settings:
    """The settings with batch_tokens as a batch_size: so many examples of mean length. Without prompts as they are."""
    if settings.batch_tokens is None or not prompts:
        return settings
    mean = sum(_length(model, prompt) for prompt in prompts) / len(prompts)
    size = min(MOST, max(FEWEST, round(settings.batch_tokens / mean)))
    return settings.model_copy(update={"batch_size": size, "batch_tokens": None})


def _length(model: CausalLM, prompt: JudgePrompt) -> int:
    """Tokens of an example, with its stop token."""
    return len(model.encode_pair(prompt.prefix, prompt.suffix)) + len(model.encode(prompt.completion or "")) + 1


def _filled(settings: Any, **values: Any) -> Any:
    """The settings with these values where none was given; the given ones stay, equal to a default or not."""
    unset = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=unset)
