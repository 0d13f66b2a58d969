"""A report as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def rendered(template: Path, **values: Any) -> str:
    """A Jinja template with its values, which are escaped: no title or query is read as HTML.

    Raises jinja2.UndefinedError for a value that the template names and that is not given.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
