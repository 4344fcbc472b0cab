"""Two processes in network namespaces of their own: their link is cut.

EPOCHAL_CUTS=10 python3 -m pytest -s tests/distributed/test_network.py     so often; as root, on Linux
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import socket
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_command import LIMIT, TRAIN
from tests.forks import Server
from tests.processes import Processes, run_command
from tests.quick import draw_nothing

CUTS = int(os.environ.get("EPOCHAL_CUTS", "0"))

pytestmark = pytest.mark.skipif(not CUTS, reason="takes half a minute for each: EPOCHAL_CUTS=10")

# What a process has of its own, by unshare and setns of Linux.
_MOUNTS, _NETWORK = 0x00020000, 0x40000000

_LINK = """
ip link set lo up
ip link add eth0 type veth peer name eth1
ip netns add other
ip link set eth1 netns other
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
ip netns exec other ip addr add 10.0.0.2/24 dev eth1
ip netns exec other ip link set eth1 up
"""

# When the link was cut, by the clock of the machine.
_CUT = "cut.txt"


def fork(folder: Path, arguments: list[str], after: float) -> dict[str, Any]:
    """Run the command in two processes whose link is cut so many seconds after the first checkpoint."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            (folder / "found.json").write_text(json.dumps(_connected(folder, arguments, after)))
            code = 0
        except BaseException:  # noqa: BLE001  the test will see it
            traceback.print_exc()
        finally:
            os._exit(code)
    os.waitpid(pid, 0)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def _connected(folder: Path, arguments: list[str], after: float) -> dict[str, Any]:
    assert not ctypes.CDLL(None, use_errno=True).unshare(_MOUNTS | _NETWORK), os.strerror(ctypes.get_errno())
    # Names are looked for in this file alone: nobody else can be asked here.
    (folder / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n10.0.0.1 first\n10.0.0.2 second\n")
    (folder / "resolv.conf").write_text("")
    _do(f"mount --make-rprivate /\nmount --bind {folder}/hosts /etc/hosts\nmount --bind {folder}/resolv.conf /etc/resolv.conf")
    _do(_LINK)
    draw_nothing()
    command = run_command(arguments)

    def work(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = f"eth{rank}"
        if rank:
            os.environ["MASTER_ADDR"] = "10.0.0.1"
            with Path("/run/netns/other").open() as other:
                assert not ctypes.CDLL(None).setns(other.fileno(), _NETWORK)
        else:
            threading.Thread(target=_cut, args=(after,), daemon=True).start()
        command(rank)

    processes = Processes(folder, 2, work)
    ended = processes.wait()
    return {"ended": ended, "cut": float((folder / _CUT).read_text()) - processes.began}


def _cut(seconds: float) -> None:
    while not list(Path("run").glob("checkpoints/step-*")):
        time.sleep(0.05)
    time.sleep(seconds)
    _do("ip netns exec other ip link set eth1 down")
    Path(_CUT).write_text(str(time.monotonic()))


def _do(lines: str) -> None:
    for line in lines.strip().splitlines():
        subprocess.run(line.split(), check=True, capture_output=True)


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_process_that_is_cut_off_is_named(forking: Server, seed: int, tmp_path: Path) -> None:
    arguments = [*TRAIN, "--epochs", "5000", "--out", "run"]
    forking.by(__name__).ask(folder=str(tmp_path), arguments=arguments, after=random.Random(seed).uniform(0, 3))
    found = forking.answer()
    assert [one["code"] for one in found["ended"]] == [75, 75], found
    took = max(one["seconds"] for one in found["ended"]) - found["cut"]
    print(f"\nall ended after {took:.1f} s")
    assert took < LIMIT
    assert "Process 1 of 2" in found["ended"][0]["said"]
    assert "has not answered for 20 seconds: it hangs, or is cut off." in found["ended"][0]["said"]
