"""The command line: `sluiceway run MODULE:GRAPH`, `plan`, `checkpoints` and `bench`.

Decides the commands and their options, the exit codes and what people read. Standard output belongs to the
graph (a sink may be "-") and to the plan; progress, report and errors go to standard error. Exit codes: 0 done, 1 the run
failed, 2 wrong usage and graphs that cannot run, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from ...nodes.errors import CheckpointError, GraphError
from ...nodes.version import __version__
from ..checkpoints.open_store import copy_store, describe_store
from ..checkpoints.store import Resume
from ..options import RunnerName
from ..run import compile, default_workers
from .arguments import UsageError
from .bench import add_bench_command
from .run_command import run_graph
from .speaking import DONE, FAILED, INTERRUPTED, USAGE, leave_stdout, print_line, print_traceback
from .target import load_graph, target_help


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line (`None`: that of the process) and return the exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except (UsageError, GraphError) as error:
        print_traceback(error.__cause__)
        return print_line(error, USAGE)
    except KeyboardInterrupt:
        return print_line("interrupted", INTERRUPTED)
    except BrokenPipeError:
        leave_stdout()
        return FAILED
    return code


def _checkpoints(args: argparse.Namespace) -> int:
    """Show what a store of checkpoints holds."""
    try:
        if args.copy is not None:
            copy_store(args.store, args.copy)
        else:
            print(describe_store(args.store, args.name))
    except CheckpointError as error:
        return print_line(error, FAILED)
    return DONE


def _plan(args: argparse.Namespace) -> int:
    """Print the plan of a graph."""
    plan = compile(load_graph(args.graph, args.set), workers=args.workers or default_workers())
    if args.mermaid:
        sys.stdout.write(plan.mermaid())
    else:
        print(plan)
    return DONE


# The commands and their options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluiceway",
        description="Run event pipelines on all cores of one machine, with their order kept.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage or a graph that cannot run, 130 interrupted"
        " (Ctrl-C), 143 terminated (SIGTERM).",
    )
    parser.add_argument("--version", action="version", version=f"sluiceway {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    _add_checkpoints(commands)
    add_bench_command(commands)
    return parser


class _Help(argparse.Action):
    """Prints the help of a command; behind a graph's name also the values that its function takes."""

    def __call__(self, parser: argparse.ArgumentParser, given: argparse.Namespace, *_: object) -> None:
        parser.print_help()
        if getattr(given, "graph", None):
            print(f"\n{target_help(given.graph)}")
        parser.exit()


def _add_run(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        add_help=False,
        help="run a graph",
        description="Run a graph. Its handlers always run in processes of their own, unless --runner inline.",
        epilog="Progress and the report go to standard error; standard output is the graph's. The numbers in errors"
        " and warnings are the events' places in the order of reading, from 0 on.",
    )
    _add_graph(parser)
    add = parser.add_argument
    add(
        "--runner",
        choices=get_args(RunnerName),
        default="processes",
        help="inline: everything in this process, one event after the other; ray: workers on a Ray cluster",
    )
    add("--address", metavar="HOST:PORT", help="the Ray cluster of --runner ray, or auto (default: as ray.init() finds it)")
    add("--limit", type=_count, metavar="N", help="end reading after N events")
    add("--time-limit", type=_seconds, metavar="S", help="end reading after S seconds")
    add(
        "--serve", nargs="?", const="0", metavar="ADDR",
        help="show the run in a browser, with metrics and health, at a port of this machine or HOST:PORT (default: a free port);"
        " behind MODULE:GRAPH",
    )  # fmt: skip
    add("--report", type=Path, metavar="FILE.json", help="write the report as JSON, also when the run fails")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show progress (default: where standard error is a terminal)",
    )
    add(
        "-v", "--verbose", action="count", default=0,
        help="log where the run begins, goes on, waits, tries again and ends; twice: everything, also commits",
    )  # fmt: skip
    add("-q", "--quiet", action="store_true", help="only errors: no report, no progress, no warnings")
    _add_checkpointing(add)
    parser.set_defaults(command=run_graph)


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
        "plan",
        add_help=False,
        help="show which nodes run in which process",
        description="Show where a graph's nodes run, and why.",
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
    parser.add_argument(
        "--copy", metavar="FILE", help="instead of showing it, copy a store in a file as it is now, also while a run uses it"
    )
    parser.set_defaults(command=_checkpoints)


def _add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-h", "--help", action=_Help, nargs=0, help="show this; behind MODULE:GRAPH also the values that it takes"
    )
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
