"""The station: the children of a run on one machine, with the folder that they read, their status pages and stacks.

Decides when a call is past its time limit, when the process that starts the others is hopeless, and what of a child is
known when it exits. It knows no core and no socket: what follows from its events is decided by the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ...nodes.dispatch.blame import LastSeen
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.program.hardware import Seat
from ...nodes.program.program import Step
from ..reporting.report import RunReport
from .processes.nursery import ChildExited, ChildStarted, Nursery, SpawnFailed, ZygoteDied
from .transport.launch import ChildSettings
from .transport.run_dir import LOST, UNREACHED
from .transport.status_page import StatusPage, StatusReading
from .watchdog import Overrun, is_limited, overrun, without_engine

#: How long a worker may take to write its stack to a file, in seconds.
STACK_S = 0.5
#: Exit codes of processes killed from outside: by the memory killer, the user, a service manager.
KILLS = (-signal.SIGKILL, -signal.SIGTERM)
#: How often the process that starts the others may be killed from outside before it is ready.
_MAX_UNREADY = 4


class ChildWork(Struct, frozen=True):
    """What the children of a run are to do: plain data, for this machine or another one.

    `specs` are the files that children read when they start, `steps` what the workers of each pool run, `modules` what
    is imported before any of them starts, `seed` that of the hashes (`None`: the user has set one).
    """

    specs: Mapping[str, bytes]
    steps: Sequence[Sequence[Step]]
    modules: Sequence[str]
    seed: str | None


class Started(Struct, frozen=True):
    """A child runs."""

    child: str
    pid: int


class Exited(Struct, frozen=True):
    """A child has exited: `code` is `None` if that is all that is known, and `cause` then says why.

    `seen` is what a worker was last seen doing.
    """

    child: str
    code: int | None
    seen: LastSeen | None
    cause: str = ""


class StackTaken(Struct, frozen=True):
    """What a worker was doing when it was asked for its stack, and the stack (empty if it gave none)."""

    worker: str
    pid: int
    seen: LastSeen
    stack: str


class Restarted(Struct, frozen=True):
    """The process that starts the others died and is started again; the exits of all children follow."""

    reason: str


class Broken(Struct, frozen=True):
    """No child can be started; `reason` ends the run."""

    reason: str


StationEvent = Started | Exited | Overrun | StackTaken | Restarted | Broken


class Station:
    """The children of one run on this machine. Used by one thread, which must live as long as they do.

    `seat_of` returns the devices and cores of a worker, by its name.
    """

    record_answer: Callable[[str, int], None] | None = None  #: there is one machine, so nobody counts by machine

    def __init__(self, folder: Path, work: ChildWork, seat_of: Callable[[str], Seat] = lambda worker: Seat()) -> None:
        self._folder = folder
        self._seat_of = seat_of
        self._steps = work.steps
        self._limited = any(is_limited(step) for steps in work.steps for step in steps)
        self._nursery = Nursery(
            entry="sluiceway.engine.local.children.entry:main", preload=work.modules, seed=work.seed
        )
        self._pages: dict[str, StatusPage] = {}
        self._late: set[str] = set()  #: workers that were killed for a time limit and have not exited
        self._asked: dict[str, float] = {}  #: workers that were asked for their stack, and when
        self._started = False
        self._unready = 0  #: how often in a row the process that starts the others was killed before it was ready
        for name, data in work.specs.items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)

    def start(self) -> None:
        """Start the process that starts the others."""
        self._nursery.start()
        self._started = True

    def spawn(self, child: str, spec: str, settings: ChildSettings) -> None:
        """Start a child; its work is described in the file `spec` of the folder. A worker gets a status page."""
        if not spec.startswith("source"):
            self._pages[child] = StatusPage(self._folder / f"{child}.status", create=True)
        seat = Seat() if spec.startswith("source") else self._seat_of(child)
        path = str(self._folder / spec)
        self._nursery.spawn(child, replace(settings, spec_path=path, variables=seat.variables, cores=seat.cores).dump())

    def kill(self, child: str) -> None:
        """Kill a child and all of its process group; its exit follows. No effect if it has exited."""
        self._nursery.kill(child)

    def ask_stack(self, worker: str, now: float) -> None:
        """Ask a worker for its stack; `StackTaken` follows, unless the worker exits before."""
        pid, number = self._nursery.alive.get(worker), _stack_signal()
        if pid is None:
            return
        self._asked[worker] = now
        if number is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just died; its exit is about to be seen
                os.kill(pid, number)

    def status(self, worker: str) -> StatusReading | None:
        """Return what a worker shows on its status page; `None` if it has none."""
        page = self._pages.get(worker)
        return None if page is None else page.read()

    @property
    def descriptor(self) -> int:
        """The descriptor that is readable when there are events, another one after each `Restarted`; -1 before `start`."""
        return self._nursery.fileno() if self._started else -1

    @property
    def alive(self) -> Mapping[str, int]:
        """The pids of the children that run, by name."""
        return self._nursery.alive

    @property
    def names(self) -> list[str]:
        """The children that run or are being started."""
        return [*self._nursery.alive, *self._nursery.requested]

    @property
    def needs_clock(self) -> bool:
        """Whether something may be due without anything having happened: a time limit, or a stack."""
        return self._limited or bool(self._asked)

    def events(self, now: float) -> list[StationEvent]:
        """Return what happened since the last call, and kill the workers that are past a time limit."""
        found: list[StationEvent] = []
        for event in self._nursery.events():
            if isinstance(event, ChildStarted):
                self._unready = 0
                found.append(Started(event.child, event.pid))
            elif isinstance(event, ChildExited):
                found.append(self._exit(event.child, event.code))
            elif isinstance(event, SpawnFailed):
                found.append(Broken(f"cannot start process {event.child}: {event.error}"))
            elif isinstance(event, ZygoteDied):
                found += self._restart(event)
        if self._limited:
            found += self._kill_late(now)
        if self._asked:
            found += self._stacks(now)
        return found

    def _restart(self, died: ZygoteDied) -> list[StationEvent]:
        self._unready = 0 if died.was_ready else self._unready + 1
        if not died.was_ready and (died.status not in KILLS or self._unready >= _MAX_UNREADY):
            return [Broken(died.reason)]
        self._nursery.start()
        return [Restarted(died.reason), *(self._exit(child, None) for child in died.children)]

    def _exit(self, child: str, code: int | None) -> Exited:
        self._late.discard(child)
        self._asked.pop(child, None)
        page = self._pages.pop(child, None)
        if page is None:
            return Exited(child, code, None)
        seen = page.read().seen
        page.close()
        (self._folder / f"{child}.status").unlink(missing_ok=True)
        if self._left_for(child, LOST):
            return Exited(child, None, seen, "lost its connection to the calling process")
        if self._left_for(child, UNREACHED):
            return Exited(child, code, seen, "could not connect to the calling process; let the nodes reach its ports")
        return Exited(child, code, seen)

    def _left_for(self, child: str, why: str) -> bool:
        path = self._folder / f"{child}.{why}"
        left = path.exists()
        path.unlink(missing_ok=True)
        return left

    def _kill_late(self, now: float) -> list[Overrun]:
        found = []
        for worker, page in self._pages.items():
            if worker in self._late:
                continue
            late = overrun(worker, page.read(), self._steps[WorkerName.parse(worker).pool], now)
            if late is not None:
                found.append(late)
                self._late.add(worker)
                self._nursery.kill(worker)
        return found

    def _stacks(self, now: float) -> list[StackTaken]:
        found = []
        for worker in [worker for worker, at in self._asked.items() if now - at >= STACK_S]:
            del self._asked[worker]
            page, path, stack = self._pages[worker], self._folder / f"{worker}.stack", ""
            with contextlib.suppress(OSError):  # there is none if the worker had no chance to write it
                stack = without_engine(path.read_text())
                os.truncate(path, 0)
            found.append(StackTaken(worker, self._nursery.alive.get(worker, 0), page.read().seen, stack))
        return found

    def where(self, child: str, pid: int) -> str:
        """Return where a child runs, for a warning."""
        return f"process {pid}"

    def complete(self, report: RunReport) -> None:
        """Add nothing: all workers are on the machine of the report."""

    def shutdown(self, grace_s: float) -> dict[str, str]:
        """End every child: SIGTERM, after `grace_s` seconds SIGKILL; return how each one ended."""
        return self._nursery.shutdown(grace_s)

    def close(self) -> None:
        """Kill what still runs, and close the status pages."""
        self._nursery.close()
        for page in self._pages.values():
            page.close()


def describe_exit(code: int | None) -> str:
    """Return how a process ended, and the likely cause, as part of a sentence."""
    if code is None:
        return "died with the process that starts workers"
    if code >= 0:
        return f"exited with code {code}" + ("" if code else ", which only os._exit in user code does")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    likely = {"SIGKILL": " (killed from outside, or by the memory killer)", "SIGSEGV": " (a crash in C code)"}
    return f"was ended by {name}{likely.get(name, '')}"


def _stack_signal() -> int | None:
    return getattr(signal, "SIGUSR1", None)
