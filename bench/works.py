"""The works that are compared: what is read, what is done with each event, and how a result is known to be right.

Every runner reads a fresh generator (in one work: a range) of the same events; every result is looked at, in order,
in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from time import thread_time
from typing import Any

MIB = 1 << 20
_BODY = bytes(range(256)) * (MIB // 256)


@dataclass(frozen=True, slots=True)
class Work:
    """One work: `events(n)` makes the inputs, `fn` is the handler, `verify` consumes results and returns their number.

    `stages` are the steps of a pipeline (op, function) where there are several; `fn` is then all of them in one, an
    event in and a list out. `core_s` is the CPU time of one event where the work fixes it, so that the ideal is known.
    """

    name: str
    events: Callable[[int], Iterable[Any]]
    fn: Callable[[Any], Any]
    verify: Callable[[Iterable[Any], int], int]
    stages: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    core_s: float = 0.0
    bytes_each: int = 0
    most: int = 20_000_000

    @property
    def unchanged(self) -> bool:
        """Whether results are what was read."""
        return self.fn in (_same, copy_bytes)

    @property
    def flat(self) -> bool:
        """Whether `fn` returns a list of results for one event."""
        return bool(self.stages)


class WrongResult(Exception):
    """A runner gave something else than the loop, or in another order."""


def _same(event: Any) -> Any:
    return event


# -- events -----------------------------------------------------------------------------------------------------


def ints(n: int) -> Iterator[int]:
    """Make the numbers from 0 on."""
    yield from range(n)


def dicts(n: int) -> Iterator[dict[str, Any]]:
    """Make records of five fields."""
    for i in range(n):
        yield {"id": i, "user": "ada", "type": "login", "ok": True, "score": 0.5}


def blobs(n: int) -> Iterator[bytes]:
    """Make different bytes of 1 MiB."""
    for i in range(n):
        yield i.to_bytes(8, "little") + _BODY[8:]


def arrays(n: int) -> Iterator[Any]:
    """Make different arrays of 1 MiB."""
    import numpy as np

    base = np.zeros(MIB // 8)
    for i in range(n):
        yield base + i


# -- handlers ---------------------------------------------------------------------------------------------------


def spin(seconds: float) -> None:
    """Use this much CPU time of the thread; by the wall clock, work would get cheaper on a busy machine."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass


def spin_20us(event: Any) -> Any:
    """Take 20 µs."""
    spin(20e-6)
    return event


def spin_1ms(event: Any) -> Any:
    """Take 1 ms."""
    spin(1e-3)
    return event


def skewed(event: Any) -> Any:
    """Take 50 ms for one event of a hundred and 0.1 ms for the others."""
    spin(50e-3 if event["id"] % 100 == 50 else 1e-4)
    return event


def copy_bytes(event: bytes) -> bytes:
    """Copy once."""
    return bytes(memoryview(event))


def add_one(event: Any) -> Any:
    """Make a new array."""
    return event + 1


def rescored(event: dict[str, Any]) -> dict[str, Any]:
    """Stage one: change a field."""
    event["score"] = event["id"] * 0.5
    return event


def is_even(event: dict[str, Any]) -> bool:
    """Stage two: keep every other."""
    return not event["id"] % 2


def parts(event: dict[str, Any]) -> list[Any]:
    """Stage three: two outputs each."""
    return [event["id"], event["score"]]


def three_in_one(event: dict[str, Any]) -> list[Any]:
    """The three stages in one function, as a map-only runner must write them."""
    event = rescored(event)
    return parts(event) if is_even(event) else []


# -- what is right ----------------------------------------------------------------------------------------------


def verify_ints(results: Iterable[Any], n: int) -> int:
    """Check that every number is at its position."""
    for expected, result in zip(count(), results):
        if result != expected:
            raise WrongResult(f"result {expected} is another")
    return expected + 1


def verify_dicts(results: Iterable[Any], n: int) -> int:
    """Check that every record is at its position."""
    for expected, result in zip(count(), results):
        if result["id"] != expected:
            raise WrongResult(f"result {expected} is another")
    if result != next(iter(dicts(1))) | {"id": expected}:
        raise WrongResult("a record was changed on its way")
    return expected + 1


def verify_blobs(results: Iterable[Any], n: int) -> int:
    """The number at the head and the length of every blob."""
    for expected, result in zip(count(), results):
        if result[:8] != expected.to_bytes(8, "little") or len(result) != MIB:
            raise WrongResult(f"result {expected} is another")
    return expected + 1


def verify_arrays(results: Iterable[Any], n: int) -> int:
    """Both ends and the size of every array."""
    for expected, result in zip(count(), results):
        if result[0] != expected + 1 or result[-1] != expected + 1 or result.nbytes != MIB:
            raise WrongResult(f"result {expected} is another")
    return expected + 1


def verify_parts(results: Iterable[Any], n: int) -> int:
    """Two outputs for every even number; return the number of events that were read."""
    for expected, result in zip(count(), results):
        even = expected // 2 * 2
        if result != (even * 0.5 if expected % 2 else even):
            raise WrongResult(f"result {expected} is another")
    if expected + 1 != (n + 1) // 2 * 2:
        raise WrongResult(f"{expected + 1} results of {n} events")
    return n


#: The mean of 1 % of 50 ms and 99 % of 0.1 ms.
SKEW_S = 0.01 * 50e-3 + 0.99 * 1e-4

WORKS = {
    work.name: work
    for work in (
        Work("int identity", ints, _same, verify_ints),
        Work("int range identity", range, _same, verify_ints),
        Work("dict identity", dicts, _same, verify_dicts),
        Work("dict + 20 µs", dicts, spin_20us, verify_dicts, core_s=20e-6),
        Work("dict + 1 ms", dicts, spin_1ms, verify_dicts, core_s=1e-3),
        Work("skew", dicts, skewed, verify_dicts, core_s=SKEW_S),
        Work("1 MiB bytes", blobs, copy_bytes, verify_blobs, bytes_each=MIB, most=20_000),
        Work("1 MiB arrays", arrays, add_one, verify_arrays, bytes_each=MIB, most=20_000),
        Work(
            "three stages",
            dicts,
            three_in_one,
            verify_parts,
            stages=(("map", rescored), ("filter", is_even), ("flat_map", parts)),
        ),
    )
}
