"""README.md, CHANGELOG.md and docs/*.md: links, anchors, pictures, verbs and the code that pages name exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from goodrate.cli import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
CODE = re.compile(r"`([\w/]+\.py)(?::(\w+))?`")  # `learning/losses.py:dpo`: a file under src/goodrate, a name in it
COMMAND = re.compile(r"(?:^|[`$] ?)goodrate ([a-z][\w-]*)", re.MULTILINE)


def prose(text: str) -> str:
    """The text without code blocks and without code in lines: links in code are no links."""
    return INLINE_CODE.sub("", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page; the second of two equal ones ends in -1."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or anchor does not exist, with the reason."""
    broken = []
    for link in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            broken.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            broken.append(f"{link}: no such heading")
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_anchors_and_pictures_resolve(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_real_verbs(page: Path) -> None:
    named = set(COMMAND.findall(page.read_text(encoding="utf-8")))
    assert named <= set(VERBS), f"{page.name} names {sorted(named - set(VERBS))}, verbs are {sorted(VERBS)}"


def missing_code(page: Path) -> list[str]:
    """Files under src/goodrate, and functions, classes and constants in them, that a page names and that are not."""
    missing = []
    for file, name in CODE.findall(page.read_text(encoding="utf-8")):
        source = ROOT / "src" / "goodrate" / file
        if not source.is_file():
            missing.append(file)
        elif name and not re.search(rf"^(?:def |class )?{name}\b", source.read_text(encoding="utf-8"), re.MULTILINE):
            missing.append(f"{file}:{name}")
    return missing


@pytest.mark.parametrize("name", ["papers.md", "data_model.md"])
def test_the_code_that_a_page_names_is_there(name: str) -> None:
    assert missing_code(ROOT / "docs" / name) == []


def test_the_pages_are_found() -> None:
    # 2 pages at the root, and at least experiments, retrieval_grpo, data_model and papers among those of docs
    assert {"README.md", "CHANGELOG.md", "experiments.md", "retrieval_grpo.md", "data_model.md", "papers.md"} <= {
        page.name for page in PAGES
    }


def test_the_check_sees_broken_links(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    headings = "# A (b), c\n## Twice\n## Twice\n"
    page.write_text(headings + "[x](#a-b-c) [x](#twice-1) [x](#none) ![x](no.png) `[x](code.md)`\n")
    assert broken_links(page) == ["#none: no such heading", "no.png: no such file"]


def test_the_check_sees_code_and_verbs_that_are_not_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`learning/losses.py:dpo` `learning/losses.py:no` `no.py`\n")
    assert missing_code(page) == ["learning/losses.py:no", "no.py"]
    assert COMMAND.findall("```\ngoodrate serve idx\n```\n`goodrate indx`, or goodrate loads") == ["serve", "indx"]
