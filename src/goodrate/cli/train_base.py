"""`goodrate train base`: a base model of the shop's language from scratch, and its gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goodrate.cli.train import Outcome
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import base, nano
from goodrate.recipes.base_gates import score_skills
from goodrate.run_folder import RunFolder
from goodrate.shop.skills import GATE, probes

Settings = base.Settings
PROBES = 200


def run(settings: base.Settings, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train, then measure every skill on fresh probes beside the share it must reach."""
    folder = nano.train(settings, out, progress)
    scores = score_skills(CausalLM.load(folder), probes(PROBES))
    rows = {skill: {"accuracy": s.accuracy, "gate": GATE, "words": float(s.count)} for skill, s in scores.items()}
    RunFolder(out).write("gates.json", json.dumps(rows, indent=2) + "\n")
    missed = [skill for skill, score in scores.items() if not score.passed]
    return Outcome(folder, rows, (f"gates not reached: {', '.join(missed)}",) if missed else ())
