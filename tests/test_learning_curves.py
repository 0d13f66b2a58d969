"""Curves of a run: which panels, which numbers, what is drawn, what is refused, and that training leaves them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image
from typer.testing import CliRunner

from goodrate.cli import curves as verb
from goodrate.learning.curves import COLORS, draw_curves, drawn_panels, read_metrics, series
from goodrate.learning.fit import FitSettings, fit
from goodrate.run_folder import RunFolder
from test_learning_fit import Noisy, Walk

GRPO = [
    {"update": u, "seconds": 1.5 * u, "loss": -0.1 * u, "policy": -0.1 * u, "reward": 0.1 * u, "accuracy": 0.1 * u,
     "share_kept": 0.5, "share_all_right": 0.25, "kl": 0.01, "inconsistent": float("nan"), "hint_level": u // 2,
     "learning_rate": 1e-4}
    for u in (1, 2, 3, 4)
]  # fmt: skip
SFT = [{"update": u, "seconds": 1.0, "loss": 1 / u, "cross_entropy": 1 / u, "learning_rate": 1e-3} for u in (2, 4)]


def run_folder(path: Path, records: list[dict[str, Any]]) -> Path:
    for record in records:
        RunFolder(path).log(record)
    return path


def colors_of(picture: Path) -> set[str]:
    """The colours of its pixels, as hex."""
    pixels = (image.imread(picture)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(pixels, axis=0)}


def test_panels_are_what_a_run_logged_and_no_more() -> None:
    titles = {panel.title: list(panel.names) for panel in drawn_panels({"grpo": GRPO})}
    # NaN alone is no number; policy is a summand of the loss; hint_level has no panel of its own here
    assert titles == {
        "loss": ["loss"], "reward": ["reward"], "accuracy of samples": ["accuracy"],
        "groups": ["share_kept", "share_all_right"], "KL to the start (nats)": ["kl"],
        "learning rate": ["learning_rate"], "hint_level": ["hint_level"],
    }  # fmt: skip
    assert [panel.title for panel in drawn_panels({"sft": SFT})] == ["loss", "learning rate"]
    assert [panel.title for panel in drawn_panels({"sft": SFT, "grpo": GRPO})] == list(titles)


def test_a_line_leaves_out_what_is_not_a_number() -> None:
    records = [{"update": 1, "kl": 0.5}, {"update": 2, "kl": float("nan")}, {"update": 3}, {"update": 4, "kl": 0}]
    assert series(records, "kl") == ([1, 4], [0.5, 0.0])


def test_one_run_has_a_colour_per_name_and_two_a_colour_per_run(tmp_path: Path) -> None:
    draw_curves({"sft": SFT}, tmp_path / "one.png")
    assert COLORS[0] in colors_of(tmp_path / "one.png") and COLORS[1] not in colors_of(tmp_path / "one.png")
    draw_curves({"sft": SFT, "grpo": GRPO}, tmp_path / "two.png")
    assert {COLORS[0], COLORS[1]} <= colors_of(tmp_path / "two.png")
    # one row of two panels; two rows for seven, and the legend's row
    one, two = (image.imread(tmp_path / name).shape for name in ("one.png", "two.png"))
    assert one[:2] == (275, 682) and two[:2] == (511, 1364)


def test_the_verb_draws_a_run_and_others_over_it(tmp_path: Path) -> None:
    sft, grpo = run_folder(tmp_path / "a" / "sft", SFT), run_folder(tmp_path / "b" / "grpo", GRPO)
    assert CliRunner().invoke(verb.app, [str(sft)]).exit_code == 0
    assert COLORS[1] not in colors_of(sft / "curves.png")
    out = tmp_path / "both.svg"
    asked = [str(sft), "--compare", str(grpo), "--out", str(out)]
    assert CliRunner().invoke(verb.app, asked).exit_code == 0
    assert COLORS[1] in out.read_text() and not (grpo / "curves.png").exists()


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone: no such run folder"):
        read_metrics(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no metrics.jsonl with records; expected what goodrate train writes"):
        read_metrics(tmp_path / "empty")
    run_folder(tmp_path / "chain" / "sft", SFT)
    with pytest.raises(ValueError, match=r"runs inside it: .*chain/sft$"):
        read_metrics(tmp_path / "chain")
    run = subprocess.run(
        [sys.executable, "-c", "from goodrate.cli import main; main()", "curves", str(tmp_path / "empty")],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 2 and "empty: no metrics.jsonl" in run.stderr and "Traceback" not in run.stderr
    with pytest.raises(ValueError, match="must end in .png, .svg, .pdf"):
        verb.curves(tmp_path / "chain" / "sft", out=tmp_path / "x.jpeg")


def test_training_leaves_its_curves(tmp_path: Path) -> None:
    for updates, drawn in ((1, False), (3, True)):  # one record is no line
        model, folder = Noisy(), RunFolder(tmp_path / str(updates))
        settings = FitSettings(updates=updates, log_every=1, precision="fp32")
        fit(model, Walk(), [torch.optim.SGD(model.policy.parameters(), 0.1)], settings, folder=folder)
        assert (folder.path / "curves.png").is_file() == drawn


def test_training_does_not_import_the_drawing_library() -> None:
    code = "import goodrate.learning.fit, goodrate.cli.curves, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
