"""Settings: pydantic models filled from a TOML file and `--set key=value`; an unknown key is an error."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from goodrate.text_file import read_text

Settings = TypeVar("Settings", bound=BaseModel)
# TOML has no null, so this word stands for None, in files and in overrides.
NULL = "null"
# Names of settings that a run may resume with other values of: they are about memory, speed, and what is logged and
# saved when. The result is the same up to rounding; with dropout, whose masks are drawn by micro-batch, on average.
MEMORY_AND_SPEED = frozenset(
    {
        "micro_tokens", "log_every", "evaluate_every", "checkpoint_updates", "checkpoint_seconds", "tensorboard",
        "follow", "follow_seconds", "poll_seconds", "sharding", "micro_clips", "micro_pairs",
    }  # fmt: skip
)


def load(model_class: type[Settings], path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a TOML file (None: the defaults), with "a.b=value" overrides applied in order.

    An override's value is read as TOML (3, 0.5, true, [1, 2], "text"); what is not TOML is taken as text.
    Raises FileNotFoundError for a missing file, ValueError that names the source and the key: broken TOML, an unknown
    key (with the nearest known one), a value of the wrong type.
    """
    values = read_toml(path) if path is not None else {}
    check_keys(model_class, values, source=str(path))
    for override in overrides:
        change = parse_override(override)
        check_keys(model_class, change, source=f"--set {override}")
        values = _merge(values, change)
    return complete(model_class, values, str(path) if path else "settings", overrides)


def complete(
    model_class: type[Settings], values: Mapping[str, Any], source: str = "settings", overrides: Sequence[str] = ()
) -> Settings:
    """Settings from values by name, nested by section; what they leave out has its default. ValueError as load."""
    for key, value, annotation in _leaves(model_class, values):
        if not _may_be(value, annotation):
            shown = "nan" if isinstance(value, float) else str(value).lower()
            raise ValueError(f"{_giver(key, overrides) or source}: {key}: expected a number, got {shown}")
    return _validate(model_class, _over_defaults(model_class, _with_none(dict(values))), source, overrides)


def _over_defaults(model_class: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values with what a section's own default sets: naming one value of a section must not reset its others."""
    completed = dict(values)
    for name, field in model_class.model_fields.items():
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        if isinstance(default, BaseModel) and isinstance(values.get(name), dict):
            own = default.model_dump(mode="json", exclude_unset=True)
            completed[name] = _over_defaults(type(default), _merge(own, values[name]))
    return completed


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. ValueError as parse_toml, and for a folder and for bytes that are not UTF-8."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a TOML file")
    if not path.is_file():
        raise FileNotFoundError(f"no settings file {path}")
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The content of a TOML text. source: what a message begins with.

    ValueError with line and column when it is broken, and for nesting and whole numbers that no setting has.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{source}: not valid TOML: too many lists or tables in one another") from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise ValueError(f"{source}: not valid TOML: a whole number of thousands of digits") from error


def parse_override(text: str) -> dict[str, Any]:
    """A nested mapping for one "a.b=value".

    >>> parse_override("optimizer.learning_rate=1e-3"), parse_override("name=my run")
    ({'optimizer': {'learning_rate': 0.001}}, {'name': 'my run'})
    """
    key, equals, value = text.partition("=")
    names = [part.strip() for part in key.split(".")]
    if not equals or not all(names):
        raise ValueError(f"--set {text!r}: expected key=value or part.key=value")
    nested: Any = _parse_value(value.strip(), f"--set {key.strip()}")
    for part in reversed(names):
        nested = {part: nested}
    return nested


def _parse_value(text: str, source: str) -> Any:
    """TOML if it is TOML, otherwise the text itself."""
    try:
        parsed = parse_toml(f"value = {text}", source)
    except ValueError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return text
        raise
    return parsed["value"] if set(parsed) == {"value"} else text


