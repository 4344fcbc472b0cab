"""The pages of the reference, in both languages, from the code: `python -m docs.reference` writes them.

They are kept in the repository, so that they can be read without Sphinx; a test fails where they differ from the code.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_origin
from unittest.mock import patch

import click

import epochal
from epochal.cli.help import of_option
from epochal.cli.main import VERBS, cli
from epochal.cli.options import Setting
from epochal.cli.table import Row, read_names, read_table
from epochal.language import speak, translated
from epochal.recipe import fields

HERE = Path(__file__).parent

# The languages of the book, each with what Sphinx calls it.
LANGUAGES = {"en": "en", "zh": "zh_CN"}

# What these pages say besides what the code says.
TEXTS = {
    "en": {
        "header": "[中文](../../zh/reference/{page}.md) · [All pages](../index.md)",
        "commands": "Commands",
        "commands begin": "Each command shows the same with `--help`. With `--json`, where there is one, the last line is the result, for "
        "scripts. The exit code is 0 if all went well, 1 after an error, 2 if the command line is wrong, and 130 after Ctrl-C.",
        "and settings": "Every [setting](settings.md) is an option, too.",
        "option": "option",
        "meaning": "meaning",
        "settings": "Settings",
        "settings begin": "A recipe contains all of these. They are options of `epochal train`, arguments of `epochal.train` by their "
        "short names (`lr=0.01`), and lines of a TOML file (`epochal recipes mnist` prints one). With `--set NAME=VALUE` each can be given "
        "by its full name. What the recipe says is the default; a preset, the kind of data or the model may bring another, and the run "
        "says which value came from where.",
        "setting": "setting and option",
        "values": "values",
        "default": "default",
        "names": "Models, recipes and data sets",
        "names begin": "What can be named: `epochal models`, `epochal recipes` and `epochal datasets` print these lists.",
        "models": "Models",
        "recipes": "Recipes",
        "datasets": "Data sets",
        "name": "name",
        "python": "Python",
        "python begin": "Everything that `import epochal` offers. Names are loaded when they are first used, so that the import itself "
        "costs nothing. Errors that can be expected are an `EpochalError`, whose text says what is wrong, where, and what to do.",
        "functions": "Functions",
        "classes": "Classes",
    },
    "zh": {
        "header": "[English](../../en/reference/{page}.md) · [所有页面](../index.md)",
        "commands": "命令",
        "commands begin": "每个命令加 `--help` 都会显示同样的内容。有 `--json` 选项的命令，最后一行就是供脚本使用的结果。"
        "退出码：一切正常为 0，出错为 1，命令行写错为 2，按 Ctrl-C 中断为 130。",
        "and settings": "每项[设置](settings.md)也都是它的选项。",
        "option": "选项",
        "meaning": "含义",
        "settings": "设置",
        "settings begin": "一份配方包含下列全部设置。它们既是 `epochal train` 的选项，也可以用短名称作为 `epochal.train` 的参数"
        "（`lr=0.01`），还可以写成 TOML 文件里的一行（`epochal recipes mnist` 会打印一份）。用 `--set NAME=VALUE` 可以按全名给出任何一项。"
        "表中是默认值；预设配方、数据的种类或模型可能带来别的值，每个值来自哪里，运行时都会说明。",
        "setting": "设置与选项",
        "values": "取值",
        "default": "默认值",
        "names": "模型、配方与数据集",
        "names begin": "可以直接写名字的东西：`epochal models`、`epochal recipes` 和 `epochal datasets` 会打印这些列表。",
        "models": "模型",
        "recipes": "配方",
        "datasets": "数据集",
        "name": "名称",
        "python": "Python",
        "python begin": "`import epochal` 提供的全部内容。各个名字在第一次用到时才加载，所以导入本身几乎不花时间。可以预料的错误都是 "
        "`EpochalError`，它会说明哪里出了什么问题、该怎么办。以下说明直接取自代码，因此是英文。",
        "functions": "函数",
        "classes": "类",
    },
}

_ADDRESS = re.compile(r"<(?:function )?(?:\w+\.)*(\w+)(?: object)? at \w+>")
_CODE = re.compile(r"(`[^`]*`)")


def pages() -> dict[str, str]:
    """Return the text of each page, by its path below docs."""
    makers: dict[str, Callable[[dict[str, str]], Iterable[str]]] = {
        "commands": _commands,
        "settings": _settings,
        "names": _names,
        "python": _python,
    }
    found = {}
    for language, code in LANGUAGES.items():
        texts = TEXTS[language]
        with _speaking(code):
            for page, make in makers.items():
                begin = [f"# {texts[page]}", texts["header"].format(page=page), texts[f"{page} begin"]]
                found[f"{language}/reference/{page}.md"] = "\n\n".join([*begin, *make(texts)]) + "\n"
    return found


def write() -> None:
    """Write the pages that have changed."""
    for name, text in pages().items():
        path = HERE / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


@contextmanager
def _speaking(code: str) -> Iterator[None]:
    """Let what the command says be in a language."""
    with patch.dict(os.environ, {"LC_ALL": f"{code}.UTF-8", "LANGUAGE": ""}):
        speak("utf-8")
        yield
    speak("utf-8")


def _commands(texts: dict[str, str]) -> Iterator[str]:
    for verb, about in VERBS.items():
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        context = click.Context(command, info_name=f"epochal {verb}")
        yield f"## epochal {verb}"
        yield translated(about)
        yield "```text\n" + " ".join([context.command_path, *command.collect_usage_pieces(context)]) + "\n```"
        # The first paragraph says what the list of commands says.
        paragraphs = [" ".join(one.split()) for one in inspect.cleandoc(command.help or "").split("\n\n")]
        yield from (_plain(translated(one)) for one in paragraphs if one and one != about)
        options = [one for one in command.get_params(context) if isinstance(one, click.Option) and "--help" not in one.opts]
        records = [one.get_help_record(context) for one in options if not isinstance(one, Setting)]
        rows = [(_code(names), _plain(of_option(help_))) for names, help_ in filter(None, records)]
        if rows:
            yield _table((texts["option"], texts["meaning"]), rows)
        if any(isinstance(one, Setting) for one in options):
            yield texts["and settings"]


def _settings(texts: dict[str, str]) -> Iterator[str]:
    options = {row.name: row for row in read_table()}
    sections: dict[str, list[Row]] = {}
    for name, field in fields():
        if name in options:
            row = options[name]
        else:
            assert get_origin(field.annotation) is dict
            row = Row(name, f"--set {name}={{...}}", "{NAME = VALUE}", "", False, field.description or "")
        sections.setdefault(name.rpartition(".")[0] or "training", []).append(row)
    for section, rows in sections.items():
        yield f"## {translated(section.capitalize())}"
        head = (texts["setting"], texts["values"], texts["default"], texts["meaning"])
        listed = [
            (f"{_code(one.name)} {_code(one.option)}", _code(one.kind), _code(one.default), _plain(translated(one.description)))
            for one in rows
        ]
        yield _table(head, listed)


def _names(texts: dict[str, str]) -> Iterator[str]:
    for kind in ("models", "recipes", "datasets"):
        yield f"## {texts[kind]}"
        yield _table(
            (texts["name"], texts["meaning"]), [(_code(name), _plain(translated(about))) for name, about in read_names()[kind].items()]
        )


def _python(texts: dict[str, str]) -> Iterator[str]:
    public = {name: getattr(epochal, name) for name in epochal.__all__}
    yield f"## {texts['functions']}"
    for name, found in public.items():
        if not isinstance(found, type):
            yield from _documented(f"### epochal.{name}", f"epochal.{name}", found)
    yield f"## {texts['classes']}"
    for name, found in public.items():
        if isinstance(found, type):
            yield f"### epochal.{name}"
            yield _plain(inspect.getdoc(found) or "")
            for member, value in vars(found).items():
                inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                if not member.startswith("_") and inspect.isfunction(inner) and inspect.getdoc(inner):
                    yield from _documented(f"#### {name}.{member}", member, inner, is_property=isinstance(value, property))


def _documented(title: str, name: str, found: Any, *, is_property: bool = False) -> Iterator[str]:
    yield title
    if not is_property:
        yield f"```text\n{name}{_signature(found)}\n```"
    yield _plain(inspect.getdoc(found) or "")


def _signature(found: Any) -> str:
    """Return a signature as it is written in the code, an argument to a line where there are many."""
    signature = inspect.signature(found)
    shown: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not any(before.startswith("*") for before in shown):
            shown.append("*")
        if one.name not in ("self", "cls"):
            shown.append(_argument(one))
    result = "" if signature.return_annotation is signature.empty else f" -> {_annotation(signature.return_annotation)}"
    whole = f"({', '.join(shown)}){result}"
    return whole if len(whole) < 90 else "(\n    " + ",\n    ".join(shown) + f",\n){result}"


def _argument(one: inspect.Parameter) -> str:
    name = str(one).partition(":")[0].partition("=")[0].strip()
    if one.annotation is not one.empty:
        name += f": {_annotation(one.annotation)}"
    if one.default is one.empty:
        return name
    # Functions and objects by their names.
    default = _ADDRESS.sub(r"\1", repr(one.default))
    return f"{name} = {default}"


def _annotation(given: Any) -> str:
    return given if isinstance(given, str) else inspect.formatannotation(given)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _plain(text: str) -> str:
    """Keep what stands between code from being read as Markdown."""
    parts = _CODE.split(text)
    return "".join(part if at % 2 else re.sub(r"([<*\\])", r"\\\1", part) for at, part in enumerate(parts))


if __name__ == "__main__":
    write()
