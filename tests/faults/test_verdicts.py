"""What the engine decrees about a number is taken by every kind of step: whatever an event kills, and where, the run ends.

One event of 20 strikes at one place: when it is unpacked, handled, or freed, when its key or time is asked for, or when
its result is packed. Each kind of step must end with a bounded number of deaths, lose nothing of the other events where its
policy is `skip`, and give nothing wrong below number 5 where it ends the run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import sluiceway as sw
from marks import slow

N, BAD = 20, 5
MAX_DEATHS = 20


class Striker:
    """An event that ends the process in which it comes to `place`, but not that of its maker."""

    def __init__(self, n: int, place: str, how: str, maker: int | None = None) -> None:
        self.n, self.place, self.how, self.maker = n, place, how, os.getpid() if maker is None else maker

    def __reduce__(self) -> Any:
        return _unpacked, (self.n, self.place, self.how, self.maker)

    def come_to(self, place: str) -> int:
        """Strike if this is the place; return the number."""
        if self.place == place and os.getpid() != self.maker:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        return self.n

    def __del__(self) -> None:
        self.come_to("free")


def _unpacked(n: int, place: str, how: str, maker: int) -> Striker:
    event = Striker(n, place, how, maker)
    event.come_to("load")
    return event


class Result:
    """A result that strikes when it is packed; it arrives as the number."""

    def __init__(self, event: Striker) -> None:
        self.event = event

    def __reduce__(self) -> Any:
        return int, (self.event.come_to("dump"),)


def handle(event: Striker) -> Any:
    event.come_to("call")
    return Result(event) if event.place == "dump" else event.n


async def handle_later(event: Striker) -> Any:
    await asyncio.sleep(0)
    return handle(event)


def is_kept(event: Striker) -> bool:
    return event.come_to("call") >= 0


def key_of(event: Striker) -> int:
    return event.come_to("key") % 3


def time_of(event: Striker) -> int:
    return event.come_to("time")


def number_of(event: Striker) -> int:
    return event.n


def add(total: int, event: Striker) -> tuple[int, Any]:
    event.come_to("call")
    return total + event.n, Result(event) if event.place == "dump" else total + event.n


def later(_: Striker, event: Striker) -> Striker:
    event.come_to("call")
    return event


def total(value: int, event: Striker) -> int:
    return value + event.come_to("call")


#: What stands between source and sink, and the policies that it can have.
PLAIN: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "map": lambda given, options: given.map(handle, **options),
    "filter": lambda given, options: given.filter(is_kept, **options).map(number_of, on_error="skip"),
    "flat_map": lambda given, options: given.flat_map(lambda event: [handle(event)], **options),
    "map_batches": lambda given, options: given.map_batches(lambda events: list(map(handle, events)), **options),
    "map_batches of 4": lambda given, options: given.map_batches(
        lambda events: list(map(handle, events)), batch_size=4, **options
    ),
    "ordered": lambda given, options: given.map(handle, ordered=True, **options),
    "async": lambda given, options: given.map(handle_later, **options),
    "async ordered": lambda given, options: given.map(handle_later, ordered=True, **options),
    "zip": lambda given, options: sw.zip(given.map(handle, **options), given.map(number_of, on_error="skip")).map(max),
}
KEPT: dict[str, Callable[[Any], Any]] = {
    "scan": lambda given: given.scan(add, 0),
    "keyed map": lambda given: given.key_by(key_of).map(handle),
    "keyed scan": lambda given: given.key_by(key_of).scan(add, 0),
    "reduce": lambda given: given.key_by(key_of).reduce(later).map(lambda pair: (pair[0], pair[1].n)),
    "final reduce": lambda given: given.key_by(key_of).reduce(later, final=True).map(lambda pair: (pair[0], pair[1].n)),
    "count": lambda given: given.key_by(key_of).count(),
    "final count": lambda given: given.key_by(key_of).count(final=True),
    "ttl": lambda given: given.key_by(key_of, ttl=5, time=time_of).count(),
    "tumbling": lambda given: given.key_by(key_of).window(sw.tumbling(4), time=time_of).aggregate(total, 0),
    "sliding": lambda given: given.key_by(key_of).window(sw.sliding(4, 2), time=time_of).collect().map(
        lambda window: [event.n for event in window.value]
    ),
    "session": lambda given: given.key_by(key_of).window(sw.session(2), time=time_of).reduce(later).map(
        lambda window: window.value.n
    ),
}  # fmt: skip


def run(build: Callable[[Any], Any], place: str, how: str = "kill", **options: Any) -> tuple[list[Any], Any, Any]:
    """Return what comes out of a graph whose number 5 strikes at a place, the error of the run and its report."""
    out: list[Any] = []
    graph = sw.Graph("struck")
    build(graph.source([Striker(n, place if n == BAD else "", how) for n in range(N)])).sink(out.append)
    try:
        return out, None, sw.run(graph, workers=1, **options)
    except sw.SluicewayError as error:
        return out, error, error.report


@pytest.mark.parametrize("place", ["call", "load", "dump", "free"])
@pytest.mark.parametrize("kind", ["map", "map_batches", *map(slow, sorted(PLAIN.keys() - {"map", "map_batches"}))])
def test_a_handler_with_a_policy(kind: str, place: str) -> None:
    out, error, report = run(lambda given: PLAIN[kind](given, {"on_error": "skip"}), place)
    assert error is None
    # What is freed may have been answered before; what is never packed again hurts nobody.
    harmless = place == "free" or (place == "dump" and kind == "filter")
    assert set(out) - {BAD} == set(range(N)) - {BAD}
    assert len(out) == len(set(out))
    assert harmless or (BAD not in out and report.skipped >= 1)
    assert report.worker_deaths <= MAX_DEATHS


@pytest.mark.parametrize("kind", ["flat_map", *map(slow, ["map", "filter", "map_batches", "map_batches of 4", "ordered", "zip"])])
def test_a_call_that_never_ends(kind: str) -> None:
    out, error, report = run(lambda given: PLAIN[kind](given, {"on_error": "skip", "timeout_s": 0.3}), "call", "hang")
    assert error is None
    assert sorted(out) == [n for n in range(N) if n != BAD]
    assert report.skipped == 1


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        case if case in {("scan", "free"), ("count", "load"), ("session", "time")} else slow(*case)
        for kind in KEPT
        for place in ("call", "load", "free", "dump", "key", "time")
        for case in [(kind, place)]
    ],
)
def test_a_step_with_a_state(kind: str, place: str) -> None:
    whole, error, _ = run(KEPT[kind], "nowhere")
    assert error is None
    out, error, report = run(KEPT[kind], place)
    assert report.worker_deaths <= MAX_DEATHS
    assert out == whole[: len(out)]
    assert error is not None or out == whole
    assert error is None or isinstance(error, sw.WorkerDied)
    # What is freed may be part of a state, and goes when a later event takes its place.
    assert error is None or error.seq == BAD or (place == "free" and error.seq > BAD)


def test_a_state_that_cannot_be_made_again_is_not_made_without_the_event() -> None:
    """The event that kills when it is freed was answered; the next workers repeat it, and none survives."""
    for _ in range(3):
        out, error, _ = run(KEPT["scan"], "free")
        assert out == [sum(range(n + 1)) for n in range(len(out))]
        if error is None:
            assert len(out) == N
        elif len(out) > BAD:
            assert "cannot make its state again: each of 3 workers died while it repeated number 5" in str(error)
