"""The Chinese that the command speaks: each entry is of something that the code says, and keeps its values."""

import ast
import inspect
import json
import re
import string
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from pydantic_core import PydanticKnownError

import epochal
from epochal import errors
from epochal.language import TABLE, columns, speak, translated
from tests.cli.test_chinese import left_in

CHINESE: dict[str, str] = json.loads(TABLE.read_text("utf-8"))


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.setenv("LC_ALL", "C")
    speak("utf-8")


# What Pydantic says of settings.
PYDANTIC: Any = {
    **{f"{kind}_{what}": None for kind in ("int", "float", "bool") for what in ("type", "parsing")},
    **{f"{kind}_type": None for kind in ("string", "list", "tuple")},
    "finite_number": None,
    "greater_than": {"gt": 0},
    "greater_than_equal": {"ge": 0},
    "less_than": {"lt": 0},
    "less_than_equal": {"le": 0},
}


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert speak("utf-8")


def _said_in(file: Path) -> Iterator[str]:
    """The texts in a file of code: constants, f-strings with {} for their values, and both of these line by line."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield _filled(node, "{}")
            yield _filled(node, "{}", counts=False)


@pytest.fixture(scope="module")
def said() -> frozenset[str]:
    from epochal.cli.table import read_table

    package, of_click = Path(epochal.__file__).parent, Path(inspect.getfile(click)).parent
    texts = [text for folder in (package, of_click) for file in folder.rglob("*.py") for text in _said_in(file)]
    # These are put together from parts, or said by code that is not Python.
    texts += [row.name.partition(".")[0] for row in read_table()]
    texts += [click.MissingParameter(param_type=kind, param_hint="{}").format_message() for kind in ("argument", "option")]
    texts += [PydanticKnownError(kind, bounds).message_template.removeprefix("Input should be ") for kind, bounds in PYDANTIC.items()]
    texts += [first for file in package.rglob("*.toml") if (first := file.read_text("utf-8").split("\n", 1)[0])]
    pieces = [*texts, *(line for text in texts for line in text.split("\n"))]
    pieces += [" ".join(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]
    return frozenset(re.sub(r"\{\w*(?:!r)?\}", "{}", piece).strip(" #").casefold() for piece in pieces)


def test_the_code_says_so(said: frozenset[str]) -> None:
    assert [english for english in CHINESE if not _forms(english) & said] == []


def _forms(english: str) -> set[str]:
    """An entry as the code may have it."""
    plural = re.sub(r"\{(are|were|have|plural2?)\}", lambda match: "s" if match[1].startswith("plural") else match[1], english)
    texts = {re.sub(r"\{\w+\}", "{}", text).strip().casefold() for text in (english, plural)}
    text = min(texts)
    # A number and what is counted, which may be one or several.
    noun = text.removeprefix("{} ")
    return {*texts, *((noun, noun.removesuffix("s"), noun.removesuffix("es")) if re.fullmatch(r"\{\} [a-z ]+", text) else ())}


# Their values are half of the sentence, or have the package's own words.
IN_PARTS = {
    "{}: {} in its {}: {}.",
    "{} no numbers of {}; {} up to {}.",
    "{} invalid Unicode.",
    "The target of {} {}.",
    "answers {} {}",
    "cannot be reached: {}",
}
COMMAND = "pip install"
# Values of several kinds, for templates that take only some.
VALUES = ("12", "", "'Q'", "lr", "a table")


def _errors(file: Path) -> Iterator[ast.expr]:
    """What the errors of Epochal in a file of code say: what is wrong, and what to do."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in vars(errors):
            yield from node.args[:2]


