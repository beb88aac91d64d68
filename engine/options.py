"""The options of a run, each declared once: its type, its default and its check.

Knows nothing of how an option acts. A new option is a field of `RunOptions` and a word of `RunWords` here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, Protocol, TypedDict, get_args

from ..graphs.builder.words import RUN_WORDS, check_words
from ..nodes.checks import check_seconds, check_whole
from ..nodes.errors import GraphError
from ..nodes.handlers import accepts, is_async, is_generator
from ..nodes.locks import Lock
from .checkpoints.store import Resume, Store
from .reporting.report import RunReport

Runner = Literal["processes", "inline"]
Transport = Literal["ipc", "tcp"]


class StopSignal(Protocol):
    """Anything that can say "stop"; `threading.Event` fits."""

    def is_set(self) -> bool:
        """Whether reading shall end."""


class RunWords(TypedDict, total=False):
    """The keyword arguments of `run`, `iterate` and `imap`; see `RunOptions` for what they mean.

    mypy needs them as a literal `TypedDict`; they are the fields of `RunOptions`.
    """

    workers: int | None
    runner: Runner
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
    transport: Transport
    checkpoint: str | os.PathLike[str] | Store | None
    checkpoint_interval_s: float
    resume: Resume
    lock: Lock | None
    setup: Callable[[], object] | None


def _checked(check: Callable[..., Any], *, or_none: bool = False, **bounds: Any) -> dict[str, Any]:
    """Return the metadata of an option: `check(where, name, value, **bounds)` returns the plain value or raises.

    `None` is accepted where it is the default, and with `or_none`.
    """
    return {"check": partial(check, **bounds), "or_none": or_none}


def _check_choice(where: str, name: str, value: Any, *, of: Any) -> Any:
    """Check that a value is one of those of the `Literal` in `of`."""
    if value not in get_args(of):
        *others, last = (repr(choice) for choice in get_args(of))
        raise GraphError(f"{where} cannot use {name}={value!r}: there are {', '.join(others)} and {last}; choose one")
    return value


def _check_lock(where: str, name: str, value: Any) -> Any:
    if not isinstance(value, Lock):
        raise GraphError(
            f"{where} cannot use {name}=: it has no acquire(), check() and release(); pass sw.file_lock(path)"
        )
    return value


def _check_stop(where: str, name: str, value: Any) -> Any:
    if not callable(getattr(value, "is_set", None)):
        raise GraphError(f"{where} cannot use {name}=: it has no is_set(); pass a threading.Event or the like")
    return value


def _check_setup(where: str, name: str, value: Any) -> Any:
    if not callable(value) or is_async(value) or is_generator(value) or not accepts(value):
        raise GraphError(
            f"{where} cannot use {name}=: it must be a plain function without arguments, called once in every process;"
            " pass one"
        )
    return value


def _check_progress(where: str, name: str, value: Any) -> Any:
    if not isinstance(value, bool) and value is not None and not callable(value):
        raise GraphError(f"{where} cannot use {name}=: it is True, False or a callable that takes a RunReport")
    return value


def _check_checkpoint(where: str, name: str, value: Any) -> Any:
    if value == ":memory:":
        raise GraphError(f"{where} cannot use {name}=':memory:': what is kept must outlive the run; name a file")
    if value == "" or not (isinstance(value, (str, os.PathLike)) or hasattr(value, "logged")):
        raise GraphError(
            f"{where} cannot use {name}={value!r:.40}: it is the path of a file, a PostgreSQL URL or a store; pass one"
        )
    return value


_UNLIMITED = "leave it out for no limit"
_DEFAULT = "leave it out for the default"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a graph is run. A number is the place of an event in the order of reading, from 0 on.

    `workers`: processes of each pool that sets none itself (`None`: as many as there are cores). `window_bytes` and
    `window_numbers` bound what is in flight, results that wait for earlier ones included. `limit` ends reading after
    that many events, `time_limit_s` after that many seconds, `stop` when it is set. `max_deaths` is how many workers
    one event may kill (`None`: any number). `max_events_per_worker` and `max_rss_bytes` replace a worker that has
    handled or grown that much. `stall_warning_s`: seconds without progress after which a warning says why. `drain_s`:
    seconds for what is in flight after a Ctrl-C. `close_s`: seconds for handlers to close. `transport`: `"ipc"`, or
    `"tcp"` on loopback with CURVE keys. `checkpoint`: the file, PostgreSQL URL or store in which the run records how
    far it is, so that the same call continues there after a crash; `resume`: `"auto"`, `"never"` to begin anew,
    `"required"` to refuse to begin anew. `checkpoint_interval_s`: seconds between two checkpoints, and between the
    commits of sinks that commit and the acknowledgements of sources that want them. `lock` is held during the run; if
    it is lost, the run stops before its next commit. `setup` is called once in every process that runs your code, this
    one included, before any handler is built there.
    """

    workers: int | None = field(default=None, metadata=_checked(check_whole, remedy="leave it out for one per core"))
    runner: Runner = field(default="processes", metadata=_checked(_check_choice, of=Runner))
    progress: bool | Callable[[RunReport], object] | None = field(default=False, metadata=_checked(_check_progress))
    limit: int | None = field(default=None, metadata=_checked(check_whole, remedy=_UNLIMITED, least=0))
    time_limit_s: float | None = field(default=None, metadata=_checked(check_seconds, remedy=_UNLIMITED))
    stop: StopSignal | None = field(default=None, metadata=_checked(_check_stop))
    window_bytes: int = field(default=64 << 20, metadata=_checked(check_whole, remedy=_DEFAULT))
    window_numbers: int = field(default=1 << 18, metadata=_checked(check_whole, remedy=_DEFAULT))
    max_deaths: int | None = field(default=3, metadata=_checked(check_whole, or_none=True, remedy="pass None for any number"))
    max_events_per_worker: int | None = field(default=None, metadata=_checked(check_whole, remedy=_UNLIMITED))
    max_rss_bytes: int | None = field(default=None, metadata=_checked(check_whole, remedy=_UNLIMITED))
    stall_warning_s: float = field(default=30.0, metadata=_checked(check_seconds, remedy=_DEFAULT))
    drain_s: float = field(default=10.0, metadata=_checked(check_seconds, remedy=_DEFAULT))
    close_s: float = field(default=5.0, metadata=_checked(check_seconds, remedy=_DEFAULT))
    transport: Transport = field(default="ipc", metadata=_checked(_check_choice, of=Transport))
    checkpoint: str | os.PathLike[str] | Store | None = field(default=None, metadata=_checked(_check_checkpoint))
    checkpoint_interval_s: float = field(default=1.0, metadata=_checked(check_seconds, remedy=_DEFAULT))
    resume: Resume = field(default="auto", metadata=_checked(_check_choice, of=Resume))
    lock: Lock | None = field(default=None, metadata=_checked(_check_lock))
    setup: Callable[[], object] | None = field(default=None, metadata=_checked(_check_setup))


def check_run_options(given: Mapping[str, Any], call: str) -> RunOptions:
    """Return the options of a run as plain values; raises `TypeError` for unknown words, `GraphError` for refused values."""
    check_words(given, RUN_WORDS, call=call)
    options = RunOptions(**given)
    plain = {}
    for option in fields(RunOptions):
        value = getattr(options, option.name)
        if value is not None or not (option.default is None or option.metadata["or_none"]):
            plain[option.name] = option.metadata["check"](call, option.name, value)
    if options.checkpoint is None and options.resume == "required":
        raise GraphError(f"{call} cannot use resume='required' without checkpoint=: name what the run continues from")
    if options.checkpoint is not None and call != "sw.run":
        raise GraphError(f"{call} cannot make checkpoints: its consumer cannot commit; use sw.run with a sink")
    return replace(options, **plain)
