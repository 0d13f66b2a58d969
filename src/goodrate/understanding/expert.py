"""The expert: a pretrained language model that is asked what a phrase is, by the words it would put into a blank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from goodrate.models.causal_lm import CausalLM, existing_name
from goodrate.models.chat_frame import ChatFrame
from goodrate.models.control_tokens import ControlTokens
from goodrate.models.label_forward import chunks_by_length
from goodrate.models.precision import default_device, evaluating
from goodrate.models.pretrained import folder_hash, got_from_hub, read_network, read_tokenizer, readable

MASKED_ROWS = 32


@dataclass(frozen=True)
class Cloze:
    """A text with a blank: shared + before + blank + after. shared: what many clozes begin with; it is read once."""

    shared: str
    before: str
    after: str


class Expert(Protocol):
    """What a distillation asks of a language model."""

    @property
    def identity(self) -> str:
        """A name that changes with the weights: answers are kept under it."""
        ...

    def token_of(self, word: str) -> int | None:
        """The one token of a word in a blank; None where the model has several."""
        ...

    def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
        """(N, W) float32 logits of the tokens in each blank; log probabilities but for a number per blank."""
        ...

    def vectors(self, phrases: Sequence[str]) -> np.ndarray:
        """(P, D) float32: the mean of the model's input embeddings of each phrase's tokens."""
        ...


class CausalExpert:
    """A causal LM reads what stands before the blank. Exact in fp32, whatever is asked beside."""

    def __init__(self, model: CausalLM, identity: str) -> None:
        self._model, self.identity = model, identity
        start = model.tokenizer.bos_token if model.start_ids else ""
        model.frame = ChatFrame(opening=start or "")

    def token_of(self, word: str) -> int | None:
        """The token behind "of", where every template has a blank's space."""
        before, whole = self._model.encode("kind of"), self._model.encode(f"kind of {word}")
        fits = whole[: len(before)] == before and len(whole) == len(before) + 1
        return whole[-1] if fits else None

    def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
        """As Expert. Blanks at the end of "a " are read without that space: it belongs to the word's token."""
        prompts = [(cloze.shared, cloze.before.rstrip()) for cloze in clozes]
        return self._model.label_logits(prompts, tokens)

    def vectors(self, phrases: Sequence[str]) -> np.ndarray:
        """As Expert."""
        return _embedded(self._model.network, [self._model.encode(f" {phrase}") for phrase in phrases])


class MaskedExpert:
    """A masked LM reads both sides of the blank."""

    def __init__(self, network: Any, tokenizer: Any, identity: str) -> None:
        self._network, self._tokenizer, self.identity = network, tokenizer, identity
        if tokenizer.mask_token is None:
            raise ValueError(f"{identity}: the tokenizer has no mask token; expected that of a masked language model")

    def token_of(self, word: str) -> int | None:
        """The token of a word behind a blank space."""
        encode = self._tokenizer.encode
        for text in (f" {word}", word):  # RoBERTa's words begin with their blank, BERT's do not
            ids = encode(text, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != self._tokenizer.unk_token_id:
                return int(ids[0])
        return None

    def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
        """As Expert. ValueError when the blank of a long text falls behind what the model takes."""
        mask, device = self._tokenizer.mask_token, self._network.device
        plain = ControlTokens(self._tokenizer).without  # a second mask would be the one that is read
        texts = [f"{plain(cloze.shared + cloze.before)}{mask}{plain(cloze.after)}" for cloze in clozes]
        found = np.zeros((len(texts), len(tokens)), dtype=np.float32)
        with evaluating(self._network), torch.inference_mode():
            for part in chunks_by_length(range(len(texts)), [len(text) for text in texts], MASKED_ROWS):
                read = self._tokenizer([texts[i] for i in part], padding=True, truncation=True, return_tensors="pt")
                blank = read["input_ids"] == self._tokenizer.mask_token_id
                if not bool(blank.any(dim=1).all()):
                    raise ValueError(f"{self.identity}: a text is too long for the model: {texts[part[0]][:80]!r}")
                logits = self._network(**read.to(device)).logits
                first = blank.to(device).long().argmax(dim=1)
                chosen = logits[torch.arange(len(part), device=device), first]
                found[part] = chosen[:, list(tokens)].float().cpu().numpy()
        return found

    def vectors(self, phrases: Sequence[str]) -> np.ndarray:
        """As Expert."""
        return _embedded(self._network, [self._tokenizer.encode(f" {p}", add_special_tokens=False) for p in phrases])


def open_expert(folder_or_hub_id: str | Path) -> Expert:
    """The expert of a Hugging Face folder or hub id, masked or causal by what its configuration names.

    ValueError for a model without a language-model head (a sentence encoder), FileNotFoundError where there is none.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    name = existing_name(folder_or_hub_id)
    with got_from_hub(name), readable(name):
        heads = tuple(getattr(AutoConfig.from_pretrained(name), "architectures", None) or ())
    identity = folder_hash(Path(name)) if Path(name).is_dir() else name
    if any(head.endswith("ForMaskedLM") for head in heads):
        network = read_network(AutoModelForMaskedLM, name).to(default_device())
        return MaskedExpert(network, read_tokenizer(name), identity)
    if heads and not any(head.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for head in heads):
        raise ValueError(
            f"{folder_or_hub_id}: its configuration names {', '.join(heads)}, which has no language-model head; "
            "expected a masked or a causal language model such as google/gemma-3-270m"
        )
    return CausalExpert(CausalLM.load(folder_or_hub_id), identity)


def _embedded(network: Any, ids: list[list[int]]) -> np.ndarray:
    """Mean input embedding of each row of ids; zeros for a row without any."""
    table = network.get_input_embeddings().weight.detach()
    flat = torch.tensor([i for row in ids for i in row], dtype=torch.long, device=table.device)
    offsets = torch.tensor(np.cumsum([0, *map(len, ids)])[:-1], device=table.device)
    mean = torch.nn.functional.embedding_bag(flat, table, offsets, mode="mean")
    return mean.float().cpu().numpy()
