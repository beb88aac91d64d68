"""What every test has: a check that nothing outlives it, a way to run one graph inline and in processes, servers."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from mock_kafka import cluster, topic
from ray_cluster import elsewhere, is_of_ray, nothing_on_nodes, ray_nodes
from redis_server import db, server

#: Fixtures that are written beside what they start.
__all__ = ["cluster", "db", "elsewhere", "nothing_on_nodes", "ray_nodes", "server", "topic"]

#: Every process that a test starts inherits this variable, also one that has lost its parent: the pid of these tests.
_MARK = "SLUICEWAY_TESTS_OF"

_GONE_S = 2.0
_THREAD_S = 1.0
#: Threads that may be left: they wait inside the user's source, which nobody can interrupt.
_IN_USER_CODE = "sluiceway-read-"


# -- where the tests run ----------------------------------------------------------------------------------------


def pytest_configure() -> None:
    """Mark this process, of which there are two in a run on two cores, and have it and its children hear Ctrl-C.

    They do not where a shell has begun the tests in the background.
    """
    os.environ[_MARK] = str(os.getpid())
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def children_read_compiled_code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where nobody may write compiled code beside the sources, keep it elsewhere for a session of many tests.

    The tests start a thousand processes, and a third of each start would be compiling; to compile takes some seconds.
    """
    compiled = os.path.exists(importlib.util.cache_from_source(sw.__file__))
    if sys.dont_write_bytecode and not compiled and len(request.session.items) >= 300:
        os.environ["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([sys.executable, "-c", _IMPORT_ALL], check=True, timeout=300)


_IMPORT_ALL = """
import contextlib, importlib, pkgutil
import sluiceway

for module in pkgutil.walk_packages(sluiceway.__path__, "sluiceway."):
    importlib.import_module(module.name)
for name in ("confluent_kafka", "h11", "httpx", "numpy", "psycopg", "pytest", "redis", "sqlalchemy", "tqdm"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


# -- nothing outlives a test ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail a test that leaves a process, a run folder, a thread of the engine or shared memory behind."""
    if sys.platform != "linux":
        yield
        return
    children, shared, reaped = _children(), _shared_memory(), _reaped()
    yield
    left = _after(_GONE_S, lambda: {pid for pid in _children_after_shutdown() - children if not is_of_ray(pid)})
    if _reaped() != reaped:
        left |= _after(_GONE_S, lambda: _marked() - children)
    told = [f"process {pid}: {_command(pid)}" for pid in sorted(left)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    told += [f"thread {name}" for name in sorted(_after(_THREAD_S, _threads))]
    told += [f"run folder {path}" for path in sorted(_after(_THREAD_S, _run_folders))]
    told += [f"shared memory {name}" for name in sorted(_after(_THREAD_S, lambda: _shared_memory() - shared))]
    if told:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(told), pytrace=False)


def _after(seconds: float, look: Callable[[], set[Any]]) -> set[Any]:
    """Return what is still there after waiting up to `seconds` for it to go."""
    deadline = time.monotonic() + seconds
    while (left := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _children_after_shutdown() -> set[int]:
    """Return them without the process that waits for the next run, which is meant to be left."""
    sw.shutdown()
    return _children()


def _children() -> set[int]:
    """Return the processes that this one has started and not yet seen dead."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
        except (FileNotFoundError, ProcessLookupError):
            if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                continue  # the thread has ended meanwhile
            return _children_of_all()
    return found


def _children_of_all() -> set[int]:
    """Return the same where the kernel keeps no list of children: by a look at every process."""
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(name))
    return found


def _reaped() -> tuple[float, float, int]:
    """Return a figure that changes with every child that was waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime, usage.ru_stime, usage.ru_minflt


def _marked() -> set[int]:
    """Return all living processes that descend from this one, also those that were orphaned."""
    found, mark = set(), f"{_MARK}={os.getpid()}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "gone meanwhile"


def _threads() -> set[str]:
    return {
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("sluiceway-") and not thread.name.startswith(_IN_USER_CODE)
    }


def _run_folders() -> set[str]:
    """Return the run folders whose lock this process holds."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            path = Path(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
        if path.name.startswith("owner.lock") and path.parent.name.startswith("sluiceway-"):
            found.add(str(path.parent))
    return found


def _shared_memory() -> set[str]:
    """Return what the engine has in shared memory, but for what belongs to a run folder of another process."""
    try:
        found = {name for name in os.listdir("/dev/shm") if name.startswith("sluiceway-")}
    except OSError:
        return set()
    mine = {Path(path).name for path in _run_folders()}
    return {name for name in found if name in mine or not (Path(tempfile.gettempdir()) / name).exists()}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name is short enough for run folders to be made in it: sockets have paths of 107 bytes at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# -- one graph, both runners ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What one run gave: a journal of (sink, seq, index, event), the events of each sink, the error and the report."""

    journal: list[tuple[str, int, int, Any]] = field(default_factory=list)
    loose: list[tuple[str, int, int, Any]] = field(default_factory=list)
    error: BaseException | None = None
    report: Any = None

    def sink(self, name: str, *, ordered: bool = True) -> Recorder:
        """Return a sink that writes down what it gets under `name`."""
        return Recorder(self, name, ordered)

    def events(self, name: str) -> list[Any]:
        """Return the events that the sink `name` got, in order."""
        return [event for sink, _, _, event in (*self.journal, *self.loose) if sink == name]


class Recorder:
    """A sink that keeps its events with their numbers."""

    def __init__(self, seen: Seen, name: str, ordered: bool) -> None:
        self._seen = seen
        self._name = name
        self._ordered = ordered
        self.ended = ""

    def write(self, events: Sequence[Any]) -> None:
        """Keep a batch."""
        rows = self._seen.journal if self._ordered else self._seen.loose
        numbers: list[tuple[int, int]] = events.numbers  # type: ignore[attr-defined]
        rows.extend((self._name, *number, event) for number, event in zip(numbers, events, strict=True))

    def close(self) -> None:
        """Note how the run ended."""
        self.ended += "closed"

    def abort(self) -> None:
        """Note how the run ended."""
        self.ended += "aborted"


def observe(make_graph: Callable[[Seen], sw.Graph], **options: Any) -> Seen:
    """Build a graph, run it and give what was seen; an error of the run is kept, not raised."""
    seen = Seen()
    try:
        seen.report = sw.run(make_graph(seen), **options)
    except sw.SluicewayError as error:
        seen.error = error
        seen.report = error.report
    return seen


#: What of a report must be the same for every runner when the run succeeds.
COUNTS = ("events_in", "events_out", "filtered", "skipped", "unmatched", "dead_letters", "retries", "ended_by")


def assert_same(reference: Seen, seen: Seen) -> None:
    """Assert that a run gave exactly what the inline run gave (law 4)."""
    assert described(seen.error) == described(reference.error)
    assert seen.journal == reference.journal
    if reference.error is None:
        assert sorted(map(repr, seen.loose)) == sorted(map(repr, reference.loose))
        given = {name: getattr(seen.report, name) for name in COUNTS}
        assert given == {name: getattr(reference.report, name) for name in COUNTS}
        through = {name: (node.events_in, node.events_out) for name, node in seen.report.nodes.items()}
        assert through == {name: (n.events_in, n.events_out) for name, n in reference.report.nodes.items()}


def described(error: BaseException | None) -> Any:
    """Return everything of an error that must not depend on the runner."""
    if error is None:
        return None
    cause = error.__cause__
    where = [getattr(error, name, None) for name in ("seq", "index", "node", "event", "position")]
    return type(error), str(error), where, type(cause), str(cause)


@pytest.fixture(scope="session")
def both() -> Callable[..., tuple[Seen, Seen]]:
    """Return a function that runs what `make_graph(seen)` builds inline and in processes and asserts that they agree."""

    def run_both(make_graph: Callable[[Seen], sw.Graph], **options: Any) -> tuple[Seen, Seen]:
        inline = observe(make_graph, **{**options, "runner": "inline"})
        processes = observe(make_graph, **options)
        assert_same(inline, processes)
        return inline, processes

    return run_both
