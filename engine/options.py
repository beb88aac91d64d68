"""The options of a run: their words, their defaults, and what is refused.

Decides nothing about how they are carried out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypedDict

from ..graphs.builder.checks import check_words
from ..nodes.errors import GraphError
from ..nodes.locks import Lock
from .checkpoints.store import Resume, Store
from .reporting.report import RunReport


class StopSignal(Protocol):
    """Anything that can say "stop"; `threading.Event` fits."""

    def is_set(self) -> bool:
        """Whether the reading shall end."""


class RunWords(TypedDict, total=False):
    """The keyword arguments of `run`, `iterate` and `imap`; see `RunOptions` for what they mean."""

    workers: int | None
    runner: Literal["processes", "inline"]
    progress: bool | Callable[[RunReport], object] | None
    limit: int | None
    time_limit_s: float | None
    stop: StopSignal | None
    window_bytes: int
    window_numbers: int
    max_deaths: int | None
    max_events_per_worker: int | None
    max_rss_bytes: int | None
    stall_warning_s: float
    drain_s: float
    close_s: float
    transport: Literal["ipc", "tcp"]
    checkpoint: str | os.PathLike[str] | Store | None
    checkpoint_interval_s: float
    resume: Resume
    lock: Lock | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a graph is run.

    `workers`: processes of each pool that sets none itself (`None`: as many as there are cores). `window_bytes` and
    `window_numbers` bound what is in flight, held results included. `limit` ends the reading after so many events,
    `time_limit_s` after so many seconds, `stop` when it is set. `max_deaths` is how many workers one event may kill
    (`None`: any number). `max_events_per_worker` and `max_rss_bytes` replace a worker that has handled or grown
    that much. `stall_warning_s`: seconds without progress after which a warning says why. `drain_s`: seconds for
    what is in flight after a Ctrl-C. `close_s`: seconds for handlers to close. `transport`: `"ipc"`, or `"tcp"` on
    loopback with CURVE keys. `checkpoint`: the file, PostgreSQL URL or store in which the run keeps how far it is, so
    that the same call goes on there after a crash; `resume`: `"auto"`, `"never"` to begin anew,
    `"required"` to refuse to. `checkpoint_interval_s`: seconds between two checkpoints, and between the commits of sinks
    that commit and the acknowledgements of sources that want them. `lock` is held while the run works; a lost one
    stops the run before its next commit.
    """

    workers: int | None = None
    runner: Literal["processes", "inline"] = "processes"
    progress: bool | Callable[[RunReport], object] | None = False
    limit: int | None = None
    time_limit_s: float | None = None
    stop: StopSignal | None = None
    window_bytes: int = 64 << 20
    window_numbers: int = 1 << 18
    max_deaths: int | None = 3
    max_events_per_worker: int | None = None
    max_rss_bytes: int | None = None
    stall_warning_s: float = 30.0
    drain_s: float = 10.0
    close_s: float = 5.0
    transport: Literal["ipc", "tcp"] = "ipc"
    checkpoint: str | os.PathLike[str] | Store | None = None
    checkpoint_interval_s: float = 1.0
    resume: Resume = "auto"
    lock: Lock | None = None


RUN_WORDS = frozenset(field.name for field in fields(RunOptions))
_WHOLE = ("workers", "window_bytes", "window_numbers", "max_deaths", "max_events_per_worker", "max_rss_bytes")


def check_run_options(given: Mapping[str, Any], call: str) -> RunOptions:
    """Build the options of a run; raises `TypeError` for unknown words and `GraphError` for absurd values."""
    check_words(given, RUN_WORDS, call=call)
    options = RunOptions(**given)
    for name in _WHOLE:
        _check_whole(call, name, getattr(options, name), least=1, optional=name not in ("window_bytes", "window_numbers"))
    _check_whole(call, "limit", options.limit, least=0, optional=True)
    for name in ("stall_warning_s", "drain_s", "close_s", "checkpoint_interval_s"):
        _check_seconds(call, name, getattr(options, name), optional=False)
    _check_seconds(call, "time_limit_s", options.time_limit_s, optional=True)
    if options.runner not in ("processes", "inline"):
        raise GraphError(f"{call} cannot use runner={options.runner!r}: there are 'processes' and 'inline'; choose one")
    if options.transport not in ("ipc", "tcp"):
        raise GraphError(f"{call} cannot use transport={options.transport!r}: there are 'ipc' and 'tcp'; choose one")
    if options.resume not in ("auto", "never", "required"):
        raise GraphError(
            f"{call} cannot use resume={options.resume!r}: there are 'auto', 'never' and 'required'; choose one"
        )
    _check_checkpoint(call, options)
    if options.checkpoint is not None and call != "sw.run":
        raise GraphError(f"{call} cannot make checkpoints: its consumer cannot commit; use sw.run with a sink")
    if options.lock is not None and not isinstance(options.lock, Lock):
        raise GraphError(f"{call} cannot use lock=: it has no acquire(), check() and release(); pass sw.file_lock(path)")
    if options.stop is not None and not callable(getattr(options.stop, "is_set", None)):
        raise GraphError(f"{call} cannot use stop=: it has no is_set(); pass a threading.Event or the like")
    if not isinstance(options.progress, bool) and options.progress is not None and not callable(options.progress):
        raise GraphError(f"{call} cannot use progress=: it is True, False or a callable that takes a RunReport")
    return options


def _check_checkpoint(call: str, options: RunOptions) -> None:
    given = options.checkpoint
    if given is None and options.resume == "required":
        raise GraphError(f"{call} cannot use resume='required' without checkpoint=: name what the run is to go on from")
    if given == ":memory:":
        raise GraphError(f"{call} cannot use checkpoint=':memory:': what is kept must outlive the run; name a file")
    if given == "" or not (given is None or isinstance(given, (str, os.PathLike)) or hasattr(given, "logged")):
        raise GraphError(
            f"{call} cannot use checkpoint={given!r:.40}: it is the path of a file, a PostgreSQL URL or a store; pass one"
        )


def _check_whole(call: str, name: str, value: Any, *, least: int, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        none = ", or None" if optional else ""
        raise GraphError(f"{call} cannot use {name}={value!r:.40}: it is a whole number of at least {least}{none}")


def _check_seconds(call: str, name: str, value: Any, *, optional: bool) -> None:
    if value is None and optional:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        none = ", or None" if optional else ""
        raise GraphError(f"{call} cannot use {name}={value!r:.40}: it is a number of seconds, 0 or more{none}")
