"""Build the book: `.venv/bin/python -m docs` writes build/docs/en and build/docs/zh, which browsers open as files, too.

The pages of the reference are written first, from the code. Warnings are errors: a link that leads nowhere is one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs.reference import LANGUAGES, write

HERE = Path(__file__).parent


def main() -> int:
    """Build both languages and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "docs", help="the folder for the site")
    out = parser.parse_args().out
    try:
        from sphinx.cmd.build import main as build
    except ImportError:
        print("The site needs Sphinx: pip install 'epochal[docs]'", file=sys.stderr)
        return 1
    write()
    for language, code in LANGUAGES.items():
        options = ["--quiet", "--fail-on-warning", "--keep-going", "-D", f"language={code}", "-d", str(out / ".doctrees" / language)]
        if failed := build([*options, "-c", str(HERE), str(HERE / language), str(out / language)]):
            return failed
        print(f"wrote {out / language / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
