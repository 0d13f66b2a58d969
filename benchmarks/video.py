"""Rewards of whole clips and of their tubes (HALO) for a small video generator, beside what they must beat.

python benchmarks/video.py prepare --seeds 0             the base generator, its samples, the reward models
python benchmarks/video.py run --seeds 0 --arms base,video,both,random
python benchmarks/video.py strips                        docs/pictures/video_rewards.png
python benchmarks/video.py look                          results/video_look.txt, docs/pictures/inspect_film.png
python benchmarks/video.py cost                          benchmarks/results/video_cost.json
python benchmarks/video.py table --write                 benchmarks/results/video.md

A shop of eight categories on turntables. Everything is measured on the captions of held-out items, which no reward
model and no arm has seen; the base, which all arms start from, has learned from the clips of nearly all items. Reward
models learn from rendered clips with injected defects and from the base's own clips, labelled by the oracle
(lib/clip_truth.py), which stands for the teacher of the paper. All arms choose from the same samples. Each step is
kept: run it again and it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import chdir
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from pydantic import BaseModel, ConfigDict, Field

from goodrate.content.clip_file import write_clip
from goodrate.content.labelled_clips import Dimension, joined, motion, shop_clips
from goodrate.content.reward_model import DEFECTIVE, RewardModel, defect_scores
from goodrate.content.video_generator import ShopGenerator
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.recipes import patch_reward, video_dpo, video_generator, video_reward
from goodrate.recipes.clip_data import ShopClips, shop_items
from goodrate.recipes.clip_pairs import PairSettings, paired_clips, sampled
from goodrate.run_folder import RunFolder, write_atomic
from goodrate.shop.clips import caption, inject_drawn
from lib.clip_truth import ClipTruth
from lib.queue import RESULTS, ROOT, Job, Queue, experiment
from lib.tables import add_table, markdown, shown
from lib.video_cost import cost_table, measure_cost

NAME = "video"
GRID = 2
BASE = "base"
# arm -> (loss, pairs): what differs from both terms on pairs of the video reward
ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    BASE: ({}, {}), "sft": ({"form": "sft"}, {}), "video": ({"form": "video"}, {}), "patch": ({"form": "patch"}, {}),
    "both": ({}, {}), "dense": ({"form": "dense"}, {}), "combined": ({"form": "video"}, {"combined": 0.5}),
    "random": ({}, {"random_patches": True}),
}  # fmt: skip
ROWS = {
    BASE: "base", "sft": "SFT on winners", "video": "video term alone", "patch": "patch term alone",
    "both": "both (HALO)", "dense": "DenseDPO form", "combined": "one combined reward", "random": "random patches",
}  # fmt: skip
MEASURES = {
    "quality": "oracle quality", "defect_rate": "patch-defect rate", "worst_patch": "worst patch",
    "alignment": "caption alignment", "motion": "motion", "diversity": "diversity", "held_reward": "held-out reward",
}  # fmt: skip


class Settings(BaseModel):
    """What decides the numbers beside the seed."""

    model_config = ConfigDict(extra="forbid")
    base: str | None = Field(default=None, description="folder of a generator of this very shop; null = train one")
    categories: list[str] = ["kettle", "pan", "chair", "lamp", "backpack", "jacket", "desk", "tent"]
    items: int = 300
    held: int = 16
    frames: int = 8
    size: int = 16
    base_updates: int = 300
    rendered: int = Field(default=160, description="clips with injected defects")
    prompts: int = Field(default=24, description="captions whose samples are labelled and paired")
    samples: int = 2
    margin: float = 0.0
    patch_margin: float = 0.05
    steps: int = 4
    guidance: float = 1.0
    reward_epochs: int = 5
    reward_batch: int = 16
    beta: float = 1000.0
    patch_weight: float = 0.5
    learning_rate: float = 1e-4
    updates: int = 20
    batch_size: int = 8
    dimensions: list[Dimension] | None = Field(default=None, description="of the rewards that choose; null = all four")


queue = Queue(NAME)


class Case:
    """One seed: the shop, and what all arms share, made when it is first asked for."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.folder = queue.work / f"seed{seed}-{Job('shared', seed, settings.model_copy(update=FREE)).name[-12:]}"
        self.shop = ShopClips(seed=seed, items=settings.items, categories=settings.categories)

    @cached_property
    def world(self) -> Any:
        return self.shop.world()

    @cached_property
    def parts(self) -> tuple[list[int], list[int]]:
        """Items to learn from, and those whose captions everything is measured on; the base has seen clips of both."""
        items = np.random.default_rng([self.seed, 71]).permutation(shop_items(self.shop, self.world)).tolist()
        return items[self.settings.held :], items[: self.settings.held]

    @cached_property
    def truth(self) -> ClipTruth:
        return ClipTruth(self.world, self.parts[0], self.settings.frames, self.settings.size, GRID)

    def told(self, items: Sequence[int]) -> list[str]:
        return [caption(self.world, item) for item in items]

    @property
    def prompts(self) -> list[int]:
        return self.parts[0][: self.settings.prompts]

    def base(self) -> Path:
        """The folder of the base generator."""
        s = self.settings
        if s.base is not None:
            return Path(s.base)
        chosen = video_generator.Settings.model_validate({
            "shop": self.shop.model_dump(), "network": {"frames": s.frames, "size": s.size, "caption_length": 16},
            "fit": {"updates": s.base_updates, "precision": "fp32", "seed": self.seed, "checkpoint_seconds": 30},
        })  # fmt: skip
        return _once(video_generator, chosen, self.folder / "base", "generator")

    def samples(self) -> np.ndarray:
        """(N, S, T, H, W, 3) of the base, for the prompts."""
        path = self.folder / "samples.npy"
        if not path.is_file():
            generator = ShopGenerator.open(self.base())
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, sampled(generator, self.told(self.prompts), self.pairs({}), self.seed))
        return np.load(path)

    def labelled(self) -> Path:
        """Rendered clips with injected defects, and the first samples of every prompt with the oracle's labels."""
        path, s = self.folder / "labelled.npz", self.settings
        if not path.is_file():
            drawn = shop_clips(
                self.world, self.parts[0], s.rendered, self.seed, frames=s.frames, size=s.size, grid=GRID,
                spread=self.shop.spread,
            )  # fmt: skip
            clips = self.samples()
            items = [item for item in self.prompts for _ in range(clips.shape[1])]
            joined([drawn, self.truth.labelled(clips.reshape(-1, *clips.shape[2:]), items)]).write(path)
        return path

    def reward(self, name: str) -> Path:
        """The folder of a reward model: video, held (another seed, seen by no arm), patch, scratch."""
        s = self.settings
        fit = {"precision": "fp32", "seed": self.seed + 100 * (name == "held")}
        told: dict[str, Any] = {
            "clips": {"file": str(self.labelled())}, "epochs": s.reward_epochs, "batch_size": s.reward_batch,
            "fit": fit,
        }  # fmt: skip
        if name in ("video", "held"):
            return _once(video_reward, video_reward.Settings.model_validate(told), self.folder / name, "model")
        video = str(self.reward("video"))
        told |= {"compare": video} | ({"reward": video} if name == "patch" else {})
        return _once(patch_reward, patch_reward.Settings.model_validate(told), self.folder / name, "model")

    def pairs(self, changes: Mapping[str, Any]) -> PairSettings:
        s = self.settings
        return PairSettings(
            samples=s.samples,
            steps=s.steps,
            guidance=s.guidance,
            margin=s.margin,
            patch_margin=s.patch_margin,
            dimensions=s.dimensions,
            **changes,
        )

    def generator(self, arm: str, out: Path) -> Path:
        """The folder of an arm's generator."""
        s, (loss, pairs) = self.settings, ARMS[arm]
        if arm == BASE:
            return self.base()
        video, patch = (self.reward(name) for name in ("video", "patch"))
        out.mkdir(parents=True, exist_ok=True)
        told = self.told(self.prompts)
        every = dict.fromkeys([*told, *self.told(self.parts[1])])
        (out / "captions.txt").write_text("".join(f"{text}\n" for text in every))
        chosen = video_dpo.Settings.model_validate({
            "generator": str(self.base()), "video_reward": str(video), "patch_reward": str(patch),
            "captions": str(out / "captions.txt"), "prompts": len(dict.fromkeys(told)), "held": 2,
            "pairs": self.pairs(pairs).model_dump(), "batch_size": s.batch_size, "learning_rate": s.learning_rate,
            "loss": {"beta": s.beta, "patch_weight": s.patch_weight, **loss}, "epochs": 1000,
            "fit": {"updates": s.updates, "precision": "fp32", "seed": self.seed, "log_every": 5},
        })  # fmt: skip
        folder = RunFolder(out / "run")
        if not folder.stage_done(video_dpo.PAIRS):  # all arms choose from the same samples
            models = RewardModel.open(video), RewardModel.open(patch)
            found, facts = paired_clips(self.samples(), told, *models, chosen.pairs, self.seed)
            folder.begin(chosen, self.seed)
            found.write(folder.path / video_dpo.PAIR_FILE)
            folder.mark_done(video_dpo.PAIRS, facts)
        return _once(video_dpo, chosen, out / "run", "generator")


