"""What user code gives where something else is expected: what has yet to be run, and what only looks into its iterator.

Decides which types these are and what is said of them, for every place where user code returns to the engine. Looks at
types alone: it runs, reads and keeps nothing.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterable, Mapping, Set
from functools import partial
from types import CoroutineType, FunctionType, MappingProxyType
from typing import Any

from .errors import with_article

#: What only shows the memory or the entries of another object.
_WINDOWS: tuple[type, ...] = (memoryview, MappingProxyType, type({}.keys()), type({}.values()), type({}.items()))
_IN_MEMORY = (io.BytesIO, io.StringIO)
_FRAMES = frozenset({"DataFrame", "LazyFrame", "Table", "RecordBatch"})
_FRAME_PACKAGES = frozenset({"pandas", "polars", "pyarrow"})


class NotGiven(TypeError):
    """User code gave what has to be run or read first, in place of its result."""


def is_unrun(cls: type) -> bool:
    """Whether what is of a type has yet to be awaited: a coroutine, a task, a future, an async generator."""
    return hasattr(cls, "__await__") or hasattr(cls, "__anext__") or _is_future(cls)


def _is_future(cls: type) -> bool:
    """Whether a type is that of a future of a pool, whose result is waited for."""
    return any(base.__name__ == "Future" and base.__module__ == "concurrent.futures._base" for base in cls.__mro__)


def is_view(cls: type) -> bool:
    """Whether what is of a type gives other things when it is read later: a generator, `groupby`'s group, a cursor, a file.

    An iterator that is written in Python is none: it is copied with all that it needs, or that fails.
    """
    if issubclass(cls, _IN_MEMORY):
        return False
    return issubclass(cls, (*_WINDOWS, io.IOBase)) or (
        hasattr(cls, "__next__") and not isinstance(cls.__next__, FunctionType)
    )


def is_file(cls: type) -> bool:
    """Whether a type is that of an open file."""
    return issubclass(cls, io.IOBase)


def is_frame(cls: type) -> bool:
    """Whether a type is a table of pandas, polars or pyarrow, which gives its columns where its rows are expected."""
    return any(
        base.__name__ in _FRAMES and base.__module__.partition(".")[0] in _FRAME_PACKAGES for base in cls.__mro__
    )


def refuse_unrun(given: Any, what: str, remedy: str, *, futures: bool = True) -> None:
    """Raise `NotGiven` for what `what` returned and nobody would run: a coroutine, another awaitable, a generator.

    A future of a pool runs already: only where its result is wanted, with `futures`, it is refused as well.
    """
    cls = type(given)
    if is_unrun(cls) and (futures or not _is_future(cls)):
        discard(given)
        raise NotGiven(f"{what} gave {a(cls)}, which is not awaited here: {remedy}")
    if is_view(cls) and not issubclass(cls, (*_WINDOWS, io.IOBase)):
        raise NotGiven(f"{what} gave {a(cls)}, which nobody reads: {remedy}")


def refuse_table(given: Any, what: str, why: str) -> None:
    """Raise `NotGiven` for a mapping or a frame where a sequence of events is expected; `why` says what it is for."""
    cls = type(given)
    if is_frame(cls):
        by_row = hasattr(cls, "itertuples")
        remedy = "give its rows, as in df.to_dict('records')" if by_row else "give its rows, as in to_pylist() or to_dicts()"
    elif issubclass(cls, Mapping):
        remedy = "give a list of events, as in [it] or list(it.items())"
    else:
        return
    raise NotGiven(f"{what} {a(cls)}, and {why}: {remedy}")


def refuse_unordered(given: Any, what: str, why: str) -> None:
    """Raise `NotGiven` for a set or a text where a sequence with one entry for each event is expected."""
    if isinstance(given, str | bytes | bytearray | Set):
        raise NotGiven(f"{what} {a(type(given))}, and {why}: give a list")


def view_error(cls: type, outer: type, what: str) -> NotGiven:
    """Return the error for a thing of type `cls`, alone or inside one of type `outer`, that only looks into another."""
    inside = "" if cls is outer else f"{a(outer)} that holds "
    remedy = "(key, list(group))" if outer is tuple else "list(it), or what it is opened from"
    if cls in (memoryview, MappingProxyType):
        remedy = "bytes(view)" if cls is memoryview else "dict(view)"
    return NotGiven(
        f"{what} {inside}{a(cls)}, which may hold something else by the time it is used; give what it holds now:"
        f" {remedy}"
    )


def unrun_error(given: Any, what: str) -> NotGiven:
    """Return the error for a coroutine or another awaitable as an event."""
    discard(given)
    if _is_future(type(given)):
        return NotGiven(f"{what} {a(type(given))}, which nobody waits for; give its result()")
    return NotGiven(f"{what} {a(type(given))}, which nobody awaits; await it, in an `async def`, and give its result")


def unrun_members(subject: object, names: Iterable[str]) -> list[str]:
    """Return those of the members that are written as coroutines or generators, so that a call runs nothing of them."""
    tests = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    members = [(name, getattr(subject, name, None)) for name in names]
    return [name for name, member in members if any(test(member) for test in tests)]


class RunHere:
    """An object of the user's whose members are called and run to their end: what they give yet to be run is refused."""

    def __init__(self, subject: Any, what: str) -> None:
        self._subject = subject
        self._what = what

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._subject, name)
        return partial(self._call, name, member) if callable(member) else member

    def _call(self, name: str, member: Any, *args: Any) -> Any:
        given = member(*args)
        if given is not None:
            refuse_unrun(given, f"{name}() of {self._what}", "use a plain def", futures=False)
        return given

    def __repr__(self) -> str:
        return repr(self._subject)


def discard(given: Any) -> None:
    """Close a coroutine that is never awaited, so that the interpreter does not warn of it as well."""
    if isinstance(given, CoroutineType):
        given.close()


def a(cls: type) -> str:
    """Return the name of a type with its article and its module."""
    name = cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
    return with_article(name)
