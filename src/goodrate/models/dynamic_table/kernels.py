"""Which code does what torch has no single pass for: numba on CPUs where it is installed, torch elsewhere."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, Literal

from goodrate.extras import MissingExtra, require
from goodrate.models.dynamic_table import numba_kernels

IndexKind = Literal["auto", "torch", "numba"]
KINDS = ("auto", "torch", "numba")
Kernels = Any  # the functions of numba_kernels, compiled
_EXACT = ("mixed", "find", "place", "distinct")
_RULES = ("sgd", "adam", "adagrad", "row_wise_adagrad")
# Sums within a row may be reordered, so that they are vectorised; nothing is taken for finite.
_FAST = {"reassoc", "contract", "nsz"}


def kernels_of(kind: IndexKind) -> Kernels | None:
    """The compiled kernels, or None for torch. MissingExtra where numba is asked for and is not there."""
    if kind not in KINDS:
        raise ValueError(f"index {kind!r} is not one of {', '.join(KINDS)}")
    if kind == "torch":
        return None
    try:
        require("numba", "the compiled index of dynamic tables")
    except MissingExtra:
        if kind == "numba":
            raise
        return None
    return _compiled()


@cache
def _compiled() -> Kernels:
    """Each on its first call in an environment; the machine code is kept beside the source, or in the user's cache."""
    from numba import njit

    # "numpy": a division by zero is inf, not an exception, and loops with one in them are vectorised.
    options: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
    functions = {name: njit(**options)(getattr(numba_kernels, name)) for name in _EXACT}
    functions |= {name: njit(**options, fastmath=_FAST)(getattr(numba_kernels, name)) for name in _RULES}
    return SimpleNamespace(**functions)
