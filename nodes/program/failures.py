"""Failures: what one carries of the exception behind it, and the failures that the engine decides without a call.

Decides what counts as a failure of user code and which frames of a traceback are the user's. Whether an event is tried
again is decided by the executors.
"""

from __future__ import annotations

import traceback
from typing import Any

from ..errors import describe
from ..events import Failure
from .program import CallName, Orders, Step

#: What counts as a failure of user code. `sys.exit` in a handler fails its event, it does not end a worker.
USER_ERRORS = (Exception, SystemExit)


def failure(
    step: Step, name: tuple[int, int], error: BaseException, attempts: int, event: Any, kind: Any = "error"
) -> Failure:
    """Return the final failure of one event: one line, the traceback without the executor's frames, the cause."""
    if isinstance(error, StopIteration) or (isinstance(error.__cause__, StopIteration) and not user_frames(error)):
        # A C loop reads it as the end of its events and a coroutine wraps it; the text is the same in both.
        error = RuntimeError("the handler raised StopIteration")
    return Failure(
        name[0],
        name[1],
        step.node,
        step.options.on_error,
        describe(error),
        "".join(traceback.format_exception(type(error), error, user_frames(error))),
        attempts,
        event,
        error,
        kind,
    )


def user_frames(error: BaseException) -> Any:
    """Return the traceback of `error`, beginning at the first frame outside `nodes` and `engine`."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
        frames = frames.tb_next
    return frames


_OWN = tuple(f"{__name__.partition('.')[0]}.{layer}." for layer in ("nodes", "engine"))


def verdict_for(orders: Orders, step: Step, name: tuple[int, int], event: Any) -> Failure | None:
    """Return the failure that the engine has decided for this call, if any."""
    call: CallName = (step.node, *name)
    verdict = orders.verdicts.get(call)
    if verdict is None:
        return None
    kind: Any = verdict.kind
    return Failure(*name, step.node, step.options.on_error, verdict.error, "", verdict.attempts, event, None, kind)
