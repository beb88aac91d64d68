"""How many references a fresh object has, by where it is looked at: measured once, in the interpreter that is running.

Decides what "nobody else refers to it" is as a number. Interpreters count the references of their own variables and
stacks differently, so each number is that of an object which certainly is fresh, seen by code of the same form.
"""

from __future__ import annotations

import gc
import platform
import sys
from collections.abc import Callable, Iterator
from itertools import chain, groupby, repeat, starmap
from sys import getrefcount
from typing import Any

#: Less than every object has.
NEVER = -1
#: Whether a count tells who has an object: threads that run at once count apart.
TELL = platform.python_implementation() == "CPython" and getattr(sys, "_is_gil_enabled", lambda: True)()


def _fresh() -> Iterator[list[int]]:
    yield []


def _each(given: Iterator[Any], rule: Callable[..., Any], *more: Iterator[Any]) -> Iterator[Any]:
    return chain.from_iterable(starmap(lambda _, group: map(rule, group, *more), groupby(chain(given), type)))


class _Looks:
    """Looks at the count of what it is given, in methods like those that ask."""

    def given(self, event: Any) -> int:
        return getrefcount(event)

    def result(self, given: Any, event: Any) -> int:
        return getrefcount(given)

    def beside(self, given: Any, event: Any) -> int:
        return getrefcount(event)

    def called(self, event: Any) -> int:
        return getrefcount(event)


def _called(event: Any) -> int:
    return getrefcount(event)


def _count_called() -> int:
    event = next(_fresh())
    return min(_called(event), _Looks().called(event))


def _passed(event: Any) -> int:
    return _called(event)


def _count_passed() -> int:
    return next(map(_Passes().given, _fresh(), repeat(None)))


class _Passes:
    def given(self, event: Any, other: Any) -> int:
        return _passed(event)


def _count_result() -> int:
    return int(next(_each(_fresh(), _Looks().result, repeat(None))))


def _same(event: Any) -> Any:
    return event


def _count_input() -> int:
    events = list(_fresh())
    rest, inputs = iter(events), chain(iter(events), repeat(None))
    return int(next(_each(map(_same, rest), _Looks().result, inputs)))


def _count_beside() -> int:
    events = list(_fresh())
    rest, inputs = iter(events), chain(iter(events), repeat(None))
    return int(next(_each(map(repr, rest), _Looks().beside, inputs)))


def _count_referent() -> int:
    owner: list[list[Any]] = [[]]
    for part in gc.get_referents(owner):
        return getrefcount(part)
    raise AssertionError


def _count_attribute() -> int:
    owner: Any = slice([], None)
    start = owner.start
    return getrefcount(start)


def _told(count: int) -> int:
    return count if TELL else NEVER


# A tracer that looks at variables may have references of its own: taken for the rule, they would hide somebody else's.
_tracer, _profiler = sys.gettrace(), sys.getprofile()
sys.settrace(None)
sys.setprofile(None)

#: What an iterator gave, in a method that `map` calls with it.
GIVEN = _told(next(_each(_fresh(), _Looks().given)))
#: What the caller has in a variable, in a function that it calls with it.
CALLED = _told(_count_called())
#: What a handler gave, in a method that `map` calls passes on to a function, and that to another one.
PASSED = _told(_count_passed())
#: What a handler gave, in a method that `map` calls with it and with the input, which one list holds.
RESULT = _told(_count_result())
#: An input that one list holds, where it is the result, and where it is not.
INPUT = _told(_count_input())
BESIDE = _told(_count_beside())
#: What one list holds, where `map` calls `getrefcount` with it.
LISTED = next(map(getrefcount, list(_fresh())))
#: A part that one object holds, in a loop over `gc.get_referents`.
REFERENT = _told(_count_referent())
#: What one attribute holds, in a variable.
ATTRIBUTE = _told(_count_attribute())

sys.settrace(_tracer)
sys.setprofile(_profiler)
