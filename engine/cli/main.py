"""The command line: `sluiceway run MODULE:GRAPH`, `plan`, `checkpoints` and `bench`.

Decides the commands and their options, the exit codes and what people read. Standard output belongs to the
graph (a sink may be "-") and to the plan; progress, report and errors go to standard error. Exit codes: 0 done, 1 the run
failed, 2 wrong usage and graphs that cannot run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from ...nodes.errors import CheckpointError, GraphError, SinkError, SluicewayError
from ..checkpoints.open_store import describe_store
from ..checkpoints.store import Resume
from ..options import Runner
from ..reporting.progress import Bar
from ..reporting.report import RunReport
from ..run import compile, default_workers, run
from .arguments import UsageError
from .bench import add_bench_command
from .target import load_graph

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
#: Frames of these folders are sluiceway's and Python's own and say nothing about the user's code.
_ENGINE = Path(__file__).parent.parent
_OWN = (f"{_ENGINE}{os.sep}", f"{_ENGINE.parent / 'nodes'}{os.sep}", importlib.__path__[0], "<frozen importlib")


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line (`None`: that of the process) and return the exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except (UsageError, GraphError) as error:
        _print_traceback(error.__cause__)
        return _print_line(error, USAGE)
    except KeyboardInterrupt:
        return _print_line("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _leave_stdout()
        return FAILED
    return code


def _checkpoints(args: argparse.Namespace) -> int:
    """Show what a store of checkpoints holds."""
    try:
        print(describe_store(args.store, args.name))
    except CheckpointError as error:
        return _print_line(error, FAILED)
    return DONE


def _run(args: argparse.Namespace) -> int:
    """Run a graph and report."""
    graph = load_graph(args.graph, args.set)
    report_file: Path | None = args.report
    if report_file is not None and not report_file.absolute().parent.is_dir():
        raise UsageError(f"cannot write --report {report_file}: its folder does not exist; make it first")
    logging.basicConfig(format="%(levelname)s: %(name)s: %(message)s")
    shown = args.progress if args.progress is not None else sys.stderr.isatty()
    watch = _Watch(Bar() if shown else None)
    failure: BaseException | None = None
    try:
        watch.last = run(
            graph,
            # With a number, every handler runs in processes of its own.
            workers=args.workers or default_workers(),
            runner=args.runner,
            limit=args.limit,
            time_limit_s=args.time_limit,
            progress=watch,
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
    if failure is not None and not _reader_left(failure):
        _print_traceback(failure.__cause__)
    if watch.last is not None:
        print(watch.last, file=sys.stderr)
        if report_file is not None:
            report_file.write_text(json.dumps(watch.last.as_dict(), indent=2) + "\n", encoding="utf-8")
    return _ending(failure, watch.last)


def _ending(failure: BaseException | None, report: RunReport | None) -> int:
    """Print in one line how a run ended, unless it succeeded, and return the exit code."""
    if failure is None:
        return DONE
    if isinstance(failure, KeyboardInterrupt):
        counts = f": {report.events_in:,} events were read, {report.released:,} released" if report is not None else ""
        return _print_line(f"interrupted{counts}", INTERRUPTED)
    if _reader_left(failure):
        _leave_stdout()
        return _print_line("standard output was closed by its reader, and the run ended there", FAILED)
    return _print_line(failure, FAILED)


def _plan(args: argparse.Namespace) -> int:
    """Print the plan of a graph."""
    plan = compile(load_graph(args.graph, args.set), workers=args.workers or default_workers())
    if args.mermaid:
        sys.stdout.write(plan.mermaid())
    else:
        print(plan)
    return DONE


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


# What people read on standard error


def _print_line(what: object, code: int) -> int:
    text = str(what).strip() or type(what).__name__
    print(f"sluiceway: {text.splitlines()[0]}", file=sys.stderr)
    return code


def _print_traceback(error: BaseException | None) -> None:
    """Show where in the user's code an error was raised: the worker's own traceback, or that of this process."""
    if error is None:
        return
    remote = [note for note in getattr(error, "__notes__", ()) if note.startswith("remote traceback:\n")]
    if remote:
        print(remote[-1].partition("\n")[2], file=sys.stderr)
        return
    where = _users_part(error.__traceback__)
    # A SyntaxError shows its place without any frame.
    if where is not None or isinstance(error, SyntaxError):
        print("".join(traceback.format_exception(type(error), error, where)).rstrip(), file=sys.stderr)


def _users_part(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN):
        frames = frames.tb_next
    return frames


# Standard output without a reader (`sluiceway run ... | head`)


def _reader_left(failure: BaseException) -> bool:
    """Whether a run failed because nobody reads standard output any more."""
    if not isinstance(failure, SinkError) or not isinstance(failure.__cause__, BrokenPipeError):
        return False
    state = select.poll()
    state.register(sys.stdout.fileno(), 0)  # errors are always reported
    return bool(state.poll(0))


def _leave_stdout() -> None:
    """Replace standard output by the null device, so that what is still buffered does not fail at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


