"""States of a frozen text encoder, one a word: what a small network on top reads in place of a network of its own.

A middle layer is read. The last one of a sentence encoder is made for the mean over a text, and says less of a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from goodrate.models.encoder import Encoder
from goodrate.models.precision import evaluating

TEXTS_AT_ONCE = 64


class WordReader:
    """Reads words of texts with an encoder that is never trained.

    layer: whose states, 1 = behind the first block; None = two thirds of the depth. Raises ValueError for a layer that
    the network lacks, for an exported network, which gives its last layer alone, and for a tokenizer without offsets.
    """

    def __init__(self, encoder: Encoder, layer: int | None = None) -> None:
        depth = getattr(encoder.network.config, "num_hidden_layers", None)
        if not isinstance(encoder.network, torch.nn.Module) or depth is None:
            raise ValueError("an exported encoder gives its last layer alone; name the folder it was exported from")
        self.encoder, self.layer = encoder, max(1, round(2 * depth / 3)) if layer is None else layer
        if not 1 <= self.layer <= depth:
            raise ValueError(f"layer {layer}: expected a number from 1 to {depth}")
        if not encoder.tokenizer.is_fast:
            raise ValueError("the encoder's tokenizer tells no places of tokens; expected one with a tokenizer.json")

    @property
    def dimension(self) -> int:
        """D, the floats of a word."""
        return int(self.encoder.network.config.hidden_size)

    def __call__(self, texts: Sequence[str], start: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """(T, D) float16: the mean state of the tokens of each word; zeros for a word without a token.

        start: (T,) first characters of the words, text after text. begin: (N + 1,) the first word of each text, and T.
        A text that is longer than the encoder takes is read in parts.
        """
        states = np.zeros((int(begin[-1]), self.dimension), dtype=np.float16)
        order = sorted(np.flatnonzero(np.diff(begin)).tolist(), key=lambda i: (len(texts[i]), i))
        places = _Places(start, begin, max(map(len, texts), default=0) + 1)
        with evaluating(self.encoder.network), torch.inference_mode():
            for low in range(0, len(order), TEXTS_AT_ONCE):
                rows = np.array(order[low : low + TEXTS_AT_ONCE])
                words, means = self._read([texts[i] for i in rows], rows, places)
                states[words] = means
        return states

    def _read(self, texts: Sequence[str], rows: np.ndarray, places: _Places) -> tuple[np.ndarray, np.ndarray]:
        """(words, their mean states) of some texts; rows: the numbers of the texts."""
        read = self.encoder.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.encoder.rules.max_length,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        inputs = {name: read[name].to(self.encoder.device) for name in ("input_ids", "attention_mask")}
        hidden = self.encoder.network(**inputs, output_hidden_states=True).hidden_states[self.layer]
        offsets = read["offset_mapping"].numpy()
        part, token = np.nonzero(offsets[..., 1] > offsets[..., 0])
        text = rows[read["overflow_to_sample_mapping"].numpy()[part]]
        word = places.word_at(text, offsets[part, token, 1] - 1)  # some tokens begin with a blank
        inside = word >= places.begin[text]  # not so before the first word, where only signs can stand
        words, place, count = np.unique(word[inside], return_inverse=True, return_counts=True)
        chosen = hidden[torch.from_numpy(part[inside]), torch.from_numpy(token[inside])].float().cpu()
        total = torch.zeros(len(words), self.dimension).index_add_(0, torch.from_numpy(place), chosen)
        return words, (total / torch.from_numpy(count)[:, None]).numpy()


class _Places:
    """Where the words of texts are. start, begin: as WordReader has them. wide: more than any text has characters."""

    def __init__(self, start: np.ndarray, begin: np.ndarray, wide: int) -> None:
        self.begin, self._wide = begin, wide
        self._keys = np.repeat(np.arange(len(begin) - 1), np.diff(begin)) * wide + start

    def word_at(self, text: np.ndarray, char: np.ndarray) -> np.ndarray:
        """(K,) the last word of each text (K,) that starts at a character (K,) or before it."""
        return np.searchsorted(self._keys, text * self._wide + char, side="right") - 1
