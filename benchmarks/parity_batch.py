"""The fixed batch of the parity check: tiny networks, completions of unequal lengths, rewards, preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from goodrate.learning.preferences import PreferencePair
from goodrate.learning.records import Prompts, Rollout
from goodrate.models.completion_forward import CompletionBatch, completion_logprobs

VOCABULARY, GROUP, LONGEST = 64, 4, 9
PROMPTS = ((5, 9, 11, 3), (7, 12), (21, 22, 23, 24, 25, 26))
LENGTHS = (3, 9, 1, 5, 4, 4, 7, 2, 6, 1, 8, 3)  # three groups of four
# A group with different rewards, one with an unscorable completion, one without spread.
REWARDS = (1.0, 0.0, 0.25, 0.0, None, 1.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5)


def networks(folder: Path) -> tuple[Any, Any]:
    """(policy, reference): two random Qwen3 networks in fp32, a little apart; the reference lies in the folder."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, initializer_range=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    reference = Qwen3ForCausalLM(config)
    reference.save_pretrained(folder)
    policy = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return policy.train(), reference


def tokenizer() -> Any:
    """The words w0 .. w63, because TRL wants a tokenizer. w0 pads, w1 ends."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", unk_token="w2")


def completions() -> list[tuple[int, ...]]:
    """The fixed completions, of unequal lengths."""
    draw = torch.Generator().manual_seed(1)
    return [tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist()) for length in LENGTHS]


def rollout(policy: Any, temperature: float) -> Rollout:
    """The fixed batch; its behaviour is the policy with noise of 0.3 nats a token, so that some ratios are clipped."""
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(LONGEST)[None] < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids = ids.masked_scatter(mask, torch.tensor([token for row in completions() for token in row]))
    group = torch.arange(len(PROMPTS)).repeat_interleave(GROUP)
    with torch.no_grad():
        now, _ = completion_logprobs(policy, CompletionBatch(PROMPTS, group, ids, mask), temperature, "plain")
    noise = 0.3 * torch.randn(now.shape, generator=torch.Generator().manual_seed(2))
    return Rollout(
        example_id=group, group=group, arm=torch.zeros_like(group),
        sampled_under=Prompts(tuple(f"p{i}" for i in range(len(PROMPTS))), PROMPTS),
        completion_ids=ids, mask=mask, behaviour_logprobs=(now + noise) * mask,
        finish_reason=("stop",) * len(LENGTHS), parsed=(None,) * len(LENGTHS), temperature=temperature,
    )  # fmt: skip


def preference_pairs() -> list[PreferencePair]:
    """Four pairs out of the fixed completions."""
    rows = completions()
    pairs = [(0, 1, 3), (0, 0, 1), (1, 6, 5), (2, 8, 10)]
    return [
        PreferencePair(f"p{number}", PROMPTS[prompt], rows[chosen], rows[rejected], "self")
        for number, (prompt, chosen, rejected) in enumerate(pairs)
    ]
