"""What an executor reports about its position while it runs, for observers in other processes.

Decides nothing; a monitor is called before user code runs, so that a death is attributed to the right events.
"""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Receives the executor's position, for observers in other processes."""

    def batch(self, step: int, start: int, size: int) -> None:
        """Record that a whole column is being handled, without reports per event."""

    def event(self, step: int, seq: int, index: int) -> None:
        """Record that one event is about to be handled."""

    def many(self, step: int, seq: int, index: int) -> None:
        """Record that several events are being handled at once; the one named began last."""


class NoMonitor:
    """Ignores all reports: for the inline runner and for tests."""

    def batch(self, step: int, start: int, size: int) -> None:
        pass

    def event(self, step: int, seq: int, index: int) -> None:
        pass

    def many(self, step: int, seq: int, index: int) -> None:
        pass
