"""Layer-wise adapters (PUMGPT v1) on the shop's pictures and on real ones, beside probes, text alone and majorities.

python benchmarks/product_vision_language.py run --arms A-8,C-8,A-1,C-1 --threads 1     the shop: what is not there yet
python benchmarks/product_vision_language.py real --vision EFFICIENTNET --model GEMMA    groceries and clothes of
                                                                                       ../shared/data
python benchmarks/product_vision_language.py captions      CIDEr, BLEU-4, ROUGE-L of arms that were run without them
python benchmarks/product_vision_language.py cost                   pictures a second, ms an item, bytes; of arm A-8
python benchmarks/product_vision_language.py table --write       benchmarks/results/product_vision_language.md

EFFICIENTNET, GEMMA: folders of ../shared/tools/fixtures.py. An arm is INJECTION-N_v; "shared" has one adapter of L
times the bottleneck for all layers, as many numbers as A-8; "text" is A-8 trained and asked without pictures; "lora" is
C-8 with LoRA in the LM. All arms of a seed share shop, encoder, questions and updates. Each (arm, seed) is a file: run
it again and it goes on. Test products are in no arm's training. Captions need the extra "captions". Results hold no
text of the data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pydantic import BaseModel, ConfigDict

from goodrate.catalog.items import Catalog
from goodrate.evaluation.captions import caption_scores
from goodrate.examples.product_items import Product, ProductSet
from goodrate.examples.product_tasks import UNKNOWN, ProductQuestion, TaskSettings, questions_of
from goodrate.learning.fit import FitSettings
from goodrate.models.adapter import LoraSettings
from goodrate.models.nano import nano_folder
from goodrate.models.vision.encoder import open_vision
from goodrate.models.vision.token_cache import KeptTokens, TokenCache, encoded
from goodrate.models.vision_language.adapters import AdapterSettings
from goodrate.recipes.product_answers import answered, majority, measured
from goodrate.recipes.product_data import PictureData, ShopPictures, product_set, split_products
from goodrate.recipes.product_vision_language import (
    Settings,
    Setup,
    learn,
    measure,
    open_describer,
    save_trained,
    set_up,
)
from goodrate.recipes.tiny_vision import NOT_TOLD, TinySettings, classes_of, heads_of, train_tiny
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import Job, Queue, experiment, hardware
from lib.tables import add_table
from lib.vision_tables import vision_tables

NAME = "product_vision_language"
QUEUE = Queue(NAME)
DATA = Path(__file__).parents[2] / "shared" / "data"
ATTRIBUTES = ["color", "pattern", "size", "season"]
LAYERS = 6  # of nano


class Arm(BaseModel):
    """All that decides an arm's numbers beside the seed."""

    model_config = ConfigDict(extra="forbid")
    injection: str = "A"
    visual_tokens: int = 8
    bottleneck: int = 32
    shared: bool = False
    lora: bool = False
    blind: bool = False
    items: int = 200
    size: int = 32
    encoder_updates: int = 150
    updates: int = 200
    batch: int = 12
    rate: float = 2e-3


ARMS: dict[str, dict[str, Any]] = {
    **{f"{kind}-{n}": {"injection": kind, "visual_tokens": n} for n in (8, 1, 4, 32) for kind in "ACB"},
    "shared": {"shared": True, "bottleneck": 32 * LAYERS},
    "text": {"blind": True},
    "lora": {"injection": "C", "lora": True},
}


def shop_settings(arm: Arm, seed: int, vision: Path) -> Settings:
    """What the recipe is told."""
    return Settings(
        products=PictureData(
            shop=ShopPictures(seed=seed, items=arm.items, size=arm.size), attributes=ATTRIBUTES, dev_share=0.25
        ),
        vision=str(vision),
        adapters=AdapterSettings.model_validate(
            {name: getattr(arm, name) for name in ("injection", "visual_tokens", "bottleneck", "shared")}
        ),
        lora=LoraSettings(rank=8, alpha=16.0) if arm.lora else None,
        tasks=TaskSettings(wording="house", questions=8),
        cache=str(QUEUE.work / "tokens"), learning_rate=arm.rate, gate_rate=10 * arm.rate, batch_size=arm.batch,
        epochs=1000, dev_questions=240, fit=FitSettings(updates=arm.updates, seed=seed),
    )  # fmt: skip


