"""Objects of every kind that are filled again and again, and what each shows at a moment; sources and handlers over them."""

from __future__ import annotations

import array
import asyncio
import ctypes
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np


class Plain:
    """An object with attributes."""

    def __init__(self) -> None:
        self.n = -1
        self.inner = [-1]


class Slotted:
    __slots__ = ("n",)


@dataclass
class Data:
    n: int = -1
    rows: list[int] = field(default_factory=lambda: [-1])


@dataclass(frozen=True)
class Frozen:
    rows: list[int]


class Pair(NamedTuple):
    name: str
    rows: list[int]


class Whole:
    """An object that says itself how it is pickled."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        return Whole, (self.n,)


class Text(str):
    """A text with an attribute that changes."""

    rows: list[int]


def _set(event: Any, n: int) -> None:
    event.n = n


def _element() -> ElementTree.Element:
    element = ElementTree.Element("row")
    ElementTree.SubElement(element, "v").text = "-1"
    return element


def _text() -> Text:
    made = Text("x")
    made.rows = [-1]
    return made


def _set_element(event: Any, n: int) -> None:
    event.clear()
    ElementTree.SubElement(event, "v").text = str(n)


def _view(base: Any) -> Any:
    return lambda: base()[1:3]


_STRUCTURED = np.dtype([("n", "i8"), ("x", "f8")])

#: For each kind: makes the object, fills it with a number, and shows what is in it as plain values.
KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any, int], Any], Callable[[Any], Any]]] = {
    "dict": (lambda: {"n": -1, "s": "x"}, lambda e, n: e.__setitem__("n", n), dict),
    "dict of lists": (lambda: {"n": [-1]}, lambda e, n: e["n"].__setitem__(0, n), lambda e: list(e["n"])),
    "dict of a bytearray": (lambda: {"n": bytearray(2)}, lambda e, n: e["n"].__setitem__(0, n), lambda e: bytes(e["n"])),
    "dict of an array": (lambda: {"n": np.zeros(3)}, lambda e, n: e["n"].__setitem__(0, n), lambda e: e["n"].tolist()),
    "list": (lambda: [-1, "x"], lambda e, n: e.__setitem__(0, n), list),
    "list of lists": (lambda: [[-1], [-1]], lambda e, n: e[1].__setitem__(0, n), lambda e: [*e[0], *e[1]]),
    "tuple of a list": (lambda: ("x", [-1]), lambda e, n: e[1].__setitem__(0, n), lambda e: list(e[1])),
    "named tuple": (lambda: Pair("x", [-1]), lambda e, n: e.rows.__setitem__(0, n), lambda e: list(e.rows)),
    "set": (set, lambda e, n: (e.clear(), e.add(n)), sorted),
    "deque": (lambda: deque([-1]), lambda e, n: e.__setitem__(0, n), list),
    "OrderedDict": (lambda: OrderedDict(n=-1), lambda e, n: e.__setitem__("n", n), dict),
    "defaultdict": (lambda: defaultdict(list), lambda e, n: e.__setitem__("n", n), lambda e: e["n"]),
    "bytearray": (lambda: bytearray(4), lambda e, n: e.__setitem__(1, n), bytes),
    "array": (lambda: array.array("i", [-1]), lambda e, n: e.__setitem__(0, n), list),
    "ctypes": (ctypes.c_int, lambda e, n: setattr(e, "value", n), lambda e: e.value),
    "ndarray": (lambda: np.zeros(128), lambda e, n: e.fill(n), lambda e: e.tolist()),
    "large ndarray": (lambda: np.zeros(20_000), lambda e, n: e.fill(n), lambda e: [e[0], e[-1]]),
    "view": (_view(lambda: np.zeros(9)), lambda e, n: e.fill(n), lambda e: e.tolist()),
    "array of objects": (lambda: np.array([[1], None], object), lambda e, n: e.__setitem__(1, n), lambda e: [e[0], e[1]]),
    "structured": (lambda: np.zeros(2, _STRUCTURED)[0], lambda e, n: e.__setitem__("n", n), lambda e: int(e["n"])),
    "masked": (lambda: np.ma.zeros(3), lambda e, n: e.__setitem__(0, n), lambda e: e.tolist()),
    "object": (Plain, _set, lambda e: e.n),
    "object in an object": (Plain, lambda e, n: e.inner.__setitem__(0, n), lambda e: list(e.inner)),
    "slots": (Slotted, _set, lambda e: e.n),
    "dataclass": (Data, lambda e, n: e.rows.__setitem__(0, n), lambda e: list(e.rows)),
    "frozen dataclass": (lambda: Frozen([-1]), lambda e, n: e.rows.__setitem__(0, n), lambda e: list(e.rows)),
    "own reduce": (lambda: Whole(-1), _set, lambda e: e.n),
    "text with a list": (_text, lambda e, n: e.rows.__setitem__(0, n), lambda e: list(e.rows)),
    "exception": (lambda: ValueError("x"), _set, lambda e: e.n),
    "Element": (_element, _set_element, lambda e: e.findtext("v")),
}
ROUNDS = 6


def look(item: tuple[str, Any]) -> Any:
    """Return what an event shows now."""
    return item[0], KINDS[item[0]][2](item[1])


class Fills:
    """Gives one object of each kind, filled with one number after the other: what it gave before is changed."""

    def __init__(self) -> None:
        self.made = {name: make() for name, (make, _, _) in KINDS.items()}

    def fill(self, at: int) -> tuple[str, Any]:
        """Return the event number `at`: the name of its kind and the object."""
        name = list(KINDS)[at % len(KINDS)]
        KINDS[name][1](self.made[name], at // len(KINDS))
        return name, self.made[name]

    def spoil(self) -> None:
        """Change everything that was given."""
        for name, thing in self.made.items():
            KINDS[name][1](thing, 99)


COUNT = ROUNDS * len(KINDS)


def expected() -> list[Any]:
    """Return what a plain loop sees."""
    fills = Fills()
    return [look(fills.fill(at)) for at in range(COUNT)]


# -- places where the engine takes events from user code -----------------------------------------------------------


def generator() -> Iterator[Any]:
    fills = Fills()
    for at in range(COUNT):
        yield fills.fill(at)
    fills.spoil()


async def async_generator() -> AsyncIterator[Any]:
    fills = Fills()
    for at in range(COUNT):
        if at % 7 == 0:
            await asyncio.sleep(0)
        yield fills.fill(at)
    fills.spoil()


class Iterates:
    """An iterable of the user's that is no list."""

    def __iter__(self) -> Iterator[Any]:
        return generator()


