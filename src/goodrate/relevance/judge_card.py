"""judge.json: what makes a folder a judge. The part that every kind has, and the functions that read and write it."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_type_hints

from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale, get_scale

CARD_FILE = "judge.json"
ABOUT = ("label_weights", "tuning", "previous", "warnings")  # written where there is something to say
# kind -> the module that has its Card (a JudgeCard) and open_kind(folder, card), which gives its Judge.
KINDS = {
    "lm": "goodrate.relevance.lm_judge",
    "encoder": "goodrate.relevance.encoder_judge",
    "human": "goodrate.relevance.human_judge",
    "probe": "goodrate.relevance.probe_judge",
    "zero_shot": "goodrate.relevance.zero_shot_judge",
    "words": "goodrate.relevance.words_judge",
    "neighbourhood": "goodrate.relevance.neighbourhood_judge",
    "constraints": "goodrate.relevance.constraint_judge",
    "ensemble": "goodrate.relevance.ensemble_judge",
    "cross_encoder": "goodrate.relevance.cross_encoder_judge",
    "entity": "goodrate.relevance.entity_judge",
    "seeing": "goodrate.relevance.seeing_judge",
}


@dataclass(frozen=True, kw_only=True)
class JudgeCard:
    """What every judge folder says.

    scale: name of its labels' scale, or all that the file of one of the user's own says. temperature, beta_cum: set on
    dev data. contexts: how many retrieved texts of a query it reads; 0 = none. label_weights: (L,) by which
    probabilities are weighed where a label is chosen; none = the most probable label (relevance.label_choice). tuning:
    in words, on what the two scalars were set, or why they were not. previous: their values before they were set last.
    warnings: what has to be known before this judge is used, such as that it is no better than a constant; every
    command that opens it says so.
    """

    kind: ClassVar[str] = ""
    scale: str | dict[str, Any]
    temperature: float = 1.0
    beta_cum: float = 0.5
    contexts: int = 0
    label_weights: tuple[float, ...] = ()
    tuning: str = ""
    previous: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        get_scale(self.scale)
        require_number("temperature", self.temperature, above=0)
        require_number("beta_cum", self.beta_cum, above=0, below=1)
        require_count("contexts", self.contexts, least=0)
        if self.label_weights and len(self.label_weights) != len(self.relevance_scale):
            raise ValueError(f"label_weights {self.label_weights}: expected one for each label of the scale, or none")
        for weight in self.label_weights:
            require_number("label_weights", weight, above=0)

    @property
    def relevance_scale(self) -> RelevanceScale:
        """The scale itself."""
        return get_scale(self.scale)


def require_number(name: str, value: Any, above: float, below: float = math.inf) -> None:
    """ValueError unless value is a number strictly between the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < below:
        raise ValueError(f"{name} {value!r}: expected a finite number above {above:g}{_below(below)}")


def _below(bound: float) -> str:
    return "" if bound == math.inf else f" and below {bound:g}"


def require_count(name: str, value: Any, least: int, most: int = 1_000_000) -> None:
    """ValueError unless value is a whole number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} {value!r}: expected a whole number from {least} to {most:,}")


def kind_module(kind: str) -> ModuleType:
    """The module of a kind of judge. Raises ValueError with the known kinds."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind of judge {kind!r}; known: {', '.join(KINDS)}")
    return importlib.import_module(KINDS[kind])


def write_judge_card(folder: str | Path, card: JudgeCard) -> None:
    """Write judge.json into a folder, whole or not at all."""
    said = {name: value for name, value in asdict(card).items() if name not in ABOUT or value}
    write_atomic(Path(folder) / CARD_FILE, json.dumps({"kind": card.kind, **said}, indent=2) + "\n")


def read_judge_card(folder: str | Path) -> JudgeCard:
    """The card of a judge folder, of its kind's own class.

    Raises FileNotFoundError saying what the folder is and how a judge is made of it, or ValueError naming the file and
    what is wrong in it.
    """
    path = Path(folder) / CARD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {_instead(Path(folder))}")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    try:
        return _card(content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _card(content: dict[str, Any]) -> JudgeCard:
    """The card of a JSON object; one without a kind is from before there were several: an LM's."""
    values = dict(content)
    card_class = kind_module(values.pop("kind", "lm")).Card
    names = [field.name for field in fields(card_class)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known: kind, {', '.join(names)}")
    missing = sorted(card_class.required - set(values))
    if missing:
        raise ValueError(f"missing {missing[0]!r}")
    card = card_class(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    _require_types(card)
    return card


def _require_types(card: JudgeCard) -> None:
    """ValueError naming the first value that is not of its field's type; nothing is converted but 1 to 1.0."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    hints = get_type_hints(type(card))
    for field in fields(card):
        value = getattr(card, field.name)
        try:
            TypeAdapter(hints[field.name], config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{field.name} {value!r}: {error.errors()[0]['msg'].lower()}") from None


def _instead(folder: Path) -> str:
    """What lies in a folder that is no judge, and the way from there to one."""
    if (folder / "judge" / CARD_FILE).is_file():
        return f"a judge is a folder with a {CARD_FILE}; that of this run is {folder / 'judge'}"
    if (folder / "adapter_config.json").is_file():
        base = _json_value(folder / "adapter_config.json", "base_model_name_or_path")
        return (
            f"this is a PEFT adapter over {base}, which does not say how a judge reads and writes. Train one over the "
            f"same base: goodrate train judge_sft --set model={base} --set lora.rank=16 ...; or, where it was trained "
            f"to judge, write its {CARD_FILE} with goodrate.relevance.lm_judge.write_lm_card, and the folder is a judge"
        )
    if (folder / "modules.json").is_file():
        return (
            f"this is a text encoder. Make a judge of its cosine: goodrate train judge_encoder --set encoder={folder} "
            "--set data.catalog=... --set data.judgements=... --out DIR"
        )
    if (folder / "config.json").is_file():
        family = _json_value(folder / "config.json", "model_type")
        return (
            f"this is a bare model ({family}). Make a judge of it: goodrate train judge_sft --set model={folder} "
            "--set data.catalog=... --set data.judgements=... --out DIR"
        )
    if not folder.exists():
        return "the folder does not exist; goodrate train judge_sft, judge_encoder or judge_human make judges"
    return f"a judge is a folder with a {CARD_FILE}; goodrate train judge_sft, judge_encoder or judge_human make one"


def _json_value(path: Path, name: str) -> str:
    """One value of a JSON file for a message; "unknown" where there is none."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get(name, "unknown"))
    except (ValueError, RecursionError, AttributeError):
        return "unknown"
