"""Reading what Hugging Face folders hold; what is missing, broken or cut off is refused with the folder's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_network(auto_class: Any, name: str, **options: Any) -> Any:
    """auto_class.from_pretrained(name, ...). ValueError for weights that are not whole."""
    from safetensors import SafetensorError

    try:
        return auto_class.from_pretrained(name, **options)
    except (SafetensorError, EOFError) as error:
        raise _not_whole(name, str(error) or "an empty file") from error
    except RuntimeError as error:
        if "PytorchStreamReader" not in str(error):  # what torch says of a .bin file that was cut off
            raise
        raise _not_whole(name, str(error).split(". ")[0]) from error


def _not_whole(name: str, reason: str) -> ValueError:
    """The refusal of weights that were cut off."""
    return ValueError(f"{name}: the weights are not whole ({reason}); copy them anew")


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub id.

    Raises ValueError when there is none, because transformers then makes one without a word up, to which all texts are
    equal; and for files that cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except OSError:
        raise  # names its file
    except Exception as error:  # the tokenizers library has no exceptions of its own: it raises Exception
        raise ValueError(f"{name}: its tokenizer files cannot be read: {error}") from error
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):
        raise ValueError(f"{name}: no tokenizer there; expected a tokenizer.json, or the vocabulary files of its model")
    return tokenizer


@contextmanager
def got_from_hub(name: str) -> Iterator[None]:
    """FileNotFoundError naming the id when it is neither a folder nor to be had from the hub, which says why."""
    try:
        yield
    except (OSError, ValueError) as error:
        if Path(name).is_dir():
            raise
        reason = str(error).strip().split("\n")[0]
        raise FileNotFoundError(f"{name}: no such folder, and the Hugging Face hub lacks it: {reason}") from error
