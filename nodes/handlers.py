"""What a handler is: a function, or a class that is built once in each worker and called for each event.

Decides which of the two an object is, whether it is async, and how it is built. It calls no handler and knows no graph.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, get_origin

from .errors import GraphError, kind_of
from .events import Context, context_of_call
from .given import refuse_unrun

T = TypeVar("T")
U = TypeVar("U")
P = ParamSpec("P")
T_in = TypeVar("T_in", contravariant=True)
U_co = TypeVar("U_co", covariant=True)


class Handler(Protocol[T_in, U_co]):
    """What a handler class's instances look like: called for each event; `close()`, if there is one, comes last."""

    def __call__(self, event: T_in, /) -> U_co:
        """Handle one event."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PerWorker(Generic[T_in, U_co]):
    """A handler class (or a function that makes a handler) with its arguments, as `per_worker` returns it."""

    cls: Callable[..., Handler[T_in, U_co]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, event: T_in, /) -> U_co:
        """Refuse to be called: a handler is built in its worker, never beside the graph."""
        raise TypeError(f"{self!r} is built in its worker; to try it here, call {_name(self.cls)}(...) itself")

    def __repr__(self) -> str:  # the arguments may be large, or secret
        return f"per_worker({_name(self.cls)}, ...)"


class Recipe:
    """What a step other than a plain handler is made from in its worker, such as one that keeps a state."""

    @property
    def form(self) -> str:
        """What must be unchanged for a state stored by an earlier run to keep its meaning."""
        return ""

    def make(self) -> Any:
        """Return the step's own object."""
        raise NotImplementedError


def per_worker(cls: Callable[P, Handler[T, U]], /, *args: P.args, **kwargs: P.kwargs) -> Handler[T, U]:
    """Bind a handler class to its arguments: each worker builds `cls(*args, **kwargs)` once and calls it for each event.

    `cls` may also be a function that returns the object to call. Raises `GraphError` for a class whose instances
    cannot be called, and for arguments that `cls` does not take.
    """
    if not callable(cls):
        raise GraphError(f"per_worker was given {kind_of(cls)}; give it a class, then the class's arguments")
    if isinstance(cls, PerWorker):
        raise GraphError(f"per_worker was given {cls!r}; name the class once, with all its arguments")
    if isinstance(_origin(cls), type) and not is_handler_class(cls):
        raise GraphError(
            f"per_worker({_name(cls)}, ...): its instances cannot be called; give the class a `__call__(self, event)`"
        )
    if not accepts(cls, *args, **kwargs):
        raise GraphError(f"per_worker({_name(cls)}, ...): the arguments do not fit; {_name(cls)} takes {_takes(cls)}")
    return PerWorker(cls, args, kwargs)


def is_handler_class(subject: object) -> bool:
    """Whether `subject` is a class whose instances can be called; `int` and `Path` are ordinary functions."""
    return _call_of(subject) is not None


def needs_build(subject: object) -> bool:
    """Whether `build` makes a new object from `subject`, so that each worker has to call it once."""
    return isinstance(subject, PerWorker | Recipe) or is_handler_class(subject)


def build(subject: Any) -> tuple[Callable[..., Any], Callable[[], Any] | None]:
    """Return what is called for each event, and what is called at the end, if anything (async for some async handlers).

    A handler class is built here, so this belongs in the worker. Raises what its constructor raises, and `TypeError`
    if a function given to `per_worker` returned something that cannot be called as announced.
    """
    if isinstance(subject, Recipe):
        return subject.make(), None
    if not needs_build(subject):
        return subject, None
    handler = subject.cls(*subject.args, **subject.kwargs) if isinstance(subject, PerWorker) else subject()
    if not callable(handler):
        raise TypeError(f"{subject!r} gave {kind_of(handler)}, which cannot be called; return a handler")
    if is_async(handler) and not is_async(subject):
        raise TypeError(f"{subject!r} gave an async handler, which must be known before; give per_worker the class")
    close = getattr(handler, "close", None)
    return handler, close if callable(close) else None


def build_all(
    subjects: Iterable[Any], closers: list[Callable[[], Any]], *, nodes: Iterable[str], worker: int = 0
) -> list[Callable[..., Any] | None]:
    """Build every handler (`None` stays: a join), and append to `closers` what closes each as soon as it is built.

    So those built before one whose constructor raises can still be closed. `nodes` are their names and `worker` is the
    number of this worker, which their constructors may ask for.
    """
    handlers: list[Callable[..., Any] | None] = []
    for subject, node in zip(subjects, nodes, strict=True):
        token = context_of_call.set(partial(Context.of_constructor, node, worker))
        try:
            handler, close = (None, None) if subject is None else build(subject)
        finally:
            context_of_call.reset(token)
        handlers.append(handler)
        if close is not None:
            closers.append(close)
    return handlers


def close_handler(close: Callable[[], Any]) -> None:
    """Call what closes a handler, and await what it gives in a thread that no other event loop runs in."""
    given = close()
    if inspect.isawaitable(given):
        import asyncio  # takes a while, and few handlers need it
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, thread_name_prefix="sluiceway-close") as thread:
            thread.submit(asyncio.run, _awaited(given)).result()
    elif given is not None:
        refuse_unrun(given, "close()", "it is called once: use a plain def, or an async one")


async def _awaited(given: Awaitable[Any]) -> None:
    await given


def is_async(subject: object) -> bool:
    """Whether calling the handler gives an awaitable, or an async generator."""
    function = called(subject)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_generator(subject: object) -> bool:
    """Whether calling the handler gives a generator, sync or async."""
    function = called(subject)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def called(subject: object) -> object:
    """Return the function that runs for each event: a class's or an instance's `__call__`, a partial's function.

    For a function given to `per_worker` nothing is known before it is built: `None`.
    """
    if isinstance(subject, PerWorker):
        return _call_of(subject.cls)
    while isinstance(subject, functools.partial):
        subject = subject.func
    if inspect.isroutine(subject):
        return subject
    if isinstance(_origin(subject), type):
        return _call_of(subject)
    return getattr(type(subject), "__call__", None)  # noqa: B004 (the function is wanted, not whether there is one)


def accepts(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether `function` can be called like this, as far as its signature shows; `True` where it has none.

    A decorator's own signature counts, not that of the function it wraps: it may add arguments.
    """
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # many built-in types and functions have no signature to read
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _call_of(subject: object) -> object:
    """Return the `__call__` that instances of the class `subject` have, if they have one."""
    cls = _origin(subject)
    # The instances of a metaclass are classes: `.map(type)` asks for the type of each event.
    if not isinstance(cls, type) or issubclass(cls, type):
        return None
    for base in cls.__mro__:
        if "__call__" in vars(base):
            return cast(object, vars(base)["__call__"])
    return None


def _origin(subject: object) -> object:
    return get_origin(subject) or subject


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def _takes(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function, follow_wrapped=False))
