"""Starts child processes through the zygote: sends requests, receives events, and reports the death of the zygote.

Decides what the error says when the zygote cannot start. It does not know what a child does.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from . import bootstrap, zygote
from .child_events import ChildExited, ChildRegistry, ChildStarted, Event, SpawnFailed, ZygoteDied
from .pipe import MessagePipe
from .zygote import kill_group

_TEXT_LIMIT = 8000
_WAIT_S = 1.0


class ZygoteStarter:
    """Starts one zygote and passes requests to it. Raises `OSError` when the interpreter cannot be started."""

    def __init__(
        self,
        registry: ChildRegistry,
        entry: str,
        preload: Sequence[str],
        executable: str,
        start_limit_s: float,
        seed: str | None,
    ) -> None:
        self._seed = seed
        self._registry = registry
        self._imports = ", ".join(dict.fromkeys((*preload, entry.split(":")[0])))
        self._executable = executable
        self._start_limit_s = start_limit_s
        self._start_deadline = time.monotonic() + start_limit_s
        self._ready = False
        with contextlib.ExitStack() as undo:
            self._caught = undo.enter_context(tempfile.TemporaryFile())
            end, far_end = socket.socketpair()
            undo.enter_context(end)
            with far_end:
                self._zygote = self._start(far_end.fileno(), entry, preload)
            self._pipe = MessagePipe(end)
            self._selector = selectors.DefaultSelector()  # its descriptor is readable for arrivals and for room to send
            self._selector.register(self._pipe, self._pipe.wanted)
            undo.pop_all()

    def fileno(self) -> int:
        return self._selector.fileno()

    def spawn(self, child: str, argument: bytes) -> None:
        self._send("spawn", child, argument)

    def kill(self, child: str, number: int) -> None:
        self._send("kill", child, int(number))

    def events(self) -> list[Event]:
        self._pipe.flush()
        found: list[Event] = []
        for message in self._pipe.receive():
            if message[0] == "ready":
                self._ready = True
            else:
                found.append(_event(message))
                self._registry.apply(found[-1])
        if self._pipe.ended:
            found.append(self._record_death(self._reason))
        elif not self._ready and time.monotonic() > self._start_deadline:
            self._zygote.kill()
            found.append(self._record_death(self._late_reason))
        else:
            self._selector.modify(self._pipe, self._pipe.wanted)
        return found

    def serve(self, registry: ChildRegistry, preload: Sequence[str]) -> None:
        """Serve another run, whose children are those of `registry`; what is in `preload` is imported first."""
        self._registry = registry
        self._send("import", list(preload))

    def rest(self, limit_s: float = _WAIT_S) -> bool:
        """Have what the children left behind killed; return whether the zygote says that it can serve another run."""
        self._send("rest")
        return self._ready and ["rested", True] in self._receive_until("rested", limit_s)

    def abandon(self) -> None:
        """Release the descriptors in a fork of the caller, whose zygote it is not."""
        self._selector.close()
        self._pipe.close()
        self._caught.close()

    def end(self, limit_s: float) -> None:
        self._send("end")
        self._receive_until(None, limit_s)
        self._reap_zygote()
        self._caught.close()

    def _receive_until(self, kind: str | None, limit_s: float) -> list[list[Any]]:
        """Return what the zygote sends until a message of this kind has come, the pipe has ended or the time is over."""
        deadline = time.monotonic() + limit_s
        received: list[list[Any]] = []
        while not self._pipe.ended and (left := deadline - time.monotonic()) > 0:
            received += self._pipe.receive()
            if any(message[0] == kind for message in received):
                break
            self._selector.modify(self._pipe, self._pipe.wanted)
            self._selector.select(left)
            self._pipe.flush()
        return received

    def _start(self, pipe: int, entry: str, preload: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the zygote in its own session. What it writes to stderr before it is ready is kept for the error."""
        stderr = _duplicate_stderr()
        try:
            message = {
                "caller": os.getpid(),
                "seed": self._seed,
                "pipe": pipe,
                "stderr": stderr,
                "entry": entry,
                "preload": list(preload),
            }
            command, stdin = bootstrap.clean_interpreter(f"{zygote.__name__}:main", message, self._executable)
            with tempfile.TemporaryFile() as file:
                file.write(stdin)
                file.seek(0)
                return subprocess.Popen(
                    command,
                    stdin=file,
                    stderr=self._caught,
                    env=bootstrap.environment(self._seed),
                    start_new_session=True,
                    pass_fds=(pipe, stderr),
                )
        finally:
            os.close(stderr)

    def _send(self, *message: Any) -> None:
        self._pipe.send(*message)
        self._selector.modify(self._pipe, self._pipe.wanted)

    def _record_death(self, reason: Any) -> ZygoteDied:
        children = self._registry.names
        status = self._reap_zygote()
        event = ZygoteDied(status, children, self._ready, reason(status))
        self._caught.close()
        self._registry.apply(event)
        return event

    def _reap_zygote(self) -> int:
        """Wait until the zygote and its children are dead and release all but the captured stderr; return the exit status."""
        try:
            status = self._zygote.wait(_WAIT_S if self._pipe.ended else 0)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            status = self._zygote.wait()
        for pid in self._registry.alive.values():
            kill_group(pid, signal.SIGKILL)  # the kernel has killed the children, but not what they started
        self._selector.close()
        self._pipe.close()
        return status

    def _reason(self, status: int) -> str:
        how = _describe_status(status)
        if self._ready:
            return f"the process that starts children (pid {self._zygote.pid}) ended with {how}, and they with it"
        return (
            f"cannot start child processes: the interpreter {self._executable!r} ended with {how} while it imported "
            f"{self._imports}; it said:\n{self._captured_text()}"
        )

    def _late_reason(self, status: int) -> str:
        return (
            f"cannot start child processes: the interpreter {self._executable!r} was not ready within "
            f"{self._start_limit_s:g} s; it imports {self._imports}; it said:\n{self._captured_text()}"
        )

    def _captured_text(self) -> str:
        self._caught.seek(0)
        return self._caught.read().decode(errors="replace")[-_TEXT_LIMIT:].strip() or "(nothing)"


def _event(message: list[Any]) -> Event:
    match message:
        case ["started", child, pid]:
            return ChildStarted(child, pid)
        case ["exited", child, pid, code]:
            return ChildExited(child, pid, code)
        case ["failed", child, error]:
            return SpawnFailed(child, error)
    raise ValueError(f"the zygote sent an unknown message of kind {message[:1]!r}")


def _describe_status(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal
        return f"signal {-status}"


def _duplicate_stderr() -> int:
    """Return a copy of the descriptor of standard error, or one of the null device if it is closed."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
