"""Steps that read the key, the event time and the partition of every event, with the checks of what they return.

Decides when a key or a time is refused and by which error. Remembers nothing of the events that passed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from ..handlers import Recipe
from ..program.column import Column
from .keys import KeyCheck, Splitter
from .stateful import function_name
from .windows import TimeCheck

#: Gives the place of the first value that is wrong and what is wrong with it, or `None`.
Check: TypeAlias = Callable[[list[Any]], tuple[int, Exception] | None]


class Checked:
    """A key or time function with the check of what it gives; the check takes many values at once."""

    def __init__(self, fn: Callable[[Any], Any], check: Check) -> None:
        self.fn = fn
        self.check = check

    def __call__(self, event: Any) -> Any:
        value = self.fn(event)
        wrong = self.check([value])
        if wrong is not None:
            raise wrong[1]
        return value


class KeyRecipe(Recipe):
    """The key function of `key_by`."""

    def __init__(self, fn: Callable[[Any], Any], ttl: Any = None, time: Callable[[Any], Any] | None = None) -> None:
        self.fn = fn
        self.ttl = ttl
        self.time = time

    @property
    def __name__(self) -> str:
        return function_name(self.fn)

    @property
    def form(self) -> str:
        return "" if self.ttl is None else "with ttl"

    def make(self) -> Any:
        return Checked(self.fn, KeyCheck())


class TimeRecipe(Recipe):
    """The event time of windows or of a time to live, of which `length` is a length."""

    def __init__(self, fn: Callable[[Any], Any], length: Any) -> None:
        self.fn = fn
        self.length = length

    def make(self) -> Any:
        return Checked(self.fn, TimeCheck(isinstance(self.length, timedelta)))


class SplitRecipe(Recipe):
    """Which part each key belongs to."""

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def make(self) -> Any:
        return Codes(self.parts)


class Codes:
    """Gives a column of parts for a column of keys; it remembers nothing that matters."""

    def __init__(self, parts: int) -> None:
        self._splitter = Splitter(parts)

    def column(self, keys: Column) -> Column:
        """Give the part of every key, as bytes."""
        codes: Any = self._splitter.codes(keys.events)
        return keys.with_events(codes)
