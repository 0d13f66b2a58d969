"""Reading what Hugging Face folders hold; what is missing, broken or cut off is refused with the folder's name."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goodrate.models.quiet import no_length_warning, no_load_report

MODEL_FILES = re.compile(
    r".*\.(safetensors|bin|model)|((adapter_)?config|tokenizer.*|goodrate_export)\.json|vocab.*|merges\.txt"
)


def folder_hash(folder: Path) -> str:
    """16 hex of sha256 over the weights, configuration and tokenizer of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if MODEL_FILES.fullmatch(p.name)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def remembered_name(name: str) -> str:
    """How a card names a model: a folder by its whole path, a hub id as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


OFFLINE, NOT_CACHED = ("OfflineModeIsEnabled",), ("LocalEntryNotFoundError",)
UNREACHABLE = (
    "ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "ProxyError", "ConnectionError", "Timeout",
    "RemoteProtocolError", "gaierror", *NOT_CACHED,
)  # fmt: skip
GATED = ("GatedRepoError",)
LACKING = ("RepositoryNotFoundError", "RevisionNotFoundError")
NO_FILE = ("EntryNotFoundError", "RemoteEntryNotFoundError")
NO_ID = ("HFValidationError",)
log = logging.getLogger(__name__)


def read_network(auto_class: Any, name: str, may_lack: str | None = None, **options: Any) -> Any:
    """auto_class.from_pretrained(name, ...). may_lack: pattern of the weights that may be missing, then made at random.

    Raises ValueError for a configuration that no network follows, and for weights that are not whole, of other shapes
    or incomplete.
    """
    with got_from_hub(name), readable(name), no_load_report():  # unused weights (a pooler, a head) are no fault
        network, loaded = auto_class.from_pretrained(name, output_loading_info=True, **options)
    missing = sorted(key for key in loaded["missing_keys"] if not (may_lack and re.match(may_lack, key)))
    if missing:
        raise ValueError(f"{name}: the weights lack {missing[0]!r} (and {len(missing) - 1} more); no whole model there")
    if loaded["missing_keys"]:
        log.warning("%s: the weights lack %s; made at random", name, ", ".join(sorted(loaded["missing_keys"])))
    return network


def read_config(folder: str | Path) -> Any:
    """The configuration of a model folder. Raises ValueError for one that no network follows."""
    from transformers import AutoConfig

    with readable(folder):
        return AutoConfig.from_pretrained(str(folder))


@contextmanager
def readable(name: str | Path) -> Iterator[None]:
    """Inside, a library reads a model's files: whatever it raises over what stands in them becomes a ValueError.

    OSError (it names its file) and lack of memory stay what they are.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, MemoryError):
        raise
    except (SafetensorError, EOFError) as error:
        raise _not_whole(name, str(error) or "an empty file") from error
    # What a library raises over a broken file is what its code first stumbles on: KeyError, TypeError, RuntimeError.
    except Exception as error:
        reason = _first_line(error)
        if "out of memory" in reason:
            raise
        if "PytorchStreamReader" in reason:  # what torch says of a .bin file that was cut off
            raise _not_whole(name, reason.split(". ")[0]) from error
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other shapes than its config.json says"
        raise ValueError(f"{name}: not a model that can be read ({type(error).__name__}: {reason})") from error


def _not_whole(name: str | Path, reason: str) -> ValueError:
    """The refusal of weights that were cut off."""
    return ValueError(f"{name}: the weights are not whole ({reason}); copy them anew")


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub id.

    Raises ValueError when there is none, because transformers then makes one without a word up, to which all texts are
    equal; and for files that cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        with got_from_hub(name):
            tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except OSError:
        raise  # names its file
    except Exception as error:  # the tokenizers library has no exceptions of its own: it raises Exception
        raise ValueError(f"{name}: its tokenizer files cannot be read: {error}") from error
    no_length_warning(tokenizer)
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):
        raise ValueError(f"{name}: no tokenizer there; expected a tokenizer.json, or the vocabulary files of its model")
    return tokenizer


def require_pad(name: str, tokenizer: Any, network: Any, needed: bool = True) -> None:
    """ValueError when the tokenizer's pad token has no row in the network, or where it is needed, when it has none."""
    pad, rows = tokenizer.pad_token_id, network.get_input_embeddings().weight.shape[0]
    if pad is None and needed or pad is not None and pad >= rows:
        found = f"pad_token {tokenizer.pad_token!r}"
        raise ValueError(f"{name}: {found} is no token of the network; expected one in tokenizer_config.json")


@contextmanager
def got_from_hub(name: str) -> Iterator[None]:
    """Inside, files of a hub id are fetched. What goes wrong is a FileNotFoundError that says which of these it is:

    no folder and no such repository; a gated one; one without the files of a model; a hub that cannot be reached, and
    nothing in the cache. A folder's own faults stay what they are.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if Path(name).is_dir():
            raise
        raise FileNotFoundError(f"{name}: no such folder, and {_hub_says(name, error)}") from error


def _hub_says(name: str, error: BaseException) -> str:
    """Why the hub did not give an id, from the types of an error and its causes."""
    from huggingface_hub import constants

    told = {kind.__name__: cause for cause in _causes(error) for kind in type(cause).__mro__}
    page = f"https://huggingface.co/{name}"

    def any_of(kinds: tuple[str, ...]) -> bool:
        return any(kind in told for kind in kinds)

    if any_of(NO_ID):
        return "no hub id either: those read NAME or OWNER/NAME"
    if any_of(OFFLINE) or (constants.HF_HUB_OFFLINE and any_of(NOT_CACHED)):
        return "the Hugging Face hub is not asked (HF_HUB_OFFLINE is set) and its cache lacks it"
    if any_of(GATED):
        return f"on the Hugging Face hub it is gated: accept its terms at {page}, then log in with `hf auth login`"
    if any_of(LACKING):
        return "the Hugging Face hub has no such repository (or a private one: log in with `hf auth login`)"
    lost = next((told[kind] for kind in UNREACHABLE if kind in told), None)
    if lost is not None:
        reason = f"{type(lost).__name__}: {_first_line(lost)}"
        return f"the Hugging Face hub cannot be reached and its cache lacks it ({reason})"
    if any_of(NO_FILE):
        return f"the repository {page} has no files of a model: {_first_line(error)}"
    return f"the Hugging Face hub does not give it: {_first_line(error)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, outermost first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:300] or "no reason given"


def save_network(network: Any, folder: str | Path, **how: Any) -> None:
    """Write a Hugging Face network's weights and configuration, in every process of a run that calls it.

    transformers writes in the first process alone, and a folder that another one puts in place would have no weights.
    """
    network.should_save_on_this_rank = lambda is_main_process: is_main_process
    try:
        network.save_pretrained(str(folder), **how)
    finally:
        del network.should_save_on_this_rank
