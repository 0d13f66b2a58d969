"""The check for a GPU's owner, in small on the CPU: it runs, says what it found, and fails when a recipe does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu_check  # noqa: E402
import gpu_recipes  # noqa: E402


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--cpu", "--out", str(out), *arguments])
    code = gpu_check.main()
    return code, json.loads(out.read_text(encoding="utf-8"))


def test_a_few_recipes_and_a_speed_section_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("base", "judge_sft", "judge_grpo", "retriever_contrastive", "retriever_grpo")
    code, found = run(monkeypatch, tmp_path / "found.json", "--only", ",".join([*names, "judging"]))
    assert code == 0 and found["left_out"] == [] and found["minutes"] > 0 and found["versions"]["torch"]
    assert list(found["recipes"]) == [f"{name} fp32" for name in names]
    for name, one in found["recipes"].items():
        assert one["status"] == "ok" and len(one["losses"]) == gpu_recipes.SMALL.updates, name
    assert found["recipes"]["judge_grpo fp32"]["first"]["kl"] == 0
    assert found["speed"]["judging"]["nano, chunks of 20"]["median"] > 0


def test_what_fails_is_told_and_what_is_not_installed_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(_: Any) -> Path:
        raise RuntimeError("tensors on two devices")

    def lacks(_: Any) -> Path:
        raise ImportError("No module named 'peft'")

    def drifts(check: Any) -> Path:
        check.records.append({"loss": 1.0, "gradient_norm": 1.0, "kl": 0.5})
        return check.folder

    calls = {"one": fails, "two": lacks, "three": drifts}
    monkeypatch.setattr(gpu_recipes, "CASES", {name: gpu_recipes.Case(call) for name, call in calls.items()})
    code, found = run(monkeypatch, tmp_path / "found.json", "--only", "one,two,three")
    results = found["recipes"]
    assert code == 1 and results["one fp32"]["why"] == "RuntimeError: tensors on two devices"
    assert results["two fp32"] == {"status": "skipped", "why": "No module named 'peft'"}
    assert results["three fp32"]["why"] == "KL to the start is 0.5 at the first update"


def test_a_device_that_computes_something_else_fails(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "gpu.json", 1.0)
    first = {"loss": 1.0, "gradient_norm": 2.0, "length": 7.0}
    report.facts["recipes"] = {name: {"status": "ok", "first": dict(first)} for name in ("same", "other", "longer")}
    cpu = {"same": first, "other": {**first, "gradient_norm": 2.1}, "longer": {**first, "length": 8.0, "loss": 3.0}}
    reference = tmp_path / "cpu.json"
    results = {name: {"status": "ok", "seconds": 1.0, "first": one} for name, one in cpu.items()}
    reference.write_text(json.dumps({"recipes": results, "speed": {}}))
    gpu_check.compare(report, reference)
    found = report.facts["recipes"]
    assert found["same"]["status"] == "ok" and "sampled otherwise" in found["longer"]["note"]
    assert found["other"]["status"] == "failed" and "gradient 4.76%" in found["other"]["why"]  # 0.1 of 2.1


def test_no_section_begins_late(tmp_path: Path) -> None:
    report = gpu_check.Report(tmp_path / "found.json", -1.0)
    gpu_check.timed(["judging", "encoding"], report, True)
    assert report.facts["left_out"] == ["judging", "encoding"] and report.facts["speed"] == {}


def test_without_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    monkeypatch.setattr(gpu_check, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "--cpu runs the same checks in small" in capsys.readouterr().err


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--cpu", "--only", "judge_grp"])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "--only judge_grp: expected some of base, judge_sft," in capsys.readouterr().err
