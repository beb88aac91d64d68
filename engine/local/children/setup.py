"""What every child process of a run shares: its socket to the hub, and where its logs, warnings and prints go.

Decides that one thread owns the socket; what other threads have to say waits for it in a queue.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import cloudpickle
import ormsgpack
import zmq

from ....nodes.events import context_of_call
from ...codec import pickling
from ...codec.pickling import dumps
from ..transport.messages import MAX_FRAME_BYTES, Kind, Message, pack, unpack

_HUB = "the calling process"


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What a child is told at its birth."""

    endpoint: str
    name: str
    identity: bytes
    levels: dict[str, int]
    forward_prints: bool
    curve: tuple[bytes, bytes, bytes] | None
    spec_path: str

    def dump(self) -> bytes:
        """Pack for the child's start."""
        curve = list(self.curve) if self.curve is not None else None
        return ormsgpack.packb(
            [self.endpoint, self.name, self.identity, self.levels, self.forward_prints, curve, self.spec_path]
        )

    @staticmethod
    def load(packed: bytes) -> ChildSettings:
        """Unpack in the child."""
        endpoint, name, identity, levels, forward, curve, spec = ormsgpack.unpackb(packed)
        return ChildSettings(endpoint, name, identity, levels, forward, tuple(curve) if curve else None, spec)


class Link:
    """A child's socket. Only the thread that made it sends and receives; `post` may be called from any."""

    def __init__(self, settings: ChildSettings) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, settings.identity)
        self.socket.set(zmq.LINGER, -1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        if settings.curve is not None:
            server, public, secret = settings.curve
            self.socket.set(zmq.CURVE_SERVERKEY, server)
            self.socket.set(zmq.CURVE_PUBLICKEY, public)
            self.socket.set(zmq.CURVE_SECRETKEY, secret)
        self.socket.connect(settings.endpoint)
        self._owner = threading.get_ident()
        self._posted: deque[list[Any]] = deque()
        self._put_back: deque[Message] = deque()
        self._wanted: dict[str, SimpleQueue[Message]] = {}

    def send(self, parts: Sequence[Any]) -> None:
        """Send a message; never blocks, the number of messages under way is bounded by the hub's credit."""
        self.flush()
        self.socket.send_multipart(parts, copy=False)

    def post(self, parts: list[Any]) -> None:
        """Send from any thread: at once in the owner's, else when the owner comes round."""
        self._posted.append(parts)
        if threading.get_ident() == self._owner:
            self.flush()

    def flush(self) -> None:
        """Send what other threads have posted."""
        while self._posted:
            self.socket.send_multipart(self._posted.popleft(), copy=False)

    def receive(self, timeout_ms: int) -> Message | None:
        """Give the next message of the hub, or `None` when none came in time."""
        self.flush()
        if not self._put_back and not self.socket.poll(timeout_ms):
            return None
        message = self._put_back.popleft() if self._put_back else self._next()
        if message.kind is Kind.DEFINE and message.fields[0] in self._wanted:
            self._wanted[message.fields[0]].put(message)
            return None
        return message

    def _next(self) -> Message:
        frames = self.socket.recv_multipart(copy=False)
        return unpack([frame.buffer for frame in frames], _HUB)

    def ask_definition(self, name: str) -> object:
        """Ask the hub for what `name` is in the caller's `__main__`; raises `AttributeError` when it has none.

        In another thread than the owner's it waits until the owner comes round.
        """
        ask = pack(Kind.NEED, name)
        message = self._ask(name, ask) if threading.get_ident() == self._owner else self._have_asked(name, ask)
        if not message.fields[1]:
            raise AttributeError(f"__main__ of the calling process has no {name!r}")
        value: object = cloudpickle.loads(bytes(message.frames[0]))
        if isinstance(value, type) and name.isidentifier():
            setattr(sys.modules["__main__"], name, value)  # so that it is asked for once
        return value

    def _ask(self, name: str, ask: list[Any]) -> Message:
        self.send(ask)
        while True:
            message = self._next()
            if message.kind is Kind.DEFINE and message.fields[0] == name:
                return message
            self._put_back.append(message)

    def _have_asked(self, name: str, ask: list[Any]) -> Message:
        """Ask in a thread that does not own the socket; there is one such thread at most."""
        answer: SimpleQueue[Message] = SimpleQueue()
        self._wanted[name] = answer
        self.post(ask)
        try:
            return answer.get()
        finally:
            del self._wanted[name]

    def close(self) -> None:
        """Send what is left and close."""
        self.flush()
        self.socket.close()
        self._context.term()


class ForwardHandler(logging.Handler):
    """Sends log records to the caller, with the node and number of the call that made them."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            node, seq = _place_of_call()
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            fields = {
                "name": record.name,
                "levelno": record.levelno,
                "levelname": record.levelname,
                "msg": text,
                "pathname": record.pathname,
                "lineno": record.lineno,
                "funcName": record.funcName,
                "created": record.created,
                "process": record.process,
                "processName": record.processName,
                "threadName": record.threadName,
                "exc_text": record.exc_text,
                "stack_info": record.stack_info,
                "sluiceway_node": node,
                "sluiceway_seq": seq,
            }
            self._link.post(pack(Kind.LOG, frames=[ormsgpack.packb(fields, option=ormsgpack.OPT_NON_STR_KEYS)]))
        except Exception:  # logging's own convention: a record that cannot be emitted is reported, never raised
            self.handleError(record)


def _place_of_call() -> tuple[str | None, int | None]:
    get = context_of_call.get(None)
    if get is None:
        return None, None
    context = get()
    return context.node, context.seq


class ForwardStream(io.TextIOBase):
    """Stands in for stdout or stderr and sends whole lines to the caller."""

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
        """Send a last line without its end."""
        with self._lock:
            rest, self._open = self._open, ""
        if rest:
            self._post(pack(Kind.PRINT, self._number, rest))


def set_up(settings: ChildSettings, link: Link) -> None:
    """Send logs, warnings and prints of this process to the caller, and find `__main__` definitions there."""
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
    sys.modules["__main__"] = ModuleType("__main__")
    pickling.set_definition_resolver(link.ask_definition)
    pickling.adopt_main_classes(True)


def tear_down() -> None:
    """Send the last unfinished lines."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, ForwardStream):
            stream.flush_rest()


def ready(link: Link) -> None:
    """Say that this child takes work."""
    link.send(pack(Kind.READY, os.getpid()))


def pack_cause(error: BaseException) -> bytes:
    """Pickle an exception for the caller, or give nothing when it cannot travel; its text travels beside it."""
    try:
        packed = dumps(error)
        cloudpickle.loads(packed)
    except Exception:  # a __reduce__ or constructor of the user's; the text stands in for it
        return b""
    return packed


def rss_bytes() -> int:
    """Give the resident memory of this process in bytes, 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
