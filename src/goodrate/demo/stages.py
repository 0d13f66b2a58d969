"""The stages of the demo: shop, encoder, index, judge. Each leaves files in the run folder and is done once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.demo.settings import DemoSettings
from goodrate.learning.fit import FitSettings
from goodrate.relevance.listing import listing
from goodrate.relevance.prompts import Pair, judge_prompt
from goodrate.relevance.rationale import write
from goodrate.shop.gates import pairs_of
from goodrate.shop.shop import Shop, ShopSettings, generate

if TYPE_CHECKING:
    from goodrate.examples.prompts import JudgePrompt
    from goodrate.recipes import judge_sft
    from goodrate.recipes.judge_folder import JudgeFormat

Progress = Callable[[dict[str, Any]], None]
CALIBRATION_PAIRS = 1500


def make_shop(settings: DemoSettings) -> Shop:
    """The shop of the demo's settings."""
    return generate(ShopSettings(seed=settings.seed, items=settings.items, queries=settings.queries))


def click_pairs(shop: Shop) -> tuple[list[Any], dict[str, set[str]]]:
    """Contrastive pairs (query, clicked item, clicks) and the clicked items of each query text."""
    from goodrate.learning.contrastive import Pair as ClickPair

    positives: dict[str, set[str]] = {}
    for query, item, _ in shop.clicks():
        positives.setdefault(query, set()).add(item)
    return [ClickPair(*click) for click in shop.clicks()], positives


def train_encoder(settings: DemoSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """A two-tower encoder from scratch, on what shoppers clicked. Returns its folder."""
    from goodrate.catalog.rendering import render_items
    from goodrate.models.encoder import Encoder
    from goodrate.models.nano import nano_folder
    from goodrate.recipes import retriever_contrastive

    encoder = Encoder.create(
        nano_folder() / "tokenizer.json",
        settings.encoder_hidden,
        settings.encoder_layers,
        query_prompt="query: ",
        item_prompt="item: ",
        seed=settings.seed,
    )
    pairs, positives = click_pairs(shop)
    items = dict(zip(shop.catalog.ids, render_items(shop.catalog.frame), strict=True))
    fit = FitSettings(**budget(settings.encoder_updates, settings.encoder_seconds), seed=settings.seed)
    recipe = retriever_contrastive.Settings(
        encoder="from scratch", batch_size=96, learning_rate=1e-3, epochs=6, fit=fit
    )
    return retriever_contrastive.train(
        recipe, pairs, items, out, positives=positives, encoder=encoder, progress=progress
    )


def build_index(shop: Shop, encoder_folder: Path, out: Path) -> int:
    """The search index over the shop's catalogue, with vectors. Returns the number of items."""
    from goodrate.models.encoder import Encoder
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    encoder = Encoder.load(encoder_folder)
    if (out / "store.json").is_file():
        store = Store.open(out)
    else:
        store = Store.create(out, encoder.fingerprint, encoder.dimension, str(encoder_folder))
    index_catalog(store, shop.catalog, encoder)
    return len(store)


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs as the judge reads them, with query position, item position and gold label of each (n,)."""

    pairs: list[Pair]
    rows: np.ndarray
    items: np.ndarray
    gold: np.ndarray

    def examples(self, shop: Shop, form: JudgeFormat) -> list[JudgePrompt]:
        """Prompts with the shop's written rationales."""
        from goodrate.examples.prompts import JudgePrompt

        prompts = []
        for p, q, i, label in zip(self.pairs, self.rows.tolist(), self.items.tolist(), self.gold.tolist(), strict=True):
            parts = judge_prompt(p.query, p.item_text, p.facts, template=form.template)
            completion = write(shop.rationale(q, i), form.order)
            prompts.append(JudgePrompt(f"{q}-{i}", *parts, label, completion))
        return prompts


def training_pairs(shop: Shop, seed: int, start: int, count: int) -> JudgedPairs:
    """So many judged training pairs from a place on in an order drawn with the seed."""
    rows, items, labels = pairs_of(shop, "train")
    return _pairs(shop, rows, items, labels, np.random.default_rng([seed, 29]).permutation(len(rows))[start:][:count])


def _pairs(shop: Shop, rows: np.ndarray, items: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> JudgedPairs:
    """The chosen ones of all pairs."""
    pairs = [
        Pair(shop.queries[q].text, listing(shop.records[i]), shop.queries[q].facts)
        for q, i in zip(rows[chosen].tolist(), items[chosen].tolist(), strict=True)
    ]
    return JudgedPairs(pairs, rows[chosen], items[chosen], labels[chosen])


def sft_recipe(form: JudgeFormat, fit: FitSettings, epochs: int) -> judge_sft.Settings:
    """SFT of the shipped base as every judge of the demo gets it."""
    from goodrate.models.nano import nano_folder
    from goodrate.recipes import judge_sft

    return judge_sft.Settings(
        model=str(nano_folder()), format=form, optimizer="muon", learning_rate=1e-3, batch_size=32, micro_tokens=4096,
        label_weight=8.0, epochs=epochs, fit=fit,
    )  # fmt: skip


def train_judge(settings: DemoSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """The judge by SFT from the shipped base, then its temperature and tier threshold on dev pairs."""
    from goodrate.recipes import judge_sft
    from goodrate.recipes.judge_folder import JudgeFormat

    form = JudgeFormat(rule_book_hash=shop.book.hash)
    fit = FitSettings(**budget(settings.judge_updates, settings.judge_seconds), seed=settings.seed)
    examples = training_pairs(shop, settings.seed, 0, settings.judge_pairs).examples(shop, form)
    folder = judge_sft.train(sft_recipe(form, fit, epochs=4), examples, out, progress)
    calibrate(shop, folder, settings.seed)
    return folder


def judged_pairs(shop: Shop, split: str, limit: int, seed: int) -> JudgedPairs:
    """A random part of a split's judged pairs."""
    rows, items, labels = pairs_of(shop, split)
    chosen = np.sort(np.random.default_rng([seed, 31]).permutation(len(rows))[:limit])
    return _pairs(shop, rows, items, labels, chosen)


def calibrate(shop: Shop, folder: Path, seed: int) -> None:
    """Set temperature and beta_cum of a judge folder on dev pairs."""
    from goodrate.relevance.judge import Judge
    from goodrate.relevance.judge_card import write_judge_card
    from goodrate.relevance.tuning import tune

    dev = judged_pairs(shop, "dev", CALIBRATION_PAIRS, seed)
    write_judge_card(folder, tune(Judge.load(folder), dev.pairs, dev.gold).card)


def budget(updates: int | None, seconds: float) -> dict[str, Any]:
    """For FitSettings: updates where they are given, else seconds."""
    return {"updates": updates} if updates else {"seconds": seconds}
