"""The JSON files that make a Hugging Face encoder a sentence-transformers folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goodrate.strict_json import dumps, kind, read, read_object

POOLINGS = ("mean", "cls", "lasttoken")
# Older folders hold one flag per rule instead of a name.
POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
MODULE_TYPES = {
    "transformer": "sentence_transformers.models.Transformer",
    "pooling": "sentence_transformers.models.Pooling",
    "normalize": "sentence_transformers.models.Normalize",
}
DEFAULT_LENGTH = 512


@dataclass(frozen=True)
class EncoderRules:
    """How token states become a vector. max_length in tokens; the prompts stand before each query or item text.

    dimension: only so many first floats are kept (of a Matryoshka encoder); None = all. item_fields: of which
    fields the item texts were that it was trained on, in their order; None = not known. They change no vector.
    """

    pooling: str = "mean"
    max_length: int = DEFAULT_LENGTH
    query_prompt: str = ""
    item_prompt: str = ""
    dimension: int | None = None
    item_fields: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r} is not one of {', '.join(POOLINGS)}")

    def as_dict(self) -> dict[str, Any]:
        """What decides vectors, by name; without an unset dimension: older fingerprints stay what they were."""
        deciding = {name: value for name, value in asdict(self).items() if name != "item_fields"}
        return {name: value for name, value in deciding.items() if name != "dimension" or value is not None}


def read_rules(folder: Path) -> tuple[EncoderRules, Path]:
    """The rules of a folder and the folder of its weights; a bare Hugging Face folder has mean pooling.

    Vectors are normalised whether or not the folder says so. Raises FileNotFoundError or ValueError naming the file.
    """
    modules = _modules(folder)
    weights = modules.get("transformer", folder)
    if not (weights / "config.json").is_file():
        raise FileNotFoundError(f"{weights}: no config.json there; expected a sentence-transformers or encoder folder")
    pooling = _pooling(modules["pooling"] / "config.json") if "pooling" in modules else "mean"
    path = folder / "config_sentence_transformers.json"
    config = _optional(path)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ValueError(f"{path}: prompts: expected an object of texts, found {kind(prompts)}")
    item_prompt = _text(prompts.get("document", prompts.get("passage")), f"{path}: prompts.document")
    query_prompt = _text(prompts.get("query"), f"{path}: prompts.query")
    dimension = _count(config.get("truncate_dim"), f"{path}: truncate_dim")
    hidden = read_object(weights / "config.json").get("hidden_size")
    if dimension and isinstance(hidden, int) and dimension > hidden:
        raise ValueError(f"{path}: truncate_dim {dimension}: the vectors have {hidden} floats")
    fields = _fields(config.get("goodrate_item_fields"), f"{path}: goodrate_item_fields")
    return EncoderRules(pooling, _max_length(weights), query_prompt, item_prompt, dimension, fields), weights


def _optional(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty when there is none."""
    return read_object(path) if path.is_file() else {}


def _count(value: Any, where: str) -> int | None:
    """A whole number from 1, None for none. Raises ValueError."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"{where}: expected a whole number from 1, found {value!r}")


def _fields(value: Any, where: str) -> tuple[str, ...] | None:
    """Names of fields, None for none. Raises ValueError."""
    if value is None or (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        return tuple(value) if value else None
    raise ValueError(f"{where}: expected a list of texts, found {value!r}")


def _text(value: Any, where: str) -> str:
    """A text, "" for none. Raises ValueError."""
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(f"{where}: expected a text, found {kind(value)}")


def _modules(folder: Path) -> dict[str, Path]:
    """The folder of each kind of module in modules.json; none without that file."""
    path = folder / "modules.json"
    listed = read(path) if path.is_file() else []
    if path.is_file() and (not isinstance(listed, list) or not listed):
        raise ValueError(f"{path}: expected a list of modules, found {kind(listed)}{'' if listed else ' without any'}")
    modules = {}
    for module in listed:
        if not isinstance(module, dict) or not all(isinstance(module.get(name), str) for name in ("type", "path")):
            raise ValueError(f"{path}: a module needs the texts type and path, found {module!r:.80}")
        modules[_kind(module["type"], path)] = folder / module["path"]
    return modules


def _kind(name: str, path: Path) -> str:
    short = name.rsplit(".", 1)[-1].lower()
    if short not in MODULE_TYPES:
        raise ValueError(f"{path}: unknown module {name!r}; known: {', '.join(MODULE_TYPES)}")
    return short


def _pooling(path: Path) -> str:
    """The pooling rule of a file. Raises ValueError when it names none, several, or one that this reader lacks."""
    config = _optional(path)
    named = [name for flag, name in POOLING_FLAGS.items() if config.get(flag)]
    poolings = [config["pooling_mode"]] if "pooling_mode" in config else named
    if len(poolings) != 1 or poolings[0] not in POOLINGS:
        found = ", ".join(map(str, poolings)) or "no rule"
        raise ValueError(f"{path}: pooling {found!r} is not one of {', '.join(POOLINGS)}")
    return str(poolings[0])


def _max_length(weights: Path) -> int:
    """The folder's own limit, at most what the positions and the tokenizer allow."""
    path = weights / "sentence_bert_config.json"
    limit = _count(_optional(path).get("max_seq_length"), f"{path}: max_seq_length")
    positions = _bound(weights / "config.json", "max_position_embeddings")
    if limit:
        return min(limit, int(positions or limit))
    positions = positions or DEFAULT_LENGTH
    return int(min(positions, _bound(weights / "tokenizer_config.json", "model_max_length") or positions))


def _bound(path: Path, name: str) -> float | None:
    """A limit in tokens. Tokenizers without one say 1e30."""
    value = _optional(path).get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"{path}: {name}: expected a number of tokens, found {value!r}")


def write_rules(folder: Path, rules: EncoderRules, dimension: int) -> None:
    """Write modules.json and what it points to. dimension: of the token states.

    sentence-transformers reads no truncate_dim from a folder: there, give SentenceTransformer(..., truncate_dim=...).
    """
    paths = {"transformer": "", "pooling": "1_Pooling", "normalize": "2_Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": MODULE_TYPES[kind]}
        for i, (kind, path) in enumerate(paths.items())
    ]
    flags = {flag: name == rules.pooling for flag, name in POOLING_FLAGS.items()}
    prompts = {"query": rules.query_prompt, "document": rules.item_prompt}
    contents: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": dimension, **flags, "include_prompt": True},
        "2_Normalize/config.json": {},
        "sentence_bert_config.json": {"max_seq_length": rules.max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": prompts,
            "similarity_fn_name": "cosine",
            **({"truncate_dim": rules.dimension} if rules.dimension else {}),
            **({"goodrate_item_fields": list(rules.item_fields)} if rules.item_fields else {}),
        },
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dumps(content, indent=2) + "\n", encoding="utf-8")
