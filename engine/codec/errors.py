"""The error of the codec, and why an event cannot be encoded: finds the part that cannot be, never shows a value.

Knows nothing of how events are encoded: a function that says whether an object can be is passed in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from ...nodes.errors import with_article

_MAX_DEPTH = 6
_MAX_PARTS = 1000


class CodecError(Exception):
    """A batch that cannot be encoded or decoded; `position` is that of the event which caused it, if one did."""

    def __init__(self, reason: str, *, position: int | None = None) -> None:
        super().__init__(reason)
        self.position = position


def explain(event: Any, error: BaseException, can_encode: Callable[[Any], bool]) -> str:
    """Return why `event` could not be encoded, which raised `error`, and a remedy."""
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return f"event of type {type_name(event)} is nested too deep to be pickled; send it in a flatter form"
    try:
        steps, part = _descend(event, can_encode)
    except Exception:  # the event's own code raises where its parts are looked at
        steps, part = [], event
    what = f"event of type {type_name(event)}"
    if steps:
        what += f": {', '.join(steps)} is {with_article(type_name(part))}, which"
    if inspect.isawaitable(part):
        return f"{what} was called and not awaited; make the handler an `async def` that awaits it"
    if isinstance(part, memoryview):
        return f"{what} cannot leave its process; send bytes(view) instead"
    return f"{what} cannot be pickled ({type(error).__name__}); send what it is made from instead"


def type_name(value: Any) -> str:
    """Return the name of the type of `value`: `Job`, `_thread.lock`, `dict`."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


def _descend(event: Any, can_encode: Callable[[Any], bool]) -> tuple[list[str], Any]:
    """Return the path to the innermost part that cannot be encoded, and that part."""
    steps: list[str] = []
    part = event
    while len(steps) < _MAX_DEPTH:
        found = next(((n, p) for n, p in islice(_parts(part), _MAX_PARTS) if not can_encode(p)), None)
        if found is None:
            break
        steps.append(found[0])
        part = found[1]
    return steps, part


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of `value` with their names; keys of a dict are data and are named by their index."""
    if isinstance(value, dict):
        yield from ((f"key {i}", key) for i, key in enumerate(value))
        yield from ((f"value {i}", item) for i, item in enumerate(value.values()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"item {i}", item) for i, item in enumerate(value))
    elif not isinstance(value, type):
        for name in _attribute_names(value):
            with suppress(AttributeError):  # a slot that was never set
                yield f"attribute '{name}'", object.__getattribute__(value, name)


def _attribute_names(value: Any) -> Iterator[str]:
    """Yield the names in the `__dict__` and the slots of `value` without calling a `__getattr__`."""
    with suppress(AttributeError):
        yield from list(object.__getattribute__(value, "__dict__"))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                yield f"_{cls.__name__.lstrip('_')}{name}" if is_private else name
