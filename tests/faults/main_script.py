"""A script that does what scripts do; prints `ok NAME` or `WRONG NAME ...` for each. test_worker_main.py runs it."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import os
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable
from os import environ
from random import choice
from typing import Any

import main_library
import sluiceway as sw
from main_library import KNOWN, MISSING, register
from main_library import KNOWN as ALIAS


@functools.lru_cache(maxsize=7)
def cached(n: int) -> int:
    return n * 2


def uses_cached(n: int) -> Any:
    return cached(n), cached.cache_info().maxsize


UserId = typing.NewType("UserId", int)


class Sentinel:
    def __reduce__(self) -> str:
        return "NOTHING"


NOTHING = Sentinel()


@dataclasses.dataclass(slots=True)
class Slots:
    a: int
    b: Plain | None = None


@dataclasses.dataclass
class Plain:
    a: int


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int


class Colour(enum.Enum):
    RED = 1


class Flag(enum.Flag):
    A = 1
    B = 2


Point = collections.namedtuple("Point", "x y")


class Named(typing.NamedTuple):
    x: int


class Base:
    registry: typing.ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls) -> None:
        Base.registry[cls.__name__] = cls


class Child(Base):
    pass


class Private:
    __slots__ = ("__weakref__", "a")

    def __init__(self, a: int) -> None:
        self.a = a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Private) and self.a == other.a

    __hash__ = None  # type: ignore[assignment]


class Lazy:
    @functools.cached_property
    def once(self) -> int:
        return 2


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def run(self, n: int) -> int:
        return self.factor * n

    @classmethod
    def name(cls, n: int) -> str:
        return cls.__name__


def decorated(function: Callable[[int], Any]) -> Any:
    @functools.wraps(function)
    def wrapper(n: int) -> Any:
        return function(n)

    return wrapper


@decorated
def found_again(n: int) -> bool:
    return pickle.loads(pickle.dumps(found_again)) is found_again


@functools.singledispatch
def kind(value: object) -> str:
    return "any"


@kind.register
def _(value: int) -> str:
    return "int"


def many(n: int) -> list[Any]:
    return [Slots(n, Plain(1)), Plain(n), Frozen(n), Colour.RED, Flag.A | Flag.B, Point(1, 2), Named(1), Private(3)]


def packed(n: int) -> list[Any]:
    again = [type(pickle.loads(pickle.dumps(value))).__name__ for value in many(n)]
    return [*again, pickle.loads(pickle.dumps(many)) is many, pickle.loads(pickle.dumps(cached)) is cached]


def hinted(a: Plain, b: Colour) -> Slots: ...  # type: ignore[empty-body]


def hints(n: int) -> Any:
    return sorted(typing.get_type_hints(Slots)), sorted(typing.get_type_hints(hinted))


SETTING = {"x": 0}
LATER = {"x": 1}
main_library.later = LATER  # type: ignore[assignment]  # no import makes it this


def by_globals(n: int) -> Any:
    return globals()["SETTING"]["x"], globals()["Plain"].__name__


def by_module(n: int) -> Any:
    import __main__

    return __main__.SETTING["x"], sys.modules["__main__"].nobody_names_it(n)


def nobody_names_it(n: int) -> int:
    return n + 1


def prepare() -> None:
    SETTING["x"] = 5


calls = 0


def counted(n: int) -> Any:
    global calls
    calls += 1
    return calls, sys.modules["__main__"].calls


def known(n: int) -> Any:
    register("k", n)
    return KNOWN.get("k"), ALIAS.get("k"), MISSING is main_library.MISSING


def in_environment(n: int) -> Any:
    environ["OF_A_HANDLER"] = str(n)
    said = subprocess.run(["printenv", "OF_A_HANDLER"], capture_output=True, text=True, check=True)
    return os.environ["OF_A_HANDLER"], said.stdout.strip()


def token(n: int) -> str:
    return "".join(choice("abcdefgh") for _ in range(12))


PICK = {"pick": choice}


def square(n: int) -> int:
    return n * n


def pooled(n: int) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(square, [n])


def is_one(event: object) -> Any:
    return isinstance(event, Plain), type(event) is Plain, event is Colour.RED


def outer(n: int) -> Any:
    return inner(n)


def inner(n: int) -> Any:
    return outer.__name__, n


def inside() -> Any:
    """Classes and settings of a function."""

    @dataclasses.dataclass
    class Local:
        a: int

    config: dict[str, int] = {}

    def prepare() -> None:
        config["x"] = 1

    def local(n: int) -> Any:
        return Local(n), Local, config.get("x")

    [(made, cls, setting)] = sw.imap(local, [1], workers=1, setup=prepare)
    [back] = sw.imap(lambda event: event, [Local(4)], workers=1)
    return type(made) is Local, cls is Local, made.a, type(back) is Local, setting


def give() -> Any:
    yield Plain(2)
    yield Colour.RED


def both_workers(function: Callable[[Any], Any], events: Any = (3,), **words: Any) -> list[Any]:
    return list(sw.imap(function, list(events), **({"workers": 1} | words)))


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "cached handler": (lambda: both_workers(cached), [6]),
    "cached function": (lambda: both_workers(uses_cached), [(6, 7)]),
    "sentinel": (lambda: [(e is NOTHING, u is UserId) for e, u in both_workers(lambda n: (NOTHING, UserId))], [(True, True)]),
    "sentinel as event": (lambda: both_workers(lambda event: event is NOTHING, [NOTHING]), [True]),
    "classes": (lambda: both_workers(many), [many(3)]),
    "their types": (lambda: list(map(type, both_workers(many)[0])), list(map(type, many(3)))),
    "classes, two workers": (lambda: both_workers(many, range(9), workers=2), [many(n) for n in range(9)]),
    "classes, auto": (lambda: list(sw.imap(many, range(9))), [many(n) for n in range(9)]),
    "class objects": (lambda: both_workers(lambda n: [Slots, Colour, Point, Base, Child]), [[Slots, Colour, Point, Base, Child]]),
    "pickled there": (lambda: both_workers(packed), [[type(it).__name__ for it in many(3)] + [True, True]]),
    "type hints": (lambda: both_workers(hints), [(["a", "b"], ["a", "b", "return"])]),
    "globals()": (lambda: both_workers(by_globals), [(0, "Plain")]),
    "import __main__": (lambda: both_workers(by_module), [(0, 4)]),
    "setup": (lambda: both_workers(lambda n: SETTING["x"], setup=prepare), [5]),
    "global": (lambda: both_workers(counted, (0, 0)), [(1, 1), (2, 2)]),
    "imported by name": (lambda: both_workers(known), [(3, 3, True)]),
    "given to a module": (lambda: both_workers(lambda n: LATER["x"]), [1]),
    "environ": (lambda: both_workers(in_environment), [("3", "3")]),
    "random": (lambda: len(set(sw.imap(token, range(300), workers=2))), 300),
    "random, replaced": (lambda: len(set(sw.imap(token, range(300), workers=1, max_events_per_worker=50))), 300),
    "random in a dict": (lambda: len(set(sw.imap(lambda n: PICK["pick"](range(10**12)), range(90), workers=2))), 90),
    "pool in a handler": (lambda: both_workers(pooled), [[9]]),
    "isinstance": (lambda: both_workers(is_one, [Plain(1), Colour.RED]), [(True, True, False), (False, False, True)]),
    "registry": (lambda: both_workers(lambda n: sorted(Base.registry)), [["Child"]]),
    "methods": (lambda: both_workers(Scale(3).run) + both_workers(Scale.name), [9, "Scale"]),
    "decorated": (lambda: both_workers(found_again), [True]),
    "singledispatch": (lambda: both_workers(lambda n: (kind(n), kind("a"))), [("int", "any")]),
    "cached property": (lambda: both_workers(lambda n: Lazy().once), [2]),
    "each other": (lambda: both_workers(outer), [("outer", 3)]),
    "function as result": (lambda: both_workers(lambda n: square)[0] is square, True),
    "lambda as result": (lambda: both_workers(lambda n: lambda m: m + n)[0](1), 4),
    "inside a function": (inside, (True, True, 1, True, 1)),
    "a source": (
        lambda: list(sw.iterate(sw.Graph().source(give).map(is_one), workers=1)),
        [(True, True, False), (False, False, True)],
    ),
}
#: What a script cannot do itself where `__main__` is not its own module, as under a profiler.
NEEDS_MAIN = {"pickled there", "import __main__", "decorated", "sentinel as event", "global"}


def main() -> None:
    for name, (call, expected) in CASES.items():
        if sys.modules["__main__"].__dict__ is not globals() and name in NEEDS_MAIN:
            continue
        try:
            found = call()
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        print("ok" if found == expected else "WRONG", name, *([] if found == expected else [found]))


if __name__ == "__main__":
    main()
