"""Sphinx reads this. For `make docs` every warning is an error: links to pages, headings and files lead somewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "goodrate"
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings"]
highlight_language = "none"  # most blocks are commands and tables
smartquotes = False  # docstrings have code without ticks

myst_heading_anchors = 6
# A heading's level that is left out breaks nothing; types that two modules export are no links that somebody wrote.
suppress_warnings = ["myst.header", "ref.python"]

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch and pydantic are not ours
autodoc_typehints_format = "short"
autoclass_content = "both"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 160  # counted with the full names of types
add_module_names = False

html_theme = "furo"
html_title = "goodrate"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