def encoder_of(arm: Arm, seed: int) -> Path:
    """The tiny encoder of a seed, trained once for all arms."""
    data = shop_settings(arm, seed, Path()).products

    def build(folder: Path) -> Path:
        tiny = TinySettings(size=arm.size, updates=arm.encoder_updates)
        train = split_products(data, product_set(data)[0])[0]
        return train_tiny(tiny, train, folder, seed, lambda record: None)

    return QUEUE.shared(f"encoder-{arm.items}-{arm.size}-{arm.encoder_updates}-seed{seed}", build)


def run_arm(job: Job) -> dict[str, Any]:
    """Train an arm and ask it about the test products."""
    arm, folder = Arm.model_validate(job.settings.model_dump()), QUEUE.work_folder(job)
    settings = shop_settings(arm, job.seed, encoder_of(arm, job.seed))
    products = product_set(settings.products)[0]
    setup = set_up(settings, products, folder, lambda record: None)
    if arm.blind:
        setup = replace(setup, train=unseen(setup.train), dev=unseen(setup.dev))
    begun = time.process_time()
    learn(settings, setup, folder, lambda record: None)
    spent = time.process_time() - begun
    said = answered(setup.model, setup.kept, setup.dev)
    without = answered(setup.model, setup.kept, unseen(setup.dev))
    _, temperature = measure(setup)
    folder.joinpath("model").mkdir(parents=True, exist_ok=True)
    save_trained(settings, setup, folder / "model", temperature)
    weights = setup.model.trained_parameters()
    return {
        "numbers": scored(setup.dev, said), "without pictures": scored(setup.dev, without),
        "right": digits(setup.dev, said), "right without pictures": digits(setup.dev, without),
        "rivals": rivals(setup, split_products(settings.products, products)[1]),
        "cpu_seconds": round(spent, 1), "questions": len(setup.dev), "train_questions": len(setup.train),
        "parameters": sum(w.numel() for w in weights.values()),
        "adapter_parameters": sum(w.numel() for name, w in weights.items() if name.startswith("adapters.")),
        "unknown_share": float(np.mean([q.answer == UNKNOWN for q in setup.dev if q.task in ("extract", "attribute")])),
    }  # fmt: skip


def scored(questions: Sequence[ProductQuestion], said: Sequence[str]) -> dict[str, float]:
    """What the house measures of answers, and captions by the library."""
    captions = [(answer, q.answer) for q, answer in zip(questions, said, strict=True) if q.task == "caption"]
    texts, titles = zip(*captions, strict=True)
    return measured(questions, said) | caption_scores(texts, [[title] for title in titles])


def unseen(questions: Sequence[ProductQuestion]) -> list[ProductQuestion]:
    """The same questions without their pictures."""
    return [replace(question, row=-1) for question in questions]


def digits(questions: Sequence[ProductQuestion], said: Sequence[str]) -> dict[str, str]:
    """Per task with closed answers, one digit a question: 1 = right."""
    return {
        task: "".join(
            str(int(q.answer == a)) for q, a in zip(questions, said, strict=True) if q.task == task
        )
        for task in ("category", "attribute", "extract")
    }  # fmt: skip


def rivals(setup: Setup, test: ProductSet) -> dict[str, Any]:
    """The most frequent answer, and linear probes on the same frozen tokens for what has classes."""
    said = probe_answers(setup, test)
    common = majority(setup.train, setup.dev)
    return {
        "majority": {"numbers": scored(setup.dev, common), "right": digits(setup.dev, common)},
        "probe": {"numbers": measured(setup.dev, said), "right": digits(setup.dev, said)},
    }


def pooled_rows(kept: KeptTokens, products: Sequence[Product]) -> np.ndarray:
    """Mean and largest token of each product's picture."""
    tokens = kept.take([product.row for product in products]).numpy()
    return np.hstack([tokens.mean(1), tokens.max(1)])


def probe_answers(setup: Setup, test: ProductSet) -> list[str]:
    """A logistic regression for each attribute (with "unknown" where the picture does not tell) and for categories."""
    heads = heads_of(setup.products)
    train_x, test_x = (pooled_rows(setup.kept, part.products) for part in (setup.products, test))
    train_y = classes_of(setup.products.products, heads)
    chances = {
        name: probed(train_x, np.where(train_y[:, n] == NOT_TOLD, len(names), train_y[:, n]), test_x, len(names) + 1)
        for n, (name, names) in enumerate(heads.items())
    }
    said = []
    for q in setup.dev:
        names = (*heads[q.attribute], UNKNOWN)
        chance = dict(zip(names, chances[q.attribute][q.product], strict=True))
        if q.form == "yes_no":
            named = next((name for name in sorted(names, key=len, reverse=True) if f" {name} " in f"{q.prompt} "), "")
            said.append("yes" if max(chance, key=lambda name: chance[name]) == named else "no")
        else:
            said.append(max(q.options or ("",), key=lambda name: chance.get(name, 0.0)))
    return said


