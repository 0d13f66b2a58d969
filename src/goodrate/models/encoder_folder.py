"""The JSON files that make a Hugging Face encoder a sentence-transformers folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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

    dimension: only so many first floats are kept (of a Matryoshka encoder); None = all.
    """

    pooling: str = "mean"
    max_length: int = DEFAULT_LENGTH
    query_prompt: str = ""
    item_prompt: str = ""
    dimension: int | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r} is not one of {', '.join(POOLINGS)}")

    def as_dict(self) -> dict[str, Any]:
        """The fields by name; without a dimension that is not set, so that older fingerprints stay what they were."""
        return {name: value for name, value in asdict(self).items() if name != "dimension" or value is not None}


def read_json(path: Path, default: Any = None) -> Any:
    """A JSON file, or the default when there is none. Raises ValueError naming a file that is not JSON."""
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def read_rules(folder: Path) -> tuple[EncoderRules, Path]:
    """The rules of a folder and the folder of its weights; a bare Hugging Face folder has mean pooling.

    Vectors are normalised whether or not the folder says so. Raises FileNotFoundError or ValueError naming the file.
    """
    modules = {_kind(module, folder): folder / module["path"] for module in read_json(folder / "modules.json", [])}
    weights = modules.get("transformer", folder)
    if not (weights / "config.json").is_file():
        raise FileNotFoundError(f"{weights}: no config.json there; expected a sentence-transformers or encoder folder")
    pooling = _pooling(read_json(modules["pooling"] / "config.json", {})) if "pooling" in modules else "mean"
    config = read_json(folder / "config_sentence_transformers.json", {})
    prompts = config.get("prompts") or {}
    item_prompt = prompts.get("document", prompts.get("passage", ""))
    rules = EncoderRules(
        pooling, _max_length(weights), prompts.get("query", ""), item_prompt, config.get("truncate_dim")
    )
    return rules, weights


def _kind(module: dict[str, Any], folder: Path) -> str:
    kind = str(module["type"]).rsplit(".", 1)[-1].lower()
    if kind not in MODULE_TYPES:
        raise ValueError(
            f"{folder / 'modules.json'}: unknown module {module['type']!r}; known: {', '.join(MODULE_TYPES)}"
        )
    return kind


def _pooling(config: dict[str, Any]) -> str:
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    poolings = [name for flag, name in POOLING_FLAGS.items() if config.get(flag)]
    if len(poolings) != 1:
        raise ValueError(f"pooling config names {poolings or 'no rule'}; expected exactly one of {', '.join(POOLINGS)}")
    return poolings[0]


def _max_length(weights: Path) -> int:
    """The folder's own limit, at most what the positions and the tokenizer allow."""
    limit = read_json(weights / "sentence_bert_config.json", {}).get("max_seq_length")
    if limit:
        return int(limit)
    positions = read_json(weights / "config.json").get("max_position_embeddings") or DEFAULT_LENGTH
    tokens = read_json(weights / "tokenizer_config.json", {}).get("model_max_length") or positions
    return int(min(positions, tokens))


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
        },
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
