"""Steps that read the key, the event time and the partition of every event, with the checks of what they return.

Decides when a key or a time is refused and by which error. Remembers nothing of the events that passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..handlers import Recipe
from ..program.column import Column
from .keys import KeyCheck, Partitioner
from .stateful import function_name
from .times import TimeCheck, TimeScale

#: Replaces values by what is passed on; returns the position of the first invalid one and the error for it, or `None`.
Check: TypeAlias = Callable[[list[Any]], tuple[int, Exception] | None]


class Checked:
    """A key or time function with the check of what it returns; the check takes many values at once."""

    def __init__(self, fn: Callable[[Any], Any], check: Check) -> None:
        self.fn = fn
        self.check = check

    def __call__(self, event: Any) -> Any:
        values = [self.fn(event)]
        wrong = self.check(values)
        if wrong is not None:
            raise wrong[1]
        return values[0]


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
        return "" if self.ttl is None else f"with ttl {self.ttl}"

    def make(self) -> Any:
        return Checked(self.fn, KeyCheck())


class TimeRecipe(Recipe):
    """The time function of windows or of a time to live; what is passed on are ticks of `scale`."""

    def __init__(self, fn: Callable[[Any], Any], scale: TimeScale) -> None:
        self.fn = fn
        self.scale = scale

    def make(self) -> Any:
        return Checked(self.fn, TimeCheck(self.scale))


class PartitionRecipe(Recipe):
    """Which partition each key belongs to."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def make(self) -> Any:
        return PartitionCodes(self.partitions)


class PartitionCodes:
    """Computes the column of partitions for a column of keys; stateless but for a cache."""

    def __init__(self, partitions: int) -> None:
        self._partitioner = Partitioner(partitions)

    def column(self, keys: Column) -> Column:
        """Return the partition of every key, as bytes."""
        codes: Any = self._partitioner.codes(keys.events)
        return keys.with_events(codes)