def probed(train: np.ndarray, classes: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """Class probabilities (N, count) of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = train.mean(0), train.std(0) + 1e-6
    found = np.zeros((len(test), count))
    if len(set(classes.tolist())) == 1:
        found[:, classes[0]] = 1
        return found
    model = LogisticRegression(C=0.1, max_iter=300).fit((train - mean) / spread, classes)
    found[:, model.classes_] = model.predict_proba((test - mean) / spread)
    return found


app = experiment(__doc__, QUEUE, Arm, ARMS, run_arm)


@app.command()
def captions() -> None:
    """Score the captions of arms that were run without: their trainings are done and are asked again."""
    torch.set_num_threads(1)
    for one in QUEUE.results():
        if "rivals" in one and "CIDEr" not in one["numbers"]:
            job = Job(one["arm"], one["seed"], Arm.model_validate(one["settings"]))
            told = run_arm(job)
            changed = {name for name, value in one["numbers"].items() if told["numbers"][name] != value}
            if changed:
                raise ValueError(f"{job.name}: {sorted(changed)} differ from what was measured; delete it and run it")
            QUEUE.write(job, {**told, "cpu_seconds": one["cpu_seconds"]}, 60 * one["minutes"])


def real_products(name: str, train: int, test: int) -> tuple[ProductSet, int]:
    """Photographs with their classes, those to learn from first, and how many these are."""
    import polars as pl

    drawn = {"grocery": (1600, 800), "clothing": (1000, 372)}[name]
    parts = [
        pl.read_parquet(DATA / name / f"{part}.parquet").sample(of, seed=0, shuffle=True).head(count)
        for part, of, count in (("train", drawn[0], train), ("test", drawn[1], test))
    ]
    rows = pl.concat(parts, how="diagonal").to_dicts()
    kinds = {}
    if name == "grocery":
        lines = (DATA / name / "classes.jsonl").read_text(encoding="utf-8").splitlines()
        kinds = {one["label"]: one["kind"].lower() for one in map(json.loads, lines)}
    products = tuple(_real_product(n, row, kinds) for n, row in enumerate(rows))
    values = {"kind": tuple(sorted(set(kinds.values())))} if kinds else {}
    return ProductSet(products, [row["image"] for row in rows], values), len(parts[0])


def _real_product(place: int, row: dict[str, Any], kinds: dict[int, str]) -> Product:
    category = str(row.get("coarse") or row["class"]).lower().replace("-", " ")
    told = {"kind": kinds[row["label"]]} if kinds else {}
    return Product(str(place), place, {"title": ""}, category, told, (), frozenset(told), category)


@app.command("real")
def real(
    vision: Annotated[Path, typer.Option(help="Folder of the frozen encoder.")],
    data: Annotated[str, typer.Option(help="Of grocery, clothing.")] = "grocery,clothing",
    model: Annotated[str, typer.Option(help="Frozen language model: nano or a folder.")] = "nano",
    arms: Annotated[str, typer.Option(help="Of A-8, C-8, A-1, C-1.")] = "A-8",
    train: Annotated[int, typer.Option(help="Pictures to learn from.")] = 480,
    test: Annotated[int, typer.Option(help="Pictures to measure on.")] = 200,
    updates: Annotated[int, typer.Option(help="Of an arm.")] = 200,
    batch: Annotated[int, typer.Option(help="Questions in an update.")] = 16,
    seed: Annotated[int, typer.Option(help="Of training.")] = 0,
) -> None:
    """Category and attribute questions on real photographs, beside nearest neighbours and a linear probe."""
    torch.set_num_threads(1)
    encoder = open_vision(vision)
    for name in data.split(","):
        products, cut = real_products(name, train, test)
        kept = TokenCache(QUEUE.work / "tokens", encoder).kept(products.pictures)
        for arm in arms.split(","):
            own = f"{Path(model).name}-{arm}-{train}-{updates}-{batch}"
            path = QUEUE.folder / f"real-{name}-{own}-seed{seed}.json"
            if not path.is_file():
                asked = Asked(model, ARMS[arm], updates, batch, seed)
                told = real_arm(products, cut, kept, encoder, asked, QUEUE.work / path.stem)
                origin = {"real": name, "arm": arm, "seed": seed, **code_versions(), "hardware": hardware()}
                write_atomic(path, json.dumps({**origin, **told}, indent=1) + "\n")
            print(path, flush=True)


@dataclass(frozen=True)
class Asked:
    """What a run on photographs trains. changed: of the adapters' settings."""

    model: str
    changed: dict[str, Any]
    updates: int
    batch: int
    seed: int


def real_arm(
    products: ProductSet, cut: int, kept: KeptTokens, encoder: Any, asked: Asked, folder: Path
) -> dict[str, Any]:
    """Train around a frozen language model on frozen tokens; open questions on the test pictures alone."""
    from goodrate.models.causal_lm import CausalLM
    from goodrate.models.vision_language.model import VisionLanguageModel

    learned, test = (products.part(range(*ends)) for ends in ((0, cut), (cut, len(products.products))))
    seed, wording = asked.seed, "house" if asked.model == "nano" else "english"
    tasks = TaskSettings.model_validate(
        {"wording": wording, "questions": 4, "unknown": 0, "shares": {"category": 3, "attribute": 1}}
    )
    settings = Settings(
        products=PictureData(shop=ShopPictures()), tasks=tasks, batch_size=asked.batch, epochs=1000,
        learning_rate=2e-3, adapters=AdapterSettings.model_validate({"bottleneck": 32, **asked.changed}),
        fit=FitSettings(updates=asked.updates, seed=seed),
    )  # fmt: skip
    model = VisionLanguageModel(CausalLM.load(asked.model), settings.adapters, encoder.dimension, encoder.count, seed)
    dev = [q for q in questions_of(test, tasks, seed + 1) if q.form == "open"]
    setup = Setup(model, encoder, (asked.model, ""), kept, questions_of(learned, tasks, seed), dev, learned)
    begun = time.process_time()
    learn(settings, setup, folder, lambda record: None)
    spent = time.process_time() - begun
    said, common = answered(model, kept, dev), majority(setup.train, dev)
    probe, near = probe_answers(setup, test), neighbours(setup, test)
    systems = {"model": said, "majority": common, "probe": probe, "nearest": near}
    return {
        **{name: {"numbers": measured(dev, own), "right": digits(dev, own)} for name, own in systems.items()},
        "questions": len(dev), "train": len(learned.products), "test": len(test.products), "updates": asked.updates,
        "batch": asked.batch, "language model": Path(asked.model).name,
        "categories": len(products.categories), "cpu_seconds": round(spent, 1),
    }  # fmt: skip


def neighbours(setup: Setup, test: ProductSet, k: int = 5) -> list[str]:
    """What most of the k nearest training pictures (cosine of mean tokens) are."""
    means = [setup.kept.take([p.row for p in part.products]).numpy().mean(1) for part in (setup.products, test)]
    ours, theirs = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in means)
    near = np.argsort(-theirs @ ours.T, axis=1, kind="stable")[:, :k]
    said = []
    for q in setup.dev:
        found = [setup.products.products[n] for n in near[q.product]]
        values = [p.told.get(q.attribute, UNKNOWN) if q.attribute else p.category for p in found]
        said.append(max(values, key=values.count))
    return said


