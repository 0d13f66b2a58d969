"""The stages of the demo: shop, encoder, index, judge. Each leaves files in the run folder and is done once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goodrate.api.index import Index
from goodrate.api.training import Progress, run
from goodrate.demo.settings import DemoSettings
from goodrate.examples.data import TrainingData
from goodrate.examples.settings import PairChoice
from goodrate.examples.sources import shop_data
from goodrate.learning.fit import FitSettings
from goodrate.shop.shop import Shop, ShopSettings, generate

if TYPE_CHECKING:
    from goodrate.recipes import judge_sft
    from goodrate.relevance.judge_format import JudgeFormat


def make_shop(settings: DemoSettings) -> Shop:
    """The shop of the demo's settings."""
    return generate(ShopSettings(seed=settings.seed, items=settings.items, queries=settings.queries))


def training_data(shop: Shop, seed: int, skip: int = 0, take: int | None = None) -> TrainingData:
    """The shop's training data: so many pairs after the first `skip`, in an order drawn with the seed."""
    return shop_data(shop, PairChoice(split_seed=seed, skip=skip, take=take))


def train_encoder(settings: DemoSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """A two-tower encoder from scratch, on what shoppers clicked. Returns its folder."""
    from goodrate.models.encoder import Encoder
    from goodrate.models.nano import nano_folder
    from goodrate.recipes.retriever_runs import ContrastiveSettings

    start = out / "start"
    if not (start / "modules.json").is_file():
        Encoder.create(
            nano_folder() / "tokenizer.json", settings.encoder_hidden, settings.encoder_layers,
            query_prompt="query: ", item_prompt="item: ", seed=settings.seed,
        ).save(start)  # fmt: skip
    fit = FitSettings(updates=settings.encoder_updates, seed=settings.seed)
    recipe = ContrastiveSettings(
        encoder=str(start), pairs="clicks", batch_size=96, learning_rate=1e-3, epochs=100, fit=fit
    )
    return run("retriever_contrastive", recipe, training_data(shop, settings.seed), out, progress).folder


def build_index(shop: Shop, encoder: Path, out: Path) -> int:
    """The search index over the shop's catalogue, with vectors. Returns the number of items."""
    return len(Index.create(out, shop.catalog, encoder))


def sft_settings(form: JudgeFormat, fit: FitSettings, epochs: int) -> judge_sft.Settings:
    """SFT of the shipped base as every judge of the demo gets it."""
    from goodrate.recipes import judge_sft

    return judge_sft.Settings(
        model="nano", format=form, optimizer="muon", learning_rate=1e-3, batch_size=32, micro_tokens=4096,
        label_weight=8.0, epochs=epochs, fit=fit,
    )  # fmt: skip


def train_judge(settings: DemoSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """The judge by SFT from the shipped base; its temperature and tier threshold are set on dev pairs."""
    from goodrate.relevance.judge_format import JudgeFormat

    fit = FitSettings(updates=settings.judge_updates, seed=settings.seed)
    form = JudgeFormat(rule_book_hash=shop.book.hash)
    data = training_data(shop, settings.seed, take=settings.judge_pairs)
    return run("judge_sft", sft_settings(form, fit, epochs=100), data, out, progress).folder
