"""Types of entities as data: a TOML file with the name of each type and the words a language model says of it."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from goodrate.catalog.normal_form import normal_text
from goodrate.settings import complete, read_toml

PRODUCTS = Path(__file__).with_name("product_types.toml")
TEMPLATES = ("{text} In this sentence, {phrase} is a type of {word}.", "{phrase} is a {word}.")
NONE_WORDS = ("thing", "number", "time", "method", "word", "result", "group")
NAME = re.compile(r"[a-z][a-z0-9_]*")


class EntityType(BaseModel):
    """One type: label words for an expert, seeds for those who have no expert or know better."""

    model_config = ConfigDict(extra="forbid")
    words: list[str] = Field(default=[], description="what a language model may say of such a phrase")
    seeds: list[str] = Field(default=[], description="phrases that surely are of the type")


class EntityTypes(BaseModel):
    """All types of a file, in its order. Class c is types[c]; the class after the last is "no entity"."""

    model_config = ConfigDict(extra="forbid")
    types: dict[str, EntityType]
    none: list[str] = Field(default=list(NONE_WORDS), description="label words of phrases that are no entity")
    templates: list[str] = Field(default=list(TEMPLATES), description="two texts with {phrase} and {word}")
    function_words: list[str] = Field(default=[], description="words that no phrase holds, besides the English ones")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the types, which are the names of the attributes."""
        return tuple(self.types)

    def __len__(self) -> int:
        return len(self.types)

    def label_words(self) -> list[tuple[str, int]]:
        """(word, class) of all label words, those of "no entity" last with class len(self)."""
        own = [(word, c) for c, kind in enumerate(self.types.values()) for word in kind.words]
        return own + [(word, len(self)) for word in self.none]


def read_types(path: str | Path) -> EntityTypes:
    """The types of a TOML file, or those that ship for products ("products").

    FileNotFoundError, or ValueError with the file and the type for: no type, a name that is no plain word, a label word
    or a seed of two types, a type with neither words nor seeds, templates that are not two or lack a place.
    """
    file = PRODUCTS if str(path) == "products" and not Path(path).exists() else Path(path)
    if not file.is_file() and not file.is_dir():
        raise FileNotFoundError(f"no types file {file}; expected a TOML file, or products for the types that ship")
    types = complete(EntityTypes, read_toml(file), str(file))
    check_types(types, str(file))
    return types


def check_types(types: EntityTypes, source: str) -> None:
    """ValueError that begins with the source for types that cannot be used; see read_types."""
    if not types.types:
        raise ValueError(f"{source}: no type; expected tables such as [types.color] with words = [...]")
    for name, kind in types.types.items():
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{source}: type {name!r}: expected lower-case letters, digits and _, such as product_type"
            )
        if not kind.words and not kind.seeds:
            raise ValueError(f"{source}: type {name!r} has no label words and no seeds; add words = [...]")
    _once(types, "words", [*((n, k.words) for n, k in types.types.items()), ("none", types.none)], source)
    _once(types, "seeds", [(n, k.seeds) for n, k in types.types.items()], source)
    if len(types.templates) != 2:
        raise ValueError(f"{source}: templates: {len(types.templates)} of them; expected two that can disagree")
    for template in types.templates:
        _check_template(template, source)


def require_words(types: EntityTypes, source: str) -> None:
    """ValueError for a type that an expert could never name because it has no label words."""
    for name, kind in types.types.items():
        if not kind.words:
            raise ValueError(f"{source}: type {name!r} has no label words, so no expert can name it; add words = [...]")


def _once(types: EntityTypes, what: str, texts: list[tuple[str, list[str]]], source: str) -> None:
    """ValueError for an empty text and for one that two types have."""
    owner: dict[str, str] = {}
    for name, listed in texts:
        for text in map(normal_text, listed):
            if not text:
                raise ValueError(f"{source}: type {name!r}: an empty text among its {what}")
            if owner.setdefault(text, name) != name:
                raise ValueError(f"{source}: {text!r} is among the {what} of {owner[text]!r} and of {name!r}")


def _check_template(template: str, source: str) -> None:
    """ValueError for a template without its places, with others, or in which the word stands before the phrase."""
    places = re.findall(r"\{(\w*)\}", template)
    if places not in (["phrase", "word"], ["text", "phrase", "word"]):
        raise ValueError(
            f"{source}: template {template!r}: expected {{phrase}} and after it {{word}}, each once, and perhaps "
            "{text} before them"
        )
