"""The end of a run that has nothing left to learn because its judge is right: the judge is written, and it is said."""

from __future__ import annotations

from pathlib import Path

from goodrate.run_folder import RunFolder

STAGE = "solved"


def mark_solved(run: RunFolder, says: str, updates: int = 0) -> None:
    """Remember in the run's folder that it ended so. says: on how many prompts; updates: how many were trained."""
    judge = f"as trained in {updates:,} updates" if updates else "the one it started with"
    run.mark_done(STAGE, {"says": f"{says}; the judge is {judge}"})


def solved_judge(run: RunFolder) -> Path | None:
    """The judge of a run that is over because its prompts were solved; None where it is not, or not written yet."""
    judge = run.path / "judge"
    return judge if run.stage_done(STAGE) and judge.is_dir() else None


def solved_notes(out: Path) -> list[str]:
    """What to say of a run that ended so, or whose stages, in folders inside `out`, did."""
    folders = [out, *sorted(marker.parents[1] for marker in out.glob(f"*/stages/{STAGE}.json"))]
    runs = [(folder, RunFolder(folder)) for folder in folders]
    said = [(folder, run.stage_payload(STAGE)["says"]) for folder, run in runs if run.stage_done(STAGE)]
    return [says if folder == out else f"{folder.name}: {says}" for folder, says in said]
