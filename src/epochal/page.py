"""Self-contained HTML pages, which all look the same: light and dark, on a phone and on paper.

What pages show cannot be trusted (names of files, classes, runs): everything that is not written here goes through `said` or `safe`. Pages
that are files contain no scripts, and may not connect to anything. They speak the language of the command that writes them.
"""

from __future__ import annotations

from html import escape

from epochal.language import language, translated

# Paper is white, whatever the screen is.
_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5f6670; --ground: #f5f6f8; --card: #fff; --line: #dfe2e7;
  --error: #b3261e; --warning: #8a5300; --note: #2a5c9a; }
@media screen and (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a0a7b0; --ground: #15171a; --card: #1e2125;
  --line: #34393f; --error: #ff8a80; --warning: #ffb74d; --note: #8ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
header p { color: var(--soft); margin: .2rem 0 0; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin-top: 1rem; padding: .8rem 1rem 1rem; }
@media print { :root { color-scheme: light; } body { background: none; max-width: none; padding: 0; } }
"""


def document(mark: str, title: str, body: str, style: str = "", script: str = "") -> str:
    """Return a page whose `body` is HTML, with a plain `title`, and a `style` of its own besides that of all pages.

    `mark`, in a comment at the beginning, tells the kind of page by which it may be replaced; see `opening`. No line ends before a "%".
    `script` is the address of a script, which may connect to where the page is from: of those alone that a server shows.
    """
    more = "; script-src 'self'; connect-src 'self'" if script else ""
    loaded = f'<script src="{script}" defer></script>\n' if script else ""
    return f"""{opening(mark)}<html lang="{language()}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'{more}">
<title>{safe(title)}</title>
<style>{_STYLE}{style}</style>
{loaded}</head>
<body>
{body.replace(" %", chr(160) + "%")}
</body>
</html>
"""


def opening(mark: str) -> str:
    """Return how a page of this kind begins."""
    return f"<!doctype html>\n<!-- {mark} -->\n"


def said(text: str) -> str:
    """Return our own words in the chosen language, escaped."""
    return safe(translated(text))


def safe(text: str) -> str:
    """Escape text for any place in the page; file names that are not Unicode are written out."""
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
