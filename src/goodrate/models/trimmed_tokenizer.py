"""A byte-pair tokenizer cut to some of its tokens: texts of kept tokens stay as they were, others fall to smaller ones.

Cutting is exact. Byte-pair encoding applies, again and again, the first merge of its list that fits. A merge that was
never applied to a text can go without a change to that text's tokens, and the merges that were applied lie inside its
tokens: so a token is kept together with the pieces that its own merges pass through. What needs a token that was cut
ends in smaller pieces, at last in bytes, all of which are kept; it always decodes to itself.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tokenizers import pre_tokenizers

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
RESERVED = re.compile(r"<?[<\[|]+(unused|reserved)[\w .-]*[>\]|]+>?")  # places that a vocabulary keeps for later use


class BytePairs:
    """The tokenizer.json of a byte-pair tokenizer, and what its tokens are made of. ids: token id by text."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """tokenizer: a Hugging Face tokenizer. name: of its folder, for messages.

        Raises ValueError for what cannot be cut without changing texts: tokenizers that are no byte-pair ones, and
        those that have no bytes to fall back on.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{name}: {type(tokenizer).__name__} has no tokenizer.json; only such can be trimmed")
        self.spec: dict[str, Any] = json.loads(backend.to_str())
        model = self.spec["model"]
        if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise ValueError(f"{name}: its tokenizer is {_kind(model)}; expected BPE on bytes or with byte fallback")
        self.vocab: dict[str, int] = model["vocab"]
        merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
        self._ranks: dict[tuple[str, str], int] = {(a, b): rank for rank, (a, b) in enumerate(merges)}
        self.added: dict[str, int] = {token["content"]: token["id"] for token in self.spec["added_tokens"]}
        self._atoms = _byte_tokens(self.spec, name)
        self._texts = {i: text for text, i in self.vocab.items()}

    def __len__(self) -> int:
        return len(self.vocab.keys() | self.added.keys())

    def always_kept(self, template: str) -> set[int]:
        """Ids that no text need hold: bytes, the unknown token, those the tokenizer itself writes, and added tokens.

        Of the added tokens those stay away that are places for later use ("<unused7>") and do not occur in template.
        """
        ids = {self.vocab[token] for token in self._atoms} | _processor_ids(self.spec)
        if self.spec["model"].get("unk_token") in self.vocab:
            ids.add(self.vocab[self.spec["model"]["unk_token"]])
        return ids | {i for text, i in self.added.items() if not RESERVED.fullmatch(text) or text in template}

    def with_pieces(self, ids: Iterable[int]) -> set[int]:
        """The ids and those of all pieces that the merges of their tokens pass through."""
        chosen = set(ids)
        whole = set(self.added.values()) | {self.vocab[token] for token in self._atoms}
        made = (self._pieces(self._texts[i]) for i in chosen - whole if i in self._texts)
        return chosen | {self.vocab[piece] for pieces in made for piece in pieces}

    def _pieces(self, text: str) -> set[str]:
        """Letters and pieces on the way to a token. Nothing for one that no merges make: it is found as a whole."""
        parts, passed = list(text), set(text)
        while len(parts) > 1:
            neighbours = enumerate(itertools.pairwise(parts))
            rank, at = min((self._ranks.get(pair, len(self._ranks)), at) for at, pair in neighbours)
            if rank == len(self._ranks):
                return set()
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            passed.add(parts[at])
        return {piece for piece in passed if piece in self.vocab}

    def order(self, kept: Collection[int]) -> list[int]:
        """The kept ids in the order of their new numbers: 0, 1, ...; added tokens outside of the vocabulary go last."""
        inside = sorted(i for i in self.vocab.values() if i in kept)
        outside = sorted(i for i in set(self.added.values()) - set(self.vocab.values()) if i in kept)
        return inside + outside

    def cut(self, order: Sequence[int]) -> dict[str, Any]:
        """The tokenizer.json with the tokens of order alone, numbered by their places in it."""
        new = {old: number for number, old in enumerate(order)}
        vocab = {text: new[i] for text, i in self.vocab.items() if i in new}
        merges = [[a, b] for a, b in self._ranks if a in vocab and b in vocab and a + b in vocab]
        added = [{**token, "id": new[token["id"]]} for token in self.spec["added_tokens"] if token["id"] in new]
        spec = {**self.spec, "added_tokens": added, "model": {**self.spec["model"], "vocab": vocab, "merges": merges}}
        spec["post_processor"] = _renumbered(self.spec["post_processor"], new)
        if spec.get("padding"):
            spec["padding"] = {**spec["padding"], "pad_id": new[spec["padding"]["pad_id"]]}
        return spec


def _kind(model: dict[str, Any]) -> str:
    """What a tokenizer that cannot be cut is, in words."""
    return "BPE on marked parts of words" if model["type"] == "BPE" else str(model["type"])


def _byte_tokens(spec: dict[str, Any], name: str) -> list[str]:
    """The tokens that any text can be written with: those of bytes."""
    if spec["model"].get("byte_fallback"):
        atoms = BYTES
    elif '"ByteLevel"' in json.dumps([spec["pre_tokenizer"], spec["normalizer"]]):
        atoms = pre_tokenizers.ByteLevel.alphabet()
    else:
        atoms = []
    lacking = [token for token in atoms if token not in spec["model"]["vocab"]]
    if not atoms or lacking:
        raise ValueError(
            f"{name}: its tokenizer has no token for {'every byte' if atoms else 'bytes'}; without them a text whose "
            "tokens were cut would lose letters"
        )
    return atoms


def _processor_ids(spec: dict[str, Any]) -> set[int]:
    """Ids that the post-processor and the padding write."""
    found: set[int] = set()
    _renumbered(spec["post_processor"], _Seen(found))
    if spec.get("padding"):
        found.add(spec["padding"]["pad_id"])
    return found


class _Seen(dict[int, int]):
    """A numbering that changes nothing and keeps what it was asked for."""

    def __init__(self, found: set[int]) -> None:
        super().__init__()
        self.found = found

    def __missing__(self, number: int) -> int:
        self.found.add(number)
        return number


def _renumbered(part: Any, new: dict[int, int]) -> Any:
    """A post-processor with the new numbers of its special tokens: {"ids": [...]} and ["<s>", 1]."""
    if isinstance(part, list):
        return [_renumbered(inner, new) for inner in part]
    if not isinstance(part, dict):
        return part
    result = {}
    for key, value in part.items():
        if key == "ids":
            result[key] = [new[number] for number in value]
        elif key in ("sep", "cls") and isinstance(value, list):
            result[key] = [value[0], new[value[1]]]
        else:
            result[key] = _renumbered(value, new)
    return result
