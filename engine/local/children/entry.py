"""The entry point of every child process: the name decides which kind of child it is, the program which loop a worker runs.

Decides how a failure of a worker is reported: by a message while it starts, later by its exit and its status page.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ....nodes.dispatch.blame import Phase
from ..transport.launch import ChildSettings
from ..transport.link import Link
from ..transport.shared_frames import keep_freed_blocks
from ..transport.status_page import StatusPage
from .connection import watch_connection
from .setup import flush_output, set_up_process
from .worker import Worker
from .worker_host import WorkerHost, start_failure

if TYPE_CHECKING:
    from .async_worker import AsyncWorker

_LOG = logging.getLogger("sluiceway")
_GC_THRESHOLDS = (50_000, 20, 100)


def main(child: str, argument: bytes) -> None:
    """Run a source process or a worker until it ends."""
    if child.startswith("source."):
        from . import source_process  # many runs have no source process

        source_process.main(child, argument)
    else:
        _run_worker(child, argument)


def _run_worker(child: str, argument: bytes) -> None:
    """Run a worker until the hub says stop."""
    settings = ChildSettings.load(argument)
    _take_seat(settings)
    page = StatusPage(Path(settings.spec_path).parent / f"{child}.status", create=False)
    link = Link(settings, partial(watch_connection, settings=settings))
    set_up_process(settings, link)
    with open(Path(settings.spec_path).parent / f"{child}.stack", "a", opener=_private) as stack:
        _write_stack_on_signal(stack)
        _serve(settings, link, page)


def _take_seat(settings: ChildSettings) -> None:
    """Take the devices and cores of this worker, before anything of the user's is imported."""
    os.environ.update(settings.variables)
    if settings.cores:
        os.sched_setaffinity(0, settings.cores)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_stack_on_signal(file: TextIO) -> None:
    """Write the Python stack to `file` on SIGUSR1, also in a busy loop or in C code that holds the interpreter."""
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def _serve(settings: ChildSettings, link: Link, page: StatusPage) -> None:
    try:
        host = WorkerHost(settings, link, page)
        # Handlers that await are built in their loop, once it runs.
        worker = _async_worker(host) if host.spec.program.needs_loop else Worker(host)
    except Exception as error:
        link.send(start_failure(error))
        link.close()
        return
    keep_freed_blocks()
    gc.collect()
    gc.freeze()
    # A batch is thousands of live objects that the collector would visit again and again.
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        worker.serve()
        page.phase(Phase.CLOSE)
        host.close()
    except BaseException as error:
        if page.read().seen.phase is Phase.START and isinstance(error, Exception):
            link.send(start_failure(error))
            return
        # The phase is left as it was, so that the event that caused the death is blamed.
        _LOG.error("a worker ends with %s, which no handler may raise", type(error).__name__, exc_info=True)
        raise SystemExit(1) from None
    finally:
        flush_output()
        link.close()


def _async_worker(host: WorkerHost) -> AsyncWorker:
    from .async_worker import AsyncWorker  # asyncio takes a while to import; only pools that await need it

    return AsyncWorker(host)
