"""PUMGPT v1 (arXiv 2308.09568v1): a frozen causal LM that sees products through layer-wise adapters.

Stage 1 aligns on captions where it is asked for, stage 2 learns the five tasks, loss on the answers alone. What trains
is the resampler and the adapters; from a trained folder (`start`) the adapters and their gates alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.product_items import ProductSet
from goodrate.examples.product_tasks import ProductQuestion, TaskSettings, answer_text, questions_of
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import Update
from goodrate.learning.source import seed_of
from goodrate.learning.token_examples import LANGUAGE_TERM, TokenExample, TokenExampleSource, collate, in_parts
from goodrate.models.adapter import LoraSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.pretrained import remembered_name
from goodrate.models.vision.encoder import open_vision
from goodrate.models.vision.token_cache import KeptTokens, TokenCache
from goodrate.models.vision_language.adapters import AdapterSettings
from goodrate.models.vision_language.folder import load, save
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.recipes.product_answers import answered, fitted_temperature, majority, measured, option_logprobs, table
from goodrate.recipes.product_data import PictureData, product_set, split_products
from goodrate.recipes.product_describer import open_describer
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, write_rows
from goodrate.recipes.tiny_vision import TinySettings, train_tiny
from goodrate.run_folder import RunFolder, new_folder

__all__ = ["PRODUCT_VISION_LANGUAGE", "Settings", "open_describer", "run"]
TINY = "tiny"


class Settings(BaseModel):
    """What to learn from, which models, and how."""

    model_config = ConfigDict(extra="forbid")
    products: PictureData = Field(description="what to learn from: items with pictures")
    model: str = Field(default="nano", description="frozen causal LM: folder, hub id, or nano, the base that ships")
    vision: str = Field(default=TINY, description="frozen encoder: folder or hub id; tiny = trained here from scratch")
    tiny: TinySettings = Field(default_factory=TinySettings)
    adapters: AdapterSettings = Field(default_factory=AdapterSettings)
    lora: LoraSettings | None = Field(default=None, description="an adapter in the LM beside, as a peer; null = none")
    start: str | None = Field(
        default=None, description="trained OUT/model to adapt: its models and resampler stay, its A_l and g_l train"
    )
    tasks: TaskSettings = Field(default_factory=TaskSettings)
    alignment_updates: int = Field(default=0, ge=0, description="updates on captions alone before the tasks")
    open_domain: PictureData | None = Field(default=None, description="other items, whose captions are mixed in")
    open_share: float = Field(default=0.25, gt=0, lt=1, description="of the questions, with open_domain")
    cache: str | None = Field(default=None, description="folder of pictures' tokens; null = OUT/tokens")
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False, description="peak, of all that trains")
    gate_rate: float = Field(
        default=1e-2, gt=0, allow_inf_nan=False, description="peak, of the gates: a step moves one by this, from 0 on"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=32, gt=0, description="questions in one update")
    max_tokens: int = Field(default=256, gt=1, description="longer questions are left out and counted")
    micro_tokens: int = Field(default=8192, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=3, gt=0, description="passes over the questions; fit can end it sooner")
    dev_questions: int = Field(default=400, gt=0, description="asked for the table at the end, at most")
    fit: FitSettings = Field(default_factory=FitSettings)


@dataclass(frozen=True)
class SeenExample(TokenExample):
    """A question with its answer, and the place of its picture, below 0 without one."""

    row: tuple[int] = (-1,)


def encode(model: VisionLanguageModel, question: ProductQuestion) -> SeenExample:
    """Loss on the answer and its end alone."""
    read, said = model.prompt_ids(question.prompt), model.answer_ids(answer_text(question.answer, question.wording))
    return SeenExample((*read, *said), (*([0.0] * len(read)), *([1.0] * len(said))), (question.row,))


def seen_update(kept: KeptTokens) -> Callable[[Sequence[SeenExample], int], Update]:
    """Makes updates whose micro-batches hold their pictures' tokens."""

    def update(examples: Sequence[SeenExample], max_tokens: int) -> Update:
        parts = in_parts(examples, max_tokens)
        batches = [{**collate(part), "features": kept.take([one.row[0] for one in part])} for part in parts]
        return Update(batches, [LANGUAGE_TERM])

    return update


@dataclass(frozen=True)
class Setup:
    """Models and questions of a run. kept: tokens of all pictures, those of the open domain behind the others."""

    model: VisionLanguageModel
    encoder: Any
    names: tuple[str, str]
    kept: KeptTokens
    train: list[ProductQuestion]
    dev: list[ProductQuestion]
    products: ProductSet


