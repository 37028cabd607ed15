"""Settings of the documentation: `make docs`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

from pages import write_pages  # noqa: E402  beside this file

project = "carrylens"
copyright = "2026, the carrylens authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["ref.python", "docutils"]


def setup(app):
    """Make the pages that are made when the documentation is built."""
    app.connect("builder-inited", lambda _: write_pages())
