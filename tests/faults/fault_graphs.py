"""The two graphs that every fault is tried on, and how a fault strikes: once, at a number, in one handler.

What a handler does is a function of its event, so that the inline runner says what must come out; what strikes is kept
apart, in a file that workers take from (`Strikes`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import sluiceway as sw

Handler = Callable[[Any], Any]


class Strikes:
    """A number of strikes that processes share: each strike is taken once, whoever comes first."""

    def __init__(self, folder: Path, count: int, name: str = "strike") -> None:
        self._paths = [str(folder / f"{name}-{at}") for at in range(count)]
        for path in self._paths:
            Path(path).touch()

    def take(self) -> bool:
        """Take one strike; gives whether there was one left."""
        for path in self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            return True
        return False

    @property
    def left(self) -> int:
        """How many strikes nobody has taken."""
        return sum(os.path.exists(path) for path in self._paths)


def die(how: str) -> None:
    """End this process."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "term": signal.SIGTERM}[how])
    time.sleep(60)


def killer(at: Iterable[int], how: str = "kill", strikes: Strikes | None = None) -> Handler:
    """Return a handler of numbers that ends its worker at the numbers `at`, as long as there are strikes."""
    numbers = frozenset(at)

    def strike(n: int) -> int:
        if n in numbers and (strikes is None or strikes.take()):
            die(how)
        return n

    return strike


def triple(n: int) -> int:
    """Return three times a number."""
    return 3 * n


def is_even(n: int) -> bool:
    """Whether a number is even."""
    return n % 2 == 0


def small(seen: Any, source: Any, handler: Any, *, out: str = "out", **words: Any) -> sw.Graph:
    """Return source, handler, sink."""
    graph = sw.Graph("small")
    graph.source(source, name="numbers").map(handler, name="struck", **words).sink(seen.sink(out), name=out)
    _letters(graph, seen, words)
    return graph


def branched(seen: Any, source: Any, handler: Any, *, out: str = "out", **words: Any) -> sw.Graph:
    """Return a graph with branches, joins and two pools: the struck handler stands in the second pool."""
    graph = sw.Graph("branched")
    numbers = graph.source(source, name="numbers").map(triple, name="first", workers=2)
    struck = numbers.barrier().map(_third, name="third").map(handler, name="struck", **words)
    halves = numbers.filter(is_even, name="evens").flat_map(_split, name="split")
    joined = sw.zip(struck, numbers.map(str, name="text"))
    sw.merge(joined, halves).sink(seen.sink(out), name=out)
    struck.sink(seen.sink("loose", ordered=False), name="loose", ordered=False)
    _letters(graph, seen, words)
    return graph


def _letters(graph: sw.Graph, seen: Any, words: dict[str, Any]) -> None:
    if words.get("on_error") == "dead_letter":
        graph.dead_letters().sink(seen.sink("letters"), name="letters")


def _third(n: int) -> int:
    return n // 3


def _split(n: int) -> list[int]:
    return [n // 2, n // 2]


def living(graph_workers: Iterable[int]) -> list[int]:
    """Return those processes that are there and no zombies."""
    return [pid for pid in graph_workers if _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> set[int]:
    """Return the living processes that descend from `pid`, by one look at all processes."""
    parents: dict[int, int] = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                parents[process.pid] = process.ppid()
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level} - found
        found |= level
    return found


def until(look: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return what `look` gives as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.005)
    return seen


def slowly(count: int, pause_s: float) -> Callable[[], Iterator[int]]:
    """Return a source that gives a number every `pause_s` seconds, in a process of its own."""

    def read() -> Iterator[int]:
        for n in range(count):
            time.sleep(pause_s)
            yield n

    return read


def same(n: Any) -> Any:
    """Return what was given: what a struck handler does when nothing strikes."""
    return n


class Caller:
    """A script that uses sluiceway in an interpreter of its own; a context manager that leaves nothing of it behind."""

    def __init__(self, folder: Path, script: str, *arguments: object) -> None:
        self.folder = folder
        path = folder / "script.py"
        path.write_text(script)
        self._said = open(folder / "stderr", "w+")  # noqa: SIM115 (closed at the end of the context)
        environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(path), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
            cwd=folder,
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        left = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        self._said.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def end(self, seconds: float = 20.0) -> tuple[int, str, str]:
        """Wait for its end; gives its exit status, what it printed since, and what it said on standard error."""
        assert self.process.stdout is not None
        late = threading.Timer(seconds, self.process.kill)
        late.start()
        out = self.process.stdout.read()
        status = self.process.wait()
        late.cancel()
        self._said.seek(0)
        return status, out, self._said.read()

    def gone(self, pids: Iterable[int], seconds: float = 2.0) -> float:
        """Wait until none of `pids` lives; gives how long that took."""
        began = time.monotonic()
        until(lambda: not living(pids), seconds)
        return time.monotonic() - began

    def folders(self) -> list[Path]:
        """Return the run folders that are there."""
        return list(self.folder.glob("sluiceway-*"))


class Inside:
    """What a test may know of a run that is under way; the one place that looks behind the engine's doors."""

    def __init__(self) -> None:
        self.hubs: list[Any] = []

    @property
    def hub(self) -> Any:
        """The hub of the last run, once it has opened its socket."""
        until(lambda: self.hubs and getattr(getattr(self.hubs[-1].backend, "router", None), "endpoint", ""))
        return self.hubs[-1]

    def workers(self) -> dict[str, int]:
        """Return the workers that are there, by name, with their process ids."""
        if not self.hubs or not hasattr(self.hubs[-1].backend, "supervisor"):
            return {}
        alive = self.hubs[-1].backend.supervisor.alive
        return {name: pid for name, pid in dict(alive).items() if not name.startswith("source")}

    def joined(self) -> list[str]:
        """Return the names of the workers that have asked for work."""
        return [name for pool in self.hubs[-1].core.pools for name in list(pool.dispatcher.workers)] if self.hubs else []

    def identities(self) -> dict[str, bytes]:
        """Return what the living children call themselves on the socket."""
        return dict(self.hub.backend.router._identities)

    def address(self) -> str:
        """Return where the run's socket listens."""
        return str(self.hub.backend.router.endpoint)

    def keys(self) -> tuple[bytes, bytes, bytes] | None:
        """Return the keys of a run over TCP."""
        keys: tuple[bytes, bytes, bytes] | None = self.hub.backend.router.curve
        return keys

    def folder(self) -> Path:
        """Return the run's folder."""
        folder: Path = self.hub.backend.folder.path
        return folder


def look_inside(monkeypatch: Any) -> Inside:
    """Note the hubs of the runs that begin from now on."""
    from sluiceway.engine.hub.hub import Hub

    inside = Inside()
    init = Hub.__init__

    def noted(self: Any, *args: Any, **words: Any) -> None:
        init(self, *args, **words)
        inside.hubs.append(self)

    monkeypatch.setattr(Hub, "__init__", noted)
    return inside