FREE = {
    "beta": 0.0, "patch_weight": 0.0, "learning_rate": 0.0, "updates": 0, "batch_size": 0, "dimensions": None,
}  # fmt: skip  # what is of the arms alone


def _once(recipe: Any, settings: BaseModel, out: Path, name: str) -> Path:
    """Run a recipe where its result is not there; what was cut off goes on."""
    if not (out / "dev.json").is_file():
        recipe.run(settings, None, out, lambda record: _progress(out, record))
    return out / name


def _progress(out: Path, record: Mapping[str, Any]) -> None:
    if record["update"] % 10 == 0:
        print(out.name, record["update"], round(record["loss"], 4), flush=True)


def measure(job: Job) -> Mapping[str, Any]:
    """Train the arm, sample every held-out caption, and ask oracle and held-out reward model."""
    assert isinstance(job.settings, Settings)
    case, folder = Case(job.settings, job.seed), queue.work_folder(job)
    for name in ("held", *MODELS):
        case.reward(name)
    generator = ShopGenerator.open(case.generator(job.arm, folder))
    items = case.parts[1]
    clips = sampled(generator, case.told(items), case.pairs({}), 12345)
    np.savez_compressed(folder.parent / f"{folder.name}.npz", clips=clips)
    flat, of = clips.reshape(-1, *clips.shape[2:]), [item for item in items for _ in range(clips.shape[1])]
    video, patches = case.truth.labels(flat, of)
    defects = defect_scores(patches)
    held = RewardModel.open(case.reward("held")).scores(flat, case.told(of)).mean(axis=1)
    spread = np.sqrt(((clips[:, 0].astype(np.float32) - clips[:, 1]) ** 2).mean(axis=(1, 2, 3, 4)))
    by_clip = {
        "quality": video[:, [0, 1, 3]].mean(axis=1), "defect_rate": (defects < DEFECTIVE).mean(axis=1),
        "worst_patch": defects.min(axis=1), "alignment": video[:, 3], "motion": motion(flat) * 255, "held_reward": held,
    }  # fmt: skip
    each = {name: values.reshape(len(items), -1).mean(axis=1) for name, values in by_clip.items()}
    each["diversity"] = spread
    told = {name: [round(float(v), 4) for v in values] for name, values in each.items()}
    shared = {name: json.loads((case.folder / name / "dev.json").read_text()) for name in MODELS}
    run = folder / "run" / "metrics.jsonl"
    return {"captions": told, "rewards": shared, "true_motion": true_motion(case),
            "curve": RunFolder(run.parent).metrics() if run.is_file() else []}  # fmt: skip


