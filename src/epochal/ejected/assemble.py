"""A program from pieces: real Python in `pieces`, of which only what a run uses is taken.

In a piece, `if uses.NAME:` (or `elif`, `else`, `not`) is decided here, and names in capitals are settings or code that is put in. Of
functions and classes, those are taken that are called.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

# Pieces with functions and classes, then those that are taken whole.
_LIBRARY = ("chance", "inputs", "networks", "augment", "learning")

_BRANCH = re.compile(r"( *)(?:(if|elif) (not )?uses\.(\w+)|(else)):")


class Part(NamedTuple):
    """A function, class or statement of a piece: the name that it defines, if it does; its code; the names in it."""

    name: str
    code: str
    names: frozenset[str]


class Piece(NamedTuple):
    """What a piece is about, what it imports (lines by the names that they bring), and its parts."""

    about: str
    imports: Mapping[str, tuple[str, str]]
    parts: Sequence[Part]


def assemble(
    about: str,
    uses: Collection[str],
    settings: Mapping[str, tuple[str, str]],
    inlined: Mapping[str, str],
    said: Callable[[str], str] = str,
) -> str:
    """Return the program of a run.

    `about` is its docstring, `uses` are the names of what it uses, `settings` the code and the comment of each setting by its name, and
    `inlined` is the code that takes the place of other names. `said` gives code with texts in another language.
    """
    first, *library, program = (_read(name, uses, inlined, said) for name in ("settings", *_LIBRARY, "program"))
    whole = (*first.parts, *program.parts)
    wanted = _closure([part for piece in library for part in piece.parts], frozenset().union(*(part.names for part in whole)))
    taken = [piece._replace(parts=[part for part in piece.parts if part.name in wanted]) for piece in library]
    pieces = [piece for piece in (first, *taken, program) if piece.parts]
    names = frozenset().union(*(part.names for piece in pieces for part in piece.parts))
    constants = [said(f"{name} = {code}  # {comment}") for name, (code, comment) in settings.items() if name in names]
    imports = {name: line for piece in pieces for name, line in piece.imports.items() if name in names}
    sections = [f"# {number}. {piece.about}{_joined(piece.parts)}" for number, piece in enumerate(pieces, 1)]
    sections[0] = sections[0].replace("\n", "\n" + "\n".join(constants) + "\n\n", 1)
    return f'"""{about}"""\n\n{_imports(imports.values())}\n\n' + "\n\n\n".join(sections) + "\n"


def _read(name: str, uses: Collection[str], inlined: Mapping[str, str], said: Callable[[str], str]) -> Piece:
    source = files("epochal.ejected").joinpath("pieces", f"{name}.py").read_text("utf-8")
    lines = [line for found in pruned(said(source).splitlines(), uses) for line in _with(found, inlined)]
    tree = ast.parse("\n".join(lines))
    head, *nodes = tree.body
    assert isinstance(head, ast.Expr)
    imports: dict[str, tuple[str, str]] = {}
    parts, before = [], head.end_lineno or 0
    for node in nodes:
        end = node.end_lineno or 0
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            imports |= {alias.asname or alias.name: (module or "", ast.unparse(alias)) for alias in node.names}
        else:
            names = frozenset(found.id for found in ast.walk(node) if isinstance(found, ast.Name))
            parts.append(Part(_defined(node), "\n".join(lines[before:end]), names))
        before = end
    return Piece(ast.literal_eval(head.value), imports, parts)


def _defined(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    targets = node.targets if isinstance(node, ast.Assign) else []
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


def pruned(lines: Sequence[str], uses: Collection[str]) -> Iterator[str]:
    """Yield lines of a piece without the branches that are not used, and without what decides."""
    place, is_decided = 0, False
    while place < len(lines):
        found = _BRANCH.fullmatch(lines[place])
        # An `else` may belong to a condition of the program itself.
        if found is None or (found[5] and not _follows(lines, place)):
            yield lines[place]
            place += 1
            continue
        first, end = place + 1 + (not lines[place + 1].strip()), _end(lines, place, len(found[1]))
        is_decided = is_decided and found[2] != "if"
        is_used = not is_decided and (bool(found[5]) or (found[4] in uses) is not bool(found[3]))
        if is_used:
            yield from pruned([line[4:] for line in lines[first:end]], uses)
        is_decided = is_decided or is_used
        following = next((at for at in range(end, len(lines)) if lines[at].strip()), end)
        # Empty lines between two branches are neither's.
        goes_on = following < len(lines) and (after := _BRANCH.fullmatch(lines[following])) is not None and after[2] != "if"
        place = following if goes_on else end


def _end(lines: Sequence[str], place: int, indent: int) -> int:
    """Return where the block after a condition ends, without empty lines after it."""
    end = place + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def _follows(lines: Sequence[str], place: int) -> bool:
    """Return whether an `else` belongs to a condition on what is used."""
    indent = len(lines[place]) - len(lines[place].lstrip())
    for line in reversed(lines[:place]):
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return _BRANCH.fullmatch(line) is not None
    return False


def _with(line: str, inlined: Mapping[str, str]) -> Iterator[str]:
    """Yield a line with code in place of names; where that has several lines, they are indented as the first."""
    found = re.sub(r"\b[A-Z][A-Z_]+\b", lambda name: inlined.get(name[0], name[0]), line)
    indent = line[: len(line) - len(line.lstrip())]
    first, *others = found.split("\n")
    yield from (first, *(indent + other for other in others))


def _closure(parts: Sequence[Part], names: frozenset[str]) -> frozenset[str]:
    """Return these names, and all that the parts of that name refer to."""
    found, new = frozenset[str](), names
    while new:
        found |= new
        new = frozenset().union(*(part.names for part in parts if part.name in new)) - found
    return found


def _joined(parts: Sequence[Part]) -> str:
    """Return the code of parts; functions and classes have two empty lines between them."""
    code, after = "", "\n"
    for part in parts:
        own = part.code.strip("\n")
        is_block = own.startswith(("def ", "class ", "@"))
        gap = "\n" * (len(part.code) - len(part.code.lstrip("\n")) + 1)
        code += (("\n\n\n" if code else after) if is_block else after or gap) + own
        after = "\n\n\n" if is_block else ""
    return code


def _imports(imported: Collection[tuple[str, str]]) -> str:
    modules: dict[str, list[str]] = {}
    for module, name in imported:
        modules.setdefault(module, []).append(name)
    lines = [f"import {name}" for name in sorted(set(modules.pop("", [])))]
    for module, names in sorted(modules.items()):
        # Constants, classes, functions.
        ordered = sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
        lines.append(f"from {module} import {', '.join(ordered)}")
    own = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    others = [line for line in lines if line not in own]
    return "\n\n".join("\n".join(block) for block in (own, others) if block)
