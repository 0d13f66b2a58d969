"""A frozen causal LM that sees: pictures' tokens in, log probabilities and texts out.

[start tokens, N_v visual tokens, text] with injections A and C, [start tokens, text] with B. Without a picture the
frozen LM runs as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodrate.models.adapter import Adapter, LoraSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.layer_states import decoder_blocks
from goodrate.models.token_logprobs import token_logprobs
from goodrate.models.vision_language.adapters import WIDEST, AdapterSettings, LayerwiseAdapters
from goodrate.models.vision_language.injection import added_to_tokens, attended_to, attentions
from goodrate.models.vision_language.resampler import Resampler


class VisionLanguageModel(nn.Module):
    """forward: micro-batch -> {"logprobs": (N, T)}, as learning.token_examples.TokenScorer, with "features" beside.

    features: (N, count, dimension) of the rows' pictures; absent: text alone, and the frozen LM. Every row begins with
    the LM's start tokens. The LM's own weights never train; lora: an adapter in it, off where there is no picture.
    dimension, count: of the encoder's tokens. seed: of the new weights.
    """

    def __init__(
        self, lm: CausalLM, settings: AdapterSettings, dimension: int, count: int, seed: int = 0,
        lora: LoraSettings | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lm, self.settings, self.network = lm, settings, lm.network
        self.network.requires_grad_(False)
        outside, layers = int(lm.network.config.hidden_size), len(decoder_blocks(lm.network))
        heads = int(lm.network.config.num_attention_heads)
        if settings.injection == "B":
            attentions(lm.network)
        width = settings.width or min(outside, WIDEST)
        scale = 1.0 if settings.injection == "B" else _root_mean_square(lm)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.resampler = Resampler(dimension, count, settings.visual_tokens, width)
            self.adapters = LayerwiseAdapters(settings, layers, width, outside, heads, scale)
        self.resampler.to(lm.device)
        self.adapters.to(lm.device)
        self.dimension, self.count = dimension, count
        self.lora_settings = lora
        self.lora = Adapter(lm.network, lora, seed) if lora else None

    @property
    def start(self) -> int:
        """Tokens in front of the visual ones."""
        return len(self.lm.start_ids)

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """Training mode for what trains; the frozen LM stays in evaluation mode."""
        super().train(mode)
        if self.lora is None:
            self.network.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        ids, predicted = batch["input_ids"], batch["mask"][:, 1:]
        states = self.states(ids, batch.get("features"))
        scores, _ = token_logprobs(self.network, states[:, :-1][predicted], ids[:, 1:][predicted], 1.0, exact=False)
        logprobs = torch.zeros(predicted.shape, dtype=scores.dtype, device=scores.device)
        return {"logprobs": F.pad(logprobs.masked_scatter(predicted, scores), (1, 0))}

    def states(self, ids: Tensor, features: Tensor | None) -> Tensor:
        """Final states (N, T, w) of the tokens ids (N, T); those of visual tokens are left out."""
        if features is None:
            with self.lora.off() if self.lora else nullcontext():
                return self.network.base_model(input_ids=ids, use_cache=False).last_hidden_state
        z = self.resampler(features)
        with self.seen(z):
            states = self.network.base_model(inputs_embeds=self.embedded(ids, z), use_cache=False).last_hidden_state
        return self.without_visual(states)

    @contextmanager
    def seen(self, z: Tensor) -> Iterator[None]:
        """Inside, the LM's layers get what the injection gives them, of visual states z (N, N_v, d_v)."""
        if self.settings.injection == "A":
            places = slice(self.start, self.start + self.settings.visual_tokens)
            with added_to_tokens(self.network, self.adapters, z, places):
                yield
        elif self.settings.injection == "B":
            with attended_to(self.network, self.adapters, z):
                yield
        else:
            yield

    @property
    def visual_places(self) -> int:
        """Places in the sequence that a picture takes."""
        return 0 if self.settings.injection == "B" else self.settings.visual_tokens

    def embedded(self, ids: Tensor, z: Tensor) -> Tensor:
        """What the first layer reads: embeddings of the text, V_1 behind the start tokens (A and C)."""
        text = self.network.get_input_embeddings()(ids)
        if not self.visual_places:
            return text
        visual = self.adapters.state(0, z).to(text.dtype)
        return torch.cat([text[:, : self.start], visual, text[:, self.start :]], dim=1)

    def without_visual(self, states: Tensor) -> Tensor:
        """(N, start + N_v + T, w) -> (N, T, w); a text's first token is then predicted by the last start token."""
        if not self.visual_places:
            return states
        return torch.cat([states[:, : self.start], states[:, self.start + self.visual_places :]], dim=1)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a question, with the start tokens that every row needs."""
        return [*self.lm.start_ids, *self.lm.encode(prompt)]

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer and its end, tokenised apart from the question."""
        return [*self.lm.encode(answer), self.stop_id]

    @property
    def stop_id(self) -> int:
        """The token that ends an answer. Raises ValueError for a tokenizer that has none."""
        stop = self.lm.tokenizer.eos_token_id
        if stop is None:
            raise ValueError("the tokenizer has no eos_token, which ends an answer")
        return int(stop)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What trains, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def adapt_only(self) -> None:
        """Freeze the resampler and the skip: what trains from now on is {A_l, g_l}, as for a new task or category."""
        self.resampler.requires_grad_(False)
        self.adapters.skip.requires_grad_(False)


def _root_mean_square(lm: CausalLM) -> float:
    """Of the LM's token embeddings as its first layer gets them."""
    with torch.no_grad():
        every = torch.arange(min(2000, lm.network.get_input_embeddings().weight.shape[0]), device=lm.device)
        return float(lm.network.get_input_embeddings()(every[None]).float().square().mean().sqrt())
