"""The options of a run, each declared once: its type, its default and its check.

Knows nothing of how an option acts. A new option is a field of `RunOptions` and a key of `RunKeywords` here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, Protocol, TypedDict, get_args

from ..graphs.builder.option_names import RUN_OPTION_NAMES, check_option_names
from ..nodes.checks import check_seconds, check_whole
from ..nodes.errors import GraphError
from ..nodes.given import unrun_members
from ..nodes.handlers import accepts, is_async, is_generator
from ..nodes.locks import Lock
from ..nodes.meanings import means, with_fields
from .checkpoints.store import Resume, Store
from .page_settings import Page, check_page
from .ray_runner import RayRunner
from .reporting.report import RunReport

#: The runners that have a name; `ray_runner` makes one with settings.
RunnerName = Literal["processes", "inline", "ray"]
Runner = RunnerName | RayRunner
Transport = Literal["ipc", "tcp"]
Kept = Literal["above", "all"]


class StopSignal(Protocol):
    """Anything that can say "stop"; `threading.Event` fits."""

    def is_set(self) -> bool:
        """Whether reading is to end."""


class RunKeywords(TypedDict, total=False):
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
    keep: Kept
    kept_bytes: int
    resume: Resume
    lock: Lock | None
    setup: Callable[[], object] | None
    serve: int | str | Page | None


def _option(text: str, check: Callable[..., Any], *, or_none: bool = False, **bounds: Any) -> dict[str, Any]:
    """Return the metadata of an option: what it means, and `check(where, name, value, **bounds)`.

    The check returns the plain value or raises. `None` is accepted where it is the default, and with `or_none`.
    """
    return means(text, check=partial(check, **bounds), or_none=or_none)


def _check_choice(where: str, name: str, value: Any, *, of: Any) -> Any:
    """Check that a value is one of those of the `Literal` in `of`."""
    if value not in get_args(of):
        *others, last = (repr(choice) for choice in get_args(of))
        raise GraphError(f"{where} cannot use {name}={value!r}: there are {', '.join(others)} and {last}; choose one")
    return value


def _check_runner(where: str, name: str, value: Any) -> Any:
    if isinstance(value, RayRunner):
        return value
    return RayRunner() if _check_choice(where, name, value, of=RunnerName) == "ray" else value


def _check_lock(where: str, name: str, value: Any) -> Any:
    if not isinstance(value, Lock):
        raise GraphError(
            f"{where} cannot use {name}=: it has no acquire(), check() and release(); pass sw.file_lock(path)"
        )
    if unrun := unrun_members(value, ("acquire", "check", "release")):
        raise GraphError(f"{where} cannot use {name}=: nothing awaits its {' and '.join(unrun)}; use a plain def")
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
    if callable(value) and (is_async(value) or is_generator(value)):
        raise GraphError(f"{where} cannot use {name}=: it is called, not awaited or iterated; use a plain def")
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


@with_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a graph is run. A number is the place of an event in the order of reading, from 0 on."""

    workers: int | None = field(
        default=None,
        metadata=_option(
            "processes of each pool that sets none itself. Left out, the engine chooses: plain functions begin in "
            "your process and move to one process for each core once that pays",
            check_whole, remedy="leave it out for one per core",
        ),
    )
    runner: Runner = field(
        default="processes",
        metadata=_option(
            '`"inline"` runs everything in the calling thread, one event after the other, with the same results: for '
            'tests and debuggers. `"ray"`, or a `sw.ray_runner(...)`, has the workers on a Ray cluster (extra `ray`)',
            _check_runner,
        ),
    )
    progress: bool | Callable[[RunReport], object] | None = field(
        default=False,
        metadata=_option(
            "`True` draws a bar on standard error; a function is called with a `RunReport` about once a second and at "
            "the end, in the calling thread: the place for metrics and health checks",
            _check_progress,
        ),
    )
    limit: int | None = field(
        default=None,
        metadata=_option(
            "end reading after this many events; what was read is released, and the run succeeds",
            check_whole, remedy=_UNLIMITED, least=0,
        ),
    )
    time_limit_s: float | None = field(
        default=None,
        metadata=_option(
            "end reading after this many seconds; what was read is released, and the run succeeds",
            check_seconds, remedy=_UNLIMITED,
        ),
    )
    stop: StopSignal | None = field(
        default=None,
        metadata=_option(
            "anything with `is_set()`, such as a `threading.Event`: end reading once it is set; what was read is "
            "released, and the run succeeds",
            _check_stop,
        ),
    )
    window_bytes: int = field(
        default=64 << 20,
        metadata=_option(
            "how many bytes (64 MiB) may be in flight between sources and sinks, results that wait for earlier ones "
            "included; then the sources wait",
            check_whole, remedy=_DEFAULT,
        ),
    )
    window_numbers: int = field(
        default=1 << 18,
        metadata=_option(
            "how many numbers (events as they are read) may be in flight, as `window_bytes`",
            check_whole, remedy=_DEFAULT,
        ),
    )
    max_deaths: int | None = field(
        default=3,
        metadata=_option(
            "how many workers one event may kill before it counts as failed with `WorkerDied`; `None`: any number",
            check_whole, or_none=True, remedy="pass None for any number",
        ),
    )
    max_events_per_worker: int | None = field(
        default=None,
        metadata=_option(
            "replace a worker after it has handled this many events, against memory that leaks",
            check_whole, remedy=_UNLIMITED,
        ),
    )
    max_rss_bytes: int | None = field(
        default=None,
        metadata=_option(
            "replace a worker that has grown to this many bytes of resident memory",
            check_whole, remedy=_UNLIMITED,
        ),
    )
    stall_warning_s: float = field(
        default=30.0,
        metadata=_option(
            "seconds without progress after which a warning in the log says which number, node and line of code is "
            "waited for",
            check_seconds, remedy=_DEFAULT,
        ),
    )
    drain_s: float = field(
        default=10.0,
        metadata=_option(
            "seconds for what is in flight to be released after a first Ctrl-C or SIGTERM",
            check_seconds, remedy=_DEFAULT,
        ),
    )
    close_s: float = field(
        default=5.0,
        metadata=_option(
            "seconds for handlers to close at the end, before their processes are ended",
            check_seconds, remedy=_DEFAULT,
        ),
    )
    transport: Transport = field(
        default="ipc",
        metadata=_option(
            'how processes talk: `"ipc"` by sockets in a private folder, `"tcp"` on loopback, encrypted with CURVE keys',
            _check_choice, of=Transport,
        ),
    )
    checkpoint: str | os.PathLike[str] | Store | None = field(
        default=None,
        metadata=_option(
            "the file, PostgreSQL URL or store in which a run records how far it is, so that the same call goes on there "
            "after a crash; `imap` and `iterate` keep the answers of durable handlers there, and the same call gives all "
            "results again from the first without making those calls",
            _check_checkpoint,
        ),
    )
    checkpoint_interval_s: float = field(
        default=1.0,
        metadata=_option(
            "seconds between two checkpoints, and between the commits of sinks that commit and the acknowledgements "
            "of sources that want them, also without `checkpoint`",
            check_seconds, remedy=_DEFAULT,
        ),
    )
    keep: Kept = field(
        default="above",
        metadata=_option(
            'which answers of handlers with `durable=True` are kept: those `"above"` the last checkpoint, or `"all"`, which '
            "`sw.mend` needs",
            _check_choice, of=Kept,
        ),
    )
    kept_bytes: int = field(
        default=8 << 30,
        metadata=_option(
            "how many bytes (8 GiB) the answers of handlers with `durable=True` may take beside the checkpoints; the run "
            "fails when it would be more, and goes on from there with a larger bound",
            check_whole, remedy=_DEFAULT,
        ),
    )
    resume: Resume = field(
        default="auto",
        metadata=_option(
            '`"auto"` goes on from the checkpoint where there is one, `"never"` begins anew, `"required"` refuses to '
            "begin anew",
            _check_choice, of=Resume,
        ),
    )
    lock: Lock | None = field(
        default=None,
        metadata=_option(
            "a lock that is held during the run, so that there is one run at a time; if it is lost, the run stops "
            "before its next commit",
            _check_lock,
        ),
    )
    setup: Callable[[], object] | None = field(
        default=None,
        metadata=_option(
            "a function that is called once in every process that runs your code, this one included, before any "
            "handler is built there",
            _check_setup,
        ),
    )
    serve: Page | None = field(
        default=None,
        metadata=_option(
            'a port of this machine, `"HOST:PORT"` or a `sw.page(...)`: while the run goes on, a page shows it there, '
            "`/metrics` has its figures for Prometheus, and `/health` and `/ready` say how it is (extra `page`)",
            check_page,
        ),
    )


def check_run_options(given: Mapping[str, Any], call: str) -> RunOptions:
    """Return the options of a run as plain values; raises `TypeError` for unknown names, `GraphError` for refused values."""
    check_option_names(given, RUN_OPTION_NAMES, call=call)
    options = RunOptions(**given)
    plain = {}
    for option in fields(RunOptions):
        value = getattr(options, option.name)
        if value is not None or not (option.default is None or option.metadata["or_none"]):
            plain[option.name] = option.metadata["check"](call, option.name, value)
    if options.checkpoint is None and options.resume == "required":
        raise GraphError(f"{call} cannot use resume='required' without checkpoint=: name what the run continues from")
    return replace(options, **plain)
