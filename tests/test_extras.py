"""What is installed by default and what by extras: declarations, the line to a user who lacks one, and the lock."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from goodrate.cli.evaluate import evaluate
from goodrate.evaluation.plot import write_plot
from goodrate.evaluation.report import Report
from goodrate.extras import APART, EXTRAS, MissingExtra, require
from goodrate.learning.curves import draw_curves
from goodrate.learning.fit import FitSettings, fit
from goodrate.run_folder import RunFolder
from goodrate.teaching.chat_endpoint import ChatEndpoint
from test_learning_fit import Noisy, Walk

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {  # import -> what brings it, where the names differ
    "huggingface_hub": "huggingface-hub",
    "anyio": "fastapi",
    "ir_measures": "ir-measures",
    "sklearn": "scikit-learn",
    "starlette": "fastapi",
    "prometheus_client": "prometheus-client",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
}
LINE = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>[^#]+?))?(?: +# via .+)?$")


def distribution(requirement: str) -> str:
    """The name that a requirement starts with."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which only a type checker reads."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        yield node
        nodes += ast.iter_child_nodes(node)


def imported() -> set[str]:
    """Distributions that src imports, inside functions too."""
    names: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in at_run_time(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return {DISTRIBUTIONS.get(name, name) for name in names - set(sys.stdlib_module_names) - {"goodrate"}}


def test_everything_imported_is_declared_and_everything_declared_is_imported() -> None:
    hard = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    optional = {name for packages in EXTRAS.values() for name in packages}
    assert hard & optional == set()
    # accelerate imports TensorBoard for us, and torch what it writes ONNX with
    used = imported() | {"tensorboard", "onnx", "onnxscript"}
    # a package of several distributions, such as opentelemetry, is known by its first name
    known = {DISTRIBUTIONS.get(name, name) if "." not in name else name.partition(".")[0] for name in optional}
    assert hard | known == used


def test_extras_are_those_of_pyproject() -> None:
    declared = PROJECT["optional-dependencies"]
    asked = {name: tuple(DISTRIBUTIONS.get(one, one) for one in packages) for name, packages in EXTRAS.items()}
    assert {name: tuple(map(distribution, declared[name])) for name in EXTRAS} == asked
    named = ",".join(name for name in EXTRAS if name not in APART)
    assert declared["all"] == [f"goodrate[{named}]"] and "goodrate[all]" in declared["test"]


def test_the_lock_pins_all_that_any_extra_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [LINE.match(line) for line in lines if not line.startswith("#")]
    assert None not in pins
    locked = {pin["name"] for pin in pins if pin}
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    assert {distribution(requirement) for requirement in asked} - {"goodrate"} <= locked
    # "2.13.0+cpu" would be no version of the package index; "2.13.0" is met by both.
    assert [pin["version"] for pin in pins if pin and pin["name"] == "torch"] == ["2.13.0"]


@pytest.mark.parametrize(("extra", "package"), [(extra, name) for extra, names in EXTRAS.items() for name in names])
def test_a_missing_package_is_one_line_with_its_remedy(
    extra: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as raised:
        require(extra, "this feature")
    assert str(raised.value) == f'this feature needs {package}: pip install "goodrate[{extra}]"'


def test_a_package_that_is_there_and_broken_shows_its_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvicorn.py").write_text("import a_module_that_nobody_has\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "uvicorn", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has") as raised:
        require("serve", "this feature")
    assert not isinstance(raised.value, MissingExtra)


def test_features_ask_for_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "httpx", None)
    nowhere = (tmp_path / "no-index", tmp_path / "no-labels.csv")
    with pytest.raises(FileNotFoundError, match="no index in"):
        evaluate(*nowhere)
    with pytest.raises(MissingExtra, match="^--plot needs matplotlib"):  # before anything is looked at
        evaluate(*nowhere, plot=tmp_path / "report.png")
    with pytest.raises(MissingExtra, match="^a picture of a report needs matplotlib"):
        write_plot(Report.__new__(Report), tmp_path / "report.png")
    with pytest.raises(MissingExtra, match="^a picture of curves needs matplotlib"):
        draw_curves({}, tmp_path / "curves.png")
    with pytest.raises(MissingExtra, match=r"^asking an endpoint needs httpx: .*goodrate\[teacher\]"):
        ChatEndpoint("http://127.0.0.1:1", "m")


def test_a_run_without_matplotlib_ends_well_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    model = Noisy()
    settings = FitSettings(updates=3, log_every=1, precision="fp32")
    fit(model, Walk(), [torch.optim.SGD(model.policy.parameters(), 0.1)], settings, folder=RunFolder(tmp_path))
    assert (tmp_path / "result.json").is_file() and not (tmp_path / "curves.png").exists()
    assert [record.getMessage() for record in caplog.records if record.name == "goodrate.learning.curves"] == [
        f'no curves.png in {tmp_path}: a picture of curves needs matplotlib: pip install "goodrate[plots]"'
    ]


@pytest.mark.parametrize("package", EXTRAS["serve"])
def test_serve_exits_2_with_the_line_before_it_looks_at_the_index(package: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None; from goodrate.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "serve", "no-such-index"], capture_output=True, text=True, timeout=600
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f'goodrate: goodrate serve needs {package}: pip install "goodrate[serve]"\n'


def test_no_extra_is_imported_unless_it_is_used() -> None:
    blocked = "\n".join(f"sys.modules['{name}'] = None" for names in EXTRAS.values() for name in names)
    code = f"""
import importlib, sys
from pathlib import Path
{blocked}
for name in {sorted(_modules())!r}:
    importlib.import_module(name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr


def _modules() -> list[str]:
    """Every module of the package except the HTTP application and its parts, which are loaded when they are used."""
    optional = {"starlette", *(name.partition(".")[0] for names in EXTRAS.values() for name in names)}
    files = {_module(file): file for file in (ROOT / "src" / "goodrate").rglob("*.py")}
    served = {name: _imports_on_loading(file) for name, file in files.items() if name.startswith("goodrate.serving.")}
    http = {name for name, imports in served.items() if optional & imports}
    while more := {name for name, imports in served.items() if http & imports} - http:
        http |= more
    assert {"goodrate.serving.http", "goodrate.serving.protocol"} <= http
    return sorted(set(files) - http)


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def _imports_on_loading(file: Path) -> set[str]:
    """What a module imports as it is loaded: modules of goodrate, and the packages of others."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, node.module.partition(".")[0]}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    return found - {"goodrate"}

