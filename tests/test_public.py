import importlib
import subprocess
import sys

import pytest

import epochal


def test_all_is_sorted_and_complete() -> None:
    public = [name for name in dir(epochal) if not name.startswith("_")]
    assert list(epochal.__all__) == sorted(epochal.__all__) == public
    assert set(epochal._HOMES) == set(epochal.__all__)


@pytest.mark.parametrize("name", epochal.__all__)
def test_every_public_name_comes_from_its_home_and_is_documented(name: str) -> None:
    value = getattr(epochal, name)
    assert value is getattr(importlib.import_module(f"epochal.{epochal._HOMES[name]}"), name)
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'epochal' has no attribute 'fitt'"):
        epochal.__getattr__("fitt")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, epochal; print(sorted({'torch', 'numpy', 'pydantic', 'rich'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
