"""What the command line says on standard error, and with which exit code it ends.

Decides that an error is one line, in the words of the command line, below the part of a traceback that is the user's.
"""

from __future__ import annotations

import importlib
import os
import re
import select
import sys
import traceback
from pathlib import Path
from types import TracebackType

from ...nodes.errors import CheckpointError, GraphError, SinkError

DONE, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

#: Frames of these folders are sluiceway's and Python's own and say nothing about the user's code.
_ENGINE = Path(__file__).parent.parent
_OWN = (f"{_ENGINE}{os.sep}", f"{_ENGINE.parent / 'nodes'}{os.sep}", importlib.__path__[0], "<frozen importlib")

#: The options of a run that the command line has, and an assignment of one as it is written in Python.
_OPTIONS = {
    "workers": "--workers", "runner": "--runner", "limit": "--limit", "time_limit_s": "--time-limit",
    "checkpoint": "--checkpoint", "checkpoint_interval_s": "--checkpoint-interval", "resume": "--resume",
}  # fmt: skip
_ASSIGNED = re.compile(rf"\b({'|'.join(_OPTIONS)})=(?:'([^']*)'|(\w+))?")


def in_shell_words(error: object) -> str:
    """Return the text of an error with `--resume never` for `resume='never'`, if it is a text of ours alone."""
    text = str(error)
    if not isinstance(error, (CheckpointError, GraphError)) or error.__cause__ is not None:
        return text
    return _ASSIGNED.sub(lambda found: " ".join(part for part in (_OPTIONS[found[1]], found[2] or found[3]) if part), text)


def print_line(what: object, code: int) -> int:
    """Print the first line of a text or an error, and return the exit code."""
    text = in_shell_words(what).strip() or type(what).__name__
    print(f"sluiceway: {text.splitlines()[0]}", file=sys.stderr)
    return code


def print_traceback(error: BaseException | None) -> None:
    """Show where in the user's code an error was raised: the worker's own traceback, or that of this process."""
    if error is None:
        return
    notes = [note for note in getattr(error, "__notes__", None) or () if isinstance(note, str)]
    remote = [note for note in notes if note.startswith("remote traceback:\n")]
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


def reader_left(failure: BaseException) -> bool:
    """Whether a run failed because nobody reads standard output any more."""
    if not isinstance(failure, SinkError) or not isinstance(failure.__cause__, BrokenPipeError):
        return False
    state = select.poll()
    state.register(sys.stdout.fileno(), 0)  # errors are always reported
    return bool(state.poll(0))


def leave_stdout() -> None:
    """Replace standard output by the null device, so that what is still buffered does not fail at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
