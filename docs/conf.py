"""How Sphinx builds the pages of a language, which are written so that GitHub shows them as well; `python -m docs` builds both.

Three things are different on the site. The line of links below each title, which GitHub's readers need to move about, is what the sidebar
has; it is left out. The lists in index.md, by section, become the sidebar. Links to files of the repository become plain text.
"""

from __future__ import annotations

import logging
import re
from importlib.metadata import version as version_of
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

project = "Epochal"
version = release = version_of("epochal")
copyright = "MIT license"  # noqa: A001  Sphinx's name

extensions = ["myst_parser"]
myst_heading_anchors = 3
templates_path = ["_templates"]
nitpicky = True

html_theme = "furo"
html_title = "Epochal"
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}

_HEADER = re.compile(r"^\[(?:中文|English)\]\(.*\)$\n\n", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)\n((?:.*\n)*?)(?=## |\Z)", re.MULTILINE)
# Out of this language's folder, unless it is a picture.
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+)[^)]*\)")
_LISTED = re.compile(r"^- \[[^\]]+\]\(([^)]+)\.md\)", re.MULTILINE)


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    text = _HEADER.sub("", source[0], count=1)
    if page == app.config.root_doc:
        for title, listed in _SECTION.findall(text + "\n"):
            entries = "\n".join(_LISTED.findall(listed))
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"
    source[0] = _OUTSIDE.sub(lambda link: link[0] if link[2].count("../") <= page.count("/") else link[1], text)


def _choose(app: Sphinx, config: Config) -> None:
    """Name the other language, for the link in the sidebar."""
    config.html_context["other_language"] = {"en": ("zh", "中文"), "zh": ("en", "English")}[config.language[:2]]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is different on the site."""
    # It splits Chinese for the search, and tells how long it takes.
    logging.getLogger("jieba").setLevel(logging.WARNING)
    app.connect("config-inited", _choose)
    app.connect("source-read", _prepare)
    return {"parallel_read_safe": True}
