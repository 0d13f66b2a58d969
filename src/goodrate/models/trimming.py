"""A causal LM cut to a part of its vocabulary: embeddings and head lose rows, nothing else changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodrate.models.causal_lm import CausalLM, adapter_base
from goodrate.models.precision import evaluating
from goodrate.models.trimmed_tokenizer import BytePairs

DOCUMENTS_AT_ONCE = 1000
# Where configurations name tokens that are no longer wanted or never were: an id that was cut is left out of these.
LISTS = ("suppress_tokens", "begin_suppress_tokens")


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens stay. order: old ids, in the order of the new ones. counts: how many documents have each old id."""

    order: tuple[int, ...]
    counts: Counter[int]

    @property
    def new_ids(self) -> dict[int, int]:
        """New id by old id."""
        return {old: new for new, old in enumerate(self.order)}

    @property
    def share_kept(self) -> float:
        """Of the tokens of all documents, each counted once in each, the share that stays; 1 unless rare ones go."""
        kept = set(self.order)
        return sum(n for i, n in self.counts.items() if i in kept) / max(1, self.counts.total())


def read_whole(name: str | Path) -> CausalLM:
    """The model to trim, in the precision of its folder.

    Raises ValueError for an adapter, and what CausalLM.load raises.
    """
    if adapter_base(name) is not None:
        raise ValueError(
            f"{name} is an adapter, which has no vocabulary of its own; merge it first: "
            f'goodrate.models.causal_lm.CausalLM.load("{name}").save("merged"), and trim merged'
        )
    return CausalLM.load(name, dtype="auto", device="cpu", precision="fp32")


def count_tokens(model: CausalLM, documents: Sequence[Sequence[str]]) -> Counter[int]:
    """How many documents have each token id. documents: the texts of each, encoded as CausalLM.encode does."""
    counts: Counter[int] = Counter()
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        block = documents[start : start + DOCUMENTS_AT_ONCE]
        rows = iter(_encoded(model.tokenizer, [text for texts in block for text in texts]))
        for texts in block:
            counts.update({i for _ in texts for i in next(rows)})
    return counts


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []


def choose(
    model: CausalLM, pairs: BytePairs, texts: Counter[int], needed: Collection[int], least: int = 1
) -> Vocabulary:
    """The vocabulary that keeps the tokens of the texts.

    texts: documents by token; tokens that fewer than `least` documents have go. needed: ids that stay all the same.
    """
    rows = model.network.get_input_embeddings().weight.shape[0]
    template = json.dumps(model.tokenizer.chat_template or "", ensure_ascii=False)
    wanted = {i for i, count in texts.items() if count >= least} | set(needed)
    wanted |= pairs.always_kept(template) | _named_ids(model)
    kept = {i for i in pairs.with_pieces(wanted) if i < rows}
    return Vocabulary(tuple(pairs.order(kept)), texts)


def _named_ids(model: CausalLM) -> set[int]:
    """Ids that the tokenizer, the configuration and the generation settings have names for."""
    named = model.tokenizer.special_tokens_map.values()
    texts = [text for value in named for text in (value if isinstance(value, list) else [value])]
    ids = set(model.tokenizer.convert_tokens_to_ids([str(text) for text in texts]))
    for config in _configs(model.network):
        for value in config.to_dict().items():
            ids |= set(_ids_of(*value))
    return {i for i in ids if i is not None and i >= 0}


def _configs(network: Any) -> list[Any]:
    """The configurations that name token ids: the model's, that of its text part, and how it generates."""
    every = [network.config, network.config.get_text_config(), getattr(network, "generation_config", None)]
    return list({id(config): config for config in every if config is not None}.values())


def _ids_of(key: str, value: Any) -> list[int]:
    """The token ids that one entry of a configuration names: bos_token_id 2, eos_token_id [1, 106], ..."""
    if not key.endswith(("_token_id", "_token_ids", "_token_index")):
        return []
    return [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]


