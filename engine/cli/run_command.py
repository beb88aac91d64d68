"""The command `sluiceway run`: runs a graph, and says on standard error how it went.

Decides what is checked before the run, what its log, progress and report show, and what Ctrl-C and SIGTERM make of it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...nodes.errors import GraphError, SluicewayError
from ..options import Runner
from ..page_settings import Page, check_page
from ..ray_runner import ray_runner
from ..reporting.progress import Bar
from ..reporting.report import RunReport
from ..run import AfterRun, default_workers, run
from .arguments import UsageError
from .report_file import ReportFile
from .speaking import (
    DONE,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    leave_stdout,
    print_line,
    print_traceback,
    reader_left,
)
from .target import load_graph


def run_graph(args: argparse.Namespace) -> int:
    """Run a graph, report, and return the exit code; raises `UsageError` and `GraphError` before anything starts."""
    _check_folder(args.checkpoint)
    report_file = ReportFile(args.report) if args.report is not None else None
    try:
        graph = load_graph(args.graph, args.set)
        _set_up_logging(args.verbose, quiet=args.quiet)
        return _run(graph, args, report_file)
    except (UsageError, GraphError):
        if report_file is not None:
            report_file.discard()
        raise


def _runner(args: argparse.Namespace) -> Runner:
    """Return the runner that was asked for; only Ray has an address."""
    if args.runner == "ray":
        return ray_runner(args.address)
    if args.address is not None:
        raise UsageError("--address is that of a Ray cluster: add --runner ray")
    name: Runner = args.runner
    return name


def _page(args: argparse.Namespace) -> Page | None:
    """Return where the page is served, if it is wanted; its address is said once it is there."""
    if args.serve is None:
        return None
    return replace(check_page("sluiceway run", "--serve", args.serve), opened=_say_address)


def _say_address(url: str) -> None:
    print_line(f"the run is shown at {url}", DONE)


def _run(graph: Any, args: argparse.Namespace, report_file: ReportFile | None) -> int:
    shown = args.progress if args.progress is not None else sys.stderr.isatty() and not args.quiet
    watch = _Watch(Bar() if shown else None)
    failure: BaseException | None = None
    with _Termination() as termination:
        try:
            watch.last = run(
                graph,
                # With a number, every handler runs in processes of its own; on a cluster that is always so.
                workers=args.workers or (None if args.runner == "ray" else default_workers()),
                runner=_runner(args),
                limit=args.limit,
                time_limit_s=args.time_limit,
                progress=watch,
                serve=_page(args),
                checkpoint=args.checkpoint,
                checkpoint_interval_s=args.checkpoint_interval,
                resume=args.resume,
            )
        except GraphError:
            raise
        except SluicewayError as error:
            failure, watch.last = error, error.report or watch.last
        except KeyboardInterrupt as error:
            failure = error
        finally:
            watch.close()
    if failure is not None and not reader_left(failure):
        print_traceback(failure.__cause__)
    if watch.last is not None and not args.quiet:
        print(watch.last, file=sys.stderr)
    code = _ending(failure, watch.last, terminated=termination.came)
    return max(code, _write(report_file, watch.last))


def _ending(failure: BaseException | None, report: RunReport | None, *, terminated: bool) -> int:
    """Print in one line how a run ended, unless it succeeded, and return the exit code."""
    if failure is None:
        return DONE
    if isinstance(failure, KeyboardInterrupt):
        counts = f": {report.events_in:,} events were read, {report.released:,} released" if report is not None else ""
        what, code = ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)
        return print_line(f"{what}{counts}", code)
    if reader_left(failure):
        leave_stdout()
        return print_line("standard output was closed by its reader, and the run ended there", FAILED)
    return print_line(failure, FAILED)


def _write(report_file: ReportFile | None, report: RunReport | None) -> int:
    """Write the report, if it is wanted and there is one; return the exit code that this alone would give."""
    if report_file is None:
        return DONE
    if report is None:
        report_file.discard()
        return DONE
    try:
        report_file.write(report)
    except OSError as error:
        return print_line(f"cannot write --report: {error.strerror}; the run itself ended as said above", FAILED)
    return DONE


def _check_folder(checkpoint: str | None) -> None:
    """Raise `UsageError` for a file of checkpoints in a folder that is not there."""
    if checkpoint is None or "://" in checkpoint:
        return
    folder = Path(checkpoint).absolute().parent
    if not folder.is_dir():
        raise UsageError(f"cannot use --checkpoint {checkpoint}: there is no folder {folder}; make it first")


def _set_up_logging(verbose: int, *, quiet: bool) -> None:
    """Show the log on standard error, unless the user's code has set that up; its levels are those of the options."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    time = "%(asctime)s " if verbose else ""
    logging.basicConfig(format=f"{time}%(levelname)s: %(name)s: %(message)s")
    if quiet or verbose:
        logging.getLogger().setLevel(level)


class _Watch:
    """Keeps the last report of a run, also of an interrupted one, and passes each to the progress bar, if any."""

    def __init__(self, bar: Bar | None) -> None:
        self.last: RunReport | None = None
        self._bar = bar

    def __call__(self, report: RunReport) -> None:
        self.last = report
        if self._bar is not None:
            self._bar(report)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Termination:
    """A context in which SIGTERM ends the run as Ctrl-C does, so that its report is shown; `came` says that it came."""

    def __init__(self) -> None:
        self.came = False
        self._replaced = False

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, AfterRun(self._interrupt))
            self._replaced = True
        return self

    def _interrupt(self) -> None:
        self.came = True
        raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._replaced:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
