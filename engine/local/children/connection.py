"""Watches a worker's connection over a network: one that is lost, or never made, ends the process.

Decides that a worker never connects again: what was on its way is lost without a word, and only an exit makes the calling
process hand its numbers out again. It leaves a file that says so, because no event is to blame.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import zmq
import zmq.utils.monitor

from ..transport.launch import ChildSettings
from ..transport.run_dir import LOST, UNREACHED

#: How a connection ends, before or after it stood.
_ENDS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
#: How long the first connection may take, in seconds.
_REACH_S = 30.0


def watch_connection(socket: zmq.Socket[bytes], settings: ChildSettings) -> Callable[[], None]:
    """Watch a socket from before it connects, in a thread; return what ends the watch before the socket is closed."""
    if settings.curve is None:
        return lambda: None
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_MONITOR_STOPPED | _ENDS)
    thread = threading.Thread(target=_watch, args=(monitor, settings), name="sluiceway-link", daemon=True)
    thread.start()

    def end() -> None:
        socket.disable_monitor()
        thread.join()

    return end


def _watch(monitor: zmq.Socket[bytes], settings: ChildSettings) -> None:
    with monitor:
        wait_ms: int | None = int(_REACH_S * 1000)
        while True:
            if not monitor.poll(wait_ms):
                _leave(settings, UNREACHED)
            event = zmq.utils.monitor.recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_MONITOR_STOPPED:
                return
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                wait_ms = None
            elif event & _ENDS:
                _leave(settings, LOST if wait_ms is None else UNREACHED)


def _leave(settings: ChildSettings, why: str) -> NoReturn:
    (Path(settings.spec_path).parent / f"{settings.name}.{why}").touch()
    os._exit(1)
