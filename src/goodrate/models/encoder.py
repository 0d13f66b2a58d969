"""Text encoders in the sentence-transformers folder format, read with plain transformers.

Importing sentence-transformers costs seconds at start-up; a folder of it is a Hugging Face model, a pooling rule and a
few JSON files, which are read and written here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goodrate.models.control_tokens import ControlTokens
from goodrate.models.encoder_folder import EncoderRules, read_rules, write_rules
from goodrate.models.exported import ExportedNetwork, is_exported
from goodrate.models.precision import autocast, default_device, evaluating, resolve_precision
from goodrate.models.pretrained import (
    got_from_hub,
    read_config,
    read_network,
    read_tokenizer,
    require_pad,
    save_network,
)
from goodrate.models.quiet import no_bars
from goodrate.strict_json import read_object

BATCH = 32  # texts in one forward
# Facts about a run, not about the vectors: left out of the fingerprint.
INCIDENTAL_CONFIG = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}


class Encoder:
    """Texts to L2-normalised vectors of D = `dimension` floats.

    network: a Hugging Face encoder. rules: pooling, length limit, and the prompts that stand before queries and items.
    """

    def __init__(self, network: Any, tokenizer: Any, rules: EncoderRules, precision: str = "fp32") -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.rules = rules
        self.precision = resolve_precision(precision, self.device)

    @classmethod
    def load(
        cls, folder_or_hub_id: str | Path, device: torch.device | str | None = None, precision: str = "fp32",
        longest: int | None = None,
    ) -> Encoder:  # fmt: skip
        """Read a sentence-transformers folder or hub id, or a bare encoder (then mean pooling).

        longest: cut longer vectors to so many floats, as the index did that they are compared with.
        precision "auto" takes bf16 where the processor has it (cosine to fp32 >= 0.996 with MiniLM, 3 times faster).
        Raises FileNotFoundError without a config.json, ValueError for a module this reader does not know, for weights
        that are not whole and for a folder without a tokenizer.
        """
        from transformers import AutoModel

        no_bars()
        folder = _local_folder(folder_or_hub_id)
        rules, weights = read_rules(folder)
        if exported := is_exported(weights):
            network, precision = ExportedNetwork(weights, read_config(weights)), "fp32"
        else:
            network = read_network(AutoModel, str(weights), dtype=torch.float32, **_no_pooler(weights))
        tokenizer = read_tokenizer(str(weights))
        if not exported:  # what an exported network was made of was looked at
            require_pad(str(weights), tokenizer, network)
        encoder = cls(network.to(device or default_device()).eval(), tokenizer, rules, precision)
        return encoder if longest is None else encoder.cut(min(longest, encoder.dimension))

    @classmethod
    def create(
        cls,
        tokenizer_file: str | Path,
        hidden: int = 128,
        layers: int = 2,
        heads: int = 4,
        max_length: int = 128,
        query_prompt: str = "",
        item_prompt: str = "",
        seed: int = 0,
        dropout: float = 0.0,
        pad_token: str | None = None,
        device: torch.device | str | None = None,
    ) -> Encoder:
        """A small BERT from scratch over a tokenizer.json; the weights follow from the seed.

        pad_token: what the tokenizer calls it ("[PAD]", "<pad>"); found among the usual names when not given.
        """
        from transformers import BertConfig, BertModel

        no_bars()
        tokenizer = _tokenizer_of(Path(tokenizer_file), pad_token)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=max_length,
            pad_token_id=tokenizer.pad_token_id,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: Any = BertModel(config, add_pooling_layer=False)
        rules = EncoderRules("mean", max_length, query_prompt, item_prompt)
        return cls(network.to(device or default_device()).eval(), tokenizer, rules)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def item_fields(self) -> tuple[str, ...] | None:
        """Of which fields the item texts were that it was trained on; None = not known."""
        return self.rules.item_fields

    @property
    def dimension(self) -> int:
        """D, the floats of a vector."""
        return self.rules.dimension or self.full_dimension

    @property
    def full_dimension(self) -> int:
        """The floats of a vector that is not cut."""
        return int(self.network.config.hidden_size)

    def cut(self, dimension: int) -> Encoder:
        """The same network with vectors of their first floats alone, normalised again (Matryoshka, arXiv 2205.13147).

        Raises ValueError when the vectors are shorter.
        """
        if not 0 < dimension <= self.dimension:
            raise ValueError(f"cannot cut vectors of {self.dimension} floats to {dimension}")
        length = None if dimension == self.full_dimension else dimension
        return Encoder(self.network, self.tokenizer, replace(self.rules, dimension=length), self.precision)

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, configuration, tokenizer and rules (64 hex): equal exactly when the vectors are.

        Read anew at each call, because training changes the weights (0.2 s for 90 MB). An exported network whose
        vectors were found to be those of its source (models.exported) has the source's.
        """
        if isinstance(self.network, ExportedNetwork) and (source := self.network.stands_for(self.facts_hash())):
            return source
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
        digest.update(json.dumps(self._facts(), sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def facts_hash(self) -> str:
        """sha256 (64 hex) of what decides the vectors besides the weights."""
        return hashlib.sha256(json.dumps(self._facts(), sort_keys=True, default=str).encode()).hexdigest()

    def _facts(self) -> list[Any]:
        """What decides the vectors besides the weights."""
        config = {k: v for k, v in self.network.config.to_dict().items() if k not in INCIDENTAL_CONFIG}
        words = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # Every truncating call rewrites these two in the tokenizer; they are set anew each time.
        words.pop("truncation", None), words.pop("padding", None)
        return [config, words, self.rules.as_dict()]

    def encode_queries(self, texts: Sequence[str], batch_size: int = BATCH) -> np.ndarray:
        """Vectors (N, D) float32 of queries, L2-normalised, in the order of the texts."""
        return self._encode(self._prompted(self.rules.query_prompt, texts), batch_size)

    def encode_items(self, texts: Sequence[str], batch_size: int = BATCH) -> np.ndarray:
        """Vectors (N, D) float32 of item texts, L2-normalised, in the order of the texts."""
        return self._encode(self._prompted(self.rules.item_prompt, texts), batch_size)

    def tokenize(self, texts: Sequence[str], kind: str = "item") -> dict[str, Tensor]:
        """A padded batch of token ids and mask (N, T) on the model's device; kind "query" or "item" picks the prompt.

        For embed_tokens, in training.
        """
        prompts = {"query": self.rules.query_prompt, "item": self.rules.item_prompt}
        if kind not in prompts:
            raise ValueError(f"kind {kind!r} is not one of {', '.join(prompts)}")
        return self._batch(self._prompted(prompts[kind], texts))

    def embed_tokens(self, batch: dict[str, Tensor]) -> Tensor:
        """Vectors (N, D), L2-normalised, differentiable; batch: input_ids and attention_mask (N, T)."""
        states = self.network(**batch).last_hidden_state
        pooled = pool(states, batch["attention_mask"], self.rules.pooling)
        return torch.nn.functional.normalize(pooled[:, : self.rules.dimension].float(), dim=-1)

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers (and load) reads."""
        save_network(self.network, folder)
        self.save_beside(Path(folder))

    def save_beside(self, folder: Path) -> None:
        """Write all but the network: tokenizer and rules."""
        self.tokenizer.save_pretrained(str(folder))
        write_rules(folder, self.rules, self.full_dimension)

    @cached_property
    def marks(self) -> ControlTokens:
        """The tokenizer's marks, which no text may write."""
        return ControlTokens(self.tokenizer)

    def _prompted(self, prompt: str, texts: Sequence[str]) -> list[str]:
        """The texts, without marks, behind the prompt, which may have some."""
        return [prompt + text for text in self.marks.without_all(texts)]

    def _batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.rules.max_length)["input_ids"]
        # A text without a token is read as one pad token: an empty row has no state to pool, and attends to nothing.
        rows = [row or [self.tokenizer.pad_token_id] for row in ids]
        width = max(len(row) for row in rows)
        padded = [row + [self.tokenizer.pad_token_id] * (width - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return {
            "input_ids": torch.tensor(padded, device=self.device),
            "attention_mask": torch.tensor(mask, device=self.device),
        }

    def _encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Texts of similar length share a batch, so that little is padded."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        with evaluating(self.network), autocast(self.precision, self.device):
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                vectors[part] = self.embed_tokens(self._batch([texts[i] for i in part])).cpu().numpy()
        if not np.isfinite(vectors).all():
            name = self.network.config._name_or_path or "the encoder"
            raise ValueError(f"{name}: vectors of NaN or infinity; its weights are broken")
        return vectors


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector (N, D) per text from token states (N, T, D) and mask (N, T): mean, cls (first) or lasttoken."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)  # wherever the padding is
        return states[torch.arange(len(states), device=states.device), last]
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _local_folder(folder_or_hub_id: str | Path) -> Path:
    """The folder itself, or where the hub's files were put."""
    name = str(folder_or_hub_id)
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if isinstance(folder_or_hub_id, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"{name}: no such folder; expected a sentence-transformers folder or a hub id")
    from huggingface_hub import snapshot_download

    skipped = ["*.onnx", "*.bin", "*.h5", "openvino/*", "onnx/*"]
    with got_from_hub(name):
        return Path(snapshot_download(name, ignore_patterns=skipped))


def _no_pooler(folder: Path) -> dict[str, Any]:
    """BERT's pooling layer is never used here; without this it would be made up at random when weights lack it."""
    config = read_object(folder / "config.json")
    return {"add_pooling_layer": False} if config.get("model_type") in ("bert", "roberta", "xlm-roberta") else {}


def _tokenizer_of(file: Path, pad_token: str | None) -> Any:
    """A tokenizer.json as a transformers tokenizer that knows its pad token."""
    from transformers import PreTrainedTokenizerFast

    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    names = [pad_token] if pad_token else ["[PAD]", "<pad>", "<|pad|>", "<|endoftext|>"]
    known = tokenizer.get_vocab()
    pad_tokens = [name for name in names if name in known]
    if not pad_tokens:
        raise ValueError(f"{file}: no pad token; expected one of {', '.join(names)} in the vocabulary")
    tokenizer.pad_token = pad_tokens[0]
    return tokenizer
