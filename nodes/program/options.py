"""The options of a handler, each declared once: its type, its default and its check.

A new option is a field of `Options` here and the code that acts on it; every step of a program carries the whole
`Options`, so nothing copies it on its way. Knows neither how an option acts nor which pool a handler is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from ..checks import check_flag, check_seconds, check_whole, shown
from ..errors import GraphError
from ..events import OnError
from ..meanings import means, options_of, with_fields
from .hardware import (
    Hardware,
    check_amount,
    check_cores,
    check_devices,
    check_placement,
    check_resources,
)


def _option(
    text: str, check: Callable[..., Any], *, of_all: bool = True, written: str | None = None, **bounds: Any
) -> dict[str, Any]:
    """Return the metadata of an option: what it means, and `check(where, name, value, **bounds)`.

    The check returns the plain value or raises. `of_all=False` is for an option that is a parameter of one method alone,
    `written` is the type of what users give where the plain value has another.
    """
    return means(text, check=partial(check, **bounds), of_all=of_all, **({"written": written} if written else {}))


def _check_on_error(where: str, name: str, value: Any) -> Any:
    if value not in get_args(OnError):
        raise GraphError(f"{where}: {name}={shown(value)}; use 'fail', 'skip' or 'dead_letter'")
    return value


def _check_errors(where: str, name: str, value: Any) -> tuple[str, ...]:
    """Return the names of one type of errors or a tuple of them; a program holds no classes of the user's."""
    given = value if isinstance(value, tuple) else (value,)
    if not given or not all(isinstance(one, type) and issubclass(one, BaseException) for one in given):
        raise GraphError(f"{where}: {name}={shown(value)}; give it a type of exceptions or a tuple of them")
    return tuple(type_name(one) for one in given)


def type_name(cls: type) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _check_durable(where: str, name: str, value: Any) -> Any:
    if not isinstance(value, bool) and value != "by_code":
        raise GraphError(f"{where}: {name}={shown(value)}; use True, 'by_code' or False")
    return value


_CHOSEN = "leave it out to let the engine choose"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNaming:
    """The option that every call which adds a node has; the node carries it, its program does not."""

    name: str | None = field(
        default=None,
        metadata=means("how errors, logs and the report call the node; left out, by the name of its function"),
    )