def _filled(node: ast.expr, value: str, *, counts: bool = True) -> str:
    """A constant, or an f-string with `value` for its values, or also for numbers with their nouns; "" for others."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else _one(part, value, counts=counts) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _one(part: ast.expr, value: str, *, counts: bool) -> str:
    """`value`, or a number with a point where one is formatted; with its noun, or the verb, where they go by the number."""
    if counts and isinstance(part, ast.FormattedValue) and isinstance(call := part.value, ast.Call) and isinstance(call.func, ast.Name):
        if call.func.id == "counted":
            return f"{value} {_filled(call.args[1], value)}s"
        if call.func.id == "are":
            return "are"
    if isinstance(part, ast.FormattedValue) and ast.unparse(part.value).endswith(("else 'have'", "else 'were'")):
        return ast.unparse(part.value)[-5:-1]
    spec = ast.unparse(part.format_spec) if isinstance(part, ast.FormattedValue) and part.format_spec is not None else ""
    return "1.5" if re.search(r"\.\d+f|g", spec) and value not in ("", "{}") else value


def test_every_error_has_chinese(chinese: None) -> None:
    left = []
    for file in Path(epochal.__file__).parent.rglob("*.py"):
        for node in _errors(file):
            shown = _filled(node, "{}")
            if shown in IN_PARTS or shown.startswith(COMMAND) or not re.search(r"[a-z]{2} [a-z]", shown.replace("{}", "")):
                continue
            said = [translated(_filled(node, value)) for value in VALUES]
            if not any(re.search("[\u4e00-\u9fff]", text) and not left_in(text) for text in said):
                left.append(f"{file.name}:{node.lineno}: {shown}")
    assert left == []


def test_values_are_kept() -> None:
    for english, chinese in CHINESE.items():
        wanted, found = ([name for _, name, _, _ in string.Formatter().parse(text) if name] for text in (english, chinese))
        # Chinese has no plural.
        assert sorted(name for name in wanted if not re.fullmatch("are|were|have|plural2?", name)) == sorted(found), english
        assert len(set(wanted)) == len(wanted), english
        assert re.search("[\u4e00-\u9fff]", chinese), english
        # Chinese letters take Chinese punctuation.
        assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", chinese), english


def test_every_setting_is_explained() -> None:
    from epochal.cli.table import read_table

    assert [row.name for row in read_table() if row.description not in CHINESE] == []


@pytest.mark.parametrize(
    ("settings", "is_chinese"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_TW"}, True),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh:en"}, True),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en"}, False),
        ({"LANG": "C", "LANGUAGE": "zh"}, False),
    ],
)
def test_the_language_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], *, is_chinese: bool) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert speak("utf-8") is is_chinese
    assert (translated("error") == "error") is not is_chinese


@pytest.mark.parametrize(("number", "is_chinese"), [(0x0804, True), (0x0409, False)])
def test_windows_has_a_number_for_it(monkeypatch: pytest.MonkeyPatch, number: int, *, is_chinese: bool) -> None:
    kernel = SimpleNamespace(GetUserDefaultUILanguage=lambda: number)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("ctypes.windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert speak("utf-8") is is_chinese


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_without_chinese_letters_gets_english(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setenv("LANG", "zh_CN")
    assert not speak(encoding)
    assert speak("gbk")


@pytest.mark.usefixtures("chinese")
class TestChinese:
    def test_values_stand_where_they_belong_and_stay_as_they_are(self) -> None:
        assert (
            translated("note: no font here has 猫: figures show boxes instead.") == "提示：no font here has 猫: figures show boxes instead."
        )
        assert translated("measured on the test split of error") == "在 error 的测试集上评估"
        assert translated("\n  Trained 3 epochs in 0.50 s; kept.  ") == "\n  训练了 3 轮，用时 0.50 s；kept。  "
        assert translated("model {x}: 5 FLOPs per example") == "模型 {x}：每个样本 5 FLOPs"
        assert translated("Stopped by patience after 8 epochs in 0.37 s; kept.") == "8 轮后因 patience 停止，用时 0.37 s；kept。"
        counted = "digits: 1×8×8 uint8, 10 classes; 1,258 train, 180 valid, 359 test"
        assert translated(counted) == "digits：1×8×8 uint8，10 个类别；训练 1,258，验证 180，测试 359"

    def test_what_is_wrong_with_a_file_is_translated(self) -> None:
        assert translated("my sounds/a b.wav is truncated.") == "my sounds/a b.wav 不完整：文件被截断。"
        said = "a.wav says that it has 0 channels, which are not 1 to 64."
        assert translated(said) == "a.wav 声称有 0 个声道，应为 1 到 64。"
        assert translated("a.wav is too loud for words.") == "a.wav is too loud for words."

    def test_parts_are_translated_where_all_of_them_have_chinese(self) -> None:
        assert translated("Save it smaller. Check the path.") == "请缩小后保存。请检查路径。"
        assert (
            translated("1 row is in two classes, 3 of them in both train and test")
            == "有 1 行同时在两个类别里，其中 3 项同时在 train 和 test 中"
        )
        assert translated("1 row is in two minds") == "1 row is in two minds"
        assert translated("It works. Check the path.") == "It works. 请检查路径。"

    def test_what_has_no_chinese_stays_english(self) -> None:
        assert translated("Something new.\nerror") == "Something new.\n错误"

    def test_letters_take_two_columns(self) -> None:
        assert [columns(text) for text in ("abc", "é", "准确率", "R²")] == [3, 1, 6, 2]


def test_long_lines_of_data_take_no_time(chinese: None) -> None:
    line = json.dumps({f"name {number}": [f"{number} of 7: a, b", {"rate": number / 7}] for number in range(2000)})
    began = time.process_time()
    assert translated(line) == line
    assert time.process_time() - began < 5
