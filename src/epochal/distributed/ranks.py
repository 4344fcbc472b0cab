"""The processes that train one model together: which of them this is, and how they agree.

torchrun, or any other launcher of PyTorch's, starts them and says in the environment who they are (RANK, WORLD_SIZE, MASTER_ADDR, ...).
Process 0 leads: whatever depends on a clock, on a measurement or on a file is decided there and told to the others. Tensors go through
PyTorch's collectives: gloo between CPUs, NCCL between GPUs. Waiting for the leader, which may take long, goes through the launcher's
key-value store instead, so that a collective that is not answered always means a fault (see `watchdog`).
"""

from __future__ import annotations

import atexit
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from epochal.distributed import is_launched
from epochal.errors import DataError, ElsewhereError, LostError, NotFiniteError, RecipeError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from epochal.distributed.watchdog import Watchdog

T = TypeVar("T")

# How long one look for a key in the store may take: between two looks signals are handled.
_LOOK = timedelta(seconds=1)

# Seconds between two looks for processes that have just started.
_AGAIN = 0.02

# The watchdog finds what does not answer, and sooner.
_LONGEST = timedelta(days=1)


class Ranks:
    """The processes that train together: this is number `rank` of `size`, and number `local` of those on this machine."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        self.rank = rank
        self.size = size
        self.local = local
        self._told = self._met = self._blocks = 0

    @property
    def leads(self) -> bool:
        """Whether this process decides, prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device called `name`: of several GPUs, each process of a machine has its own."""
        device = torch.device(name)
        return torch.device("cuda", self.local) if self.size > 1 and device.type == "cuda" else device

    def tell(self, make: Callable[[], T]) -> T:
        """Return what `make`, called by process 0 alone, returns there: JSON values.

        If it fails, no process continues; but a `NotFiniteError`, after which training may be rewound, is raised in all of them.
        """
        return make()

    def first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in this process. Process 0 goes first: what it reads into the cache, it reads for all."""
        made: list[T] = []
        self.tell(lambda: made.append(make()))
        return made[0] if made else make()

    def check_same(self, what: str, value: str) -> None:
        """Raise `DataError` if `value`, a hexadecimal number, is not the same in all processes."""
        number = torch.tensor([int(value[:15] or "0", 16)])
        others = [rank for rank, found in enumerate(self.gather(number)) if not torch.equal(found, number)]
        if others:
            raise DataError(
                f"{what} of process {self.rank} are not those of process {others[0]}.", "Give all processes the same, on every machine."
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """In the block, processes wait for each other: one that ends in it, or hangs, is a fault."""
        yield

    def meet(self) -> None:
        """Wait until all processes are here, however long that takes."""

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return the `values`, of equal shape and dtype, of every process."""
        return [values]

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:  # noqa: ARG002  for several
        """Return the `rows` [n, ...] of every process, of which there are as many as `counts` says; they differ in nothing else."""
        return [rows]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the `values` of all processes, in a new tensor."""
        return values

    def from_leader(self, values: Tensor) -> Tensor:
        """Return the `values` of process 0, of equal shape and dtype; they may be written into those of this process."""
        return values

    def step_begins(self) -> None:
        """Note that a step of training begins, for who watches whether a process hangs."""

    def step_computed(self) -> None:
        """Note that this process has computed its part of the step, and waits for the others."""


class _Joined(Ranks):
    def __init__(self, rank: int, size: int, local: int, store: Store) -> None:
        super().__init__(rank, size, local)
        self.store = _under("epochal", store)
        self.group = _group_for_cpu()
        self.watchdog = _watch(self)

    @contextmanager
    def together(self) -> Iterator[None]:
        self._blocks += 1
        ended = f"ended/{self._blocks}"
        try:
            with self.watchdog.watching():
                yield
        except LostError:
            raise
        except BaseException as error:
            # Gloo has no error of its own.
            if not isinstance(error, dist.DistError) and not (isinstance(error, RuntimeError) and "gloo" in str(error)):
                with suppress(RuntimeError):
                    self.store.set(ended, str(_exit_code(error)))
                raise
            self._leave_if(ended)
            raise LostError(
                f"Another process that trains along has ended, or cannot be reached ({_reason(error)}).",
                "Its own message says more, or that of the launcher; training can continue from the last checkpoint.",
            ) from error

    def _leave_if(self, ended: str) -> None:
        """Leave if another process has ended on purpose: started again, it would end the same."""
        try:
            if not self.store.check([ended]):
                return
            code = int(self.store.get(ended))
        except RuntimeError:
            return
        _leave(code)

    def tell(self, make: Callable[[], T]) -> T:
        self._told += 1
        name = f"told/{self._told}"
        if self.leads:
            try:
                value = make()
            except NotFiniteError as error:
                self.store.set(name, json.dumps({"not finite": (error.problem, error.fix)}))
                raise
            except BaseException as error:
                self.store.set(name, json.dumps({"failed": _exit_code(error)}))
                raise
            self.store.set(name, json.dumps({"value": value}))
            return value
        message = json.loads(self._wait(name))
        if "not finite" in message:
            raise NotFiniteError(*message["not finite"])
        if "failed" in message:
            _leave(message["failed"])
        told: T = message["value"]
        return told

    def meet(self) -> None:
        self._met += 1
        name = f"met/{self._met}"
        if self.store.add(name, 1) == self.size:
            self.store.set(f"{name}/all", "")
        self._wait(f"{name}/all")

    def gather(self, values: Tensor) -> list[Tensor]:
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values.contiguous(), group=self._group_of(values))
        return found

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        found = [rows.contiguous() if rank == self.rank else rows.new_empty(count, *rows.shape[1:]) for rank, count in enumerate(counts)]
        for rank, some in enumerate(found):
            dist.broadcast(some, rank, group=self._group_of(rows))
        return found

    def total(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values, group=self._group_of(values))
        return values

    def from_leader(self, values: Tensor) -> Tensor:
        dist.broadcast(values, 0, group=self._group_of(values))
        return values

    def step_begins(self) -> None:
        self.watchdog.steps += 1

    def step_computed(self) -> None:
        self.watchdog.computed = self.watchdog.steps

    def _group_of(self, values: Tensor) -> dist.ProcessGroup | None:
        return self.group if values.device.type == "cpu" else None

    def _wait(self, name: str) -> bytes:
        while True:
            try:
                self.store.wait([name], _LOOK)
                return self.store.get(name)
            except dist.DistNetworkError:
                # Where no launcher keeps the store, it ends with process 0.
                _leave(1)
            except dist.DistStoreError:
                continue


