"""Two texts read together by a text encoder, with a linear head: a few numbers for each pair.

Attention runs between the two texts, so that a word of one can change what a word of the other means; nothing is
computed ahead, each pair costs a whole forward (Nogueira and Cho, arXiv 1901.04085). What the numbers stand for (the
labels of a scale, the parts of an entity's verdict) and what the texts are is the caller's.

A head can read the product of the two texts' mean states beside the pooled state. That is ours: an encoder trained for
cosines says there, before any training on pairs, how alike the two are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.models.encoder import Encoder, pool
from goodrate.models.label_forward import LANES, rows_at_once
from goodrate.models.precision import autocast, evaluating

HEAD_FILE = "head.safetensors"
LEAST = 8  # tokens that the second text has room for, at least
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SPREAD = 0.02  # of a new head's weights, as in BERT


@dataclass(frozen=True)
class PairTokens:
    """Token ids of two texts with the encoder's own marks, and of each token the text that it is of: 1, 2, 0 a mark.

    segments: what the network is told of that; empty where it knows none. cut: whether the second text lost its end.
    """

    token_ids: tuple[int, ...]
    of_text: tuple[int, ...]
    segments: tuple[int, ...] = ()
    cut: bool = False


class CrossEncoder(nn.Module):
    """forward: a batch of collate -> numbers (N, O), differentiable. The encoder's own pooling makes one state of many.

    encoder: a text encoder; its network is trained with the head. max_tokens: of two texts and marks together; the
    second loses its end. product: the head reads the product of the texts' mean states, too. dropout: before the head,
    in training.
    """

    def __init__(
        self, encoder: Encoder, outputs: int, max_tokens: int, seed: int = 0, product: bool = True, dropout: float = 0.1
    ) -> None:
        """A head with new weights that follow from the seed. Raises ValueError for more tokens than it can read."""
        super().__init__()
        if not 0 < max_tokens <= encoder.rules.max_length:
            raise ValueError(
                f"max_tokens {max_tokens}: expected 1 to {encoder.rules.max_length}, what the encoder reads"
            )
        self.encoder, self.max_tokens, self.product = encoder, max_tokens, product
        self.network = encoder.network
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.full_dimension * (1 + product), outputs)
        with torch.no_grad():
            drawn = torch.randn(self.head.weight.shape, generator=torch.Generator().manual_seed(seed))
            self.head.weight.copy_(SPREAD * drawn)
            self.head.bias.zero_()
        self.head.to(encoder.device)

    def silence(self) -> None:
        """Make every number 0, whatever is read; the head's weights are the first that training moves then."""
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()

    def freeze_below(self, layers: int | None) -> None:
        """Train only the last so many layers of the network, and the head; None: all of it."""
        if layers is None:
            return
        stacks = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        longest = max(stacks, key=len, default=nn.ModuleList())
        kept = {id(weight) for layer in list(longest)[max(0, len(longest) - layers) :] for weight in layer.parameters()}
        for weight in self.network.parameters():
            weight.requires_grad_(id(weight) in kept)

    @classmethod
    def load(
        cls, folder: str | Path, outputs: int, max_tokens: int, device: Any = None, precision: str = "auto"
    ) -> CrossEncoder:
        """Read what save wrote.

        Raises FileNotFoundError or ValueError naming the file that is missing, broken or of another shape.
        """
        encoder = Encoder.load(Path(folder), device=device, precision=precision)
        path, width = Path(folder) / HEAD_FILE, encoder.full_dimension
        head = _read_head(path)
        shapes = {name: tuple(weight.shape) for name, weight in head.items()}
        product = shapes.get("weight") == (outputs, 2 * width)
        model = cls(encoder, outputs, max_tokens, product=product)
        expected = {name: tuple(weight.shape) for name, weight in model.head.state_dict().items()}
        if shapes != expected:
            raise ValueError(f"{path} has {shapes}; expected {expected}, or twice the width, for this encoder")
        model.head.load_state_dict(head)
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Write the encoder as a folder of its own kind, and the head beside it (safetensors)."""
        from safetensors.torch import save_file

        self.encoder.save(folder)
        head = {name: weight.detach().cpu().contiguous() for name, weight in self.head.state_dict().items()}
        save_file(head, str(Path(folder) / HEAD_FILE))

    @property
    def outputs(self) -> int:
        """O, the numbers of a pair."""
        return self.head.out_features

    def tokenize(self, firsts: Sequence[str], seconds: Sequence[str]) -> list[PairTokens | None]:
        """Each pair of texts as tokens; None where the first leaves less than LEAST tokens for the second."""
        words, marks = self.encoder.tokenizer, self.encoder.marks
        firsts, seconds = marks.without_all(firsts), marks.without_all(seconds)
        distinct = list(dict.fromkeys(firsts))
        most = self.max_tokens - words.num_special_tokens_to_add(pair=True) - LEAST
        lengths = [len(ids) for ids in words(distinct, add_special_tokens=False)["input_ids"]] if distinct else []
        short = {text for text, length in zip(distinct, lengths, strict=True) if length <= most}
        rows = [row for row, text in enumerate(firsts) if text in short]
        tokens: list[PairTokens | None] = [None] * len(firsts)
        if rows:
            read = words(
                [firsts[row] for row in rows], [seconds[row] for row in rows], truncation="only_second",
                max_length=self.max_tokens, padding=False,
            )  # fmt: skip
            segments = read.get("token_type_ids") or [()] * len(rows)
            for row, ids, types, whole in zip(rows, read["input_ids"], segments, read.encodings, strict=True):
                of_text = tuple(0 if text is None else text + 1 for text in whole.sequence_ids)
                tokens[row] = PairTokens(tuple(ids), of_text, tuple(types), bool(whole.overflowing))
        return tokens

    def collate(self, rows: Sequence[PairTokens], width: int = 0) -> dict[str, Tensor]:
        """One padded batch on the CPU: input_ids, attention_mask, of_text, and token_type_ids where known; (N, T)."""
        width = max(width, *(len(row.token_ids) for row in rows))
        ids = np.full((len(rows), width), self.encoder.tokenizer.pad_token_id, dtype=np.int64)
        mask, of_text, types = np.zeros_like(ids), np.zeros_like(ids), np.zeros_like(ids)
        for place, row in enumerate(rows):
            length = len(row.token_ids)
            ids[place, :length], mask[place, :length] = row.token_ids, 1
            of_text[place, :length] = row.of_text
            types[place, : len(row.segments)] = row.segments
        named = {"input_ids": ids, "attention_mask": mask, "of_text": of_text}
        if rows[0].segments:
            named["token_type_ids"] = types
        return {name: torch.from_numpy(array) for name, array in named.items()}

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Numbers (N, O) in full precision; a rounded head would tie pairs."""
        read = {name: batch[name] for name in INPUTS if name in batch}
        states = self.network(**read).last_hidden_state.float()
        features = pool(states, batch["attention_mask"], self.encoder.rules.pooling)
        if self.product:
            first, second = (_direction(pool(states, batch["of_text"] == text, "mean")) for text in (1, 2))
            features = torch.cat([features, first * second], dim=-1)
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(self.dropout(features), self.head.weight.float(), self.head.bias.float())

    def numbers(self, tokens: Sequence[PairTokens | None]) -> np.ndarray:
        """The head's numbers (N, O) float64 of each pair; NaN where there are no tokens.

        Pairs share a batch with those of their own padded width alone, so that a pair's numbers do not hang on what is
        read beside it, but for the rounding of kernels (docs/judge.md).
        """
        out = np.full((len(tokens), self.outputs), np.nan)
        groups: dict[int, list[int]] = {}
        for row, one in enumerate(tokens):
            if one is not None:
                groups.setdefault(-(-len(one.token_ids) // LANES) * LANES, []).append(row)
        device, precision = self.encoder.device, self.encoder.precision
        with evaluating(self), autocast(precision, device):
            for width, rows in sorted(groups.items()):
                size = rows_at_once(device, width)
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    batch = self.collate([tokens[row] for row in part], width)  # type: ignore[misc]
                    out[part] = self({name: one.to(device) for name, one in batch.items()}).cpu().numpy()
        return out


def _direction(states: Tensor) -> Tensor:
    """States (N, D) of mean square 1: the mean of the product of two is their cosine."""
    return nn.functional.normalize(states, dim=-1) * states.shape[-1] ** 0.5


def _read_head(path: Path) -> dict[str, Tensor]:
    """The tensors of a head's file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the head of the cross-encoder is missing")
    try:
        return load_file(str(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); copy it anew") from error
