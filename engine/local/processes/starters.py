"""Starts child processes over the zygote: requests out, events in, and what is told when the zygote itself dies."""

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

from . import bootstrap as birth
from . import zygote
from .child_events import ChildExited, ChildStarted, Event, Roll, SpawnFailed, ZygoteDied
from .pipe import Line
from .zygote import kill_group

_TEXT_LIMIT = 8000
_WAIT_S = 1.0


class ZygoteStarter:
    """Starts one zygote and passes requests to it. Raises `OSError` when the interpreter cannot be started."""

    def __init__(
        self, roll: Roll, entry: str, preload: Sequence[str], executable: str, start_limit_s: float
    ) -> None:
        self._roll = roll
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
            self._line = Line(end)
            self._selector = selectors.DefaultSelector()  # its descriptor shows both what has come and room to send
            self._selector.register(self._line, self._line.wanted)
            undo.pop_all()

    def fileno(self) -> int:
        return self._selector.fileno()

    def spawn(self, child: str, argument: bytes) -> None:
        self._send("spawn", child, argument)

    def kill(self, child: str, number: int) -> None:
        self._send("kill", child, int(number))

    def events(self) -> list[Event]:
        self._line.flush()
        found: list[Event] = []
        for message in self._line.receive():
            if message[0] == "ready":
                self._ready = True
            else:
                found.append(_event(message))
                self._roll.note(found[-1])
        if self._line.ended:
            found.append(self._died(self._reason))
        elif not self._ready and time.monotonic() > self._start_deadline:
            self._zygote.kill()
            found.append(self._died(self._late_reason))
        else:
            self._selector.modify(self._line, self._line.wanted)
        return found

    def end(self, limit_s: float) -> None:
        self._send("end")
        deadline = time.monotonic() + limit_s
        while not self._line.ended and (left := deadline - time.monotonic()) > 0:
            self._selector.select(left)
            self._line.flush()
            self._line.receive()
            self._selector.modify(self._line, self._line.wanted)
        self._bury()
        self._caught.close()

    def _start(self, line: int, entry: str, preload: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the zygote in a session of its own. What it writes before it is ready is kept for the error."""
        stderr = _real_stderr()
        try:
            message = {"caller": os.getpid(), "line": line, "stderr": stderr, "entry": entry, "preload": list(preload)}
            command, stdin = birth.clean_interpreter(f"{zygote.__name__}:main", message, self._executable)
            with tempfile.TemporaryFile() as file:
                file.write(stdin)
                file.seek(0)
                return subprocess.Popen(
                    command,
                    stdin=file,
                    stderr=self._caught,
                    env=birth.environment(),
                    start_new_session=True,
                    pass_fds=(line, stderr),
                )
        finally:
            os.close(stderr)

    def _send(self, *message: Any) -> None:
        self._line.send(*message)
        self._selector.modify(self._line, self._line.wanted)

    def _died(self, reason: Any) -> ZygoteDied:
        children = self._roll.names
        status = self._bury()
        event = ZygoteDied(status, children, self._ready, reason(status))
        self._caught.close()
        self._roll.note(event)
        return event

    def _bury(self) -> int:
        """See the zygote dead and its children too, and let go of everything but the caught text; gives its status."""
        try:
            status = self._zygote.wait(_WAIT_S if self._line.ended else 0)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            status = self._zygote.wait()
        for pid in self._roll.alive.values():
            kill_group(pid, signal.SIGKILL)  # the kernel has killed the children by now, but not what they started
        self._selector.close()
        self._line.close()
        return status

    def _reason(self, status: int) -> str:
        how = _words(status)
        if self._ready:
            return f"the process that starts children (pid {self._zygote.pid}) ended with {how}, and they with it"
        return (
            f"cannot start child processes: the interpreter {self._executable!r} ended with {how} while it imported "
            f"{self._imports}; it said:\n{self._said()}"
        )

    def _late_reason(self, status: int) -> str:
        return (
            f"cannot start child processes: the interpreter {self._executable!r} was not ready within "
            f"{self._start_limit_s:g} s; it imports {self._imports}; it said:\n{self._said()}"
        )

    def _said(self) -> str:
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


def _words(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal
        return f"signal {-status}"


def _real_stderr() -> int:
    """Give a copy of the descriptor of standard error, of the null device where it is closed."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
