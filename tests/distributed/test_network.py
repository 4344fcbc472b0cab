"""Two processes in network namespaces of their own, whose wire is slow, loses packets, or is cut.

EPOCHAL_CUTS=10 python3 -m pytest -s tests/distributed/test_network.py     so often each; as root, on Linux
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import math
import os
import random
import select
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.distributed.test_command import LIMIT, TRAIN
from tests.forks import Server
from tests.processes import Processes, run_command
from tests.quick import draw_nothing

CUTS = int(os.environ.get("EPOCHAL_CUTS", "0"))

pytestmark = pytest.mark.skipif(not CUTS, reason="takes half a minute for each: EPOCHAL_CUTS=10")

# What a process has of its own, by unshare and setns of Linux.
_MOUNTS, _NETWORK = 0x00020000, 0x40000000

# A network device whose packets a program carries: an ioctl and flags of <linux/if_tun.h>.
_SET_INTERFACE, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000

_ADDRESSES = """
ip link set lo up
ip netns add other
ip link set eth1 netns other
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
ip netns exec other ip addr add 10.0.0.2/24 dev eth1
ip netns exec other ip link set eth1 up
"""

# What the wire says of itself when it ends.
_WIRE = "wire.json"


class Wire(NamedTuple):
    """A wire that delivers packets so many seconds late and loses this share of them; after the first checkpoint, it is cut.

    `cut` says after how many seconds, and for how many.
    """

    late: float = 0.0
    lost: float = 0.0
    cut: tuple[float, float] = (math.inf, 0.0)
    seed: int = 0

    def carry(self, devices: list[int]) -> None:
        """Carry packets from each of two devices to the other until SIGTERM; then write what was done."""
        chance, packets, lost, began = random.Random(self.seed), 0, 0, math.inf
        under_way: list[tuple[float, int, int, bytes]] = []
        ended = False

        def end(*_: object) -> None:
            nonlocal ended
            ended = True

        signal.signal(signal.SIGTERM, end)
        while not ended:
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                _, _, to, packet = heapq.heappop(under_way)
                os.write(devices[to], packet)
            if began == math.inf and list(Path("run").glob("checkpoints/step-*")):
                began = now
            for device in select.select(devices, [], [], min(0.05, under_way[0][0] - now) if under_way else 0.05)[0]:
                packet, packets = os.read(device, 1 << 16), packets + 1
                if self.cut[0] <= time.monotonic() - began < sum(self.cut) or chance.random() < self.lost:
                    lost += 1
                else:
                    heapq.heappush(under_way, (time.monotonic() + self.late, packets, 1 - devices.index(device), packet))
        Path(_WIRE).write_text(json.dumps({"packets": packets, "lost": lost, "cut": began + self.cut[0]}))


def fork(folder: Path, arguments: list[str], wire: list[Any]) -> dict[str, Any]:
    """Run the command in two processes that such a wire connects."""
    (folder / "found.json").unlink(missing_ok=True)
    os.waitpid(_forked(lambda: (folder / "found.json").write_text(json.dumps(_connected(folder, arguments, Wire(*wire))))), 0)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def _forked(work: Callable[[], object]) -> int:
    """Return the number of a fork that does this, and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  the test will see it
        traceback.print_exc()
    finally:
        os._exit(code)


def _connected(folder: Path, arguments: list[str], wire: Wire) -> dict[str, Any]:
    os.chdir(folder)
    assert not ctypes.CDLL(None, use_errno=True).unshare(_MOUNTS | _NETWORK), os.strerror(ctypes.get_errno())
    # Names are looked for in this file alone: nobody else can be asked here.
    Path("hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n10.0.0.1 first\n10.0.0.2 second\n")
    Path("resolv.conf").write_text("")
    _do(f"mount --make-rprivate /\nmount --bind {folder}/hosts /etc/hosts\nmount --bind {folder}/resolv.conf /etc/resolv.conf")
    # `ip` keeps namespaces here, and nobody else shall find this one.
    _do("mkdir -p /run/netns\nmount -t tmpfs tmpfs /run/netns")
    devices = [_device(f"eth{rank}") for rank in range(2)]
    _do(_ADDRESSES)
    carrier = _forked(lambda: wire.carry(devices))
    draw_nothing()
    command = run_command(arguments)

    def work(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = f"eth{rank}"
        if rank:
            os.environ["MASTER_ADDR"] = "10.0.0.1"
            with Path("/run/netns/other").open() as other:
                assert not ctypes.CDLL(None).setns(other.fileno(), _NETWORK)
        command(rank)

    processes = Processes(folder, 2, work)
    ended = processes.wait()
    os.kill(carrier, signal.SIGTERM)
    os.waitpid(carrier, 0)
    carried = json.loads(Path(_WIRE).read_text())
    return {"ended": ended, **carried, "cut": carried["cut"] - processes.began}


def _device(name: str) -> int:
    """Return what packets of a new network device are read from and written to."""
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), _TUN | _NO_HEADER))
    return opened


def _do(lines: str) -> None:
    for line in lines.strip().splitlines():
        subprocess.run(line.split(), check=True, capture_output=True)


class Place:
    """A folder in which two processes train, over a wire."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server.by(__name__)
        self.folder = folder

    def __call__(self, *arguments: str, wire: Wire) -> dict[str, Any]:
        self.server.ask(folder=str(self.folder), arguments=[*TRAIN, *arguments], wire=wire)
        found: dict[str, Any] = self.server.answer()
        return found

    def weights(self, run: str) -> bytes:
        """Return the weights that a run has kept."""
        return (self.folder / run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_process_that_is_cut_off_is_named(forking: Server, seed: int, tmp_path: Path) -> None:
    wire = Wire(cut=(random.Random(seed).uniform(0, 3), math.inf))
    found = Place(forking, tmp_path)("--epochs", "5000", "--out", "run", wire=wire)
    assert [one["code"] for one in found["ended"]] == [75, 75], found
    took = max(one["seconds"] for one in found["ended"]) - found["cut"]
    print(f"\nall ended after {took:.1f} s")
    assert took < LIMIT
    assert "Process 1 of 2" in found["ended"][0]["said"]
    assert "has not answered for 20 seconds: it hangs, or is cut off." in found["ended"][0]["said"]


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_poor_wire_changes_no_bit(forking: Server, seed: int, tmp_path: Path) -> None:
    """Some packets are lost, all are late, and for some seconds none arrives."""
    place, chance = Place(forking, tmp_path), random.Random(seed)
    good = place("--out", "good", wire=Wire())
    wire = Wire(chance.uniform(0, 0.02), chance.uniform(0, 0.02), (chance.uniform(0, 2), chance.uniform(0, 8)), seed)
    poor = place("--out", "run", wire=wire)
    seconds = [max(one["seconds"] for one in run["ended"]) for run in (good, poor)]
    print(f"\n{1e3 * wire.late:.0f} ms late, {poor['lost']} of {poor['packets']:,} packets lost, none for {wire.cut[1]:.1f} s: {seconds}")
    assert [one["code"] for one in (*good["ended"], *poor["ended"])] == [0] * 4, poor
    assert good["lost"] == 0 < poor["lost"]
    assert place.weights("run") == place.weights("good")
