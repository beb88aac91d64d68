"""Forks that user code makes of a process of the run: they have a copy of everything, and leave the run alone.

Decides how an object tells the process that made it from a fork of that process. Knows no children of the engine: those
are started by a backend.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ...nodes.errors import SluicewayError


class OwnerProcess:
    """The process that an object is made in, which alone may act for it."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()

    def is_forked(self) -> bool:
        """Whether this code runs in a fork of the owner."""
        return os.getpid() != self.pid

    def end_if_forked(self) -> None:
        """End this process at once, without cleaning up, if it is a fork of the owner."""
        if os.getpid() != self.pid:
            os._exit(0)

    def refuse_if_forked(self, run: str) -> None:
        """Raise `SluicewayError` in a fork of the owner, where user code has returned into the run of the graph `run`."""
        if os.getpid() != self.pid:
            raise SluicewayError(
                f"the run of {run!r} was to go on in a fork of process {self.pid}, whose run it is; nothing is delivered here,"
                " the run goes on there; end a fork where it was made (os._exit, or multiprocessing)"
            )


def call_in_forks(function: Callable[[], None]) -> None:
    """Call `function` in every fork of this process from now on, before anything else runs there."""
    os.register_at_fork(after_in_child=function)
