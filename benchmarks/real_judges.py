"""Judges from few labels on real catalogues with human grades, beside everything that nobody trained.

python benchmarks/real_judges.py run --data chorus,esci150 --model GEMMA --encoders MINILM,MPNET
python benchmarks/real_judges.py no-labels --data chorus,esci150 --model GEMMA --encoder MINILM   (after it)
python benchmarks/real_judges.py neighbours --data esci150 --model GEMMA --encoder MINILM            (after run)
python benchmarks/real_judges.py likelihood --data chorus,esci150 --model GEMMA       (before run: a rival more)
python benchmarks/real_judges.py cost --model GEMMA                                          pairs a CPU second
python benchmarks/real_judges.py table --write                                      benchmarks/results/real_judges.md

GEMMA, MINILM, MPNET: folders of ../shared/tools/fixtures.py. What the language model read of the labelled pairs is kept
in the work folder, so another run takes minutes. Numbers are out of fold by query group; each fold seed is a fresh
deal, intervals are over queries on the mean of the seeds. Results hold no text of the data.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import goodrate as gr
from goodrate.evaluation.classification import area_under_curve
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.models.encoder import Encoder
from goodrate.models.layer_states import LayerStates
from goodrate.recipes import judge_unlabelled
from goodrate.recipes.encoder_baseline import CHARACTERS as ENCODER_CHARACTERS
from goodrate.recipes.encoder_baseline import FIELDS, encoder_card
from goodrate.recipes.ensemble_report import BM25, ENSEMBLE, Report, System, lexical_scores, measured_report
from goodrate.recipes.probe_setup import ProbeSetup
from goodrate.recipes.score_sum import PROBE, LabelledPairs, Member, ScoreSums, probabilities_out_of_fold, probe_scores
from goodrate.recipes.untrained_members import COSINE, NEIGHBOURS, USUAL, untrained_judges, untrained_members
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.feature_cache import FeatureCache, feature_key
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.tiers import GOOD, choose_beta, cumpt
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import RelevanceScale, get_scale
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import between, machine, spread
from search_quality import DATA, folder, judgements_format

NAME = "real_judges"
BY_ODDS = "ensemble, its sum alone"
CHARACTERS = 160  # of an item that the probe reads
COST_PAIRS, COST_ROUNDS = 60, 5
NEGATIONS = ("without", "not", "no", "non")
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Judged:
    """A catalogue with its judged pairs."""

    name: str
    catalog: gr.Catalog
    pairs: list[JudgedPair]
    scale: RelevanceScale

    @classmethod
    def read(cls, name: str) -> Judged:
        """One of DATA."""
        source = DATA[name]
        catalog = gr.read_catalog(folder() / source.catalog, format=source.format)
        path = folder() / source.judgements
        judgements = gr.read_judgements(path, scale=source.scale, format=judgements_format(name))
        rows = {row["id"]: row for row in catalog.to_rows()}
        asked = judgements.frame.select("query", "item_id").iter_rows()
        each = zip(asked, judgements.label_indices().tolist(), strict=True)
        pairs = [JudgedPair(query, rows[item], label=label) for (query, item), label in each]
        return cls(name, catalog, pairs, get_scale(source.scale))

    def kept(self, what: str, dimension: int, keys: list[str], compute: Any) -> np.ndarray:
        """Rows (N, dimension) of the pairs, those in the work folder not computed again. compute: places -> rows."""
        cache = FeatureCache(WORK / NAME / f"{self.name}-{what}.safetensors", dimension)
        return cache.rows(keys, compute, lambda done, total: print(f"{what}: {done} of {total}", flush=True))


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoders: Annotated[str, typer.Option(help="Folders of text encoders, the first is the one that is always there.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
    seeds: Annotated[int, typer.Option(help="Deals of the queries into folds.")] = 5,
) -> None:
    """Read the pairs, and measure over all deals."""
    folders = [Path(one) for one in encoders.split(",")]
    for name in data.split(","):
        start = time.perf_counter()
        judged = Judged.read(name)
        features = features_of(judged, model)
        rivals = rivals_of(judged, model, folders[0])
        arms = {"one encoder": folders[:1]} | ({"all encoders": folders} if len(folders) > 1 else {})
        result: dict[str, Any] = {
            "data": name, "model": model.name, "encoders": [one.name for one in folders], **code_versions(),
            "pairs": len(judged.pairs), "seeds": seeds,
            "arms": {arm: measured(judged, members_of(judged, these), rivals, features, seeds)
                     for arm, these in arms.items()},
            "minutes": round((time.perf_counter() - start) / 60, 2),
        }  # fmt: skip
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        if "no_labels" in before:
            result["no_labels"] = before["no_labels"]
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


@app.command()
def neighbours(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = "esci150",
    seeds: Annotated[int, typer.Option(help="Deals of the queries into folds.")] = 3,
) -> None:
    """What the member that compares an item with what the query finds adds to the ensemble (after run)."""
    for name in data.split(","):
        judged = Judged.read(name)
        features, members = features_of(judged, model), members_of(judged, [encoder])
        more = {NEIGHBOURS: Member.of(kept_neighbours(judged, encoder), USUAL[NEIGHBOURS])}
        without, with_it = ([ensemble_of(judged, these, features, seed) for seed in range(seeds)]
                            for these in (members, {**members, **more}))  # fmt: skip
        result = {"data": name, "model": model.name, "encoder": encoder.name, "seeds": seeds, **code_versions(),
                  "differences": compared(without, with_it)}  # fmt: skip
        write_atomic(RESULTS / f"{NAME}_neighbours" / f"{name}-{model.name}.json", json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["differences"], indent=1))


def kept_neighbours(judged: Judged, encoder: Path) -> np.ndarray:
    """Scores (N,) of each pair by what its query finds in the whole catalogue, kept in the work folder."""
    loaded = Encoder.load(str(encoder), precision="auto")
    weights, items = loaded.fingerprint, judged.catalog.content_hash
    keys = [feature_key(weights, items, pair.item_id, pair.query) for pair in judged.pairs]
    found: list[np.ndarray] = []

    def compute(places: list[int]) -> np.ndarray:
        if not found:  # once for all pairs
            judges = untrained_judges({str(encoder): loaded}, judged.catalog, judged.scale, neighbours=True)
            found.append(judges[NEIGHBOURS].scores(judged.pairs))
        return found[0][places, None]

    return judged.kept(f"{encoder.name}-neighbours", 1, keys, compute)[:, 0]


def ensemble_of(judged: Judged, members: dict[str, Member], features: np.ndarray, seed: int) -> tuple[Report, System]:
    """The report of one deal, and the ensemble in it."""
    data = LabelledPairs(judged.pairs, judged.scale, seed=seed)
    probe = Member.of(probe_scores(features, data), USUAL[PROBE])
    report = measured_report(ScoreSums(data, {**members, PROBE: probe}), {}, features, with_curve=False)
    return report, report.system(ENSEMBLE)


def compared(without: list[tuple[Report, System]], with_it: list[tuple[Report, System]]) -> dict[str, Any]:
    """Means of both over the deals; the difference in nDCG@10 with its interval over queries."""
    by_query = [np.mean([system.ndcg10 for _, system in side], axis=0) for side in (without, with_it)]
    rows = [[report.rows()[ENSEMBLE] for report, _ in side] for side in (without, with_it)]
    means = {
        name: [float(np.mean([row[name] for row in side])) for side in rows]
        for name in ("ndcg@10", "ndcg", "auc_good", "accuracy", "macro_f1")
    }
    gained = bootstrap_interval(by_query[1] - by_query[0]).as_dict()
    return {"without, with": means, "ndcg@10 gained": gained}


@app.command()
def likelihood(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
) -> None:
    """Read how likely the language model finds each query behind its item: a rival that nobody trained."""
    for name in data.split(","):
        print(name, len(likelihood_of(Judged.read(name), model)))


@app.command()
def no_labels(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
) -> None:
    """Fit a judge without labels, and order the judged lists by it."""
    for name in data.split(","):
        judged, source, out = Judged.read(name), DATA[name], WORK / NAME / f"{name}-{model.name}-no-labels"
        settings = judge_unlabelled.Settings(
            catalog=str(folder() / source.catalog), catalog_format=source.format, encoder=str(encoder),
            language_model=str(model), scale=source.scale,
        )  # fmt: skip
        start = time.perf_counter()
        done = judge_unlabelled.run(settings, None, out, lambda record: print(record, flush=True))
        minutes = round((time.perf_counter() - start) / 60, 2)
        judge: Any = open_judge(done.folder).inner
        scores = {one: member.scores(judged.pairs) for one, member in judge.members.items() if one != PROBE}
        scores[PROBE] = judge.members[PROBE].head.scores(features_of(judged, model))
        card = judge.card
        members = {
            one: Member(scores[one], mean, spread, weight)
            for one, weight, mean, spread in zip(card.members, card.weights, card.means, card.spreads, strict=True)
        }
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        result = json.loads(path.read_text())
        result["no_labels"] = {**unlabelled(judged, members), "minutes": minutes}
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path, done.notes[0])


def unlabelled(judged: Judged, members: dict[str, Member]) -> dict[str, Any]:
    """The cosine, the sum without a probe and the sum with one, by labels that nobody showed them."""
    sums = ScoreSums(LabelledPairs(judged.pairs, judged.scale), members)
    bare = sums.without(PROBE)
    systems = {COSINE: members[COSINE].scores, "sum": bare.total(bare.usual), "sum and probe": sums.total(sums.usual),
               PROBE: members[PROBE].scores}  # fmt: skip
    by_query = {name: sums.data.ndcg(one) for name, one in systems.items()}
    good = judged.scale.is_positive[sums.data.labels]
    return {
        name: {
            "ndcg@10": bootstrap_interval(by_query[name]).as_dict(),
            "minus cosine": bootstrap_interval(by_query[name] - by_query[COSINE]).as_dict(),
            "minus sum": bootstrap_interval(by_query[name] - by_query["sum"]).as_dict(),
            "auc_good": area_under_curve(good, one),
        }
        for name, one in systems.items()
    }  # fmt: skip


@app.command()
def cost(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    data: Annotated[str, typer.Option(help=f"One of {', '.join(DATA)}.")] = "chorus",
) -> None:
    """Pairs that a probe reads in a CPU second on one thread, in fp32 and in bf16, in turn."""
    import torch

    torch.set_num_threads(1)
    judged = Judged.read(data)
    readers = {}
    for precision in ("fp32", "bf16"):
        setup = ProbeSetup.open(str(model), judged.scale, FIELDS, CHARACTERS)
        setup.reader.model.precision = precision
        readers[precision] = setup.reader
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(COST_ROUNDS + 1):  # the first is not kept
        block = judged.pairs[number * COST_PAIRS : (number + 1) * COST_PAIRS]
        for name, reader in readers.items():
            start = time.process_time()
            reader.features(block)
            if number:
                speeds[name].append(len(block) / (time.process_time() - start))
    result = {"data": data, "model": model.name, **code_versions(), "machine": machine(), "pairs": COST_PAIRS,
              "pairs a CPU second": {name: spread(one) for name, one in speeds.items()}}  # fmt: skip
    path = RESULTS / f"{NAME}_cost" / f"{model.name}.json"
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path, result["pairs a CPU second"])


def features_of(judged: Judged, model: Path) -> np.ndarray:
    """What the language model holds of each pair, (N, D)."""
    setup = ProbeSetup.open(str(model), judged.scale, FIELDS, CHARACTERS)
    path = WORK / NAME / f"{judged.name}-{model.name}.safetensors"
    return setup.features(judged.pairs, path, lambda record: print(record, flush=True))


def likelihood_of(judged: Judged, model: Path) -> np.ndarray:
    """Mean log probability (N,) of each query behind its item, as the probe reads both."""
    setup = ProbeSetup.open(str(model), judged.scale, FIELDS, CHARACTERS)
    states = LayerStates(setup.reader.model, setup.card.opening, [1], likelihood=True)
    lines = setup.reader.lines(judged.pairs)
    keys = [feature_key(setup.card.fingerprint, setup.card.opening, *line) for line in lines]
    read = judged.kept(
        f"{model.name}-likelihood", 1, keys, lambda places: states([lines[place] for place in places])[:, -1:]
    )
    return read[:, 0]


def kept_cosines(judged: Judged, encoder: Path, fields: tuple[str, ...] = FIELDS, characters: int = 0) -> np.ndarray:
    """Cosine (N,) of each pair, kept in the work folder."""
    loaded = Encoder.load(str(encoder), precision="auto")
    card = replace(encoder_card(str(encoder), loaded, judged.scale, fields), characters=characters)
    judge = EncoderJudge(loaded, card)
    texts = judge.reads([pair.item for pair in judged.pairs])
    weights = loaded.fingerprint
    keys = [feature_key(weights, text, pair.query) for text, pair in zip(texts, judged.pairs, strict=True)]

    def compute(places: list[int]) -> np.ndarray:
        return judge.cosines([judged.pairs[place] for place in places])[:, None]

    return judged.kept(encoder.name, 1, keys, compute)[:, 0]


def members_of(judged: Judged, encoders: list[Path]) -> dict[str, Member]:
    """The members that nobody trains."""
    members = {
        COSINE if not place else f"{COSINE}{place + 1}": Member.of(
            kept_cosines(judged, one, characters=ENCODER_CHARACTERS), 1.0 / len(encoders)
        )
        for place, one in enumerate(encoders)
    }
    return members | untrained_members(untrained_judges({}, judged.catalog, judged.scale), judged.pairs)


def rivals_of(judged: Judged, model: Path, encoder: Path) -> dict[str, np.ndarray]:
    """Scores (N,) of what nobody trained and is no member; the likelihood where it was read."""
    rivals = {
        BM25: lexical_scores(judged.catalog, judged.pairs),
        "cosine, title": kept_cosines(judged, encoder, ("title",)),
        "cosine, whole description": kept_cosines(judged, encoder),
    }
    if (WORK / NAME / f"{judged.name}-{model.name}-likelihood.safetensors").is_file():
        rivals["likelihood"] = likelihood_of(judged, model)
    return rivals


def measured(
    judged: Judged, members: dict[str, Member], rivals: dict[str, np.ndarray], features: np.ndarray, seeds: int
) -> dict[str, Any]:
    """All systems over all deals; negations apart."""
    reports = []
    for seed in range(seeds):
        data = LabelledPairs(judged.pairs, judged.scale, seed=seed)
        probe = Member.of(probe_scores(features, data), USUAL[PROBE])
        sums = ScoreSums(data, {**members, PROBE: probe})
        report = measured_report(sums, rivals, features, with_curve=seed == 0)
        reports.append(replace(report, systems=(*report.systems, sum_alone(sums))))
    return summary(reports)


def sum_alone(sums: ScoreSums) -> System:
    """The ensemble without a label head: labels and order from its sum, out of fold."""
    data, total = sums.data, sums.out_of_fold()
    probabilities = probabilities_out_of_fold(total, data)
    return System(BY_ODDS, data.ndcg(total), data.ndcg(total, "ndcg"), total, probabilities)


def summary(reports: list[Report]) -> dict[str, Any]:
    """Means over the deals, with intervals over queries; each system less the best that nobody trained."""
    first = reports[0]
    negation = np.asarray([bool(set(query.lower().split()) & set(NEGATIONS)) for query in first.data.queries])
    names = [system.name for system in first.systems if system.name != "constant"]
    by_query = {name: np.mean([r.system(name).ndcg10 for r in reports], axis=0) for name in names}
    rival, cosine = by_query[first.rival], by_query[COSINE]
    systems = {}
    for name in names:
        values = by_query[name]
        systems[name] = {
            "ndcg@10": bootstrap_interval(values).as_dict(),
            "minus rival": bootstrap_interval(values - rival).as_dict(),
            "minus cosine": bootstrap_interval(values - cosine).as_dict(),
            "negations": bootstrap_interval(values[negation]).as_dict(),
            "negations minus rival": bootstrap_interval((values - rival)[negation]).as_dict(),
        }  # fmt: skip
    rows = [report.rows() for report in reports]
    for name in [*names, "constant"]:
        metrics = rows[0][name]
        systems.setdefault(name, {}).update(
            {m: float(np.mean([row[name][m] for row in rows])) for m in metrics if m != "ndcg@10"}
        )
    return {
        "queries": len(first.data.queries), "negations": int(negation.sum()), "rival": first.rival, "systems": systems,
        "weights": [report.weights for report in reports], "curve": first.curve,
        "label head": [report.label_head for report in reports],
        "label gain": first.label_gain.as_dict() if first.label_gain else None,
        "adds": {name: one.as_dict() for name, one in first.adds.items()}, "tier precision": precision_of_good(reports),
    }  # fmt: skip


def precision_of_good(reports: list[Report]) -> dict[str, float]:
    """Of the pairs that are shown as Good, the share that is, at the threshold that each deal would choose; a mean.

    The threshold is chosen on the pairs that it is measured on: one number of hundreds of pairs.
    """
    shares, shown = [], []
    for report in reports:
        data = report.data
        beta = choose_beta(report.probabilities, data.labels, data.scale).beta_cum
        good = cumpt(report.probabilities, data.scale, beta) == GOOD
        shares.append(float(data.scale.is_positive[data.labels][good].mean()) if good.any() else math.nan)
        shown.append(float(good.mean()))
    return {"precision": float(np.nanmean(shares)), "shown": float(np.mean(shown))}


def render() -> str:
    """A table per catalogue and arm, and its learning curve."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    arms = [part for one in found for arm, values in one["arms"].items() for part in _parts(one, arm, values)]
    rows = [["data", "no labels", "nDCG@10", "minus cosine", "minus the sum without a probe", "AUC good"]]
    for one in (one for one in found if "no_labels" in one):
        for name, told in ((n, t) for n, t in one["no_labels"].items() if isinstance(t, dict)):
            rows.append([one["data"], name, cell(told["ndcg@10"]), cell(told["minus cosine"], "+.3f"),
                         cell(told["minus sum"], "+.3f"), cell(told["auc_good"])])  # fmt: skip
    speeds = [["model", "arithmetic", "pairs a CPU second, median (min to max)"]]
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / f"{NAME}_cost").glob("*.json"))):
        for name, told in one["pairs a CPU second"].items():
            speeds.append([one["model"], name, between(told)])
    return "\n\n".join([*arms, "### Without labels", markdown(rows), "### Cost", markdown(speeds)])


