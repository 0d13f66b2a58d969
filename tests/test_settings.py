"""Settings: sources, overrides, unknown keys, round trip, hash."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from goodrate import settings


class Optimizer(BaseModel):
    learning_rate: float = Field(1e-3, gt=0)
    betas: list[float] = [0.9, 0.95]


class Band(BaseModel):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _is_band(self) -> Band:
        if self.low > self.high:
            raise ValueError("low above high")
        return self


class Run(BaseModel):
    name: str = "run"
    seed: int = 0
    order: Literal["label_first", "reason_first"] = "label_first"
    context: str | None = "docs"
    optimizer: Optimizer = Optimizer()
    second: Optimizer | None = None
    columns: dict[str, str] = {}
    band: Band = Band()


def test_file_then_overrides_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 3\n[optimizer]\nlearning_rate = 0.01\n", encoding="utf-8")
    loaded = settings.load(Run, path, ["seed=5", "optimizer.betas=[0.5, 0.6]", "seed=7", "name=my run"])
    # the file gives 3, then 5, then 7; the override of betas leaves the file's learning rate alone
    assert (loaded.seed, loaded.name) == (7, "my run")
    assert loaded.optimizer == Optimizer(learning_rate=0.01, betas=[0.5, 0.6])


def test_defaults_without_file_and_null_for_none() -> None:
    assert settings.load(Run) == Run()
    assert settings.load(Run, overrides=["context=null"]).context is None
    assert settings.load(Run, overrides=["second.learning_rate=2"]).second == Optimizer(learning_rate=2.0)


@pytest.mark.parametrize(
    ("override", "asked", "near"),
    [
        ("sead=1", "sead", "seed"),
        ("optimizer.lerning_rate=1", "optimizer.lerning_rate", "optimizer.learning_rate"),
        ("learning_rate=1", "learning_rate", "optimizer.learning_rate"),
        ("second.beta=1", "second.beta", "second.betas"),
    ],
)
def test_unknown_key_names_the_nearest(override: str, asked: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"unknown setting '{asked}'; did you mean '{near}'") as caught:
        settings.load(Run, overrides=[override])
    assert f"--set {override}" in str(caught.value)


def test_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[optimiser]\nlearning_rate = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.toml: unknown setting 'optimiser'; did you mean 'optimizer'"):
        settings.load(Run, path)


def test_free_mappings_take_any_key() -> None:
    assert settings.load(Run, overrides=["columns.anything=title"]).columns == {"anything": "title"}


def test_wrong_values_name_key_and_value(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate: .*greater than 0 \(got -1\)"):
        settings.load(Run, overrides=["optimizer.learning_rate=-1"])
    with pytest.raises(ValueError, match="'label_first' or 'reason_first'.*got 'last'"):
        settings.load(Run, overrides=["order=last"])
    with pytest.raises(ValueError, match="expected key=value"):
        settings.load(Run, overrides=["seed"])
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('order = "last"\n', encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"^[^;]*mixed\.toml: order: [^;]*; --set optimizer.learning_rate=-1: optimizer"
    ):
        settings.load(Run, mixed, ["optimizer.learning_rate=-1"])  # each is blamed on where it stands
    with pytest.raises(ValueError, match=r"^--set band\.low=3: band: low above high \(got "):
        settings.load(Run, None, ["band.low=3"])  # a rule about the section is blamed on what was set in it
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        settings.load(Run, tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.toml: not valid TOML: .*line 1"):
        settings.load(Run, broken)


# "null" is the word for None, the one text that cannot be a value; TOML text holds no lone surrogates.
texts = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: text != settings.NULL)


@given(
    name=texts,
    seed=st.integers(-(2**62), 2**62),
    context=st.none() | texts,
    rate=st.floats(1e-300, 1e300),
    columns=st.dictionaries(texts, texts, max_size=3),
)
def test_written_toml_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, context: str | None, rate: float, columns: dict
) -> None:
    run = Run(name=name, seed=seed, context=context, optimizer=Optimizer(learning_rate=rate), columns=columns)
    path = tmp_path_factory.mktemp("toml") / "run.toml"
    path.write_bytes(settings.to_toml(run).encode())
    assert settings.load(Run, path) == run


def test_hash_follows_values_not_their_source(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 4\n", encoding="utf-8")
    from_file = settings.settings_hash(settings.load(Run, path))
    assert from_file == settings.settings_hash(settings.load(Run, overrides=["seed=4"]))
    assert from_file != settings.settings_hash(Run())
    assert len(from_file) == 12 and int(from_file, 16) >= 0


def test_override_values_that_look_like_toml() -> None:
    assert settings.parse_override("a=true") == {"a": True}
    assert settings.parse_override("a=x=y") == {"a": "x=y"}  # only the first equals sign divides
    assert settings.parse_override('a="3"') == {"a": "3"}
    assert math.isinf(settings.parse_override("a=inf")["a"])
    assert settings.parse_override("a=1\nb = 2") == {"a": "1\nb = 2"}  # one override cannot smuggle in a second key


def test_naming_one_value_of_a_section_keeps_what_its_default_sets() -> None:
    class Inner(BaseModel):
        rate: float = 1.0
        steps: int = 10

    class Middle(BaseModel):
        inner: Inner = Inner(steps=7)
        name: str = "x"

    class Outer(BaseModel):
        middle: Middle = Middle(name="y")
        other: Inner | None = None

    found = settings.load(Outer, None, ["middle.inner.rate=0.5", "other.rate=2"])
    assert (found.middle.inner, found.middle.name) == (Inner(rate=0.5, steps=7), "y")
    assert found.other == Inner(rate=2.0)
