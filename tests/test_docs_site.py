"""The site's sources, and that its build refuses links that lead nowhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SITE = Path(__file__).parents[1] / "docs" / "site"


def loaded(name: str) -> ModuleType:
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sources, docstrings = loaded("sources"), loaded("docstrings")


def test_sources_hold_every_page_and_what_they_link_to(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("of a build before", encoding="utf-8")
    sources.main(tmp_path)
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    pages = {name for name in sources.repository_files(sources.ROOT) if name.endswith(".md")} - {sources.FRONT}
    reference = {f"docs/api/{room}.md" for room in ("relevance", "evaluation", "learning")}
    assert pages | reference | {"index.md"} == {name for name in written if name.endswith(".md")}
    assert "examples/rules.toml" in written  # docs/rules.md links to it
    assert "pyproject.toml" not in written and "old.md" not in written


def test_links_are_followed_from_their_page() -> None:
    pages = {
        "README.md": "[a](docs/a.md#part) ![b](<docs/b.png>) [c](#here)",
        "docs/a.md": "[d](../examples/d.toml), [e](https://example.org/e)",
    }
    # an address becomes docs/https:/..., which is no file of a repository
    assert sources.linked(pages) == {"docs/a.md", "docs/b.png", "examples/d.toml", "docs/https:/example.org/e"}


def test_a_page_that_nobody_listed_is_in_the_contents_all_the_same() -> None:
    front = "```{toctree}\nStart </README.md>\n/docs/data.md\n```\n"
    assert sources.unlisted(front, ["README.md", "docs/data.md"]) == ""
    assert "/CHANGELOG.md\n/docs/new.md\n```" in sources.unlisted(front, ["docs/new.md", "README.md", "CHANGELOG.md"])


def test_a_reference_page_has_the_public_modules_in_order(tmp_path: Path) -> None:
    for name in ("__init__", "_inner", "b", "a"):
        (tmp_path / "room").mkdir(exist_ok=True)
        (tmp_path / "room" / f"{name}.py").touch()
    page = sources.reference_page("room", tmp_path)
    assert [line for line in page.splitlines() if line.startswith(("#", ".."))] == [
        "# room", "## a", ".. automodule:: room.a", "## b", ".. automodule:: room.b",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no modules in .*gone"):
        sources.reference_page("gone", tmp_path)


def test_the_overview_lists_goodrate_itself_once_it_has_names() -> None:
    packages = {"goodrate.learning": "the loop"}
    assert "automodule" not in sources.contents(packages, "__version__ = '1'")
    with_names = sources.contents(packages, "__all__ = ['Index']")
    assert "- [goodrate.learning](/docs/api/learning.md): the loop\n" in with_names
    assert ".. automodule:: goodrate\n" in with_names


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("max_i |x_i| * `beta ** 2`, seed_", r"max_i \|x_i\| \* ``beta ** 2``, seed\_"),
        ("A sum.\n>>> 2 * 2\n4\n\nMore *.", "A sum.\n\n>>> 2 * 2\n4\n\n\nMore \\*."),
        ("Lines:\n    wants <a> *\nThat is all.", "Lines:\n\n::\n\n    wants <a> *\n\nThat is all."),
    ],
)
def test_docstrings_are_prose_examples_and_indented_blocks(docstring: str, expected: str) -> None:
    assert "\n".join(docstrings.restructured(docstring.splitlines())) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "warning"),
    [
        ("[here](b.md#a-heading), [there](../LICENSE)", None),
        ("[no page](gone.md)", "target not found: 'gone.md'"),
        ("[no heading](b.md#gone)", "local id not found in doc 'docs/b': 'gone'"),
        ("[no file](../gone.toml)", "target not found: '../gone.toml'"),
        ("![no picture](gone.png)", "image file not readable: docs/gone.png"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str, warning: str | None) -> None:
    pytest.importorskip("sphinx")  # of the extra docs, which make docs installs
    pages = tmp_path / "pages"
    (pages / "docs").mkdir(parents=True)
    (pages / "LICENSE").touch()
    (pages / "index.md").write_text("# Start\n\n```{toctree}\ndocs/a.md\ndocs/b.md\n```\n", encoding="utf-8")
    (pages / "docs" / "a.md").write_text(f"# A\n\n{link}\n", encoding="utf-8")
    (pages / "docs" / "b.md").write_text("# B\n\n## A heading\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", SITE, pages, tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (run.returncode == 0) == (warning is None), run.stderr
    assert warning is None or warning in run.stderr