class Reads:
    """A source whose reader returns one list again and again, with one object of each kind."""

    def reader(self, position: object | None, /) -> ReadsReader:
        return ReadsReader()


class ReadsReader:
    def __init__(self) -> None:
        self.fills = Fills()
        self.at = 0
        self.given: list[Any] = []

    def read(self, limit: int, /) -> list[Any] | None:
        self.given.clear()
        if self.at == COUNT:
            self.fills.spoil()
            return None
        for _ in range(min(limit, len(KINDS), COUNT - self.at)):
            self.given.append(self.fills.fill(self.at))
            self.at += 1
        return self.given

    def position(self) -> int:
        return self.at

    def close(self) -> None:
        self.fills.spoil()


class Maps(Fills):
    def __call__(self, at: int) -> Any:
        return self.fill(at)


class MapsLater(Fills):
    async def __call__(self, at: int) -> Any:
        await asyncio.sleep(0)
        return self.fill(at)


class Yields(Fills):
    def __call__(self, at: int) -> Iterator[Any]:
        yield self.fill(at)
        self.spoil()


class YieldsLater(Fills):
    async def __call__(self, at: int) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield self.fill(at)
        self.spoil()


class Lists(Fills):
    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []

    def __call__(self, at: int) -> list[Any]:
        self.given[:] = [self.fill(at)]
        return self.given


class Batches(Fills):
    """Gives one list again and again for lists that are no longer than there are kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []

    def __call__(self, batch: list[int]) -> list[Any]:
        self.given[:] = [self.fill(at) for at in batch]
        return self.given


class Scans(Fills):
    """A scan whose state is an object that it changes and gives."""

    def __reduce__(self) -> Any:
        return Scans, ()

    def __call__(self, state: dict[str, Any], at: int) -> tuple[dict[str, Any], Any]:
        return state, self.fill(at)


#: From a stream of `range(COUNT)` to the events: each place where a handler gives them.
HANDLERS: dict[str, Callable[[Any], Any]] = {
    "map": lambda stream: stream.map(Maps),
    "async map": lambda stream: stream.map(MapsLater, concurrency=1, ordered=True),
    "flat_map": lambda stream: stream.flat_map(Yields),
    "async flat_map": lambda stream: stream.flat_map(YieldsLater, concurrency=1, ordered=True),
    "flat_map of a list": lambda stream: stream.flat_map(Lists),
    "map_batches": lambda stream: stream.map_batches(Batches, batch_size=len(KINDS)),
    "scan": lambda stream: stream.scan(Scans(), {}),
}
SOURCES: dict[str, Callable[[], Any]] = {
    "generator function": lambda: generator,
    "generator": generator,
    "iterable": Iterates,
    "async generator": lambda: async_generator,
    "reader": Reads,
}
