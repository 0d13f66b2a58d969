"""What comparisons with TRL need: random networks, a tokenizer of numbered words, trainers that keep quiet."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def random_qwen3(**config: Any) -> Any:
    """A Qwen3 of that configuration with the random weights of seed 0."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**config))


def word_tokenizer(size: int) -> Any:
    """The words w0, w1, ..., because TRL wants a tokenizer. w0 pads, w1 ends."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", unk_token="w2")


def trainer_settings(folder: Path, **settings: Any) -> dict[str, Any]:
    """On the CPU, no reports, nothing recomputed; fp32 unless said otherwise."""
    return {"output_dir": str(folder), "report_to": "none", "use_cpu": True, "bf16": False,
            "gradient_checkpointing": False, "gradient_accumulation_steps": 1, **settings}  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, no warnings about deprecated names and about a completion without a reward."""
    import datasets

    from goodrate.models.quiet import no_bars

    no_bars()
    datasets.disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
