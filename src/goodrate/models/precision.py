"""Which arithmetic a forward pass uses: decided from the processor's flags once, never from timing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import nn

PRECISIONS = ("auto", "fp32", "bf16")
# Without one of these a CPU emulates bf16 and is slower than fp32.
BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def cpu_has_bf16() -> bool:
    """Whether this machine's CPU multiplies bf16 natively (Linux flags; False where they cannot be read)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines) and bool(BF16_CPU_FLAGS & set(lines[0].split()))


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """ "auto" becomes "bf16" where the hardware has it and "fp32" elsewhere; the others stay.

    Raises ValueError with the accepted names.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def default_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str, device: torch.device | str) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast over fp32 weights, or fp32 as it is. precision: a resolved name."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=resolve_precision(precision, device) == "bf16")


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Dropout off and no graph for the block; the training flag is put back afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """At most this many torch threads inside the block, as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