@with_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one handler. `None` is accepted where it is the default."""

    workers: int | None = field(
        default=None,
        metadata=_option(
            "processes of the handler's pool; left out, those of the run",
            check_whole, remedy=_CHOSEN,
        ),
    )
    ordered: bool = field(
        default=False,
        metadata=_option(
            "`True`: one worker, which sees the numbers in order",
            check_flag,
        ),
    )
    retries: int = field(
        default=0,
        metadata=_option(
            "how often an event whose call raised or ran past `timeout_s` is tried again",
            check_whole, remedy="leave it out for no retries", least=0,
        ),
    )
    retry_on: tuple[str, ...] | None = field(
        default=None,
        metadata=_option(
            "the type of errors after which an event is tried again, or a tuple of them, subclasses included; left out, all "
            "but `sw.GiveUp`. A call past `timeout_s` counts as `sw.HandlerTimeout` and as `TimeoutError`",
            _check_errors,
            written="type[BaseException] | tuple[type[BaseException], ...] | None",
        ),
    )
    backoff_s: float = field(
        default=0.0,
        metadata=_option(
            "seconds of pause before the first retry; doubled for each further one, up to 60",
            check_seconds, remedy="leave it out for no pause",
        ),
    )
    timeout_s: float | None = field(
        default=None,
        metadata=_option(
            "seconds for one call; past it the worker is replaced (an awaited call is cancelled), and the event is "
            "tried again or fails with `HandlerTimeout`. With `runner='inline'` only awaited calls are ended",
            check_seconds, remedy="leave it out for no limit", positive=True,
        ),
    )
    concurrency: int = field(
        default=16,
        metadata=_option(
            "calls in flight at once in each worker of an async handler",
            check_whole, remedy="leave it out for 16",
        ),
    )
    on_error: OnError = field(
        default="fail",
        metadata=_option(
            'what is done when all attempts failed: `"fail"` ends the run at the lowest failed number, `"skip"` '
            'counts and goes on, `"dead_letter"` puts the event aside at its place in the order',
            _check_on_error,
        ),
    )
    batch_size: int | None = field(
        default=None,
        metadata=_option(
            "of `map_batches` alone: the most events in one list",
            check_whole, remedy=_CHOSEN, of_all=False,
        ),
    )
    durable: bool | Literal["by_code"] = field(
        default=False,
        metadata=_option(
            "in a run with `checkpoint`, `True` keeps each answer beside the checkpoints once it is there, so that no later "
            "run calls for it again; `\"by_code\"` calls again where the code of the handler has changed",
            _check_durable,
        ),
    )

    devices: tuple[str, ...] | None = field(
        default=None,
        metadata=_option(
            "devices of this machine, such as `[\"cuda:0\", \"cuda:1\"]`, dealt out to the workers in turn: each sees its own "
            "alone, by `CUDA_VISIBLE_DEVICES`, which is set before it imports anything. Without `workers` one worker each",
            check_devices, written="Sequence[str] | None",
        ),
    )
    cpus: tuple[tuple[int, ...], ...] | None = field(
        default=None,
        metadata=_option(
            "cores of this machine to which the workers are pinned in turn: `[0, 1]`, or several for each, `[[0, 1], [2, 3]]`. "
            "Without `workers` one worker each",
            check_cores, written="Sequence[int | Sequence[int]] | None",
        ),
    )
    num_gpus: float | None = field(
        default=None,
        metadata=_option(
            "GPUs of each worker, which sees no other: a whole number, or a part of one that several share; on Ray each "
            "node's",
            check_amount, parts=True,
        ),
    )
    num_cpus: float | None = field(
        default=None,
        metadata=_option(
            "on Ray: the CPUs of each worker, which shares none with other pools; else without effect",
            check_amount,
        ),
    )
    resources: tuple[tuple[str, float], ...] | None = field(
        default=None,
        metadata=_option(
            "on Ray: resources of yours that each worker needs, such as `{\"big\": 1}`; else without effect",
            check_resources, written="Mapping[str, float] | None",
        ),
    )
    placement: str | None = field(
        default=None,
        metadata=_option(
            "on Ray: `\"pack\"`, `\"spread\"`, or the id, address or name of the one node for all workers; else without effect",
            check_placement,
        ),
    )

    @property
    def hardware(self) -> Hardware | None:
        """What each worker needs of its machine; `None` for nothing in particular."""
        given = (self.devices, self.cpus, self.num_gpus, self.num_cpus, self.resources, self.placement)
        if not any(given):
            return None
        return Hardware(
            self.devices or (),
            self.cpus or (),
            self.num_gpus or 0.0,
            self.num_cpus,
            self.resources or (),
            self.placement,
        )

    @property
    def keeps_original(self) -> bool:
        """Whether a failed event must be available as it was before the handler touched it."""
        return self.retries > 0 or self.on_error == "dead_letter"


#: What users give as `retry_on`.
ErrorTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


class HandlerOptions(TypedDict, total=False):
    """The keyword arguments of `map`, `filter`, `flat_map` and `map_batches`.

    mypy needs them as a literal `TypedDict`; a test compares them with the fields of `Options`.
    """

    name: str
    workers: int | None
    ordered: bool
    retries: int
    retry_on: ErrorTypes | None
    backoff_s: float
    timeout_s: float | None
    concurrency: int
    on_error: OnError
    durable: bool | Literal["by_code"]
    devices: Sequence[str] | None
    cpus: Sequence[int | Sequence[int]] | None
    num_gpus: float | None
    num_cpus: float | None
    resources: Mapping[str, float] | None
    placement: str | None


#: The names of the keyword arguments of a handler, for calls that pass them on.
HANDLER_OPTION_NAMES = tuple(option.name for option in options_of(NodeNaming, Options))


def check_options(where: str, given: Mapping[str, Any]) -> Options:
    """Return the options of a handler as plain numbers.

    Raises `GraphError` for a value that its check refuses, and for `ordered=True` with several workers or `durable`;
    `where` begins the text.
    """
    plain = dict(given)
    for option in fields(Options):
        if option.name in given and not (given[option.name] is None and option.default is None):
            plain[option.name] = option.metadata["check"](where, option.name, given[option.name])
    options = Options(**plain)
    if options.ordered and options.workers is not None and options.workers > 1:
        raise GraphError(
            f"{where}: ordered=True sees the numbers in order in one worker, but workers={options.workers};"
            " leave one of them out"
        )
    if options.retry_on is not None and not options.retries:
        raise GraphError(f"{where}: retry_on= without retries=, so nothing is tried again; give retries= too")
    if options.ordered and options.durable:
        raise GraphError(
            f"{where}: durable=True answers numbers of an earlier run without a call, so a handler with ordered=True would"
            " not see them all; leave one of them out"
        )
    return options
