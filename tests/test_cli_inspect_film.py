"""goodrate inspect-film: the table, the marked picture, the gate, and what cannot be read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from goodrate.api.inspecting import inspect_film, read_captions
from goodrate.cli.inspect_film import app
from goodrate.content.clip_file import write_clip
from goodrate.content.inspection import Inspection, marked_picture, read_frames
from goodrate.content.reward_model import RewardModel, new_reward_model

torch.set_num_threads(1)
FRAMES, SIZE = 4, 16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A patch and a video model with the same random weights."""
    folder = tmp_path_factory.mktemp("models")
    model = new_reward_model(FRAMES, SIZE, 4, seed=1)
    model.save(folder / "video")
    dataclasses.replace(model, card=dataclasses.replace(model.card, kind="patch", grid=2)).save(folder / "patch")
    return folder / "patch", folder / "video"


def clip(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The same clip as WebP, and as a folder of frames; another one as GIF."""
    write_clip(tmp_path / "one.webp", clip())
    write_clip(tmp_path / "two.gif", clip(1))
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(clip()):
        Image.fromarray(frame).save(tmp_path / "frames" / f"f{number + 8}.png")  # f10 comes behind f9
    return [tmp_path / "one.webp", tmp_path / "two.gif", tmp_path / "frames"]


def test_all_forms_of_a_clip_are_the_same_clip(files: list[Path]) -> None:
    one, two, frames = (read_frames(file, FRAMES, SIZE) for file in files)
    assert (one == clip()).all() and (frames == clip()).all() and two.shape == one.shape
    fewer = read_frames(files[2], 2, SIZE)
    assert (fewer == clip()[[0, 2]]).all()


def test_scores_are_those_of_the_model(files: list[Path], models: tuple[Path, Path]) -> None:
    found = inspect_film(files, models[0], captions={"one.webp": "red lamp"})
    model = RewardModel.open(models[0])
    expected = model.scores(clip()[None], ["red lamp"])[0]
    np.testing.assert_allclose(found[0].patches, expected, atol=1e-6)
    worst = expected[:, :2].min(axis=1)
    assert found[0].worst == pytest.approx(float(worst.min()))
    assert found[0].place == (int(worst.argmin()) // 2 + 1, int(worst.argmin()) % 2 + 1)
    assert "caption_alignment" in found[0].dimensions() and "caption_alignment" not in found[2].dimensions()
    assert [one.file for one in found] == files


def test_table_json_and_picture(
    files: list[Path], models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # names are longer
    named = [str(file) for file in files]
    (tmp_path / "captions.csv").write_text("file,caption\none.webp,red lamp\n")
    told = ["--model", str(models[0]), "--captions", str(tmp_path / "captions.csv")]
    run = CliRunner().invoke(app, [*named, *told, "--picture", str(tmp_path / "seen.png")])
    assert run.exit_code == 0, run.output
    head, *rows = run.stdout.splitlines()
    assert head.split() == ["clip", "visual", "temporal", "dynamic", "caption", "worst", "patch", "where"]
    scored = [row for row in rows if "column" in row]
    assert len(scored) == 3 and " - " in scored[2] and " - " not in scored[0]
    assert len(rows) == 3 and all(name in row for name, row in zip(named, rows, strict=True))
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.size[0] == FRAMES * 96
    run = CliRunner().invoke(app, [*named, *told, "--json"])
    found = json.loads(run.stdout)
    assert [one["file"] for one in found] == named and np.shape(found[0]["patches"]) == (2, 2)
    run = CliRunner().invoke(app, [*named, "--model", str(models[1]), "--json"])
    assert json.loads(run.stdout)[0]["patches"] is None and json.loads(run.stdout)[0]["row"] is None


def test_the_gate_fails_by_the_worst_patch(files: list[Path], models: tuple[Path, Path]) -> None:
    worst = [one.worst for one in inspect_film(files[:2], models[0])]
    named = [str(file) for file in files[:2]]
    between = str(sum(worst) / 2)
    run = CliRunner().invoke(app, [*named, "--model", str(models[0]), "--fail-below", between])
    assert run.exit_code == 1 and run.stderr.count("FAILED") == 1
    assert Path(named[int(np.argmin(worst))]).name in run.stderr.partition("FAILED")[2]
    run = CliRunner().invoke(app, [*named, "--model", str(models[0]), "--fail-below", str(min(worst) - 0.01)])
    assert run.exit_code == 0


def test_the_picture_frames_the_patches_below_and_no_others() -> None:
    frames = np.full((2, 8, 8, 3), 255, dtype=np.uint8)
    patches = np.full((4, 4), 4.0)
    patches[1, 0] = 1.0  # upper right
    one = Inspection(Path("a.webp"), "", frames, np.full(4, 3.0), patches)
    picture = marked_picture([one])
    red = (picture == (220, 30, 30)).all(axis=2)
    columns = np.flatnonzero(red.any(axis=0))
    assert columns.min() >= 48 and one.place == (1, 2) and one.worst == 1.0
    assert not red[:, 96 : 96 + 48].any() and red[:, 96 + 48 :].any()
    assert not (marked_picture([one], below=1.0) == (220, 30, 30)).all(axis=2).any()


def test_what_is_no_clip_is_named(files: list[Path], models: tuple[Path, Path], tmp_path: Path) -> None:
    model = models[0]
    with pytest.raises(FileNotFoundError, match="gone.webp: no such clip"):
        inspect_film([tmp_path / "gone.webp"], model)
    (tmp_path / "text.webp").write_text("no picture")
    with pytest.raises(ValueError, match="text.webp is no picture"):
        inspect_film([tmp_path / "text.webp"], model)
    Image.fromarray(clip()[0]).save(tmp_path / "still.webp")
    with pytest.raises(ValueError, match="still.webp is one picture; expected a clip"):
        inspect_film([tmp_path / "still.webp"], model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds 0 pictures"):
        inspect_film([tmp_path / "empty"], model)
    with pytest.raises(ValueError, match="no clips to inspect"):
        inspect_film([], model)
    with pytest.raises(FileNotFoundError, match="is no reward model"):
        inspect_film(files, tmp_path)
    (tmp_path / "captions.csv").write_text("name,caption\na,b\n")
    with pytest.raises(ValueError, match="captions.csv.*file"):
        read_captions(tmp_path / "captions.csv")