def true_motion(case: Case) -> float:
    """Of the turntables of the held-out captions, in levels."""
    clips = shop_clips_of(case)
    return float(motion(clips).mean() * 255)


def shop_clips_of(case: Case) -> np.ndarray:
    """(N, T, H, W, 3) turntables of the held-out items from the front."""
    views = [case.truth._view(item, 0.0) for item in case.parts[1]]
    return np.rint(np.stack(views) * 255).astype(np.uint8)


app = experiment(__doc__, queue, Settings, list(ARMS), measure)


@app.command(help="What all arms share: the base, its samples, the labels, the reward models.")
def prepare(seeds: str = "0", change: list[str] | None = typer.Option(None, "--set")) -> None:  # noqa: B008
    from goodrate.settings import load

    torch.set_num_threads(1)
    for seed in seeds.split(","):
        case = Case(load(Settings, None, change or []), int(seed))
        for name in ("video", "held", "patch", "scratch"):
            case.reward(name)
        print(case.folder)


@app.command(help="A picture of held-out captions: the truth, and each arm's clip, a row each.")
def strips(seed: int = 0, count: int = 3, out: Path = ROOT / "docs" / "pictures" / "video_rewards.png") -> None:
    from PIL import Image

    results = [one for one in queue.results() if one["seed"] == seed]
    settings = Settings.model_validate(results[0]["settings"])
    case = Case(settings, seed)
    rows = [shop_clips_of(case)]
    for arm in [arm for arm in ARMS if any(one["arm"] == arm for one in results)]:
        own = next(one for one in results if one["arm"] == arm)
        job = Job(arm, seed, Settings.model_validate(own["settings"]))
        with np.load(queue.work / f"{job.name}.npz") as held:
            rows.append(held["clips"][:, 0])
        print("row", len(rows), arm)
    drawn = [np.concatenate(list(clips[item]), axis=1) for item in range(count) for clips in rows]
    picture = np.concatenate(drawn, axis=0).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(picture).save(out)