def trim_network(network: Any, vocabulary: Vocabulary, name: str) -> None:
    """Cut embeddings, head and configurations of a network, in place.

    Raises ValueError for a network that has a row for each token elsewhere, too.
    """
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    rows, new = embedding.weight.shape[0], vocabulary.new_ids
    known = {id(part) for layer in (embedding, head) for part in layer.parameters()}
    others = [n for n, p in network.named_parameters() if id(p) not in known and p.shape[:1] == (rows,)]
    if others:
        raise ValueError(f"{name}: {others[0]} has {rows:,} rows, as its vocabulary; such models cannot be trimmed")
    order = torch.tensor(vocabulary.order)
    tied = head.weight is embedding.weight
    _cut_rows(embedding, order)
    embedding.num_embeddings = len(order)
    if embedding.padding_idx is not None:
        embedding.padding_idx = new.get(embedding.padding_idx)
    _cut_rows(head, order, shared=embedding.weight if tied else None)
    head.out_features = len(order)
    for config in _configs(network):
        _renumber(config, new)
    network.config.get_text_config().vocab_size = len(order)
    for module in network.modules():
        if getattr(module, "vocab_size", None) == rows:
            module.vocab_size = len(order)


def _cut_rows(layer: nn.Module, order: Tensor, shared: nn.Parameter | None = None) -> None:
    """A layer's weight and bias with the rows of order. shared: the weight that it has in common with another layer."""
    for name, part in list(layer.named_parameters(recurse=False)):
        cut = nn.Parameter(part.detach()[order].clone(), requires_grad=part.requires_grad)
        setattr(layer, name, shared if name == "weight" and shared is not None else cut)


def _renumber(config: Any, new: dict[int, int]) -> None:
    """The token ids of a configuration by their new numbers; None where a named token has no row."""
    for key, value in config.to_dict().items():
        if _ids_of(key, value):
            setattr(config, key, [new[i] for i in value if i in new] if isinstance(value, list) else new.get(value))
        elif key in LISTS and value:
            setattr(config, key, [new[i] for i in value if i in new])


def save_trimmed(model: CausalLM, pairs: BytePairs, vocabulary: Vocabulary, folder: Path) -> None:
    """Write the trimmed model's folder. The network of `model` is cut, its tokenizer is not."""
    trim_network(model.network, vocabulary, str(folder))
    model.save(folder)
    spec = pairs.cut(vocabulary.order)
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")


def probe_logits(network: Any, rows: Sequence[Sequence[int]], columns: Sequence[int]) -> list[Tensor]:
    """The logits (T, n) in float32 of the tokens `columns` behind every token of each row of ids."""
    chosen = torch.tensor(list(columns))
    with evaluating(network):
        every = [network(input_ids=torch.tensor([list(row)]), use_cache=False).logits[0] for row in rows]
    return [logits[:, chosen].float() for logits in every]


def require_same_logits(before: Sequence[Tensor], after: Sequence[Tensor], kind: torch.dtype) -> float:
    """The largest difference between logits; ValueError when arithmetic of that kind does not explain it."""
    gap = max((float((a - b).abs().max()) for a, b in zip(before, after, strict=True)), default=0.0)
    largest = max((float(a.abs().max()) for a in before), default=0.0)
    allowed = (1e-5 if kind == torch.float32 else 0.02) * max(1.0, largest)
    if not gap <= allowed:
        raise ValueError(f"the trimmed model's logits are off by {gap:.2g}; this model stays whole")
    return gap


def size_in_bytes(network: Any) -> int:
    """Bytes of a network's weights, shared ones counted once."""
    return sum(part.numel() * part.element_size() for part in network.parameters())


def require_same_tokens(whole: Any, trimmed: Any, vocabulary: Vocabulary, documents: Sequence[Sequence[str]]) -> None:
    """ValueError unless a trimmed tokenizer reads texts as the whole one does: the same tokens where all were kept.

    Where some were cut, it must say the same text with other tokens.
    """
    new = vocabulary.new_ids
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        texts = [text for document in documents[start : start + DOCUMENTS_AT_ONCE] for text in document]
        for text, old, now in zip(texts, _encoded(whole, texts), _encoded(trimmed, texts), strict=True):
            kept = all(i in new for i in old)
            if kept and [new[i] for i in old] != now:
                raise ValueError(f"the trimmed tokenizer reads other tokens in {text[:60]!r}; this model stays whole")
            if not kept and trimmed.decode(now) != whole.decode(old):
                raise ValueError(f"the trimmed tokenizer loses letters of {text[:60]!r}; this model stays whole")