# The commands and their options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluiceway",
        description="Run event pipelines on all cores of one machine, with their order kept.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage or a graph that cannot run, 130 interrupted.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    _add_checkpoints(commands)
    add_bench_command(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version of the installed package; looking it up takes a while, so only on demand."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"sluiceway {version('sluiceway')}")
        except PackageNotFoundError:
            print("sluiceway, not installed: this is a source tree")
        parser.exit()


def _add_run(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="run a graph",
        description="Run a graph. Its handlers always run in processes of their own, unless --runner inline.",
        epilog="Progress and the report go to standard error; standard output is the graph's. The numbers in errors"
        " and warnings are the events' places in the order of reading, from 0 on.",
    )
    _add_graph(parser)
    add = parser.add_argument
    add(
        "--runner",
        choices=get_args(Runner),
        default="processes",
        help="inline: everything in this process, one event after the other",
    )
    add("--limit", type=_count, metavar="N", help="end reading after N events")
    add("--time-limit", type=_seconds, metavar="S", help="end reading after S seconds")
    add("--report", type=Path, metavar="FILE.json", help="write the report as JSON, also when the run fails")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show progress (default: where standard error is a terminal)",
    )
    _add_checkpointing(add)
    parser.set_defaults(command=_run)


def _add_checkpointing(add: Callable[..., object]) -> None:
    add(
        "--checkpoint",
        metavar="STORE",
        help="record how far the run is, to continue there after a crash: a file, or a URL postgresql+psycopg://user@host/db",
    )
    add("--checkpoint-interval", type=_seconds, default=1.0, metavar="S", help="seconds between two checkpoints")
    add(
        "--resume",
        choices=get_args(Resume),
        default="auto",
        help="whether to continue from the checkpoint (default: where there is one)",
    )


def _add_plan(commands: Any) -> None:
    parser = commands.add_parser(
        "plan", help="show which nodes run in which process", description="Show where a graph's nodes run, and why."
    )
    _add_graph(parser)
    parser.add_argument("--mermaid", action="store_true", help="as a Mermaid flow chart")
    parser.set_defaults(command=_plan)


def _add_checkpoints(commands: Any) -> None:
    parser = commands.add_parser(
        "checkpoints", help="look into a store of checkpoints", description="Show how far the run of a store is."
    )
    parser.add_argument("store", metavar="STORE", help="the file or URL given as --checkpoint")
    parser.add_argument("--name", help="which run of a database (default: the only one)")
    parser.set_defaults(command=_checkpoints)


def _add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "graph", metavar="MODULE:GRAPH", help="a Graph or a function that returns one; also path/file.py:graph"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="processes of each pool (default: the number of cores)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="a value for the function, by its annotations; repeat it for more, and for lists",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds of 0 or more")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
