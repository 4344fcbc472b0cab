"""What the command says under a Chinese locale."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from epochal.cli.help import wrapped
from epochal.language import columns, speak


@pytest.fixture(autouse=True)
def chinese(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(click.Context, "formatter_class", click.HelpFormatter)
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.delenv("LANGUAGE", raising=False)
    yield
    monkeypatch.setenv("LC_ALL", "C")
    speak("utf-8")


def test_help(call) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("--help")
    assert code == 0
    assert out.startswith("用法：epochal")
    assert re.search("命令：\n  check +训练之前检查数据", out)
    out = call("train", "--help")[1]
    assert "  --epochs INT                    在训练数据上训练的轮数 [10]\n" in out
    assert "训练设置：" in out
    assert max(map(columns, out.splitlines())) <= 80
    assert not any(line.lstrip()[:1] in set("，。；：）") for line in out.splitlines())


def test_training_and_errors(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = call("train", "digits", "--epochs", "1", "--max-steps", "3", "--out", "run", "--json")
    assert (code, err) == (0, "")
    assert " 轮次    训练损失    验证损失    准确率    学习率     用时     样本/秒\n" in out
    assert json.loads(out.splitlines()[-1])["run"] == "run"
    assert "default" in (tmp_path / "run/recipe.toml").read_text("utf-8")
    assert "错误：" in call("train", "--epoch")[2]
    assert call("evaluate", "gone")[2].startswith("错误：")


def test_another_language_is_english(call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    assert call("--help")[1].startswith("用法：")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert call("--help")[1].startswith("Usage: ")


def test_lines_end_between_letters_but_not_before_marks() -> None:
    assert list(wrapped("训练、测试 train 3 次，保存。", 8)) == ["训练、测", "试 train", "3 次，保", "存。"]
