"""Progress for people: events read and released, rate, time left, and which node holds the head.

Decides what is shown; tqdm draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from .report import RunReport

if TYPE_CHECKING:
    from tqdm import tqdm

#: Progress is shown about so often, in seconds.
PROGRESS_S = 1.0

Show = Callable[[RunReport], object]


class Bar:
    """A bar on standard error, drawn anew with every report."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __call__(self, report: RunReport) -> None:
        """Draw the state of a run."""
        if self._bar is None:
            from tqdm import tqdm  # it takes a while to import; only a bar needs it

            self._bar = tqdm(total=report.expected, unit=" events", desc=report.graph, dynamic_ncols=True, leave=True)
            self._bar.start_t -= report.wall_s  # the run began before its first report
        bar = self._bar
        told = [f"{report.events_in:,} read"]
        if report.order.head is not None and report.in_flight:
            told.append(f"head at {report.order.head}")
        if report.dead_letters:
            told.append(f"{report.dead_letters:,} dead letters")
        bar.set_postfix_str(", ".join(told), refresh=False)
        bar.update(max(0, report.released - bar.n))
        bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()


class Clock:
    """Calls what shows progress about once a second, and at the end."""

    def __init__(self, wanted: bool | Show | None) -> None:
        self._show = make_progress(wanted)
        self._at = monotonic() + PROGRESS_S

    def tick(self, report: Callable[[], RunReport]) -> None:
        """Show a report when it is time."""
        if self._show is not None and monotonic() >= self._at:
            self._at = monotonic() + PROGRESS_S
            self._show(report())

    def show(self, report: Callable[[], RunReport]) -> None:
        """Show the last report."""
        if self._show is not None:
            self._show(report())
            if isinstance(self._show, Bar):
                self._show.close()


def make_progress(wanted: bool | Show | None) -> Show | None:
    """Give what is to be called with a report about once a second, if anything."""
    if wanted is True:
        return Bar()
    return wanted if callable(wanted) else None
