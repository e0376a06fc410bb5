"""Sphinx's configuration: `make docs` builds docs/ as a site into build/docs, and fails on any warning.

The pages are plain Markdown that reads well on its own; what only the site needs, navigation and links out of docs/, is here.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))  # the docstrings of this checkout, whatever is installed

project = "lstm-bench"
author = copyright = "The lstm-bench contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "description"
napoleon_use_rtype = False
default_role = "code"  # single backticks in docstrings
highlight_language = "none"  # of blocks that name none
exclude_patterns = ["**/.*"]

myst_heading_anchors = 3  # as many levels as are linked to
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["myst.header"]  # a page may go from its title to a third-level heading

html_theme = "furo"
html_title = "lstm-bench"
html_copy_source = False
html_last_updated_fmt = None

# The side bar, group by group; a page that is in none of them is a warning of Sphinx.
NAVIGATION = {
    "Tutorials": [
        "tutorials/compare-two-backends-on-my-gpu",
        "tutorials/add-my-kernel",
        "tutorials/gate-a-pull-request",
        "tutorials/read-the-gradient-study",
    ],
    "Concepts": ["case", "run", "round", "replicate", "study", "backends", "comparison", "history"],
    "Reference": ["commands", "your-model", "own-repository", "fleet", "api", "measurement", "architecture", "baselines"],
    "Results": ["measured", "comparison-accuracy", "claims", "studies/*"],
    "CUDA kernels": ["cuda", "kernel-log"],
    "Decisions": ["decisions/*"],
}
_LINK = re.compile(r"\[([^\]\[]*)\]\((\.\.?/[^)\s#]+)(#[^)\s]*)?\)")
_log = logging.getLogger(__name__)


def navigated(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the side bar's entries to the index, which on its own shows them as a table of questions."""
    if page == "index":
        trees = ("\n".join(["```{toctree}", ":hidden:", ":glob:", f":caption: {title}", "", *pages, "```"])
                 for title, pages in NAVIGATION.items())  # fmt: skip
        source[0] = "\n\n".join([source[0], *trees, ""])


def outward(app: Sphinx, page: str, source: list[str]) -> None:
    """Turns links out of docs/ into the paths of files, of which the site has no copy; warns where there is no such file."""
    here = (DOCS / page).parent

    def replaced(found: re.Match[str]) -> str:
        text, target = found[1], Path(os.path.normpath(here / found[2]))
        if target.is_relative_to(DOCS):
            return found[0]
        if not target.exists():
            _log.warning("%s links to %s, which does not exist", page, found[2], location=page, type="outward")
        path = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else found[2]
        return f"`{path}`" if text.strip("`") in (path, target.name, target.stem) else f"{text} (`{path}`)"

    source[0] = _LINK.sub(replaced, source[0])


def setup(app: Sphinx) -> None:
    """Registers both."""
    app.connect("source-read", navigated)
    app.connect("source-read", outward)
