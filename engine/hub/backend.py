"""What the hub needs of whatever runs the workers: the seam behind which another runner fits.

Decides who does what: the hub feeds the core and the sinks, a backend runs workers and the sources that are outside the
calling process, and records at the core what happens to them. How it does so, and where they run, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from ..codec.codec import Payload
from ..core.core import Core
from ..core.effects import (
    Acknowledge,
    AskState,
    Pull,
    Restore,
    SendTask,
    Spawn,
    StopSource,
    StopWorker,
)
from ..reporting.live import BackendView
from ..reporting.report import RunReport
from .feeds import Feeds
from .restarts import Restarts

#: The effects that a backend carries out; the last three only for sources outside the calling process.
BackendEffect = SendTask | Spawn | StopWorker | AskState | Restore | Pull | StopSource | Acknowledge


class RunHandle(Struct, frozen=True):
    """Where a backend records what happens in a run. Only `wake` may be called from any thread."""

    core: Core  #: gets the facts about workers (`record_ready`, `record_answer`, `record_death` ...) and remote events
    feeds: Feeds  #: gets the end of a remote source, and what fraction of it is read
    restarts: Restarts  #: gets exits and the successors that take work, for the report
    wakeup: int  #: a descriptor that is readable once `wake` was called: `Backend.wait` returns then
    wake: Callable[[], None]
    record_up: Callable[[], None]  #: to be called when a worker takes work
    fail: Callable[[BaseException], None]  #: ends the run with an error


class Backend(Protocol):
    """Runs the workers of one run, and its sources outside the calling process.

    Used by the hub's thread, except `open`. What is raised ends the run as its error.
    """

    def open(self, run: RunHandle) -> None:
        """Acquire what the run needs; called in the caller's thread. Releases everything if it raises."""

    def start(self) -> None:
        """Start remote sources and whatever starts the workers; the workers follow by `Spawn` effects."""

    def do(self, effect: BackendEffect) -> bool:
        """Carry out an effect without waiting; return whether that has made an input of the core at once."""

    def poll(self, now: float) -> bool:
        """Record what has happened, a bounded amount, and do what is due; return whether there may be more.

        `now` is the time in seconds of the monotonic clock.
        """

    def view(self, now: float) -> BackendView:
        """Return what the processes do now, for who watches the run."""

    def keep(self, payload: Payload) -> Payload:
        """Return the payload of a source in the calling process as workers get it best: in shared memory, for example."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has happened or is due, for `timeout_s` seconds at most; return whether `wake` was called.

        What arrived before the call counts too.
        """

    def stop(self, *, orderly: bool, hurried: Callable[[], bool]) -> dict[str, str]:
        """Stop all workers and sources; return what it took for each.

        With `orderly` they are idle and may take their time to close. `hurried` becomes true when nobody wants to wait
        any more.
        """

    def close(self) -> None:
        """Release everything; nothing is left running."""

    def complete(self, report: RunReport) -> None:
        """Add to a report what only the backend knows; called in the caller's thread, at any time after `open`."""
