"""When a run began and ended, where, and what ended it: in its report and, in a line each, in the log.

Decides the lines of the log and the text of an error in a report. A failure is raised, not logged; its line says only
that it ended the run.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ...nodes.errors import NodeError, describe
from ...nodes.program.failures import user_frames
from ...nodes.version import __version__
from .report import ErrorReport, RunReport

_LOG = logging.getLogger("sluiceway")


class RunLife:
    """The beginning and the end of one run."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self._began = ""
        self._ended = ""
        self._error: ErrorReport | None = None

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return bool(self._ended)

    @property
    def failed(self) -> bool:
        """Whether an error has ended the run."""
        return self._error is not None

    @contextmanager
    def logged(self, report: Callable[[], RunReport], is_forked: Callable[[], bool]) -> Iterator[None]:
        """Log the beginning and the end of the run inside, and keep what it raises for its report.

        `is_forked` says whether this unwinds in a fork of the caller, whose run it is not.
        """
        self._began = _now()
        _LOG.info("graph %r begins", self._graph)
        try:
            yield
        except Exception as error:
            self._error = _error_report(error)
            raise
        finally:
            self._ended = _now()
            if _LOG.isEnabledFor(logging.INFO) and not is_forked():
                end = report()
                _LOG.info(
                    "graph %r ended by %s: %d events in, %d out, %d dead letters, %d skipped, %.2f s",
                    self._graph, end.ended_by, end.events_in, end.events_out, end.dead_letters, end.skipped, end.wall_s,
                )  # fmt: skip

    def stamp(self, report: RunReport) -> RunReport:
        """Return a report with what is known of the run's beginning and end."""
        report.began_at, report.ended_at, report.error = self._began, self._ended, self._error
        report.version, report.host = __version__, os.uname().nodename
        return report


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _local_traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, user_frames(error)))


def _error_report(error: BaseException) -> ErrorReport:
    cause = error.__cause__
    notes = [note for note in getattr(cause, "__notes__", None) or () if isinstance(note, str)]
    remote = next((note for note in notes if note.startswith("remote traceback:\n")), None)
    at_node = error if isinstance(error, NodeError) else NodeError("")
    shown = remote.partition("\n")[2] if remote else _local_traceback(cause or error)
    return ErrorReport(
        type=type(error).__name__,
        text=str(error),
        node=at_node.node or None,
        number=at_node.seq,
        index=at_node.index,
        cause=None if cause is None else describe(cause),
        traceback=shown.rstrip(),
    )
