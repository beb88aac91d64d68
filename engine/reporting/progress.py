"""Progress for people: events read and released, rate, time left, and which node holds the head.

Decides what is shown and when; tqdm draws it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...nodes.given import refuse_unrun
from .report import RunReport

if TYPE_CHECKING:
    from tqdm import tqdm

#: Seconds between two reports that are shown.
PROGRESS_S = 1.0

Show = Callable[[RunReport], object]


class Bar:
    """A bar on standard error, redrawn with every report."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __call__(self, report: RunReport) -> None:
        """Draw the state of a run."""
        if self._bar is None:
            self._bar = _drawer()(total=report.expected, unit=" events", desc=report.graph, dynamic_ncols=True, leave=True)
            self._bar.start_t -= report.wall_s  # the run began before its first report
        bar = self._bar
        if report.expected is not None:  # of files it is an estimate, which gets better
            bar.total = max(report.expected, report.released)
        texts = [f"{report.events_in:,} read"]
        if report.order.head is not None and report.in_flight:
            texts.append(f"head at {report.order.head}")
        if report.dead_letters:
            texts.append(f"{report.dead_letters:,} dead letters")
        if report.waits_for:
            texts.append("waiting for room in the cluster")
        bar.set_postfix_str(", ".join(texts), refresh=False)
        bar.update(max(0, report.released - bar.n))
        bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()


def _drawer() -> type[tqdm[Any]]:
    """Return what draws a bar: a widget in a notebook, text elsewhere. Slow to import, and only a bar needs it."""
    if "ipykernel" in sys.modules:
        from tqdm.autonotebook import tqdm as widget

        drawn: type[tqdm[Any]] = widget
        return drawn
    from tqdm import tqdm

    return tqdm


class ProgressTimer:
    """Shows progress about once a second, and at the end."""

    def __init__(self, wanted: bool | Show | None) -> None:
        self._show = make_progress(wanted)
        self._due = monotonic() + PROGRESS_S

    def show_if_due(self, report: Callable[[], RunReport]) -> None:
        """Show a report if the last one is a second old."""
        if self._show is not None and monotonic() >= self._due:
            self._due = monotonic() + PROGRESS_S
            self._call(self._show, report())

    def show_last(self, report: Callable[[], RunReport]) -> None:
        """Show the last report of a run."""
        if self._show is not None:
            self._call(self._show, report())
            if isinstance(self._show, Bar):
                self._show.close()

    def _call(self, show: Show, report: RunReport) -> None:
        given: object = show(report)
        if given is not None:
            refuse_unrun(given, "progress=", "use a plain def", futures=False)


def make_progress(wanted: bool | Show | None) -> Show | None:
    """Return what is called with each report, or `None` if no progress is wanted."""
    if wanted is True:
        return Bar()
    return wanted if callable(wanted) else None