# Whoever trains alone.
ALONE = Ranks()

_here: Ranks | None = None


def ranks() -> Ranks:
    """Return the processes that this one was started with; the first call joins them, which all of them have to do.

    Raises `RecipeError` if the environment names processes, but they do not find each other.
    """
    global _here
    if _here is None or (_here is ALONE and dist.is_available() and dist.is_initialized()):
        _here = _join()
    return _here


def _join() -> Ranks:
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if not is_launched():
            return ALONE
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        from torch.distributed.rendezvous import rendezvous

        try:
            store, rank, size = next(rendezvous("env://", timeout=timedelta(minutes=5)))
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            store = _under(_name_of_start(store, rank, size), store)
            dist.init_process_group(backend, store=_under("group", store), rank=rank, world_size=size, timeout=_LONGEST)
        except (RuntimeError, ValueError) as error:
            raise RecipeError(
                f"This process cannot find the {os.environ['WORLD_SIZE']} that it was started with: {error}.",
                "Start it by torchrun, which sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; or unset these.",
            ) from error
        atexit.register(_part)
    else:
        store = dist.distributed_c10d._get_default_store()
    if dist.get_world_size() == 1:
        return ALONE
    return _Joined(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")), store)


def _name_of_start(store: Store, rank: int, size: int) -> str:
    """Return a name that all processes know, and that no earlier start of theirs has used.

    The launcher's store outlives its processes: without that, those that are started again would find what earlier ones have left.
    Each asks in its own name, which is new; process 0 answers until all have thanked.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"asks/{rank}", own)
        store.wait([f"answer/{own}"])
        name = store.get(f"answer/{own}").decode()
        store.add(f"thanks/{name}", 1)
        return name
    asking = [f"asks/{other}" for other in range(1, size)]
    store.wait(asking)
    while store.add(f"thanks/{own}", 0) < size - 1:
        for asked in store.multi_get(asking):
            store.set(f"answer/{asked.decode()}", own)
        time.sleep(_AGAIN)
    return own


def _under(name: str, store: Store) -> Store:
    """Return a store whose keys are below `name` in another."""
    from torch.distributed.distributed_c10d import PrefixStore

    return PrefixStore(name, store)


def _part() -> None:
    """Leave the others, at the end of the program."""
    with suppress(Exception):
        dist.destroy_process_group()


def _group_for_cpu() -> dist.ProcessGroup | None:
    """Return a group of all processes that takes tensors on the CPU: `None`, the default one, if that does."""
    if "gloo" in str(dist.get_backend_config()):
        return None
    made: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=_LONGEST)
    return made


def _watch(joined: _Joined) -> Watchdog:
    from epochal.distributed.watchdog import Watchdog

    store = joined.store.clone()  # type: ignore[attr-defined]
    watchdog = Watchdog(store, joined.rank, joined.size, f"{socket.gethostname()}, process {os.getpid()}")
    joined.meet()
    watchdog.start()
    atexit.register(watchdog.stop)
    return watchdog


def _reason(error: BaseException) -> str:
    """Return what an error of gloo says in its first sentence, without the line of its code."""
    return re.sub(r"^\[[^\]]*\.cc:\d+\] ", "", str(error).splitlines()[0]).partition(". This is typically")[0]


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _leave(code: Any) -> NoReturn:
    if code == 130:
        raise KeyboardInterrupt
    if code != 1:
        raise SystemExit(code)
    raise ElsewhereError("Another process has failed.", "See its message.")
