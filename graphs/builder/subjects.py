"""What may be given to a graph as a source, a handler or a sink, as far as it can be seen without calling it.

Every check raises `GraphError` with the node (`where`), the rule and the remedy. What may follow what is decided in
`wiring`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import io
import os
from collections.abc import AsyncIterable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ...nodes.errors import GraphError, kind_of
from ...nodes.given import is_frame
from ...nodes.handlers import PerWorker, accepts, called, is_async, is_generator, is_handler_class
from ...nodes.program.kinds import NodeKind
from ...nodes.sinks import as_sink
from ...nodes.sources import is_source
from ...nodes.state.times import check_span


def check_source(where: str, subject: Any) -> None:
    """Check that `subject` is a `Source`, an iterable, or a function that returns an iterator."""
    kind = kind_of(subject)
    if isinstance(subject, str | bytes | bytearray | memoryview | os.PathLike):
        raise GraphError(f"{where}: {kind} is not a source of events; to read a file's lines give it sw.lines(path)")
    if isinstance(subject, Mapping):
        raise GraphError(
            f"{where}: {kind} is not a source of events; give it the pairs, .items(), or for a file sw.lines(path)"
        )
    if is_frame(type(subject)):
        raise GraphError(
            f"{where}: {kind} gives its columns, not its rows; give it df.to_dict('records'), to_dicts() or to_pylist()"
        )
    if isinstance(subject, type) and hasattr(subject, "reader"):
        name = subject.__name__
        raise GraphError(f"{where}: {name} is the class of a source; give it an instance, {name}(...)")
    if is_source(subject):
        return
    if isinstance(subject, AsyncIterable) and not isinstance(subject, Iterable):
        raise GraphError(f"{where}: {kind} belongs to one event loop; give it the async generator function, uncalled")
    if is_one_shot(subject):
        if is_used_up(subject):
            raise GraphError(f"{where}: the {type(subject).__name__} is used up; {_AGAIN}")
    elif not isinstance(subject, Iterable):
        _check_source_function(where, subject)


_AGAIN = "give it a list, or a generator function, which every run can read again"


def _check_source_function(where: str, subject: Any) -> None:
    if not callable(subject):
        kind = kind_of(subject)
        raise GraphError(f"{where}: {kind} cannot be read; give it an iterable, a generator function or a sw.Source")
    if inspect.iscoroutinefunction(called(subject)):
        raise GraphError(f"{where}: the function is async but gives one value; let it `yield` its events")
    if not accepts(subject):
        raise GraphError(
            f"{where}: the function needs arguments, but is called with none; give it functools.partial(function, ...)"
        )


def check_journal(where: str, subject: Any) -> None:
    """Refuse `journal=True` for a source that can be read again: its events would come a second time after a resume."""
    again = is_source(subject) and getattr(subject, "replay", "none") in ("exact", "logged")
    if again or isinstance(subject, Collection):
        raise GraphError(
            f"{where}: journal=True keeps what a source gives only once, but {kind_of(subject)} can be read"
            " again; leave journal out"
        )


def is_one_shot(subject: object) -> bool:
    """Whether a source can be read only once: a generator, an open file, any iterator."""
    return isinstance(subject, Iterator) and not is_source(subject)


def is_used_up(subject: object) -> bool:
    """Whether an iterator shows that it has nothing left: a finished generator, a closed file."""
    if inspect.isgenerator(subject):
        return inspect.getgeneratorstate(subject) == inspect.GEN_CLOSED
    return isinstance(subject, io.IOBase) and subject.closed


def check_unread(where: str, subject: object, *, claimed: bool) -> None:
    """Check that a run may begin to read a source. Raises `GraphError` for an iterator that was read before."""
    if is_one_shot(subject) and (claimed or is_used_up(subject)):
        raise GraphError(f"{where}: the {type(subject).__name__} was read before and is used up; {_AGAIN}")


def check_handler(where: str, kind: NodeKind, subject: Any) -> None:
    """Check that `subject` can be a handler of this kind: called with one event, built without arguments."""
    if not callable(subject):
        raise GraphError(
            f"{where}: {kind_of(subject)} cannot be called;"
            " give it a function, or a class whose instances can be called"
        )
    if isinstance(subject, functools.partial) and is_handler_class(subject.func):
        args = _args(subject.func)
        raise GraphError(f"{where}: functools.partial would build it for each event; give it sw.per_worker({args})")
    if is_handler_class(subject) and not accepts(subject):
        raise GraphError(f"{where}: the class needs arguments to be built; give it sw.per_worker({_args(subject)})")
    if not _takes_one_event(subject):
        what = "list of events" if kind.traits.takes_lists else "event"
        raise GraphError(
            f"{where}: it cannot be called with one {what} alone; where that is a tuple of its arguments, give it"
            " lambda event: fn(*event), else bind the rest with functools.partial"
        )
    if not kind.traits.multiplies and is_generator(subject):
        raise GraphError(f"{where}: a generator function gives many outputs for an event; use .flat_map(...)")


def _args(cls: Any) -> str:
    return f"{getattr(cls, '__name__', 'cls')}, ..."


def _takes_one_event(subject: Any) -> bool:
    """Whether it can be called with the event alone, as far as its signature shows."""
    if not isinstance(subject, PerWorker) and not is_handler_class(subject):
        return accepts(subject, None)
    call = called(subject)
    # Anything but a plain method (a staticmethod, a descriptor) is bound in ways that only the instance knows.
    return not inspect.isfunction(call) or accepts(call, None, None)


def check_function(where: str, subject: Any, given: str) -> None:
    """Check that `subject` is a plain function of `given`, such as "state, event", without a state of its own."""
    if not callable(subject):
        raise GraphError(f"{where}: {kind_of(subject)} cannot be called; give it a function of ({given})")
    if isinstance(subject, PerWorker) or is_handler_class(subject):
        raise GraphError(
            f"{where}: a handler class is not called here, for the state is kept outside it; give it a function of"
            f" ({given})"
        )
    if is_async(subject) or is_generator(subject):
        raise GraphError(f"{where}: the function gives no value when it is called; give it a plain function of ({given})")
    if not accepts(subject, *[None] * (given.count(",") + 1)):
        raise GraphError(f"{where}: the function cannot be called with ({given}); bind the rest with functools.partial")


def check_copyable(where: str, initial: Any) -> None:
    """Check that every key can have a copy of an initial state."""
    try:
        copy.deepcopy(initial)
    except Exception as error:  # whatever a copy of the user's object raises
        raise GraphError(
            f"{where}: each state begins with a copy of initial, but {kind_of(initial)} cannot be copied"
            f" ({type(error).__name__}); begin with None and build it in the function"
        ) from error


def check_sink(where: str, subject: Any) -> None:
    """Check that `subject` is a `Sink`, or a function that is called with each event in the calling process."""
    kind = kind_of(subject)
    if isinstance(subject, str | bytes | os.PathLike):
        raise GraphError(f"{where}: {kind} is not a sink; to write a file give it sw.lines(path) or sw.jsonl(path)")
    if isinstance(subject, list):
        raise GraphError(f"{where}: a list cannot be called; give it the list's method, results.append")
    if isinstance(subject, type | PerWorker):
        raise GraphError(f"{where}: sinks run in the calling process and are not built by it; give it an instance")
    alone = not hasattr(subject, "write")
    if alone and (is_async(subject) or is_generator(subject)):
        raise GraphError(f"{where}: a sink is a plain function, this one would not run; await in a .map before it")
    try:
        as_sink(subject)
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from None
    if alone and not accepts(subject, None):
        raise GraphError(f"{where}: it cannot be called with one event alone; bind the rest with functools.partial")


def check_ttl(where: str, ttl: Any, time: Any) -> None:
    """Check that a time to live and the times it is measured by go together."""
    if ttl is None and time is None:
        return
    if ttl is None or time is None:
        there, missing = ("time=", "ttl=") if ttl is None else ("ttl=", "time=")
        raise GraphError(f"{where}: {there} without {missing}, but a key is forgotten by both; give both, or none")
    check_span(f"{where}, ttl=", ttl)
    check_function(f"{where}, time=", time, "event")
