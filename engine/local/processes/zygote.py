"""The zygote: a small clean process that forks children, reaps them, and ends all of them when the caller has exited.

It has one thread and never a ZeroMQ context, so a fork of it is safe and takes a few milliseconds. It decides nothing
about the run: it carries out what `starters` asks over one socket and reports every exit at once. It watches the caller's
process itself; the end of the socket is not enough, because a fork of the caller may hold a copy of it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import NoReturn

from . import bootstrap
from .pipe import MessagePipe

_CHECK_INTERVAL_S = 0.5
_KILL_LIMIT_S = 1.0


def main(packed: bytes) -> NoReturn:
    """Run a zygote until the caller ends it or has exited; `packed` is the message that `starters` wrote."""
    start = bootstrap.unpack(packed)

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for descriptor in (start["pipe"], start["stderr"]):
            os.set_inheritable(descriptor, False)  # not for programs that the imports or the children execute
        bootstrap.silence_stdin()
        bootstrap.exit_with_parent(start["caller"])  # until `serve` watches: an import may hang
        bootstrap.import_all([*start["preload"], start["entry"].split(":")[0]])
        _show_errors_on(start["stderr"])
        Zygote(MessagePipe(socket.socket(fileno=start["pipe"])), start["caller"], start["entry"], start["seed"]).serve()

    bootstrap.call_and_exit(begin)


class Zygote:
    """Forks, signals and reaps the children of one nursery."""

    def __init__(self, pipe: MessagePipe, caller: int, entry: str, seed: str | None) -> None:
        self._seed = seed
        self._pipe = pipe
        self._caller = caller
        self._entry = entry
        self._pids: dict[str, int] = {}
        self._children: dict[int, str] = {}
        self._end_requested = False
        self._requests: deque[list[object]] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._caller_fd = self._watch_caller()
        self._check_interval_s = _CHECK_INTERVAL_S if self._caller_fd is None else None

    def serve(self) -> None:
        """Carry out the caller's requests until it asks for the end or has exited; then kill every child and return."""
        self._take_signals()
        bootstrap.prctl(bootstrap.PR_SET_CHILD_SUBREAPER, 1)  # orphans of dead children are reaped here
        bootstrap.prctl(bootstrap.PR_SET_PDEATHSIG, 0)  # from here on the zygote ends the children, then itself
        gc.collect()
        gc.freeze()
        bootstrap.flush_streams()  # otherwise every fork would write it again
        self._pipe.send("ready")
        try:
            while not self._is_done():
                self._selector.select(0.0 if self._requests else self._check_interval_s)
                self._reap()
                self._requests.extend(self._pipe.receive())
                self._end_requested = self._end_requested or ["end"] in self._requests
                # One at a time: a caller that has asked for a thousand children may exit before all of them are started.
                if self._requests and not self._is_done():
                    self._handle(self._requests.popleft())
                self._pipe.flush()
                self._selector.modify(self._pipe, self._pipe.wanted)
        finally:
            self._end()

    def _is_done(self) -> bool:
        return self._end_requested or self._pipe.ended or os.getppid() != self._caller

    def _watch_caller(self) -> int | None:
        """Wake up when the caller's process ends; where the system cannot do that, it is checked twice a second."""
        try:
            descriptor = os.pidfd_open(self._caller)
        except (AttributeError, OSError):
            return None
        self._selector.register(descriptor, selectors.EVENT_READ)
        return descriptor

    def _take_signals(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only the byte in the wake-up socket matters
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_end_signal)
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)

    def _on_end_signal(self, *_: object) -> None:
        self._end_requested = True

    def _handle(self, message: list[object]) -> None:
        match message:
            case ["spawn", str(child), bytes(argument)]:
                self._spawn(child, argument)
            case ["kill", str(child), int(number)]:
                if child in self._pids:
                    self._signal(self._pids[child], number)
            case ["import", list(modules)]:
                bootstrap.import_all(modules)
            case ["rest"]:
                self._pipe.send("rested", self._kill_all())
            case _:
                raise ValueError(f"the zygote was sent an unknown message of kind {message[:1]!r}")

    def _spawn(self, child: str, argument: bytes) -> None:
        try:
            pid = self._start_clean(child, argument) if has_threads() else self._fork(child, argument)
        except OSError as error:
            self._pipe.send("failed", child, str(error))
            return
        self._pids[child] = pid
        self._children[pid] = child
        self._pipe.send("started", child, pid)

    def _fork(self, child: str, argument: bytes) -> int:
        zygote = os.getpid()

        def prepare() -> None:
            bootstrap.initialise_child(zygote)
            self._close_descriptors()

        # a signal between the fork and `initialise_child` would run the zygote's handlers
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                bootstrap.run_entry(self._entry, child, argument, prepare)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with contextlib.suppress(OSError):  # the child may have done it, or have ended
            os.setpgid(pid, pid)  # here too, for a kill that arrives before the child runs
        return pid

    def _close_descriptors(self) -> None:
        """Close the zygote's descriptors in a child."""
        self._selector.close()
        self._pipe.close()
        self._wake_in.close()
        self._wake_out.close()
        if self._caller_fd is not None:
            os.close(self._caller_fd)

    def _start_clean(self, child: str, argument: bytes) -> int:
        """Start a child as a clean interpreter: a fork would copy locks that other threads hold."""
        import tempfile  # imported here because it is rarely needed

        command, stdin = bootstrap.clean_child(
            self._entry, child, argument, executable=sys.executable, seed=self._seed
        )
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 0)]
            env = bootstrap.environment(self._seed)
            return os.posix_spawn(command[0], command, env, file_actions=actions, setpgroup=0, setsigmask=())

    def _signal(self, pid: int, number: int) -> None:
        """Signal a child and its process group. It is not reaped yet, so no other process has its pid."""
        if not kill_group(pid, number):
            os.kill(pid, number)  # it has left its group

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_in.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):  # there is no child
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._report(*found)

    def _report(self, pid: int, status: int) -> None:
        child = self._children.pop(pid, None)
        if child is None:
            return  # an orphan of a child that has ended
        del self._pids[child]
        kill_group(pid, signal.SIGKILL)  # what it started and left running
        self._pipe.send("exited", child, pid, os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        self._selector.unregister(self._pipe)
        if self._caller_fd is not None:
            self._selector.unregister(self._caller_fd)
        self._kill_all()

    def _kill_all(self) -> bool:
        """Kill the children, what they have started, and what was left to this process; return whether all of it is gone."""
        groups = list(self._children)
        for pid in groups:
            self._signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + _KILL_LIMIT_S
        # a group exists until its last zombie is reaped
        while _kill_orphans() or any(kill_group(pid, 0) for pid in groups):
            if (left := deadline - time.monotonic()) <= 0:
                return False
            select.select([self._wake_in], [], [], left)
            self._reap()
        return True


def _kill_orphans() -> bool:
    """Kill what is a child of this process by now: also what a child has started in a session of its own.

    Return whether there was one; the children of those that end become children of this process in turn.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            found = [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # not Linux, or without that file
        return False
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def has_threads() -> bool:
    """Whether the calling process has more than one thread, those of native libraries included."""
    if threading.active_count() > 1:
        return True
    try:
        # Every run waits for this; an import of psutil takes 10 ms of it.
        return len(os.listdir("/proc/self/task")) > 1
    except FileNotFoundError:  # not Linux
        import psutil

        return psutil.Process().num_threads() > 1


def kill_group(pid: int, number: int) -> bool:
    """Send a signal to the process group that `pid` leads; return whether there was one."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses for a group of zombies
        return False
    return True


def _show_errors_on(stderr: int) -> None:
    """Redirect standard error from the file that captured errors of the start to the caller's standard error."""
    sys.stderr.flush()
    with open(os.dup(2), "rb") as caught:
        caught.seek(0)
        said = caught.read()
    os.dup2(stderr, 2)
    os.close(stderr)
    sys.stderr.buffer.write(said)
    sys.stderr.flush()