def _parts(one: dict[str, Any], arm: str, values: dict[str, Any]) -> list[str]:
    head = ["system", "nDCG@10", f"minus {values['rival']}", "minus cosine", "nDCG", "negations", "AUC good",
            "accuracy", "macro-F1", "F1 good", "ECE"]  # fmt: skip
    rows = [head]
    for name, row in values["systems"].items():
        numbers = [row.get(m) for m in ("auc_good", "accuracy", "macro_f1", "good_f1", "ece")]
        rows.append([
            name, cell(row.get("ndcg@10")), cell(row.get("minus rival"), "+.3f"), cell(row.get("minus cosine"), "+.3f"),
            cell(row.get("ndcg")), cell(row.get("negations")), *(cell(number) for number in numbers),
        ])  # fmt: skip
    encoders = ", ".join(one["encoders"] if arm.startswith("all") else one["encoders"][:1])
    title = (f"### {one['data']}: {arm}\n\n{one['pairs']:,} pairs, {values['queries']} queries whose labels differ "
             f"({values['negations']} negations), {one['seeds']} deals into 5 folds, {one['model']}, "
             f"{encoders}")  # fmt: skip
    members = [["member", "weight", "adds to nDCG@10 (first deal)"]]
    for name, adds in values["adds"].items():
        weights = [weights.get(name, 0.0) for weights in values["weights"]]
        members.append([name, f"{np.mean(weights):.2f}", cell(adds, "+.3f")])
    tiers, curve = values["tier precision"], ", ".join(f"{n}: {gain:+.3f}" for n, gain in values["curve"].items())
    told = (f"Of what is shown as Good {tiers['precision']:.3f} is (it is {tiers['shown']:.2f} of all pairs). Labelled "
            f"queries: gain over the untrained sum. {curve}\n\nA label head in {sum(values.get('label head', []))} of "
            f"{one['seeds']} deals; log loss of the odds less its own, first deal: "
            f"{cell(values.get('label gain'), '+.3f')}")  # fmt: skip
    return [title, markdown(rows), markdown(members), told]


def cell(value: Any, form: str = ".3f") -> str:
    """A number, with its interval where it has one; - for none."""
    if isinstance(value, dict):
        if value["value"] is None:
            return "-"
        return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
    return "-" if value is None or value != value else f"{value:{form}}"


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
