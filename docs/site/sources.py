"""The sources of the site, laid out as the repository is, so that a link that works in the one works in the other.

python docs/site/sources.py build/pages: all Markdown files of the repository, the files they link to, reference pages.
Sphinx then checks every link between them.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FRONT = "docs/site/index.md"  # becomes the first page
REFERENCE = "docs/api.md"
PACKAGES = {
    "goodrate.relevance": "judges, prompts, rule books, tiers, calibration, stored verdicts",
    "goodrate.evaluation": "metrics, intervals, paired tests, reports",
    "goodrate.learning": "the loop, rollouts, rewards, advantages, losses",
}
LINK = re.compile(r"\]\(<?([^)>#\s]+)")
ORPHAN = "---\norphan: true\n---\n\n"  # a page of no table of contents, reached by links


def main(target: Path) -> None:
    """Write all sources to a folder; what was there before is gone."""
    shutil.rmtree(target, ignore_errors=True)
    names = repository_files(ROOT)
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name.endswith(".md")}
    for name in linked(pages) & set(names) - set(pages):
        _place(target / name).write_bytes((ROOT / name).read_bytes())
    front = pages.pop(FRONT)
    pages["index.md"] = front + unlisted(front, filter(in_contents, pages))
    pages[REFERENCE] += contents(PACKAGES, (ROOT / "src" / "goodrate" / "__init__.py").read_text(encoding="utf-8"))
    for package in PACKAGES:
        pages[reference_name(package)] = reference_page(package, ROOT / "src")
    for name, text in pages.items():
        _place(target / name).write_text(text if in_contents(name) else ORPHAN + text, encoding="utf-8")


def in_contents(name: str) -> bool:
    """Whether a page belongs in the table of contents: those at the root and in docs/ do, generated tables do not."""
    return "/" not in name or name.startswith("docs/")


def unlisted(front: str, names: Iterable[str]) -> str:
    """Markdown behind the front page: a table of the pages that it does not list yet, empty where there are none.

    >>> print(unlisted("/docs/data.md", ["docs/data.md", "CHANGELOG.md"]))
    <BLANKLINE>
    ```{toctree}
    :caption: More
    :maxdepth: 1
    <BLANKLINE>
    /CHANGELOG.md
    ```
    <BLANKLINE>
    """
    entries = [f"/{name}" for name in sorted(names) if f"/{name}" not in front]
    return "\n".join(["", "```{toctree}", ":caption: More", ":maxdepth: 1", "", *entries, "```", ""]) if entries else ""


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def repository_files(root: Path) -> list[str]:
    """Paths from the root of the files that git has or would take."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [name for name in names.split("\0") if name and (root / name).is_file()]


def linked(pages: Mapping[str, str]) -> set[str]:
    """Paths from the root that pages (path -> Markdown) link to, whether there are such files or not.

    >>> sorted(linked({"docs/rules.md": "[an example](../examples/rules.toml), [serving](serving.md#api)"}))
    ['docs/serving.md', 'examples/rules.toml']
    """
    return {target for name, text in pages.items() for target in _targets(name, text)}


def _targets(name: str, text: str) -> Iterable[str]:
    folder = posixpath.dirname(name)
    return (posixpath.normpath(posixpath.join(folder, link)) for link in LINK.findall(text))


def reference_name(package: str) -> str:
    """The page of a package: docs/api/learning.md of goodrate.learning."""
    return f"{REFERENCE.removesuffix('.md')}/{package.rpartition('.')[2]}.md"


def contents(packages: Mapping[str, str], package_init: str) -> str:
    """Markdown behind the overview: the packages' pages, and the names of goodrate itself once it lists them."""
    pages = {package: reference_name(package) for package in packages}
    lines = [f"- [{package}](/{pages[package]}): {about}" for package, about in packages.items()]
    entries = [f"{package} </{page}>" for package, page in pages.items()]
    parts = ["", *lines, "", "```{toctree}", ":hidden:", "", *entries, "```", ""]
    return "\n".join(parts) + (f"\n## goodrate\n\n{_module('goodrate')}" if "__all__" in package_init else "")


def reference_page(package: str, source: Path) -> str:
    """Markdown of a package: a section for each of its public modules. ValueError where there is none."""
    folder = source / package.replace(".", "/")
    modules = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    if not modules:
        raise ValueError(f"no modules in {folder}; the reference has pages of {', '.join(PACKAGES)}")
    sections = [f"## {module}\n\n{_module(f'{package}.{module}')}" for module in modules]
    return "\n".join([f"# {package}\n", *sections])


def _module(name: str) -> str:
    return f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
