"""start.py in processes of its own, in a folder where a stand-in for the virtual environment's Python notes what it is asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[1]
INDEX = "https://download.pytorch.org/whl/cpu"
VERSION = "2.13.0"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script with #!")

STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path
answers = json.loads(os.environ.get("ANSWERS", "{{}}"))
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv[1:]), file=log)
words = " ".join(sys.argv[1:])
for part, (text, code, seconds) in answers.items():
    if part in words:
        time.sleep(seconds)
        print(text)
        sys.exit(code)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(STAND_IN.format(python=sys.executable, log=str(tmp_path / "log")))
    python.chmod(0o755)
    shutil.copy(SOURCE / "start.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'epochal'\n")
    (tmp_path / "constraints.txt").write_text(f"numpy==2.4.6\ntorch=={VERSION}\n")
    return tmp_path


Start = Callable[..., tuple[list[list[str]], "subprocess.CompletedProcess[str]"]]


@pytest.fixture
def start(folder: Path) -> Start:
    """Run start.py; return what the stand-in was asked, and how it ended. `answers` maps parts of commands to output, code and seconds."""

    def run(*arguments: str, driver: bool = False, before: str = "", **answers: Any) -> Any:
        (folder / "log").unlink(missing_ok=True)
        # Unless a test asks for less, with patience for a stand-in that is late on a busy machine.
        program = f"import start, sys\nstart.PATIENCE = 60\n{before}\nstart.has_driver = lambda: {driver}\nsys.exit(start.main())"
        environment = {**os.environ, "ANSWERS": json.dumps({name.replace("_", " "): value for name, value in answers.items()})}
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        log = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
        return [asked for line in log if (asked := json.loads(line))[2:3] not in (["--version"], ["config"], ["index"])], done

    return run


THERE = (f"torch ({VERSION}+cpu)\nAvailable versions: {VERSION}+cpu, 2.12.1+cpu", 0, 0)
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
TORCH = [*PIP, "--no-deps", "--index-url", INDEX, f"torch=={VERSION}"]


def _all(folder: Path, extra: str = "") -> list[str]:
    return [*PIP, "-c", str(folder / "constraints.txt"), "-e", f"{folder}{extra}"]


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip brings the CPU build by itself")


@linux
def test_without_a_driver_torch_alone_comes_from_the_cpu_index(folder: Path, start: Start) -> None:
    asked, done = start("train", "mnist", index_versions=THERE)
    assert asked == [TORCH, _all(folder), ["-m", "epochal", "train", "mnist"]]
    assert done.returncode == 0
    # What is installed is not installed again; what is needed for use is part of what is needed for development.
    assert start("models", index_versions=THERE)[0] == [["-m", "epochal", "models"]]
    asked, _ = start("test", index_versions=THERE)
    assert asked[:3] == [TORCH, _all(folder, "[dev]"), ["-m", "ruff", "check"]]
    assert start(index_versions=THERE)[0] == [["-m", "epochal", "train"]]


@linux
@pytest.mark.parametrize(
    "answer",
    [
        ("ERROR: No matching distribution found for torch", 1, 0),
        ("torch (2.12.1+cpu)\nAvailable versions: 2.12.1+cpu", 0, 0),
        (THERE[0], 0, 60),
    ],
    ids=["refused", "without our version", "silent"],
)
def test_a_cpu_index_out_of_reach_is_reported_and_left(folder: Path, start: Start, answer: Any) -> None:
    began = time.monotonic()
    asked, done = start("models", before="import start; start.PATIENCE = 1", index_versions=answer)
    assert asked == [_all(folder), ["-m", "epochal", "models"]]
    assert len(re.findall(r"(?m)^PyTorch's CPU builds cannot be reached; installing pip's default build", done.stdout)) == 1
    # A minute would have been waited for the silent one.
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    "own",
    ["global.index-url='https://mirror/simple'", ":env:.find-links='/opt/wheels'", "install.no-index='true'", "site.extra-index-url='x'"],
)
def test_own_sources_of_packages_are_respected(folder: Path, start: Start, own: str) -> None:
    asked, _ = start("models", config_list=(f"global.cert='/etc/ca.pem'\n{own}", 0, 0), index_versions=THERE)
    assert asked == [_all(folder), ["-m", "epochal", "models"]]


@linux
def test_other_settings_of_pip_are_no_source(start: Start) -> None:
    assert TORCH in start("models", config_list=("global.cert='/etc/ca.pem'\nglobal.timeout='60'", 0, 0), index_versions=THERE)[0]


def test_with_a_driver_pip_brings_torch(folder: Path, start: Start) -> None:
    assert start("models", driver=True, index_versions=THERE)[0] == [_all(folder), ["-m", "epochal", "models"]]


def test_the_build_can_be_chosen(folder: Path, start: Start) -> None:
    asked, _ = start("--cuda", "models", index_versions=THERE)
    assert asked == [_all(folder), ["-m", "epochal", "models"]]
    # Another build means another environment; that one is real.
    asked, done = start("--cpu", "models", before="import sys; sys.modules['ensurepip'] = None", driver=True)
    assert asked == []
    assert not (folder / ".venv").exists()
    assert "virtual environments" in done.stderr


def test_cpu_is_taken_also_where_there_is_a_driver(folder: Path, start: Start) -> None:
    asked, _ = start("--cpu", "predict", "run", "--cpu", driver=True, config_list=("global.index-url='x'", 0, 0))
    assert asked == [TORCH, _all(folder), ["-m", "epochal", "predict", "run", "--cpu"]]


def test_failing_pip_is_reported_and_tried_again(folder: Path, start: Start) -> None:
    asked, done = start("models", driver=True, constraints=("", 1, 0))
    assert (asked, done.returncode) == ([_all(folder)], 1)
    assert done.stderr.endswith("The packages could not be installed; pip says why above.\n")
    assert start("models", driver=True)[0] == [_all(folder), ["-m", "epochal", "models"]]


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_reported_and_nothing_is_begun(folder: Path, start: Start, module: str) -> None:
    shutil.rmtree(folder / ".venv")
    asked, done = start("models", before=f"import sys; sys.modules['{module}'] = None")
    assert asked == []
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.stderr == (
        f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu, install python{version}-venv: "
        f"sudo apt install python{version}-venv\n"
    )
    assert done.returncode == 1
    assert not (folder / ".venv").exists()


def test_an_environment_is_made_whole_or_not_at_all(folder: Path, start: Start) -> None:
    shutil.rmtree(folder / ".venv")
    before = "import ensurepip, venv\ndef fail(self, context): raise KeyboardInterrupt\nvenv.EnvBuilder._setup_pip = fail"
    done = start("models", before=before)[1]
    assert done.returncode == 130
    assert not (folder / ".venv").exists()


def test_an_environment_without_pip_gets_it(folder: Path, start: Start) -> None:
    asked, _ = start("models", driver=True, **{"pip --version": ("No module named pip", 1, 0)})
    assert asked == [["-m", "ensurepip"], _all(folder), ["-m", "epochal", "models"]]


@pytest.mark.parametrize(("types", "tests", "code"), [(0, 0, 0), (3, 0, 3), (0, 4, 4), (3, 4, 4)])
def test_types_are_checked_beside_the_tests_and_shown_after_them(start: Start, types: int, tests: int, code: int) -> None:
    asked, done = start("test", driver=True, m_mypy=("found by mypy", types, 0), m_pytest=("found by pytest", tests, 0))
    assert sorted(words[1] for words in asked[1:]) == ["mypy", "pytest", "ruff", "ruff"]
    assert done.returncode == code
    assert re.search(r"\$ pytest .*\nfound by pytest\n\n\$ mypy\nfound by mypy\n$", done.stdout)


def test_nothing_else_runs_where_lint_finds_something(start: Start) -> None:
    asked, done = start("test", driver=True, ruff_check=("found by ruff", 1, 0))
    assert ([words[1] for words in asked[1:]], done.returncode) == (["ruff"], 1)


def test_an_interrupt_ends_the_tests_and_the_check_of_types(folder: Path) -> None:
    program = "import start, sys\nstart.set_up = lambda *_: None\nsys.exit(start.main())"
    environment = {**os.environ, "ANSWERS": json.dumps({"m mypy": ("", 0, 60), "m pytest": ("", 0, 60)})}
    with subprocess.Popen(
        [sys.executable, "-c", program, "test"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0
    ) as process:
        while not (folder / "log").exists() or len((folder / "log").read_text().splitlines()) < 4 or not _waits(process.pid):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(50) == 130
        assert process.stdin is not None
        # All inherited this pipe: nobody is left to read from it.
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x")


def _waits(process: int) -> bool:
    """Whether a process sleeps, as one that waits for its children does: on Linux, where it says so."""
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "S"


def test_an_old_python_is_reported() -> None:
    program = "import sys; sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'; import start; sys.exit(start.main())"
    done = subprocess.run([sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Epochal needs Python 3.11 or newer; this is 3.10.4.\n")