@app.command(help="What inspect-film says of held-out items, clean and with a defect, by the patch reward model.")
def look(seed: int = 0, count: int = 6, change: list[str] | None = typer.Option(None, "--set")) -> None:  # noqa: B008
    from typer.testing import CliRunner

    from goodrate.cli.inspect_film import app as verb
    from goodrate.settings import load

    case = Case(load(Settings, None, change or []), seed)
    folder = case.folder / "look"
    folder.mkdir(exist_ok=True)
    clean = shop_clips_of(case)
    told, names = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        clip, defects = inject_drawn(clean[number], rng, count=number % 2, grid=GRID)
        names.append(f"clip{number}.webp")
        write_clip(folder / names[-1], clip)
        found = [f"{d.kind} in row {d.row + 1}, column {d.column + 1}, frames {d.first_frame + 1} to {d.last_frame + 1}"
                 for d in defects]  # fmt: skip
        told.append(f"{names[-1]}  {', '.join(found) or 'nothing'}")
    picture = ROOT / "docs" / "pictures" / "inspect_film.png"
    model = case.reward("patch")
    with chdir(folder):
        command = [*names, "--model", str(model), "--picture", str(picture), "--fail-below", "2"]
        run = CliRunner(env={"COLUMNS": "100"}).invoke(verb, command)
    said = [line.rstrip() for line in run.output.splitlines() if str(picture) not in line]
    shown = ["$ goodrate inspect-film *.webp --model runs/patch/model --picture looked-at.png --fail-below 2", *said]
    text = [*shown, f"exit code {run.exit_code}", "", "injected:", *told]
    write_atomic(RESULTS / "video_look.txt", "\n".join(text) + "\n")


@app.command(help="What an update of both terms costs: processor time and bytes kept for the backward pass.")
def cost() -> None:
    measure_cost()


def render() -> str:
    """The tables of all results: by settings the arms, their differences to the base and to the video term alone."""
    parts = []
    for by_arm in queue.by_settings(Settings).values():
        one = next(iter(by_arm.values()))[0]
        parts += [_arms(by_arm), _reward_table(one), _said(one)]
    parts += cost_table()
    return "\n\n".join(parts)


def _arms(by_arm: Mapping[str, list[dict[str, Any]]]) -> str:
    rows = [["arm", "seeds", *MEASURES.values()]]
    for arm in [arm for arm in ARMS if arm in by_arm]:
        own = by_arm[arm]
        rows.append([ROWS[arm], str(len(own)), *(shown(bootstrap_interval(_values(own, name))) for name in MEASURES)])
    tables = [markdown(rows)]
    for other in (BASE, "video"):
        if other not in by_arm:
            continue
        rows = [[f"minus {ROWS[other]}", *MEASURES.values()]]
        for arm in [arm for arm in ARMS if arm in by_arm and arm != other]:
            seeds = {one["seed"] for one in by_arm[arm]} & {one["seed"] for one in by_arm[other]}
            mine, theirs = ([one for one in by_arm[a] if one["seed"] in seeds] for a in (arm, other))
            rows.append([ROWS[arm], *(
                shown(paired_bootstrap_difference(_values(mine, name), _values(theirs, name)), "+.3f") if seeds else "-"
                for name in MEASURES
            )])  # fmt: skip
        tables.append(markdown(rows))
    return "\n\n".join(tables)


def _values(results: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """One number a caption and seed, seeds in order."""
    return np.concatenate([one["captions"][name] for one in sorted(results, key=lambda one: one["seed"])])


def _reward_table(one: Mapping[str, Any]) -> str:
    told = one["rewards"]
    columns = list(told["patch"]["patches"])
    rows = [["reward model, seed 0", "against", *columns, "ks"]]
    named = {"video": {"video": "labels of clips"}, "patch": ROWS_OF_PATCH, "scratch": ROWS_OF_PATCH}
    for model, wanted in named.items():
        for row, text in wanted.items():
            cells = [told[model].get(row, {}).get(name) for name in (*columns, "ks")]
            rows.append([MODELS[model], text, *("-" if cell is None else f"{cell:.3f}" for cell in cells)])
    return markdown(rows)


MODELS = {"video": "video", "patch": "patch, learned on", "scratch": "patch, from scratch"}
ROWS_OF_PATCH = {"patches": "labels of tubes", "as video": "labels of clips", "consistency": "the video model's scores"}


def _said(one: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items())
    return f"Motion of the true clips: {one['true_motion']:.2f}. Settings: {settings}."


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
