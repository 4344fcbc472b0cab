"""The Python of both READMEs is the same, and works as it stands: also a second time, in the same folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from epochal.bundle import Bundle

ROOT = Path(__file__).parents[1]


def _python(readme: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text("utf-8"), re.DOTALL)
    return str(code)


def test_it_works_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code = _python("README.md").replace("epochs=3", "epochs=1, max_steps=5")
    assert "max_steps" in code
    for _ in range(2):
        exec(compile(code, "README.md", "exec"), {})
    assert "Accuracy " in capsys.readouterr().out
    assert Bundle.load("digits-model").classes == tuple("0123456789")
    assert [path.name for path in tmp_path.iterdir()] == ["digits-model"]


def test_both_languages_have_the_same_code() -> None:
    assert ast.dump(ast.parse(_python("README.zh-CN.md"))) == ast.dump(ast.parse(_python("README.md")))
