"""The demos as resumable runs: no finished stage is done twice, and the learning chains start where the demo ends."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.demo import stages
from goodrate.demo.settings import DemoSettings, LearningSettings
from goodrate.run_folder import RunFolder, code_versions, run_lock, write_atomic
from goodrate.settings import settings_hash
from goodrate.shop.shop import Shop
from goodrate.strict_json import dumps

STAGES = ("shop", "encoder", "index", "judge", "evaluate")
TRAINED = ("shop", "encoder", "judge")  # what the learning chains take over from the demo
CHAINS = ("retriever", "chain_sft", "chain_grpo", "compare")


@dataclass(frozen=True)
class Listener:
    """Who is told of progress: the start and end (seconds) of a stage, and a note inside one."""

    start: Callable[[str], None]
    note: Callable[[str], None]
    end: Callable[[str, float], None]

    def progress(self, record: Mapping[str, Any]) -> None:
        """A note on the record of an update: its reward where it has one, else its loss."""
        number = next(name for name in ("reward", "loss") if name in record)
        self.note(f"update {record['update']}, {number} {record[number]:.3f}")


def run_demo(settings: DemoSettings, root: Path, listen: Listener) -> Path:
    """Do the stages that are not done yet; returns the run folder `root/<settings hash>`, linked as `root/demo`.

    Raises FolderBusy where another demo with these settings is running.
    """
    with _begun(settings, root) as run:
        shop = stages.make_shop(settings)
        _do_all(run, STAGES, lambda name: _do(name, settings, shop, run.path, listen), listen)
        _write_report(settings, run, {name: run.stage_payload(name) for name in STAGES})
    _link(root / "demo", run.path)
    return run.path


def run_learning(settings: LearningSettings, root: Path, listen: Listener) -> Path:
    """The two chains that learn by reinforcement, on the shop, encoder and judge of the demo with these settings.

    What `run_demo` has trained under the same root is taken over. Returns the run folder, linked as `root/demo-rl`.
    """
    with _begun(settings, root) as run:
        shop = stages.make_shop(settings)
        with _begun(settings.of_demo(), root) as first:
            _do_all(first, TRAINED, lambda name: _do(name, settings.of_demo(), shop, first.path, listen), listen)
        _do_all(run, CHAINS, lambda name: _chain(name, settings, shop, first.path, run.path, listen), listen)
        payloads = {name: first.stage_payload(name) for name in TRAINED}
        _write_report(settings, run, payloads | {name: run.stage_payload(name) for name in CHAINS})
    _link(root / "demo-rl", run.path)
    return run.path


@contextmanager
def _begun(settings: DemoSettings, root: Path) -> Iterator[RunFolder]:
    """The run's folder `root/<settings hash>`, which nobody else writes to. FolderBusy where somebody does."""
    path = root / settings_hash(settings)
    with run_lock(path):
        run = RunFolder(path)
        run.begin(settings, settings.seed)
        yield run


def _do_all(run: RunFolder, names: Sequence[str], do: Callable[[str], dict[str, Any]], listen: Listener) -> None:
    """The stages that are not done yet, each marked with its seconds and what the report is to know of it."""
    for name in names:
        if run.stage_done(name):
            continue
        listen.start(name)
        began = time.perf_counter()
        facts = do(name)
        seconds = time.perf_counter() - began
        run.mark_done(name, {"seconds": round(seconds, 1), **facts})
        listen.end(name, seconds)


def _do(name: str, settings: DemoSettings, shop: Shop, path: Path, listen: Listener) -> dict[str, Any]:
    """One stage of the demo; returns what report.json is to know of it."""
    if name == "shop":
        from goodrate.shop.export import write_shop

        write_shop(shop, path / "shop")
        return {"items": len(shop.world), "queries": len(shop.queries), "judged": int(shop.judged_items.size)}
    if name == "encoder":
        stages.train_encoder(settings, shop, path / "encoder", listen.progress)
        return {}
    if name == "index":
        count = stages.build_index(shop, path / "encoder" / "encoder", path / "index")
        # serve finds the shop's facts where the index lies
        shutil.copyfile(path / "shop" / "facts.jsonl", path / "index" / "facts.jsonl")
        return {"items": count}
    if name == "judge":
        stages.train_judge(settings, shop, path / "judge", listen.progress)
        return {}
    return _evaluate(settings, shop, path, listen.note)


def _chain(
    name: str, settings: LearningSettings, shop: Shop, demo: Path, path: Path, listen: Listener
) -> dict[str, Any]:
    """One stage of the learning chains; demo: the folder of what it starts from."""
    from goodrate.demo import chains

    start, judge = demo / "encoder" / "encoder", demo / "judge" / "judge"
    if name == "retriever":
        chains.train_retriever(settings, shop, start, judge, path / "retriever", listen.progress)
        return {}
    if name == "chain_sft":
        chains.train_sft(settings, shop, path / "sft", listen.progress)
        return {}
    if name == "chain_grpo":
        chains.train_grpo(settings, shop, path / "sft" / "judge", path / "grpo", listen.progress)
        return {}
    from goodrate.demo.before_after import compare_encoders, compare_judges

    listen.note("both encoders on test queries")
    encoders = compare_encoders(settings, shop, start, path / "retriever" / "encoder")
    listen.note("both judges on test pairs")
    judges = compare_judges(settings, shop, path / "sft" / "judge", path / "grpo" / "judge")
    return {"encoders": encoders, "judges": judges}


def _evaluate(settings: DemoSettings, shop: Shop, path: Path, note: Callable[[str], None]) -> dict[str, Any]:
    from goodrate.demo.measure import as_mapping, compare_systems, measure_judge

    judge = path / "judge" / "judge"
    report, milliseconds = compare_systems(settings, shop, path / "index", judge, note)
    note("judge on test pairs")
    return {
        "test_queries": report.queries,
        "systems": as_mapping(report, milliseconds),
        "judge": measure_judge(shop, judge, settings.seed),
    }


def _write_report(settings: DemoSettings, run: RunFolder, payloads: Mapping[str, dict[str, Any]]) -> None:
    """report.json: what every stage found, with settings, seed, versions and minutes of every stage."""
    results = {key: value for payload in payloads.values() for key, value in payload.items() if key not in COUNTED}
    report = {
        "settings": settings.model_dump(),
        "seed": settings.seed,
        "one_seed": True,
        **results,
        "minutes": {name: round(payload["seconds"] / 60, 2) for name, payload in payloads.items()},
        "minutes_total": round(sum(payload["seconds"] for payload in payloads.values()) / 60, 2),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **code_versions(),
    }
    if not (run.path / "report.json").is_file():
        write_atomic(run.path / "report.json", dumps(report, indent=2) + "\n")


COUNTED = ("seconds", "items", "queries", "judged")  # kept with the stages alone


def _link(link: Path, target: Path) -> None:
    """Point the link at the newest run; a folder of that name that is no link is left alone."""
    if link.is_symlink() or not link.exists():
        beside = link.with_name(f".{link.name}.new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.name, target_is_directory=True)
        os.replace(beside, link)
