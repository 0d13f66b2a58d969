"""What pictures are worth to a search: half of what a picture can tell stands in no text, and the judge needs it.

python benchmarks/product_search.py run --seeds 0,1,2                         one JSON per (arm, seed)
python benchmarks/product_search.py run --seeds 0 --set judge=lm              the same with a language model
python benchmarks/product_search.py table --write                             benchmarks/results/product_search.md

The embedded shop with its labels as they are. Of the visual values that a listing states (colour, material, pattern,
size, season, origin), a share `hidden` is taken out of the listing and drawn in the item's picture instead; of the
others a share `both` is drawn, too, which is what a describer learns from. Labels hold for the whole item. Arms differ
in what the judge reads: text (the listing that is left), probe (and what a probe on pixels fills in, marked "maybe"),
pumgpt (and what a trained product_vision_language fills in), full (the listing before anything was taken out: the
ceiling). With judge=lm alone there are see (judge_seeing goes on from that vision-language model) and blind (the same
judge, trained and asked without pictures). `judge` is words (the share of the query's words that an item has, odds
fitted on the training pairs: seconds) or lm (the base that ships, fine-tuned: `updates` of them). Every seed has a shop
of its own. Ranked are the judged items of each test query, by expected gain.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import typer
from pydantic import BaseModel, ConfigDict

from goodrate.api.describing import describe
from goodrate.catalog.inferred import INFERRED, READ_FROM
from goodrate.catalog.items import Catalog
from goodrate.catalog.rendering import RENDERED_FIELDS
from goodrate.evaluation.attribute_metrics import attribute_scores
from goodrate.evaluation.classification import classify
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.shop_pairs import ShopPairs
from goodrate.learning.fit import FitSettings
from goodrate.models.nano import nano_folder
from goodrate.recipes import judge_sft
from goodrate.relevance import words_judge
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.judge import open_judge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair, gold_labels
from goodrate.relevance.words_judge import WordCounts, WordsJudge
from goodrate.scale import RelevanceScale, scale_entry
from goodrate.shop.gates import pairs_of
from goodrate.shop.pictures import VISUAL_ATTRIBUTES, draw_item
from goodrate.shop.shop import Shop, ShopSettings
from goodrate.shop.world import item_records
from goodrate.understanding.picture_probe import fit_probe
from lib.queue import Job, Queue, changes, experiment
from lib.seeing_arms import filled_by_sight, no_picture, seeing_probabilities, trained_sight
from lib.shop_arms import base_model
from lib.shop_data import shop_of
from lib.statistics import as_digits
from lib.tables import add_table, arm_table, averaged, shown

QUEUE = Queue("product_search")
PLAIN = ("text", "probe", "full")
ARMS = (*PLAIN, "pumgpt", "see", "blind")
FILLED = ("probe", "pumgpt")
METRICS = ("ndcg@10", "goodrate@10")
SIGHT_UPDATES = 600  # of the vision-language model that pumgpt, see and blind share
SEE_RATE = 1e-3  # AdamW's, of the judge that goes on from it


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    judge: Literal["words", "lm"] = "words"
    items: int = 1500
    queries: int = 400
    judged: int = 24
    hidden: float = 0.5  # share of the stated visual values that stand in the picture alone
    both: float = 0.6  # share of the others that the picture shows, too
    labels: int = 4000  # judged training pairs
    updates: int = 150
    batch_size: int = 32
    rate: float = 1e-3
    precision: float = 0.9  # what the probe must reach on held-out items to answer


@dataclass(frozen=True)
class Ground:
    """A shop whose listings lack what pictures tell. hidden, shown: (N, A). items: the listings that are left."""

    shop: Shop
    hidden: np.ndarray
    shown: np.ndarray
    items: Catalog

    def pictures(self) -> list[np.ndarray]:
        """One an item."""
        return [draw_item(self.shop.world, i, shown=self.shown[i]) for i in range(len(self.shop.world))]


def ground_of(settings: Settings, seed: int) -> Ground:
    """The shop of a seed."""
    return _ground(settings.model_dump_json(include={"items", "queries", "judged", "hidden", "both"}), seed)


@functools.cache
def _ground(told: str, seed: int) -> Ground:
    s = Settings.model_validate_json(told)
    shop = shop_of(ShopSettings(seed=seed, items=s.items, queries=s.queries, judged=s.judged, sessions=0))
    world = shop.world
    visual = np.asarray([name in VISUAL_ATTRIBUTES for name in world.taxonomy.attributes])
    drawn = np.random.default_rng([seed, 47]).random((2, *world.stated.shape))
    stated = world.stated & visual
    hidden = stated & (drawn[0] < s.hidden)
    shown = hidden | (stated & (drawn[1] < s.both))
    left = replace(world, stated=world.stated & ~hidden)
    return Ground(shop, hidden, shown, Catalog(pl.DataFrame(item_records(left))))


def same_words(ground: Ground) -> dict[str, str]:
    """Every word of the taxonomy for a value -> the value."""
    taxonomy = ground.shop.world.taxonomy
    return {
        surface: taxonomy.values[a][v]
        for a, values in enumerate(taxonomy.value_surfaces) for v, surfaces in enumerate(values)
        for surface in surfaces
    }  # fmt: skip


def filled(ground: Ground, settings: Settings, arm: str, seed: int) -> tuple[Catalog, dict[str, Any]]:
    """The listings with what the arm fills in, and how right that is on the values that pictures alone tell."""
    pictures, facts = ground.pictures(), {}
    if arm == "pumgpt":
        found = filled_by_sight(ground.items, pictures, sight_of(ground, settings, seed))
    else:
        probe = fit_probe(
            ground.items, pictures, "pixels", precision=settings.precision, same=same_words(ground)
        )  # fmt: skip
        found = describe(ground.items, probe, pictures)
        facts = {"answered from": {head.attribute: head.threshold for head in probe.heads}}
    told: list[dict[str, str | None]] = [{} for _ in pictures]
    place = {item: n for n, item in enumerate(ground.items.ids)}
    read = found.guesses.filter(pl.col("confidence") >= READ_FROM)  # what a judge reads
    for item, attribute, value in read.select("id", "attribute", "value").rows():
        told[place[item]][attribute] = value
    return found.items, {**facts, **_fill_scores(ground, told)}


def sight_of(ground: Ground, settings: Settings, seed: int) -> Path:
    """The vision-language model of a seed, trained once for all arms."""
    told = settings.model_dump_json(include={"items", "queries", "judged", "hidden", "both"})
    name = f"sight-{hashlib.sha256(told.encode()).hexdigest()[:8]}-seed{seed}"
    pictures, same = ground.pictures(), same_words(ground)
    return QUEUE.shared(
        name, lambda folder: trained_sight(ground.items, pictures, same, SIGHT_UPDATES, seed, folder)
    )


def _fill_scores(ground: Ground, told: Sequence[Mapping[str, str | None]]) -> dict[str, Any]:
    """Of the visual attributes that no text states: known is what the picture shows, unknown what nothing does."""
    world = ground.shop.world
    taxonomy = world.taxonomy
    unstated = ~world.stated | ground.hidden
    names = [(a, name) for a, name in enumerate(taxonomy.attributes) if name in VISUAL_ATTRIBUTES]
    truth = [
        {name: taxonomy.values[a][world.values[i, a]] for a, name in names if ground.hidden[i, a]}
        for i in range(len(world))
    ]
    said = [{name: told[i].get(name) for a, name in names if unstated[i, a]} for i in range(len(world))]
    report = attribute_scores(truth, said, VISUAL_ATTRIBUTES)
    by = {name: scores.as_dict() for name, scores in report.by_attribute.items()}
    return {"filled": report.micro.as_dict(), "filled by attribute": by}


def parts_of(ground: Ground, items: Catalog, settings: Settings, seed: int) -> tuple[list[JudgedPair], ShopPairs]:
    """Training pairs, and all test pairs, as they read of these items."""
    rows, shop = items.to_rows(), ground.shop

    def pairs(queries: np.ndarray, places: np.ndarray, labels: np.ndarray) -> list[JudgedPair]:
        return [
            JudgedPair(shop.queries[q].text, rows[i], shop.queries[q].facts, label=label)
            for q, i, label in zip(queries.tolist(), places.tolist(), labels.tolist(), strict=True)
        ]

    queries, places, labels = pairs_of(shop, "train")
    chosen = np.random.default_rng([seed, 71]).permutation(len(queries))[: settings.labels]
    train = pairs(queries[chosen], places[chosen], labels[chosen])
    tested = pairs_of(shop, "test")
    return train, ShopPairs(pairs(*tested), *tested)


def words_probabilities(
    arm: str, items: Catalog, train: Sequence[JudgedPair], test: ShopPairs, scale: RelevanceScale
) -> np.ndarray:
    """(n, L) of the judge by words, with odds of the training pairs."""
    fields = (*RENDERED_FIELDS, INFERRED) if arm in FILLED else RENDERED_FIELDS
    plain = words_judge.Card(scale=scale_entry(scale), slope=1.0, cuts=(0.0,) * (len(scale) - 1), fields=fields)
    judge = WordsJudge(WordCounts.of(field_texts(items.to_rows(), fields)), plain)
    slope, cuts = fit_odds(judge.scores(train), gold_labels(train), len(scale))
    return label_probabilities(judge.scores(test.pairs), slope, cuts)


def text_judge(arm: str, train: Sequence[JudgedPair], settings: Settings, seed: int, out: Path, book: str) -> Path:
    """A judge folder, fine-tuned on labels."""
    reads: Literal["listing", "listing_filled"] = "listing_filled" if arm in FILLED else "listing"
    form = JudgeFormat(item_form=reads, rule_book_hash=book, max_new_tokens=8)
    prompts, _ = judge_prompts(base_model(), train, form, label_completions=True)
    recipe = judge_sft.Settings(
        model=str(nano_folder()), format=form, optimizer="muon", learning_rate=settings.rate, micro_tokens=4096,
        batch_size=settings.batch_size, epochs=1000, fit=FitSettings(updates=settings.updates, seed=seed),
    )  # fmt: skip
    return judge_sft.train(recipe, prompts, out)


def measure(job: Job) -> dict[str, Any]:
    """One arm with one seed."""
    settings = job.settings
    assert isinstance(settings, Settings)
    if settings.judge == "words" and job.arm in ("see", "blind"):
        raise typer.BadParameter(f"arm {job.arm} is a language model: --set judge=lm")
    ground = ground_of(settings, job.seed)
    items, told = ground.items, {}
    if job.arm in FILLED:
        items, told = filled(ground, settings, job.arm, job.seed)
    if job.arm == "full":
        items = ground.shop.catalog
    train, test = parts_of(ground, items, settings, job.seed)
    if settings.judge == "words":
        probabilities = words_probabilities(job.arm, items, train, test, ground.shop.book.scale)
    elif job.arm in ("see", "blind"):
        probabilities = seeing(job, settings, ground, train, test.pairs)
    else:
        out = QUEUE.work_folder(job)
        folder = text_judge(job.arm, train, settings, job.seed, out, ground.shop.book.hash)
        probabilities = open_judge(folder).pair_probabilities(test.pairs)
        shutil.rmtree(out)
    return {**told, **scores_of(ground, test, probabilities)}


def seeing(
    job: Job, settings: Settings, ground: Ground, train: Sequence[JudgedPair], test: Sequence[JudgedPair]
) -> np.ndarray:
    """(n, L) of a judge that sees, or of the same one without pictures."""
    model, out = sight_of(ground, settings, job.seed), QUEUE.work_folder(job)
    own = dict(zip(ground.items.ids, ground.pictures(), strict=True))
    book = ground.shop.book
    form = JudgeFormat(item_form="listing", rule_book_hash=book.hash, max_new_tokens=8)
    found = seeing_probabilities(
        model, no_picture if job.arm == "blind" else lambda item: own[str(item["id"])], train, test, book.scale, form,
        FitSettings(updates=settings.updates, seed=job.seed), SEE_RATE, settings.batch_size, out,
    )  # fmt: skip
    shutil.rmtree(out)
    return found


def scores_of(ground: Ground, test: ShopPairs, probabilities: np.ndarray) -> dict[str, Any]:
    """Labels of all test pairs, and of those where a wanted value stands in the picture alone; ranking of queries."""
    shop, scale = ground.shop, ground.shop.book.scale
    predicted = chosen_labels(probabilities, ())
    touched = hidden_wants(ground, test)
    gains = np.nan_to_num(scale.expected_gain(probabilities))
    run: dict[str, list[tuple[str, float]]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for q, i, gain, label in zip(test.queries.tolist(), test.items.tolist(), gains, test.gold.tolist(), strict=True):
        run.setdefault(shop.query_id(q), []).append((shop.catalog.ids[i], float(gain)))
        qrels.setdefault(shop.query_id(q), {})[shop.catalog.ids[i]] = label
    table = evaluate_run(run, qrels, scale, METRICS)
    own = {query for query, hit in zip((shop.query_id(q) for q in test.queries.tolist()), touched, strict=True) if hit}
    return {
        **{f"all {k}": v for k, v in classify(test.gold, predicted, scale).as_dict().items() if k != "confusion"},
        "macro_f1 picture": classify(test.gold[touched], predicted[touched], scale).macro_f1,
        "pairs picture": int(touched.sum()), "predicted": as_digits(predicted), "gold": as_digits(test.gold),
        "queries": test.queries.tolist(),
        "queries_touched": [query in own for query in table["query_id"]],
        **{name: table[name].to_list() for name in METRICS},
    }  # fmt: skip


def hidden_wants(ground: Ground, test: ShopPairs) -> np.ndarray:
    """(n,) whether the query wants an attribute whose value stands in the item's picture alone."""
    wanted = [
        [c.attribute for c in ground.shop.queries[q].constraints if c.attribute >= 0] for q in test.queries.tolist()
    ]
    return np.asarray(
        [bool(own) and bool(ground.hidden[i, own].any()) for own, i in zip(wanted, test.items.tolist(), strict=True)]
    )


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)