def run(settings: Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train on the questions, write out/model, and measure on dev beside a blind model and the most frequent answer."""
    folder = RunFolder(out)
    folder.require_same(settings)
    products, notes = product_set(settings.products)
    setup = set_up(settings, products, out, progress)
    folder.begin(settings, settings.fit.seed)
    left_out = learn(settings, setup, out, progress)
    rows, temperature = measure(setup)
    with new_folder(out / "model") as beside:
        save_trained(settings, setup, beside, temperature)
    write_rows(out, rows)
    trained = sum(weight.numel() for weight in setup.model.trained_parameters().values())
    notes = [*notes, f"{len(setup.train):,} questions; {trained:,} parameters train"]
    if left_out:
        notes.append(f"{left_out:,} questions are longer than max_tokens = {settings.max_tokens} and were left out")
    return TrainingResult(out / "model", rows, tuple(notes))


def set_up(settings: Settings, products: ProductSet, out: Path, progress: Progress) -> Setup:
    """Open or train the models, encode the pictures, draw the questions."""
    seed = settings.fit.seed
    train, dev = split_products(settings.products, products)
    model, encoder, names = open_models(settings, train, out, progress)
    asked = questions_of(train, settings.tasks, seed)
    pictures = list(products.pictures)
    if settings.open_domain is not None:
        other = product_set(settings.open_domain)[0]
        asked += _open_questions(settings, other, len(asked), len(pictures))
        pictures += other.pictures
    cache = TokenCache(Path(settings.cache) if settings.cache else out / "tokens", encoder)
    kept = cache.kept(pictures, lambda done, of: progress({"pictures": done, "of": of}))
    measured_on = questions_of(dev, settings.tasks, seed_of(seed, "dev"))[: settings.dev_questions]
    return Setup(model, encoder, names, kept, asked, measured_on, train)


def open_models(
    settings: Settings, train: ProductSet, out: Path, progress: Progress
) -> tuple[VisionLanguageModel, Any, tuple[str, str]]:
    """The model, its encoder, and the names that a card remembers them by ("" for an encoder that was trained here)."""
    if settings.start is not None:
        model, encoder, card = load(settings.start)
        if model.lora is not None:
            model.network.requires_grad_(False)  # its LoRA stays as it was learned
        model.adapt_only()
        return model, encoder, (str(card["language_model"]), str(card["vision"]))
    own = settings.vision == TINY and not Path(TINY).exists()
    place = train_tiny(settings.tiny, train, out / "vision", settings.fit.seed, progress) if own else settings.vision
    encoder = open_vision(place)
    lm = CausalLM.load(settings.model, precision=settings.fit.precision)
    model = VisionLanguageModel(
        lm, settings.adapters, int(encoder.dimension), int(encoder.count), settings.fit.seed, settings.lora
    )
    encoder.to(lm.device)
    return model, encoder, (remembered_name(settings.model), "" if own else remembered_name(settings.vision))


def _open_questions(settings: Settings, other: ProductSet, own: int, first_row: int) -> list[ProductQuestion]:
    """Captions of other items, as many as their share asks for; first_row: the place of their first picture."""
    count = round(own * settings.open_share / (1 - settings.open_share))
    each = max(1, -(-count // len(other.products)))
    tasks = settings.tasks.model_copy(update={"shares": {"caption": 1.0}, "questions": each})
    drawn = questions_of(other, tasks, seed_of(settings.fit.seed, "open"))[:count]
    return [replace(one, row=one.row + first_row) for one in drawn]


def learn(settings: Settings, setup: Setup, out: Path, progress: Progress) -> int:
    """Train in place, on captions first where the settings say so; returns how many questions were too long.

    A killed run resumes. Raises ValueError when no question is short enough.
    """
    encoded = [encode(setup.model, question) for question in setup.train]
    short = [n for n, one in enumerate(encoded) if len(one.token_ids) <= settings.max_tokens]
    if not short:
        raise ValueError(f"none of {len(encoded):,} questions has at most max_tokens = {settings.max_tokens} tokens")
    if setup.model.lm.device.type == "cpu":
        setup.model.network.set_attn_implementation("eager")  # sdpa's backward is the slower one on CPUs
    captions = [encoded[n] for n in short if setup.train[n].task == "caption"]
    if settings.alignment_updates and captions:
        budget = settings.fit.model_copy(update={"updates": settings.alignment_updates, "seconds": None})
        first = settings.model_copy(update={"fit": budget})
        folder = RunFolder(out / "alignment")
        _fit(first, setup, captions, None, folder, progress)
    _fit(settings, setup, [encoded[n] for n in short], settings.epochs, RunFolder(out), progress)
    setup.model.eval()
    return len(encoded) - len(short)


def _fit(
    settings: Settings, setup: Setup, examples: Sequence[SeenExample], epochs: int | None, folder: RunFolder,
    progress: Progress,
) -> None:  # fmt: skip
    source = TokenExampleSource(
        examples, settings.batch_size, settings.micro_tokens, settings.fit.seed, epochs, seen_update(setup.kept)
    )
    named = setup.model.trained_parameters()
    gates = [weight for name, weight in named.items() if name.endswith("gates")]
    groups: list[dict[str, Any]] = [
        {"params": [weight for name, weight in named.items() if not name.endswith("gates")]},
        {"params": gates, "lr": settings.gate_rate, "weight_decay": 0.0},
    ]
    chosen = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(chosen, settings.learning_rate, (0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * (epochs or 1))
    fit(setup.model, source, [optimizer], budget, folder=folder, on_update=progress)


def measure(setup: Setup) -> tuple[dict[str, dict[str, float]], float]:
    """The dev table, and the temperature of the answers' probabilities, fitted on dev extractions."""
    questions = setup.dev
    unseen = [replace(question, row=-1) for question in questions]
    said = answered(setup.model, setup.kept, questions)
    rows = {
        "model": measured(questions, said),
        "without pictures": measured(questions, answered(setup.model, setup.kept, unseen)),
        "most frequent answer": measured(questions, majority(setup.train, questions)),
    }
    extractions = [q for q in questions if q.task == "extract"]
    temperature = fitted_temperature(option_logprobs(setup.model, setup.kept, extractions), extractions)
    return table(rows, len(questions)), temperature


def save_trained(settings: Settings, setup: Setup, folder: Path, temperature: float) -> None:
    """The model's folder with what a describer needs to know."""
    more: Mapping[str, Any] = {
        "attributes": {name: list(values) for name, values in setup.products.values.items()},
        "wording": settings.tasks.wording, "temperature": temperature,
        "trained": hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
    }  # fmt: skip
    language_model, vision = setup.names
    save(setup.model, setup.encoder, folder, language_model=language_model, vision=vision, more=more)


PRODUCT_VISION_LANGUAGE = Recipe(Settings, run, needs_data=False)
