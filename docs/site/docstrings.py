"""The house's docstrings as Sphinx reads them: prose with code in `ticks`, and examples that start with >>>."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

PROMPT, INDENT = ">>>", "    "
CODE = re.compile(r"(`+)(.+?)\1")
MARKUP = re.compile(r"[\\*|]|_(?!\w)")  # stars of products, bars of norms, names that end in _


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    import goodrate

    for name in getattr(goodrate, "__all__", ()):
        setattr(goodrate, name, getattr(goodrate, name))  # autodoc does not see names that are imported when asked for
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def restructured(lines: Sequence[str]) -> Iterator[str]:
    r"""The lines of a docstring as reStructuredText, where stars and bars are only stars and bars.

    Indented lines and examples stay as they are, each kind in a block of its own.
    >>> list(restructured(["|a| * `b`", ">>> 2 * 2", "4", "", "    a *"]))
    ['\\|a\\| \\* ``b``', '', '>>> 2 * 2', '4', '', '', '', '::', '', '    a *']
    """
    block = ""
    for line in lines:
        kind = _kind(line, block)
        if kind and not block:
            yield from ("",) if kind == PROMPT else ("", "::", "")
        elif block and not kind:
            yield ""
        yield line if kind else _prose(line)
        block = kind


def _kind(line: str, block: str) -> str:
    """What a line belongs to, given the block before it: an example, an indented block, or nothing (prose)."""
    if line.startswith(PROMPT) or (block == PROMPT and line.strip()):
        return PROMPT
    return INDENT if line.startswith(INDENT) else ""


def _prose(line: str) -> str:
    pieces, end = [], 0
    for code in CODE.finditer(line):
        pieces += [_plain(line[end : code.start()]), f"``{code[2]}``"]
        end = code.end()
    return "".join([*pieces, _plain(line[end:])])


def _plain(text: str) -> str:
    return MARKUP.sub(lambda mark: "\\" + mark[0], text)
