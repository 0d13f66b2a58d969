"""States of a causal LM's middle layers, averaged over the last part of a text: what a probe reads.

The forward ends behind the deepest layer that is asked for, or goes to the head where the likelihood of that part is
asked for too. Tokens that many texts begin with are computed once (shared_prefix). Any Hugging Face decoder whose
blocks stand in one list will do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.models.cached_forward import cached_states
from goodrate.models.label_forward import chunks_by_length, pad_right, rows_at_once
from goodrate.models.precision import autocast, evaluating
from goodrate.models.shared_prefix import Prefill, SharedPrefix, fits, side_by_side, whole_cache
from goodrate.models.token_logprobs import token_logprobs

if TYPE_CHECKING:
    from goodrate.models.causal_lm import CausalLM

# So many texts with an equal first part make it pay to compute that apart, which computes the opening again.
SHARED_FROM = 3
PREFIXES = 16  # first parts whose keys are kept at a time

TwoParts = tuple[str, str]
IdPairs = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]


class _DeepEnough(Exception):
    """The deepest layer that is asked for has been computed."""


def decoder_blocks(network: Any) -> nn.ModuleList:
    """The list of a network's blocks. Raises ValueError for one that has no single list of them."""
    body, depth = network.base_model, network.config.num_hidden_layers
    lists = [m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if len(lists) != 1:
        raise ValueError(f"{type(network).__name__}: expected one list of {depth} blocks, found {len(lists)}")
    return lists[0]


class LayerStates:
    """Reads texts of two parts behind one opening.

    opening: what every text begins with, such as examples, behind the model's own start token; computed once. layers:
    counted from 1, the states behind these blocks. likelihood: whether to add the mean log probability of the second
    part's tokens behind all that stands before them, in nats; it takes all layers and the head. Parts are tokenised
    apart, so that no token crosses a seam. Raises ValueError for a layer that the network lacks.
    """

    def __init__(self, model: CausalLM, opening: str, layers: Sequence[int], likelihood: bool = False) -> None:
        blocks = decoder_blocks(model.network)
        wrong = [layer for layer in layers if not 1 <= layer <= len(blocks)]
        if wrong or not layers:
            raise ValueError(f"layers {list(layers)}: expected numbers from 1 to {len(blocks)}")
        self.model, self.layers, self.likelihood = model, tuple(sorted(set(layers))), likelihood
        self._blocks = [blocks[layer - 1] for layer in self.layers]
        self._opening = (*model.start_ids, *model.encode(opening))
        self._read: Prefill | None = None

    @property
    def dimension(self) -> int:
        """Floats of one text: the network's width for each layer, and one for the likelihood."""
        return int(self.model.network.config.hidden_size) * len(self.layers) + self.likelihood

    def takes(self, text: TwoParts) -> bool:
        """Whether a text is short enough for the model."""
        limit = self.model.max_length
        return limit is None or len(self._opening) + sum(len(self.model.encode(part)) for part in text) <= limit

    def __call__(self, texts: Sequence[TwoParts]) -> np.ndarray:
        """Mean state over the tokens of each text's second part, layer after layer: (N, dimension) float32.

        Texts that share their first part with SHARED_FROM - 1 others or more have it computed once. What a text gives
        does not hang on its neighbours, but for the rounding of kernels. Raises ValueError for an empty second part and
        for a text that is longer than the model takes.
        """
        first = {text: tuple(self.model.encode(text)) for text in dict.fromkeys(a for a, _ in texts)}
        pairs = [(first[a], tuple(self.model.encode(b))) for a, b in texts]
        self._check(pairs, texts)
        if self.likelihood:  # the state of the token in front is what the second part's first token follows from
            pairs = [(a[:-1], a[-1:] + b) for a, b in pairs]
        out = np.empty((len(texts), self.dimension), dtype=np.float32)
        with evaluating(self.model.network), autocast(self.model.precision, self.model.device):
            for part in self._parts(pairs):
                out[part] = self._read_part([pairs[i] for i in part])
        return out

    def _check(self, pairs: IdPairs, texts: Sequence[TwoParts]) -> None:
        """ValueError naming the first text that cannot be read."""
        limit = self.model.max_length
        for (first, second), text in zip(pairs, texts, strict=True):
            if not second:
                raise ValueError(f"nothing to average: the second part of {text[0][:60]!r} has no token")
            if self.likelihood and not first:
                raise ValueError(f"no likelihood: nothing stands before {text[1][:60]!r}")
            length = len(self._opening) + len(first) + len(second)
            if limit is not None and length > limit:
                raise ValueError(f"a text has {length} tokens, the model takes {limit}: {''.join(text)[:80]!r}")

    def _parts(self, pairs: IdPairs) -> Iterator[list[int]]:
        """Places that are read together: those of often repeated first parts side by side, then by length."""
        size = rows_at_once(self.model.device, max((len(a) + len(b) for a, b in pairs), default=1))
        by_first: dict[tuple[int, ...], list[int]] = {}
        for place, (first, _) in enumerate(pairs):
            by_first.setdefault(first, []).append(place)
        often = [places for places in by_first.values() if len(places) >= SHARED_FROM]
        for start in range(0, len(often), PREFIXES):
            yield from chunks_of_groups(often[start : start + PREFIXES], size)
        rest = [place for places in by_first.values() if len(places) < SHARED_FROM for place in places]
        yield from chunks_by_length(rest, [len(a) + len(b) for a, b in pairs], size)

    def _read_part(self, pairs: IdPairs) -> np.ndarray:
        """Mean states of a few texts, their likelihood behind them."""
        lead = int(self.likelihood)  # tokens of the second part that stand before what is averaged
        firsts = list(dict.fromkeys(first for first, _ in pairs))
        if not fits(self.model.network, self.model.device):
            return self._plain([(*self._opening, *first, *second) for first, second in pairs], pairs)
        if len(pairs) >= SHARED_FROM * len(firsts) and all(self._opening + first for first in firsts):
            read = self._prefill([self._opening + first for first in firsts])
            row = torch.tensor([firsts.index(first) for first, _ in pairs], device=self.model.device)
            return self._behind(read, row, [second for _, second in pairs], [lead] * len(pairs))
        rows = [first + second for first, second in pairs]
        if not self._opening:
            return self._plain(rows, pairs)
        if self._read is None:
            self._read = self._prefill([self._opening])
        row = torch.zeros(len(rows), dtype=torch.long, device=self.model.device)
        return self._behind(self._read, row, rows, [len(first) + lead for first, _ in pairs])

    def _prefill(self, prompts: list[tuple[int, ...]]) -> Prefill:
        """Keys and values of prompts, down to the deepest layer."""
        network = self.model.network
        inputs, lengths = side_by_side(prompts, self.model.pad_id, self.model.device)
        cache = whole_cache(network.config)
        with self._watched():
            cached_states(network, cache, **inputs)
        return Prefill(torch.empty(0), cache, lengths, inputs["attention_mask"])

    def _behind(self, read: Prefill, row: Tensor, rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> np.ndarray:
        """Means of rows behind prefixes. row: (N,) the prefix of each. starts: where each row's second part begins."""
        device = self.model.device
        ids = pad_right(rows, self.model.pad_id, device)
        where = read.lengths[row][:, None] + torch.arange(ids.shape[1], device=device)
        shared = SharedPrefix(read, row)
        return self._through(ids, rows, starts, position_ids=self._possible(where), shared_prefix=shared)

    def _plain(self, rows: list[tuple[int, ...]], pairs: IdPairs) -> np.ndarray:
        """Means of whole rows through the network's own attention."""
        ids = pad_right(rows, self.model.pad_id, self.model.device)
        where = torch.arange(ids.shape[1], device=self.model.device)[None].expand_as(ids)
        starts = [len(row) - len(second) + self.likelihood for row, (_, second) in zip(rows, pairs, strict=True)]
        return self._through(ids, rows, starts, position_ids=self._possible(where))

    def _through(
        self, ids: Tensor, rows: Sequence[tuple[int, ...]], starts: Sequence[int], **inputs: Any
    ) -> np.ndarray:
        """One forward of ids (N, T); what is read of it, (N, dimension)."""
        with self._watched() as states:
            out = self.model.network.base_model(input_ids=ids, use_cache=False, **inputs)
        means = self._means(states, rows, starts)
        if not self.likelihood:
            return means
        return np.hstack([means, self._likelihoods(out.last_hidden_state, ids, rows, starts)[:, None]])

    def _likelihoods(
        self, final: Tensor, ids: Tensor, rows: Sequence[tuple[int, ...]], starts: Sequence[int]
    ) -> np.ndarray:
        """(N,): mean log probabilities of the tokens from each row's start to its end, from final states (N, T, D)."""
        place = torch.arange(ids.shape[1], device=ids.device)
        start, end = (torch.tensor(list(n), device=ids.device)[:, None] for n in (starts, map(len, rows)))
        chosen = (place >= start) & (place < end)
        said, _ = token_logprobs(self.model.network, final[:, :-1][chosen[:, 1:]], ids[chosen], 1.0)
        total = torch.zeros(ids.shape, device=ids.device).masked_scatter_(chosen, said.float()).sum(dim=1)
        return (total / (end - start)[:, 0]).cpu().numpy()

    def _possible(self, where: Tensor) -> Tensor:
        """Positions that the model knows; only pads lie beyond."""
        return where if self.model.max_length is None else where.clamp(max=self.model.max_length - 1)

    def _means(self, states: list[Tensor], rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> np.ndarray:
        """(N, layers * D): means over the tokens from each row's start to its end."""
        place = torch.arange(states[0].shape[1], device=states[0].device)
        start, end = (torch.tensor(list(n), device=place.device)[:, None] for n in (starts, map(len, rows)))
        chosen = ((place >= start) & (place < end)).float()
        with torch.autocast(place.device.type, enabled=False):
            means = [torch.einsum("nt,ntd->nd", chosen, state.float()) / (end - start) for state in states]
        return torch.cat(means, dim=1).cpu().numpy()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[list[Tensor]]:
        """Inside, a forward ends behind the deepest layer, unless the head is needed; the list holds the states."""
        found: list[Tensor] = []

        def keep(block: nn.Module, inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)
            if len(found) == len(self._blocks) and not self.likelihood:
                raise _DeepEnough

        handles = [block.register_forward_hook(keep) for block in self._blocks]
        try:
            with contextlib.suppress(_DeepEnough):
                yield found
        finally:
            for handle in handles:
                handle.remove()


def chunks_of_groups(groups: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    """Whole groups side by side until a chunk has `size` places; a larger group is a chunk of its own.

    >>> list(chunks_of_groups([[0, 1], [2, 3], [4, 5, 6]], 4))
    [[0, 1, 2, 3], [4, 5, 6]]
    """
    chunk: list[int] = []
    for group in groups:
        if chunk and len(chunk) + len(group) > size:
            yield chunk
            chunk = []
        chunk = chunk + group
    if chunk:
        yield chunk
