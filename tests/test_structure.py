"""The house's walls: who may import whom, how long things may be, what nothing may be called, what --help may load."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodrate.cli import VERBS

PACKAGE = Path(__file__).parents[1] / "src" / "goodrate"
FILES = sorted(PACKAGE.rglob("*.py"))
# "" is goodrate/__init__.py and __main__.py
FOUNDATION = {"", "extras", "scale", "settings", "run_folder", "folder_lock", "strict_json", "text_file", "ragged"}
STAGES = {"catalog", "shop", "understanding", "retrieval", "relevance", "ranking", "evaluation", "content"}
PARTS = STAGES | {"models", "teaching", "examples", "learning", "recipes", "serving", "bulk"}
ROOMS = PARTS | {"api", "demo", "cli"}
# room -> rooms it may import, besides itself and the foundation
ALLOWED = {
    "": ROOMS,  # the lazy names of `import goodrate as gr`
    "models": set(),
    "learning": {"models"},
    "teaching": STAGES,
    "examples": STAGES | {"models", "teaching"},
    "recipes": STAGES | {"models", "examples", "learning"},
    "serving": STAGES | {"models"},
    "bulk": STAGES | {"models", "teaching"},
    "api": PARTS,
    "demo": PARTS | {"api"},
    "cli": {"api", "demo"},
    **{stage: STAGES | {"models"} for stage in STAGES},
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common", "base"}
NAMED_BY_THE_DESIGN = {"recipes/base.py"}  # the recipe that trains the base model
HEAVY = (
    "torch", "transformers", "sentence_transformers", "lancedb", "sklearn", "scipy", "polars", "pyarrow", "matplotlib",
    "fastapi", "pydantic", "numpy",
)  # fmt: skip
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def room_of(file: Path) -> str:
    """The folder of the package that a file lives in, or the module's own name at the top."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts in (("__init__",), ("__main__",)) else parts[0]


def imported_rooms(tree: ast.AST, file: Path) -> Iterator[tuple[str, int]]:
    """(room, line) of each import of goodrate in a file, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write imports in full, not relative"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "goodrate":
                room = rest.split(".")[0]
                yield (room if room in ROOMS | FOUNDATION else "", node.lineno)


def violations(files: dict[Path, ast.AST]) -> list[str]:
    """Imports that the table does not allow."""
    found = []
    for file, tree in files.items():
        room = room_of(file)
        allowed = FOUNDATION | {room} | ALLOWED.get(room, set())
        for imported, line in imported_rooms(tree, file):
            if imported not in allowed:
                found.append(f"{file.relative_to(PACKAGE)}:{line} imports {imported}")
    return found


def test_imports_follow_the_table() -> None:
    assert violations({file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}) == []


@pytest.mark.parametrize(
    ("place", "code", "bad"),
    [
        ("models/encoder.py", "from goodrate.relevance import judge", True),
        ("relevance/judge.py", "def f():\n    import goodrate.learning.fit", True),
        ("understanding/tagger.py", "from goodrate.learning.fit import fit", True),
        ("recipes/stream.py", "from goodrate.understanding.tagger import Tagger", False),
        ("learning/fit.py", "from goodrate import retrieval", True),
        ("recipes/judge_sft.py", "from goodrate.serving.pipeline import SearchPipeline", True),
        ("learning/fit.py", "from goodrate.examples.prompts import JudgePrompt", True),
        ("content/generator.py", "from goodrate.recipes.clip_source import ClipSource", True),
        ("recipes/clip_source.py", "from goodrate.content.generator import VideoDenoiser", False),
        ("recipes/judge_sft.py", "from goodrate.examples.prompts import JudgePrompt", False),
        ("serving/http.py", "from goodrate.models.encoder import Encoder", False),
        ("retrieval/search.py", "from goodrate import scale", False),
        ("cli/search.py", "from goodrate.retrieval.store import Store", True),
        ("cli/search.py", "from goodrate.api.index import Index", False),
        ("api/index.py", "from goodrate.cli.terminal import console", True),
    ],
)
def test_the_import_rule_itself(place: str, code: str, bad: bool) -> None:
    assert bool(violations({PACKAGE / place: ast.parse(code)})) == bad


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, straight or over others; what is not on a circle is left out."""
    left = {name: imports[name] & imports.keys() - {name} for name in imports}
    while ends := {name for name, wanted in left.items() if not wanted}:
        left = {name: wanted - ends for name, wanted in left.items() if name not in ends}
    into = {name: {other for other, wanted in left.items() if name in wanted} for name in left}
    while ends := {name for name, users in into.items() if not users}:
        into = {name: users - ends for name, users in into.items() if name not in ends}
    return [sorted(into)] if into else []


def test_circles_are_found_and_chains_are_not() -> None:
    assert circles({"a": {"b"}, "b": {"c", "elsewhere"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]


def test_no_files_import_one_another() -> None:
    """Imports inside functions count; those for type checkers alone do not."""
    modules = {".".join(("goodrate", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in FILES}
    modules = {name.removesuffix(".__init__"): file for name, file in modules.items() if name != "goodrate.__init__"}
    imports: dict[str, set[str]] = {}
    for name, file in modules.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
        passed = {id(inner) for node in typed for inner in ast.walk(node)}
        wanted = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and id(n) not in passed]
        named = [(f"{n.module}.{alias.name}", str(n.module)) for n in wanted for alias in n.names]
        imports[name] = {full if full in modules else module for full, module in named}
    assert circles(imports) == []


def test_every_file_has_a_known_room_and_a_telling_name() -> None:
    unknown = [str(file) for file in FILES if room_of(file) not in ROOMS | FOUNDATION]
    named = {file.relative_to(PACKAGE).as_posix() for file in FILES if file.stem in FORBIDDEN_NAMES}
    folders = [str(file) for file in FILES if FORBIDDEN_NAMES & set(file.relative_to(PACKAGE).parts[:-1])]
    assert (unknown, named - NAMED_BY_THE_DESIGN, folders) == ([], set(), [])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_lengths(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    too_long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert too_long == {}


def loaded_after(code: str) -> set[str]:
    """Top-level names in sys.modules after running code in a fresh interpreter."""
    report = f"{code}\nimport sys; print('LOADED', *sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=600)
    return set(run.stdout.rsplit("LOADED", 1)[1].split())


def test_help_loads_no_heavy_library() -> None:
    code = """
import sys; sys.argv = ["goodrate", "--help"]
from goodrate.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_after(code) & set(HEAVY) == set()


def test_package_inits_load_nothing_heavy() -> None:
    names = [room for room in sorted(ROOMS - {"cli"}) if (PACKAGE / room / "__init__.py").is_file()]
    assert loaded_after("\n".join(f"import goodrate.{name}" for name in names)) & set(HEAVY) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_command(verb: str) -> None:
    command = importlib.import_module(VERBS[verb][0]).command
    assert command.callback is not None and command.help


def test_names_of_tests_hold_no_time_of_day() -> None:
    """pytest-xdist refuses tests whose names differ between its processes, and bytes in a parameter are in the name."""
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "gzip.compress":
                assert any(k.arg == "mtime" for k in node.keywords), f"{file.name}:{node.lineno}: say mtime=0"
