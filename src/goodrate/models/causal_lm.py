"""A causal language model in any Hugging Face folder: label logits behind shared prefixes, decoding, save and load."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodrate.models import decoding, label_forward
from goodrate.models.adapter import adapters_folded
from goodrate.models.chat_frame import ChatFrame
from goodrate.models.control_tokens import ControlTokens
from goodrate.models.decoding import Completion
from goodrate.models.label_forward import IdPair
from goodrate.models.language_model import Prompt
from goodrate.models.nano import nano_folder
from goodrate.models.precision import autocast, default_device, evaluating, resolve_precision
from goodrate.models.pretrained import got_from_hub, read_network, read_tokenizer, readable, require_pad, save_network
from goodrate.models.quiet import no_bars, no_old_names
from goodrate.strict_json import read_object

__all__ = ["CausalLM", "Completion", "Prompt"]

# Bidirectional unless told otherwise: read as decoders here, or every token would see the ones behind it.
ENCODER_FAMILIES = {"bert", "roberta", "xlm-roberta", "electra", "camembert", "roformer"}
log = logging.getLogger(__name__)


class CausalLM:
    """A network, its tokenizer and the arithmetic they run in.

    network: a Hugging Face causal LM (nn.Module). precision: "fp32" or "bf16" (autocast over the weights as they are).
    device: where the weights lie. frame, prompt_start: texts around, and tokens before, every prompt of two parts;
    nothing unless they are set.
    """

    def __init__(self, network: Any, tokenizer: Any, precision: str = "auto") -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.precision = resolve_precision(precision, self.device)
        self.frame = ChatFrame()
        self.prompt_start: tuple[int, ...] = ()
        self._sharing: bool | None = None  # None: not checked yet
        self._check_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder_or_hub_id: str | Path,
        adapter: str | Path | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        precision: str = "auto",
    ) -> CausalLM:
        """Read a model folder, hub id or "nano". adapter: a peft folder, merged in. dtype: float32 unless said.

        A folder that is a peft adapter alone is read with the base that it names. Encoder families such as BERT are
        read as decoders. Raises FileNotFoundError for a path without a config.json and for an adapter whose base is
        missing, ValueError for weights that are not whole and for a folder without a tokenizer.
        """
        from transformers import AutoModelForCausalLM

        no_bars()
        base = adapter_base(folder_or_hub_id)
        with _base_named(folder_or_hub_id, base):
            name = existing_name(folder_or_hub_id if base is None else base)
            config = decoder_config(name)
        heads = r"cls\.|lm_head\.|generator" if config.model_type in ENCODER_FAMILIES else None
        network = read_network(AutoModelForCausalLM, name, heads, config=config, dtype=dtype or torch.float32)
        for folder in (folder_or_hub_id if base else None, adapter):
            if folder is not None:
                from peft import PeftModel

                with readable(folder), no_old_names():
                    network = PeftModel.from_pretrained(network, str(folder)).merge_and_unload()
                    network.requires_grad_(True)  # peft froze the base, which can be trained on like any other
        network = network.to(device or default_device()).eval()
        tokenizer = read_tokenizer(name)
        require_pad(name, tokenizer, network, needed=False)
        return cls(network, tokenizer, precision)

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), configuration and tokenizer; any Hugging Face tool reads the folder."""
        save_network(self.network, folder)
        self.tokenizer.save_pretrained(str(folder))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def max_length(self) -> int | None:
        """The most tokens a prompt and its completion may have together; None where the configuration does not say."""
        limit = getattr(self.network.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def pad_id(self) -> int:
        """What fills short rows. Never seen by a real token, so any id will do where there is no pad token."""
        return int(self.tokenizer.pad_token_id) if self.tokenizer.pad_token_id is not None else 0

    @property
    def start_ids(self) -> list[int]:
        """The tokens that the tokenizer itself puts before a text (Gemma's and Llama's <bos>); none for most others."""
        bos, marked = self.tokenizer.bos_token_id, self.tokenizer.encode("a")
        return [int(bos)] if bos is not None and marked[:1] == [bos] and marked[1:2] != [bos] else []

    def around_prompts(self) -> dict[str, Any]:
        """What stands around every prompt of two parts, as JSON for a model's card; the other way: surround_prompts."""
        frame = (self.frame.opening, self.frame.closing)
        return {"chat_frame": frame if any(frame) else (), "start_token_ids": self.prompt_start}

    def surround_prompts(self, chat_frame: Sequence[str], start_token_ids: Sequence[int]) -> None:
        """Texts around, and tokens before, every prompt of two parts from now on; empty = none."""
        self.frame, self.prompt_start = ChatFrame(*chat_frame), tuple(start_token_ids)

    @cached_property
    def _marks(self) -> ControlTokens:
        """The tokenizer's marks, which no text may write."""
        return ControlTokens(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; marks of the tokenizer that stand in it are left out (models.control_tokens)."""
        return self._ids(self._marks.without(text))

    def _ids(self, text: str) -> list[int]:
        """Token ids of a text whose marks are meant."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _framed(self, prompt: tuple[str, str]) -> tuple[str, str]:
        """The two parts of a prompt, without marks, in the frame, which has some."""
        return self.frame.around(*map(self._marks.without, prompt))

    def encode_pair(self, prefix: str, suffix: str) -> list[int]:
        """Token ids of prompt_start and the two parts in the frame, tokenised apart: no token ever crosses the seam.

        The one way to tokenise a judge's prompt, in training and in serving: "ab"+"c" as one text may be other tokens
        than the two parts, and a prefix could then not be shared.
        """
        prefix, suffix = self._framed((prefix, suffix))
        return [*self.prompt_start, *self._ids(prefix), *self._ids(suffix)]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt in any of its forms. ValueError when it is empty or longer than the model takes."""
        prefix, suffix = self._split(prompt)
        return list(prefix + suffix)

    def label_logits(
        self, prompts: Sequence[Prompt], label_token_ids: Sequence[int], chunk: int | None = None
    ) -> np.ndarray:
        """Logits (N, L) float32 of the label tokens as the next token of each prompt; softmax is the caller's.

        Pairs with an equal prefix share its forward, exactly in fp32. A pair's logits do not depend on what is judged
        beside it, but for the rounding of kernels (docs/judge.md). Sharing is checked once per loaded model
        against the model's plain forward and left off, with a warning, where the two differ.
        """
        pairs = self.id_pairs(prompts)
        if not pairs:
            return np.zeros((0, len(label_token_ids)), dtype=np.float32)
        tokens = torch.tensor(list(label_token_ids), device=self.device)
        with evaluating(self.network), autocast(self.precision, self.device):
            if self._shares(pairs, tokens):
                logits = label_forward.label_logits(self.network, pairs, tokens, self.pad_id, chunk=chunk)
            else:
                logits = self._plain(pairs, tokens, chunk)
        return logits.float().cpu().numpy()

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        stop_token_id: int | None,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        batch_size: int = decoding.BATCH,
    ) -> list[Completion]:
        """Continue each prompt until stop_token_id or max_new_tokens; temperature 0 is greedy.

        seed: one number, mixed with each row's place, or one seed per row; draws never depend on the batch.
        Equal prompts are read once. Raises ValueError for a prompt that leaves no room for max_new_tokens.
        """
        ids = [tuple(self.prompt_ids(prompt)) for prompt in prompts]
        self._check_room(ids, max_new_tokens)
        settings = decoding.DecodeSettings(max_new_tokens, stop_token_id, temperature, self.pad_id)
        low = torch.bfloat16 if self.precision == "bf16" else None
        with evaluating(self.network), autocast(self.precision, self.device), adapters_folded(self.network, low):
            written = decoding.decode(self.network, ids, settings, seed, self.device, batch_size)
        return [
            Completion(tuple(t), self._text(t, stop_token_id), why, tuple(logprobs)) for t, logprobs, why in written
        ]

    def _text(self, tokens: list[int], stop_token_id: int | None) -> str:
        """The text of a completion, its stop token left out."""
        kept = tokens[:-1] if tokens and tokens[-1] == stop_token_id else tokens
        return str(self.tokenizer.decode(kept))

    def _split(self, prompt: Prompt) -> IdPair:
        if isinstance(prompt, str):
            pair: IdPair = ((), tuple(self.encode(prompt)))
        elif isinstance(prompt, tuple):
            prefix, suffix = self._framed(prompt)
            pair = (*self.prompt_start, *self._ids(prefix)), tuple(self._ids(suffix))
        else:
            pair = ((), tuple(prompt))
        self._check_length(len(pair[0]) + len(pair[1]), prompt)
        return pair

    def id_pairs(self, prompts: Sequence[Prompt]) -> list[IdPair]:
        """Ids of all prompts; each distinct prefix text is tokenised once. Raises ValueError as prompt_ids."""
        known: dict[str, tuple[int, ...]] = {}
        pairs: list[IdPair] = []
        for prompt in prompts:
            if not isinstance(prompt, tuple):
                pairs.append(self._split(prompt))
                continue
            prefix, suffix = self._framed(prompt)
            if prefix not in known:
                known[prefix] = (*self.prompt_start, *self._ids(prefix))
            pair = known[prefix], tuple(self._ids(suffix))
            self._check_length(len(pair[0]) + len(pair[1]), prompt)
            pairs.append(pair)
        return pairs

    def _check_length(self, length: int, prompt: Prompt) -> None:
        if length == 0:
            raise ValueError("a prompt has no tokens")
        if self.max_length is not None and length > self.max_length:
            shown = str(prompt)[:80]
            raise ValueError(f"a prompt has {length} tokens, the model takes {self.max_length}: {shown!r}")

    def _check_room(self, ids: Sequence[Sequence[int]], new_tokens: int) -> None:
        longest = max((len(row) for row in ids), default=0)
        if self.max_length is not None and longest + new_tokens > self.max_length:
            raise ValueError(
                f"a prompt of {longest} tokens and {new_tokens} new ones exceed the {self.max_length} the model takes"
            )

    def _plain(self, pairs: Sequence[IdPair], tokens: torch.Tensor, chunk: int | None) -> torch.Tensor:
        """Label logits through the model's own forward and head, chunk by chunk."""
        rows = [prefix + suffix for prefix, suffix in pairs]
        result = torch.empty(len(rows), len(tokens), device=tokens.device)
        chunk = chunk or label_forward.rows_at_once(self.device, max(map(len, rows)))
        for part in label_forward.chunks_by_length(range(len(rows)), [len(r) for r in rows], chunk):
            result[part] = label_forward.plain_logits(self.network, [rows[i] for i in part], tokens, self.pad_id)
        return result

    def _shares(self, pairs: Sequence[IdPair], tokens: torch.Tensor) -> bool:
        """Whether the fast forward gives this model's own numbers: tried once, on the first prompts."""
        with self._check_lock:
            if self._sharing is None:
                self._sharing = self._try_sharing(_probe(pairs, self.max_length), tokens)
        return self._sharing

    def _try_sharing(self, probe: list[IdPair], tokens: torch.Tensor) -> bool:
        weights = next(self.network.parameters()).dtype
        tolerance = 1e-3 if weights in (torch.float32, torch.float64) else 0.1
        with torch.autocast(self.device.type, enabled=False):
            expected = self._plain(probe, tokens, len(probe))
            try:
                shared = label_forward.label_logits(self.network, probe, tokens, self.pad_id)
            except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                log.warning("%s: no shared prefix (%s); judging runs unshared", type(self.network).__name__, error)
                return False
        gap = float((shared - expected).abs().max())
        if gap > tolerance * max(1.0, float(expected.abs().max())):
            log.warning("%s: shared prefix is off by %.2g; judging runs unshared", type(self.network).__name__, gap)
            return False
        return True


def _probe(pairs: Sequence[IdPair], limit: int | None) -> list[IdPair]:
    """A few short prompts of unequal length behind one prefix, cut from the first real one."""
    whole = (pairs[0][0] + pairs[0][1])[: min(64, limit or 64)]
    half = max(1, len(whole) // 2)
    prefix, rest = whole[:half], whole[half:] or whole[:1]
    if limit is not None and half + len(rest) > limit:
        rest = rest[: limit - half]
    return [(prefix, rest[: max(1, len(rest) - n)]) for n in range(label_forward.PROBED)]


def existing_name(folder_or_hub_id: str | Path) -> str:
    """The name as transformers takes it; "nano" is the base that ships. A path that looks local must hold a model."""
    name = str(folder_or_hub_id)
    if name == "nano" and not Path(name).exists():
        return str(nano_folder())
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    local = isinstance(folder_or_hub_id, Path) or Path(name).exists() or looks_local
    if local and not (Path(name).expanduser() / "config.json").is_file():
        raise FileNotFoundError(f"{name}: no config.json there; expected a Hugging Face model folder or a hub id")
    return str(Path(name).expanduser()) if local else name


def adapter_base(folder: str | Path) -> str | Path | None:
    """The base that a peft adapter's folder names: a folder in or beside it, a path, or a hub id; else None.

    Raises ValueError naming the file when it cannot be read or names none.
    """
    path = Path(folder) / "adapter_config.json"
    if not path.is_file() or (Path(folder) / "config.json").is_file():
        return None
    base = read_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{path}: no base_model_name_or_path; expected the folder or hub id of the adapter's base")
    beside = Path(folder) / base
    return beside if beside.is_dir() else base


@contextmanager
def _base_named(folder: str | Path, base: str | Path | None) -> Iterator[None]:
    """Where the base of an adapter is missing, the error says whose base it is and where that stands."""
    try:
        yield
    except FileNotFoundError as error:
        if base is None:
            raise
        path = Path(folder) / "adapter_config.json"
        raise FileNotFoundError(f"{path} names a base that is missing: {error}") from error


def decoder_config(name: str) -> Any:
    """The configuration of a folder or hub id, with encoder families switched to decoders."""
    from transformers import AutoConfig

    with got_from_hub(name), readable(name):
        config = AutoConfig.from_pretrained(name)
    if config.model_type in ENCODER_FAMILIES:
        config.is_decoder = True
    return config
