"""What every child process of a run sets up: where its logs, warnings and prints go, and its `__main__`.

Decides that all of them go through the link to the caller. It knows no tasks and no sources.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....nodes.errors import SluicewayError, describe
from ....nodes.events import context_of_call
from ....nodes.given import refuse_unrun
from ...codec import pickling
from ...codec.main_module import NAMES, MainModule
from ...interpreter.forks import OwnerProcess
from ...interpreter.settings import apply_settings
from ..transport.launch import ChildSettings
from ..transport.link import Link
from ..transport.log_records import pack_record
from ..transport.messages import Kind, pack


class ForwardHandler(logging.Handler):
    """Sends log records to the caller, with the node and the number of the call that logged them."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            node, seq = _current_call()
            frames = pack_record(record, sluiceway_node=node, sluiceway_seq=seq)
            self._link.post(pack(Kind.LOG, frames=frames))
        except Exception:  # logging's own convention: a record that cannot be emitted is reported, never raised
            self.handleError(record)


def _current_call() -> tuple[str | None, int | None]:
    get = context_of_call.get(None)
    if get is None:
        return None, None
    context = get()
    return context.node, context.seq if context.seq >= 0 else None


class ForwardStream(io.TextIOBase):
    """Replaces stdout or stderr and sends complete lines to the caller."""

    def __init__(self, post: Callable[[list[Any]], None], number: int) -> None:
        self._post = post
        self._number = number
        self._open = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return self._number

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._post(pack(Kind.PRINT, self._number, line + "\n"))
        return len(text)

    def flush_rest(self) -> None:
        """Send the last line if it has no newline."""
        with self._lock:
            rest, self._open = self._open, ""
        if rest:
            self._post(pack(Kind.PRINT, self._number, rest))


def set_up_process(settings: ChildSettings, link: Link) -> None:
    """Forward logs, warnings and prints of this process to the caller, and look up `__main__` definitions there."""
    root = logging.getLogger()
    root.handlers[:] = [ForwardHandler(link)]
    for name, level in settings.levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.captureWarnings(True)
    if settings.forward_prints:
        sys.stdout = ForwardStream(link.post, 1)
        sys.stderr = ForwardStream(link.post, 2)
    else:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
    pickling.set_definition_resolver(link.ask_definition)
    pickling.adopt_main_classes(True)
    sys.modules.update(dict.fromkeys(NAMES, MainModule(_asked_here(link))))


def _asked_here(link: Link) -> Callable[[str], object]:
    """Return a function that asks the calling process for a name, where that can be waited for."""
    thread, owner = threading.get_ident(), OwnerProcess()

    def ask(name: str) -> object:
        # Only this thread receives, and a fork has no connection.
        if threading.get_ident() != thread or owner.is_forked():
            raise AttributeError(f"module '__main__' has no attribute {name!r} here")
        return link.ask_definition(name)

    return ask


def unpack_user_code(folder: Path, packed: bytes) -> Any:
    """Return what is packed, once this process has the caller's settings and the user's `setup` has been called.

    Raises what the imports of the user's modules or `setup` raise.
    """
    settings = (folder / "settings").read_bytes()
    apply_settings(settings, warn=False)
    setup, subject = pickling.loads(packed)
    apply_settings(settings, warn=True)  # again, for what the imports have changed
    if setup is not None:
        try:
            refuse_unrun(setup(), "setup=", "use a plain def")
        except Exception as error:
            raise SluicewayError(f"setup= raised in a process of the run: {describe(error)}; correct that function") from error
    return subject


def apply_caller_settings(folder: Path) -> None:
    """Put the caller's settings in place in this thread."""
    apply_settings((folder / "settings").read_bytes(), warn=True)


def flush_output() -> None:
    """Send the last unfinished lines of stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, ForwardStream):
            stream.flush_rest()


def send_ready(link: Link) -> None:
    """Report that this child accepts work."""
    link.send(pack(Kind.READY, os.getpid()))


def rss_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    import psutil  # imported here because it takes 10 ms; only workers with a memory limit need it

    return int(psutil.Process().memory_info().rss)
