"""How Sphinx builds the pages of a language, which are written so that GitHub shows them as well; `python -m docs` builds both.

Three things are different on the site. The line of links below each title, which GitHub's readers need to move about, is what the sidebar
has; it is left out. The lists in index.md, by section, become the sidebar. Links to files of the repository become plain text.
"""

from __future__ import annotations

import re
from gettext import NullTranslations
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.search.zh import SearchChinese

project = "Epochal"
version = release = version_of("epochal")


extensions = ["myst_parser"]
myst_heading_anchors = 3
templates_path = ["_templates"]
nitpicky = True

html_theme = "furo"
html_title = "Epochal"
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
# Browsers do not let pages that are opened as files read others.
html_show_search_summary = False
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


# An option in a line of code.
_OPTION = re.compile(r'<span class="pre">(?=--[\w-]+</span>)')

# A line that ends, and the next one that begins, with a Chinese character, outside of code: browsers would show a space there.
_CHINESE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”‘’—…"
_BROKEN = re.compile(rf"^```.*?^```$|(?<=[{_CHINESE}*`)])\n(?=[{_CHINESE}])|(?<=[{_CHINESE}])\n(?=[`\[*])", re.DOTALL | re.MULTILINE)


# What the theme says, for which Sphinx has no Chinese.
_OF_THEME = {
    "Next": "下一页",
    "Previous": "上一页",
    "Home": "首页",
    "On this page": "本页内容",
    "Back to top": "回到顶部",
    "Skip to content": "跳到正文",
    "Made with ": "主题：",
    "Toggle site navigation sidebar": "打开或关闭导航栏",
    "Toggle table of contents sidebar": "打开或关闭本页目录",
    "Toggle Light / Dark / Auto color theme": "切换浅色、深色或自动配色",
}


class _OfTheme(NullTranslations):
    """Chinese for the theme, where Sphinx has none."""

    def gettext(self, message: str) -> str:
        """Return the Chinese of a message that has some."""
        return _OF_THEME.get(message, message)


class Chinese(SearchChinese):
    """Search by pairs of neighbouring characters: all that a word, or a longer text, has must be on the page.

    So nothing depends on how a dictionary splits words, in the pages or in what people type.
    """

    # The stemmer is English; Sphinx 9.0 looks for one that does not exist.
    language_name = "English"
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u4e00-\u9fff]+|[^\u4e00-\u9fff\P{L}]+[\p{N}_]*|[\p{N}_]+/gu) || []).flatMap((part) =>
    /[\u4e00-\u9fff]/.test(part) && part.length > 2
      ? Array.from({ length: part.length - 1 }, (_, at) => part.slice(at, at + 2))
      : [part]);
"""
    _runs = re.compile(r"[\u4e00-\u9fff]+")

    def split(self, input: str) -> list[str]:  # noqa: A002  Sphinx's name
        """Return what is found: pairs of Chinese characters, and other words."""
        pairs = [run[at : at + 2] for run in self._runs.findall(input) for at in range(max(1, len(run) - 1))]
        words = [term.strip() for term in self.latin1_letters.findall(input)]
        self.latin_terms.update(words)
        return pairs + words


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    text = _HEADER.sub("", source[0], count=1)
    if page == app.config.root_doc:
        for title, listed in _SECTION.findall(text + "\n"):
            entries = "\n".join(_LISTED.findall(listed))
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"
    text = _BROKEN.sub(lambda found: found[0] if found[0].startswith("```") else "", text)
    source[0] = _OUTSIDE.sub(lambda link: link[0] if link[2].count("../") <= page.count("/") else link[1], text)


def _choose(app: Sphinx, config: Config) -> None:
    """Name the other language, for the link in the sidebar, and let the theme speak this one."""
    config.html_context["other_language"] = {"en": ("zh", "中文"), "zh": ("en", "English")}[config.language[:2]]
    if config.language == "zh_CN":
        app.translator.add_fallback(_OfTheme())


def _accessible(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Give titles in the sidebar a level, and let what scrolls be scrolled by keyboard."""
    if "furo_navigation_tree" in context:
        context["furo_navigation_tree"] = context["furo_navigation_tree"].replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        body = context["body"].replace("<pre>", '<pre tabindex="0">')
        body = _OPTION.sub('<span class="pre option">', body)
        context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')


def _name_landmarks(app: Sphinx, error: Exception | None) -> None:
    """Tell screen readers the two sidebars of the theme apart, and in Chinese what its buttons do."""
    names = {"en": ("All pages", "On this page"), "zh": ("所有页面", "本页内容")}[app.config.language[:2]]
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text("utf-8")
        for kind, name in zip(("sidebar", "toc"), names, strict=True):
            page = page.replace(f'<aside class="{kind}-drawer', f'<aside aria-label="{name}" class="{kind}-drawer')
        for english, chinese in _OF_THEME.items() if app.config.language == "zh_CN" else ():
            page = page.replace(f'aria-label="{english}"', f'aria-label="{chinese}"')
        path.write_text(page, "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is different on the site."""
    app.connect("config-inited", _choose)
    app.connect("source-read", _prepare)
    # After the theme has made it.
    app.connect("html-page-context", _accessible, priority=900)
    app.connect("build-finished", _name_landmarks)
    app.add_search_language(Chinese)
    return {"parallel_read_safe": True}
