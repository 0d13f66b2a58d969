"""The recipe `base` as a run: a base model of the shop's language from scratch, and its gates."""

from __future__ import annotations

from pathlib import Path

from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import base, nano
from goodrate.recipes.base_gates import score_skills
from goodrate.recipes.registry import Progress, Recipe, TrainingResult
from goodrate.run_folder import RunFolder
from goodrate.shop.skills import GATE, probes
from goodrate.strict_json import dumps

PROBES = 200


def run(settings: base.Settings, data: None, out: Path, progress: Progress) -> TrainingResult:
    """Train, then measure every skill on fresh probes beside the share it must reach. Takes no data: it makes text."""
    folder = nano.train(settings, out, progress)
    scores = score_skills(CausalLM.load(folder), probes(PROBES))
    rows = {skill: {"accuracy": s.accuracy, "gate": GATE, "words": float(s.count)} for skill, s in scores.items()}
    RunFolder(out).write("gates.json", dumps(rows, indent=2) + "\n")
    missed = [skill for skill, score in scores.items() if not score.passed]
    return TrainingResult(folder, rows, (f"gates not reached: {', '.join(missed)}",) if missed else ())


BASE = Recipe(base.Settings, run, needs_data=False)
