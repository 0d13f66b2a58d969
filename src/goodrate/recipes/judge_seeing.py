"""A judge that sees: a trained product_vision_language goes on to labels, its language model and adapters together.

Cross-entropy of the label behind [query][visual tokens][item]; the placing is ours (models.vision_language.seeing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.catalog.images import Pictures, check_pictures, without_picture
from goodrate.catalog.items import Catalog
from goodrate.examples.data import TrainingData
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import MicroBatch, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, split_by_tokens
from goodrate.models.label_forward import IdPair
from goodrate.models.vision_language.folder import load
from goodrate.models.vision_language.seeing import SeeingLabeller, collate_seen
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.judge_folder import judge_card
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.seeing_judge import Card, PictureOf, SeeingJudge, pictures_in, write_seeing_judge
from goodrate.run_folder import RunFolder, new_folder

VISION = "vision"


class Settings(BaseModel):
    """What to start from, whose pictures, and how it is trained."""

    model_config = ConfigDict(extra="forbid")
    start: str = Field(description="OUT/model of goodrate train product_vision_language, with injection A or C")
    images: Path = Field(
        description="folder of the items' pictures: paths of the column image, or files called like the items' ids"
    )
    format: JudgeFormat = Field(
        default_factory=lambda: JudgeFormat(max_new_tokens=8), description="what prompts look like"
    )
    learning_rate: float = Field(default=3e-4, gt=0, allow_inf_nan=False, description="peak, of the language model")
    adapter_factor: float = Field(default=3.0, gt=0, description="the adapters' and resampler's rate over that")
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=32, gt=0, description="pairs in one update")
    micro_tokens: int = Field(default=4096, gt=1, description="padded tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=3, gt=0, description="passes over the pairs; fit can end it sooner")
    fit: FitSettings = Field(default_factory=FitSettings)


@dataclass(frozen=True)
class Seen:
    """A prompt's two parts as token ids, its label, its weight, and the row of its picture's tokens."""

    ids: IdPair
    label: int
    weight: float
    row: int


class SeenSource:
    """Updates of drawn pairs. features: (R, count, dimension) of the distinct items."""

    def __init__(self, examples: Sequence[Seen], features: Tensor, pad_id: int, settings: Settings) -> None:
        self._examples, self._features, self._pad = examples, features, pad_id
        self._lengths = [len(one.ids[0]) + len(one.ids[1]) for one in examples]
        self._micro = settings.micro_tokens
        self._order = EpochOrder(self._lengths, settings.batch_size, settings.fit.seed, settings.epochs)
        self._state = {"pairs": len(examples), "seed": settings.fit.seed, "batch_size": settings.batch_size}
        self.batches_per_epoch = self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number; None behind the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        parts = split_by_tokens(rows, self._lengths, self._micro)
        return Update([self._batch(part) for part in parts], [Term("cross_entropy", _cross_entropy, mask="mask")])

    def _batch(self, rows: Sequence[int]) -> MicroBatch:
        own = [self._examples[row] for row in rows]
        read = collate_seen([one.ids for one in own], self._features[[one.row for one in own]], self._pad)
        return {**read, "mask": torch.ones(len(own), dtype=torch.bool),
                "target": torch.tensor([one.label for one in own]),
                "weight": torch.tensor([one.weight for one in own])}  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other data."""
        refuse_other_data(self._state, state)


def _cross_entropy(outputs: Mapping[str, Tensor], batch: MicroBatch) -> Tensor:
    losses = torch.nn.functional.cross_entropy(outputs["logits"], batch["target"], reduction="none")
    return losses * batch["weight"]


