"""The demo as one resumable run: shop, encoder, index, judge, table. A finished stage is never done twice."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodrate.demo import stages
from goodrate.demo.settings import DemoSettings
from goodrate.run_folder import RunFolder, code_versions, write_atomic
from goodrate.settings import settings_hash
from goodrate.shop.shop import Shop

STAGES = ("shop", "encoder", "index", "judge", "evaluate")


@dataclass(frozen=True)
class Listener:
    """Who is told of progress: the start and end (seconds) of a stage, and a note inside one."""

    start: Callable[[str], None]
    note: Callable[[str], None]
    end: Callable[[str, float], None]


def run_demo(settings: DemoSettings, root: Path, listen: Listener) -> Path:
    """Do the stages that are not done yet; returns the run folder `root/<settings hash>`, linked as `root/demo`."""
    run = RunFolder(root / settings_hash(settings))
    run.begin(settings, settings.seed)
    shop = stages.make_shop(settings)
    for name in STAGES:
        if run.stage_done(name):
            continue
        listen.start(name)
        began = time.perf_counter()
        facts = _do(name, settings, shop, run.path, listen)
        seconds = time.perf_counter() - began
        run.mark_done(name, {"seconds": round(seconds, 1), **facts})
        listen.end(name, seconds)
    _write_report(settings, run)
    _link(root / "demo", run.path)
    return run.path


def _do(name: str, settings: DemoSettings, shop: Shop, path: Path, listen: Listener) -> dict[str, Any]:
    """One stage; returns what report.json is to know of it."""

    def progress(record: dict[str, Any]) -> None:
        listen.note(f"update {record['update']}, loss {record['loss']:.3f}")

    if name == "shop":
        from goodrate.shop.export import write_shop

        write_shop(shop, path / "shop")
        return {"items": len(shop.world), "queries": len(shop.queries), "judged": int(shop.judged.size)}
    if name == "encoder":
        stages.train_encoder(settings, shop, path / "encoder", progress)
        return {}
    if name == "index":
        count = stages.build_index(shop, path / "encoder" / "encoder", path / "index")
        # serve finds the shop's facts where the index lies
        shutil.copyfile(path / "shop" / "facts.jsonl", path / "index" / "facts.jsonl")
        return {"items": count}
    if name == "judge":
        stages.train_judge(settings, shop, path / "judge", progress)
        return {}
    return _evaluate(settings, shop, path, listen.note)


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


def _write_report(settings: DemoSettings, run: RunFolder) -> None:
    """report.json: the figures of the table with settings, seed, versions and minutes of every stage."""
    payloads = {name: run.stage_payload(name) for name in STAGES}
    evaluation = payloads["evaluate"]
    report = {
        "settings": settings.model_dump(),
        "seed": settings.seed,
        "one_seed": True,
        **{key: evaluation[key] for key in ("test_queries", "systems", "judge")},
        "minutes": {name: round(payload["seconds"] / 60, 2) for name, payload in payloads.items()},
        "minutes_total": round(sum(payload["seconds"] for payload in payloads.values()) / 60, 2),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **code_versions(),
    }
    if not (run.path / "report.json").is_file():
        write_atomic(run.path / "report.json", json.dumps(report, indent=2) + "\n")


def _link(link: Path, target: Path) -> None:
    """Point the link at the newest run; a folder of that name that is no link is left alone."""
    if link.is_symlink() or not link.exists():
        beside = link.with_name(f".{link.name}.new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.name, target_is_directory=True)
        os.replace(beside, link)