@app.command("cost")
def cost(seed: Annotated[int, typer.Option(help="Whose arm A-8.")] = 0) -> None:
    """Processor seconds for pictures and described items, and bytes on disk."""
    torch.set_num_threads(1)
    job = Job("A-8", seed, Arm())
    folder = QUEUE.work_folder(job) / "model"
    describer = open_describer(folder)
    world = product_set(shop_settings(Arm(), seed, Path()).products)[0]
    rows = [{"id": p.id, "title": p.text["title"]} for p in world.products[:64]]
    import polars as pl

    items, pictures = Catalog(pl.DataFrame(rows)), world.pictures[:64]
    asked = {name: world.values[name] for name in ATTRIBUTES}
    describer.describe(items[:4], pictures[:4], asked)
    begun = time.process_time()
    encoded(describer.encoder, pictures)
    seen = time.process_time()
    describer.describe(items, pictures, asked)
    done = time.process_time()
    sizes = {name: sum(f.stat().st_size for f in Path(p).rglob("*") if f.is_file()) for name, p in
             (("folder", folder), ("language_model", nano_folder()))}  # fmt: skip
    told = {
        "cost": "A-8", "pictures_per_cpu_second": 64 / (seen - begun), "cpu_ms_per_item": (done - seen) / 64 * 1000,
        "attributes": len(asked), "candidates": sum(map(len, asked.values())) + len(asked), "bytes": sizes,
        **code_versions(), "hardware": hardware(),
    }  # fmt: skip
    write_atomic(QUEUE.folder / "cost.json", json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


add_table(app, NAME, lambda: vision_tables(QUEUE.results(), list(ARMS)), "What has been measured.")
if __name__ == "__main__":
    app()