def setting_keys(model_class: type[BaseModel]) -> Iterator[str]:
    """Dotted names of all settings of a model, sections included."""
    for name, field in model_class.model_fields.items():
        yield name
        section = _section(field.annotation)
        if section is not None:
            yield from (f"{name}.{inner}" for inner in setting_keys(section))


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model` or `Model | None`; None for plain values (and for lists and unions of models)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return _section(inner[0]) if len(inner) == 1 and type(None) in get_args(annotation) else None


def check_keys(model_class: type[BaseModel], values: Mapping[str, Any], source: str) -> None:
    """Raise ValueError for the first key that the model does not have, with the nearest that it has."""
    keys = list(setting_keys(model_class))
    for key in _value_keys(model_class, values):
        if key not in keys:
            section = key.rpartition(".")[0]
            beside = [name for name in keys if name.rpartition(".")[0] == section]
            where = f" in {section}" if section else ""
            hint = f"did you mean {nearest(key, keys)!r}? known{where}: {', '.join(beside)}"
            raise ValueError(f"{source}: unknown setting {key!r}; {hint}")


def _value_keys(model_class: type[BaseModel], values: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of the given values, going down only where the model has a section."""
    for key, value in values.items():
        yield key
        field = model_class.model_fields.get(key)
        section = _section(field.annotation) if field else None
        if section is not None and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in _value_keys(section, value))


def _leaves(model_class: type[BaseModel], values: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, value and annotation of the given values that are no sections."""
    for key, value in values.items():
        field = model_class.model_fields.get(key)
        section = _section(field.annotation) if field else None
        if section is not None and isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", *rest) for inner, *rest in _leaves(section, value))
        elif field is not None:
            yield key, value, field.annotation


def _may_be(value: Any, annotation: Any) -> bool:
    """Whether pydantic, which takes true for 1 and NaN for any unbounded number, may be given the value."""
    if isinstance(value, bool):
        kinds = {annotation, *get_args(annotation)}
        return bool in kinds or not kinds & {int, float}
    return not (isinstance(value, float) and math.isnan(value))


def nearest(word: str, candidates: Sequence[str]) -> str:
    """The known name most like `word`, by its whole dotted name or by its last part; ties go to the first.

    >>> nearest("lerning_rate", ["seed", "optimizer.learning_rate"])
    'optimizer.learning_rate'
    """

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, word, candidate).ratio()
        last = difflib.SequenceMatcher(None, word.split(".")[-1], candidate.split(".")[-1]).ratio()
        return max(whole, 0.99 * last)

    return max(candidates, key=likeness)


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` written over it, section by section."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _with_none(value: Any) -> Any:
    """The same values with the word null replaced by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: _with_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_none(inner) for inner in value]
    return None if value == NULL else value


def _validate(
    model_class: type[Settings], values: dict[str, Any], source: str, overrides: Sequence[str] = ()
) -> Settings:
    """The model; every wrong value is named with its key and what was given, and the override that gave it."""
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        wrong: dict[str, list[str]] = {}
        for detail in error.errors():
            key = ".".join(map(str, detail["loc"]))
            value = "" if detail["type"] == "missing" else f" (got {detail['input']!r})"
            problem = f"{key or 'settings'}: {detail['msg'].removeprefix('Value error, ')}{value}"
            wrong.setdefault(_giver(key, overrides) or source, []).append(problem)
        raise ValueError("; ".join(f"{where}: {'; '.join(lines)}" for where, lines in wrong.items())) from error


def sections(key: str) -> set[str]:
    """The sections that a dotted key is in.

    >>> sorted(sections("a.b.c"))
    ['a', 'a.b']
    """
    names = key.split(".")
    return {".".join(names[:depth]) for depth in range(1, len(names))}


def _giver(key: str, overrides: Sequence[str]) -> str | None:
    """The last override that gave the value of a dotted key, or one inside that section; None when none did."""
    names = {override: override.partition("=")[0].strip() for override in overrides}
    giving = [override for override, name in names.items() if f"{key}.".startswith(f"{name}.") or key in sections(name)]
    return f"--set {giving[-1]}" if giving else None


def decides_result(key: str) -> bool:
    """Whether the setting of a dotted key is one that the result depends on.

    >>> decides_result("learning_rate"), decides_result("rollouts.micro_tokens")
    (True, False)
    """
    return key.rpartition(".")[2] not in MEMORY_AND_SPEED


def settings_hash(model: BaseModel) -> str:
    """12 hex digits that change when any resolved value changes, whichever way it was given."""
    text = json.dumps(model.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def to_toml(model: BaseModel) -> str:
    """All resolved values as TOML that `load` reads back to an equal model."""
    return toml_of(model.model_dump(mode="json"))


def toml_of(values: Mapping[str, Any]) -> str:
    """Values by name, nested by section, as TOML.

    >>> print(toml_of({"query": 'a "b"', "k": 3}), end="")
    query = "a \\"b\\""
    k = 3
    """
    return "\n".join(_toml_lines(values, prefix="")) + "\n"


def _toml_lines(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Plain values first, then one table per section: in TOML what follows a table header belongs to it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    for key, value in plain.items():
        yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in values.items():
        if isinstance(value, Mapping):
            name = f"{prefix}.{_toml_key(key)}" if prefix else _toml_key(key)
            yield f"\n[{name}]"
            yield from _toml_lines(value, name)


def _toml_key(key: str) -> str:
    """A bare key where TOML allows one, else a quoted key."""
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _toml_text(key)


def _toml_text(text: str) -> str:
    """A basic TOML string: JSON's escapes are TOML's, except that DEL must be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_value(value: Any) -> str:
    """One value on one line. None is written as the word null."""
    if value is None:
        return f'"{NULL}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return repr(value)  # repr of int and float is TOML: 3, 0.001, 1e-05, inf, nan
