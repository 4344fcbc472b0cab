"""Set Epochal up and run it, on any machine with Python 3.11 or newer.

    python3 start.py                    set up, then train on handwritten digits
    python3 start.py train mnist ...    set up, then run `epochal train mnist ...`
    python3 start.py test               set up for development, then lint, check types, and run all tests
    python3 start.py --cpu ...          set up with PyTorch for the CPU: some 200 MB instead of several GB on Linux
    python3 start.py --cuda ...         set up with the PyTorch that pip installs, which on Linux is for NVIDIA's GPUs too

The virtual environment is in .venv beside this file; it is made once and used again, and renewed when the pinned versions change.
Where neither is said, PyTorch for the CPU is taken on Linux without NVIDIA's driver, unless pip is set to take packages from elsewhere.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
CONSTRAINTS = HERE / "constraints.txt"

# PyTorch's own: https://pytorch.org/get-started/locally
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 5  # seconds

LINT = (("ruff", "check"), ("ruff", "format", "--check"))
# One process more than there are cores, as some tests wait for others; each takes about 1 GB.
WORKERS = min((os.cpu_count() or 1) + 1, 4)
TESTS = ("pytest", "-q", f"--numprocesses={WORKERS}", "--dist=worksteal")


def set_up(extra: str, build: str) -> None:
    """Install Epochal with its pinned dependencies and PyTorch's `build` ("cpu", "cuda" or "auto"), unless they are installed already."""
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))).hexdigest() + extra
    mark = VENV / "installed.txt"
    installed, _, built = mark.read_text().partition(" ") if mark.exists() else ("", "", "")
    if mark.exists() and build not in ("auto", built):
        shutil.rmtree(VENV)
    # What is needed for development includes what is needed for use.
    elif installed in (wanted, wanted + "dev"):
        return
    print(f"Setting up {VENV} (about a minute the first time) ...", flush=True)
    make_environment()
    mark.unlink(missing_ok=True)
    if build == "auto":
        build = built or choose_build()
    if build == "cpu":
        # A command of its own, so that nothing else can come from there; the next one leaves what fits the constraints as it is.
        pip("install", "--no-deps", "--index-url", CPU_INDEX, f"torch=={torch_version()}")
    pip("install", "-c", str(CONSTRAINTS), "-e", f"{HERE}[{extra}]" if extra else str(HERE))
    mark.write_text(f"{wanted} {build}")


def make_environment() -> None:
    """Make the virtual environment if there is none: a whole one, or none."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        sys.exit(f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu, install {package}: sudo apt install {package}")
    if PYTHON.exists():
        # Made by another tool, or not to the end.
        subprocess.run([PYTHON, "-m", "ensurepip"], check=True)
        return
    import venv

    try:
        venv.create(VENV, with_pip=True, clear=VENV.exists(), symlinks=os.name != "nt")
    except BaseException:
        shutil.rmtree(VENV, ignore_errors=True)
        raise


def choose_build() -> str:
    """Return the build of PyTorch for this machine: that for the CPU is a tenth of the one that pip installs on Linux."""
    if sys.platform != "linux" or has_driver() or has_own_source():
        return "cuda"
    if cpu_index_answers():
        return "cpu"
    print("PyTorch's CPU builds cannot be reached; installing pip's default build, which is several GB.", flush=True)
    return "cuda"


def pip(*arguments: str) -> None:
    """Run pip in the virtual environment."""
    subprocess.run([PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def has_driver() -> bool:
    """Whether NVIDIA's driver is there."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def has_own_source() -> bool:
    """Whether the user has configured pip, in a file or a variable, to install packages from elsewhere."""
    settings = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    return re.search(r"\.(index-url|extra-index-url|find-links|no-index)=", settings) is not None


def torch_version() -> str:
    """Return the pinned version of PyTorch."""
    found = re.search(r"^torch==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def cpu_index_answers() -> bool:
    """Whether PyTorch's CPU index has our version for this Python, and says so soon."""
    ask = [str(PYTHON), "-m", "pip", "index", "versions", "torch", "--index-url", CPU_INDEX, "--retries", "0", "--timeout", str(PATIENCE)]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=PATIENCE).stdout
    except subprocess.TimeoutExpired:
        return False
    return f"{torch_version()}+cpu" in answer


def test() -> int:
    """Lint, and stop at what that finds; then check types while the tests run, and fail if either fails."""
    for check in LINT:
        if code := run(*check):
            return code
    print("\nmypy runs beside pytest; what it says follows pytest's summary.", flush=True)
    with subprocess.Popen([PYTHON, "-m", "mypy"], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as types:
        try:
            code = run(*TESTS)
            print("\n$ mypy", flush=True)
            sys.stdout.buffer.write(types.communicate()[0])
            sys.stdout.flush()
        finally:
            types.kill()
    return code or types.returncode


def run(module: str, *arguments: str) -> int:
    """Run a module of the virtual environment under a line that names it; return its exit code."""
    print("\n$", module, *arguments, flush=True)
    return subprocess.run([PYTHON, "-m", module, *arguments], cwd=HERE).returncode


def main() -> int:
    """Do what the command line says and return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036  this message is for older Pythons
        print(f"Epochal needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    arguments = sys.argv[1:]
    build = arguments.pop(0)[2:] if arguments[:1] in (["--cpu"], ["--cuda"]) else "auto"
    arguments = arguments or ["train"]
    try:
        set_up("dev" if arguments == ["test"] else "", build)
        return test() if arguments == ["test"] else subprocess.run([PYTHON, "-m", "epochal", *arguments]).returncode
    except subprocess.CalledProcessError as error:
        print("The packages could not be installed; pip says why above.", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
