"""Lets any thread interrupt the hub's wait.

Decides that a wakeup that was notified and not yet cleared is not notified again: a flood of commands costs one write.
"""

from __future__ import annotations

import os


class Wakeup:
    """A pipe with a flag. Any thread may call `notify`; all else is for the thread that waits."""

    def __init__(self) -> None:
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._end, False)
        self._notified = False

    def notify(self) -> None:
        """Interrupt the wait, or keep the thread from starting one."""
        if not self._notified:
            self._notified = True
            try:
                os.write(self._end, b"!")
            except (BlockingIOError, OSError):
                return  # full: it is readable already; closed: nobody waits any more

    def prepare(self) -> None:
        """Call before waiting on the descriptor; check for work once more afterwards."""
        self._notified = False

    def clear(self, readable: bool) -> None:
        """Call after the wait; `readable` says whether the descriptor was readable."""
        self._notified = True
        if readable:
            os.read(self.descriptor, 4096)

    def close(self) -> None:
        """Close the pipe."""
        self._notified = True
        os.close(self.descriptor)
        os.close(self._end)