def run(settings: Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train on the training pairs; tune and measure on dev beside a constant and a cosine."""
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out), settings)]
    remembered[1][0].require_same(settings)
    data, problems = with_images(data, settings.images)
    pictures = pictures_in(data.catalog.pictures or Pictures(settings.images))
    require_pictures(data, pictures, settings.images)
    judge, vision = start_judge(settings, data.scale, pictures)
    for folder, chosen in remembered:
        folder.begin(chosen, settings.fit.seed)
    pairs = data.training_pairs()
    notes = train(settings, judge, pairs, out, progress)
    with new_folder(out / "judge") as beside:
        assert isinstance(judge.card, Card)
        write_seeing_judge(beside, judge.card, judge.seeing, judge.encoder, vision)
    report = tune_and_measure(out / "judge", data)
    lacking = sum(pictures(row) is None for row in data.rows.values())
    said = [*notes, *([f"{lacking:,} of {len(data.rows):,} items have no picture"] if lacking else [])]
    return TrainingResult(out / "judge", report.rows, (*data.notes, *problems, *said, *report.notes),
                          (*report.warnings, *report.advice))  # fmt: skip


def with_images(data: TrainingData, folder: Path) -> tuple[TrainingData, tuple[str, ...]]:
    """The data with every item's picture as a path from the folder, and what is wrong with pictures.

    As read_catalog with this folder, which a catalogue has already where it came with its pictures. Raises
    FileNotFoundError for a folder that is not there.
    """
    if data.catalog.pictures is not None:
        return data, ()
    file = getattr(data.choice, "catalog", None) or ""
    frame = data.catalog.frame.with_row_index("row", offset=2)
    images, problems = check_pictures(frame, "row", folder, Path(file), {})
    own, pictures = data.catalog, Pictures(folder)
    frame = own.frame.with_columns(images)
    catalog = Catalog(frame, own.skipped, own.notes, own.skipped_ids, plain=True, pictures=pictures)
    return replace(data, catalog=catalog), without_picture(problems)


def require_pictures(data: TrainingData, pictures: PictureOf, folder: Path) -> None:
    """ValueError where no item has a picture: a judge would learn to see nothing."""
    if not any(pictures(row) is not None for row in data.rows.values()):
        raise ValueError(
            f"images = {folder}: none of {len(data.rows):,} items has a picture there; expected paths from this folder "
            "in the column image, or files that are called like the items' ids (ID.jpg, ID.png)"
        )


def start_judge(settings: Settings, scale: Any, pictures: PictureOf) -> tuple[SeeingJudge, str]:
    """The judge to train, and by what its encoder is opened again. Raises as models.vision_language.folder.load."""
    from goodrate.scale import scale_entry

    model, encoder, told = load(settings.start)
    if model.lora is not None:
        raise ValueError(f"{settings.start} has a LoRA in its language model; train it without lora")
    form = settings.format.model_copy(update={"scale": scale_entry(scale), "max_new_tokens": max(
        settings.format.max_new_tokens, model.visual_places + 1)})  # fmt: skip
    model.lm.prompt_start = tuple(model.lm.start_ids)
    card = vars(judge_card(model.lm, form))
    vision = str(told[VISION])
    return SeeingJudge(model, encoder, Card(**card, images=str(settings.images.resolve())), pictures), vision


def train(
    settings: Settings, judge: SeeingJudge, pairs: Sequence[JudgedPair], out: Path, progress: Progress
) -> list[str]:
    """Train in place; a killed run resumes from `out`. Notes on what was lost."""
    prompts, notes = judge_prompts(judge.seeing.lm, pairs, _form(judge), label_completions=True)
    ids = judge.seeing.lm.id_pairs([(prompt.prefix, prompt.suffix) for prompt in prompts])
    own = [pairs[int(prompt.example_id.partition(":")[0])].item for prompt in prompts]
    distinct = {id(item): item for item in own}
    place = {one: row for row, one in enumerate(distinct)}
    features = judge.features(list(distinct.values()))
    examples = [
        Seen(one, prompt.label, prompt.weight, place[id(item)])
        for one, prompt, item in zip(ids, prompts, own, strict=True)
    ]
    labeller = SeeingLabeller(judge.seeing, judge.card.label_token_ids)
    if judge.seeing.lm.device.type == "cpu":
        judge.seeing.network.set_attn_implementation("eager")  # sdpa's backward is the slower one on CPUs
    source = SeenSource(examples, features, judge.seeing.lm.pad_id, settings)
    adapters = [*judge.seeing.resampler.parameters(), *judge.seeing.adapters.parameters()]
    groups = [{"params": list(judge.seeing.network.parameters()), "lr": settings.learning_rate},
              {"params": adapters, "lr": settings.adapter_factor * settings.learning_rate}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    fit(labeller, source, [optimizer], budget, folder=RunFolder(out), on_update=progress)
    judge.seeing.eval()
    return notes


def _form(judge: SeeingJudge) -> JudgeFormat:
    """The prompts' form, as its card says it."""
    names = ("scale", "template", "item_form", "item_tokens", "max_new_tokens", "rules", "rule_book_hash")
    own = {name: getattr(judge.card, name) for name in names}
    return JudgeFormat.model_validate({**own, "chat": bool(judge.card.chat_frame)})


JUDGE_SEEING = Recipe(Settings, run)