def render() -> str:
    """A table for each judge. Arms over all seeds that they have; differences to `text` are paired by query over the
    seeds of both."""
    parts = []
    for by_arm in QUEUE.by_settings(Settings).values():
        settings = Settings.model_validate(next(iter(by_arm.values()))[0]["settings"])
        plain = {
            "all macro_f1": "macro-F1", "all accuracy": "accuracy",
            "macro_f1 picture": "macro-F1, value in the picture alone",
        }  # fmt: skip
        columns = {
            **averaged(plain), **{name: _level(name) for name in METRICS},
            **{f"{name}, minus text": _difference(by_arm, name) for name in METRICS},
            "minutes": lambda results: f"{np.mean([one['minutes'] for one in results]):.1f}",
        }  # fmt: skip
        parts += [f"### Judge: {settings.judge} ({changes(settings)})", arm_table(by_arm, ARMS, columns)]
        for one in (one for arm in FILLED for one in by_arm.get(arm, [])):
            told = one["filled"]
            parts.append(
                f"Arm {one['arm']}, seed {one['seed']}: of {told['said']:,} values that are filled in where no text "
                f"states one, {told['right']:,} are right; {told['known']:,} stand in a picture alone (precision "
                f"{told['precision']:.3f}, recall {told['recall']:.3f}, F1 {told['f1']:.3f})."
            )
    return "\n\n".join(parts)


def _values(results: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Of every query of every seed; NaN where it is undefined."""
    rows = [value for one in sorted(results, key=lambda one: one["seed"]) for value in one[name]]
    return np.asarray([np.nan if value is None else value for value in rows], dtype=np.float64)


def _level(name: str) -> Any:
    def cell(results: Sequence[Mapping[str, Any]]) -> str:
        values = _values(results, name)
        return shown(bootstrap_interval(values[~np.isnan(values)]))

    return cell


def _difference(by_arm: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> Any:
    def cell(results: Sequence[Mapping[str, Any]]) -> str:
        other = by_arm.get("text", [])
        seeds = {one["seed"] for one in results} & {one["seed"] for one in other}
        ours, theirs = ([one for one in arm if one["seed"] in seeds] for arm in (results, other))
        if not seeds or results is other:
            return "-"
        return shown(paired_bootstrap_difference(_values(ours, name), _values(theirs, name)), "+.3f")

    return cell


add_table(app, QUEUE.folder.name, render, "The table of all results.")

if __name__ == "__main__":
    app()
