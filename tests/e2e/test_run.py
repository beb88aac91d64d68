"""`run`: everything a graph may hold, from source to sink, in both runners."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import pytest
import sluiceway as sw


@pytest.fixture(params=["inline", "processes"])
def runner(request: pytest.FixtureRequest) -> Any:
    return request.param


def endless() -> Iterator[int]:
    yield from itertools.count()


class Collector:
    """A sink that notes its life."""

    def __init__(self) -> None:
        self.life: list[Any] = []

    def open(self) -> None:
        self.life.append("open")

    def write(self, events: Sequence[Any]) -> None:
        self.life.extend(events)

    def close(self) -> None:
        self.life.append("close")

    def abort(self) -> None:
        self.life.append("abort")


# -- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: [1, 2, 3], lambda: (1, 2, 3), lambda: range(1, 4), lambda: iter([1, 2, 3])])
def test_iterables_of_the_caller(make: Callable[[], Any], both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(make()).map(lambda n: n * 10).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == [10, 20, 30]


def test_generator_functions_run_in_a_process_of_their_own(runner: Any) -> None:
    def where() -> Iterator[int]:
        yield os.getpid()

    found: list[int] = []
    graph = sw.Graph()
    graph.source(where).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert (found == [os.getpid()]) == (runner == "inline")


def test_async_generator_functions(both: Callable[..., Any]) -> None:
    async def count() -> AsyncIterator[int]:
        for n in range(20):
            yield n

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(count).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == list(range(20))


def test_a_source_with_a_reader(runner: Any) -> None:
    class Reader:
        def __init__(self) -> None:
            self.at = 0
            self.idle = True

        def read(self, limit: int) -> list[int] | None:
            self.idle = not self.idle
            if self.idle:
                return []
            if self.at >= 10:
                return None
            self.at += 1
            return [self.at]

        def position(self) -> int:
            return self.at

        def close(self) -> None:
            pass

    class Numbers:
        def reader(self, position: object | None) -> Reader:
            return Reader()

    found: list[int] = []
    graph = sw.Graph()
    graph.source(Numbers()).map(lambda n: n).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert found == list(range(1, 11))


def test_sources_in_turn_and_by_key(both: Callable[..., Any]) -> None:
    def odd() -> Iterator[int]:
        yield from range(1, 60, 2)

    def in_turn(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.sequence(graph.source([0, 0]), graph.source(odd), order="round_robin").sink(seen.sink("out"))
        return graph

    def by_key(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.sequence(graph.source(range(0, 60, 2)), graph.source(odd), key=lambda n: n).sink(seen.sink("out"))
        return graph

    _, seen = both(in_turn, workers=1)
    assert seen.events("out")[:6] == [0, 1, 0, 3, 5, 7]
    _, seen = both(by_key, workers=1)
    assert seen.events("out") == list(range(60))


def test_events_without_a_key_follow_the_one_before(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        a = graph.source([(None, "head"), (1, "a"), (None, "a+"), (4, "a")])
        b = graph.source([(2, "b"), (None, "b+"), (3, "b")])
        graph.sequence(a, b, key=lambda event: event[0]).map(lambda event: event[1]).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == ["head", "a", "a+", "b", "b+", "b", "a"]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_merge_goes_on_however_small_the_window(window: int) -> None:
    found: list[int] = []
    graph = sw.Graph()
    sources = [graph.source(range(at, 90, 3)) for at in range(3)]
    graph.sequence(*sources, key=lambda n: n).map(lambda n: n).sink(found.append)
    sw.run(graph, workers=2, window_numbers=window)
    assert found == list(range(90))


def test_sources_as_they_arrive(runner: Any) -> None:
    found: list[int] = []
    graph = sw.Graph()
    graph.sequence(graph.source(range(50)), graph.source(range(100, 150))).sink(found.append)
    sw.run(graph, runner=runner)
    assert sorted(found) == [*range(50), *range(100, 150)]
    assert [n for n in found if n < 100] == list(range(50))


def test_a_graph_runs_again(runner: Any) -> None:
    found: list[int] = []
    graph = sw.Graph()
    graph.source(range(5)).map(lambda n: n).sink(found.append)
    assert sw.run(graph, workers=1, runner=runner).events_out == 5
    assert sw.run(graph, workers=1, runner=runner).events_out == 5
    assert found == [0, 1, 2, 3, 4] * 2


def test_a_used_up_iterator_is_refused(runner: Any) -> None:
    graph = sw.Graph()
    graph.source(iter([1])).sink(print)
    sw.run(graph, limit=0, runner=runner)
    with pytest.raises(sw.GraphError, match="used up"):
        sw.run(graph, runner=runner)


def test_empty_sources(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source([]).map(lambda n: n).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert (seen.events("out"), seen.report.events_in, seen.report.ended_by) == ([], 0, "source")


# -- handlers ----------------------------------------------------------------------------------------------------


def test_every_kind_in_one_graph(both: Callable[..., Any]) -> None:
    async def late(n: int) -> int:
        return n + 1

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source(range(100))
        small = source.filter(lambda n: n % 10 < 5, name="small")
        lists = small.map_batches(lambda events: [n * 2 for n in events], batch_size=3)
        late_ = source.map(late, concurrency=4, workers=1)
        sw.zip(lists, late_).map(lambda pair: pair[0] + pair[1]).sink(seen.sink("zip"))
        sw.merge(small.flat_map(range), late_).barrier().map(lambda n: n, ordered=True).sink(seen.sink("merge"))
        source.sink(seen.sink("loose", ordered=False), ordered=False)
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("zip") == [3 * n + 1 for n in range(100) if n % 10 < 5]
    assert sorted(seen.events("loose")) == list(range(100))
    # 50 numbers are filtered; what the other branch of the zip had for them is unmatched.
    assert (seen.report.filtered, seen.report.unmatched) == (50, 50)


def test_a_zip_that_is_read_twice_is_counted_once(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source(range(30))
        pairs = sw.zip(source.filter(lambda n: n % 3, workers=1), source.map(lambda n: -n, workers=2))
        pairs.sink(seen.sink("pairs"))
        pairs.map(sum, workers=3).sink(seen.sink("sums"))
        return graph

    _, seen = both(graph)
    assert seen.report.unmatched == 10
    assert seen.events("sums") == [0] * 20


def test_the_context_of_a_call(both: Callable[..., Any]) -> None:
    def tell(n: int) -> Any:
        here = sw.current()
        if here.attempt == 1 and n == 3:
            raise ValueError
        return here.seq, here.index, here.node, here.attempt

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(range(3)).flat_map(lambda n: [n] * n + [n + 1]).map(tell, retries=1).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == [
        (0, 0, "tell", 1),
        *[(1, 0, "tell", 1), (1, 1, "tell", 1)],
        *[(2, 0, "tell", 1), (2, 1, "tell", 1), (2, 2, "tell", 2)],
    ]


def test_the_context_names_the_worker() -> None:
    found: set[int] = set()
    graph = sw.Graph()
    graph.source(range(200)).map(lambda n: sw.current().worker).sink(found.add)
    sw.run(graph, workers=2)
    assert found <= {0, 1}


def test_there_is_no_context_outside_a_handler() -> None:
    with pytest.raises(LookupError, match="outside a handler"):
        sw.current()


@pytest.mark.parametrize("form", ["plain", "async", "per_worker"])
def test_handler_classes_are_built_once_per_worker_and_closed(form: str, runner: Any, tmp_path: Path) -> None:
    class Handler:
        def __init__(self, greeting: str = "hello") -> None:
            self.greeting = greeting
            self.note("built")

        def note(self, what: str) -> None:
            (tmp_path / f"{what}-{os.getpid()}-{time.monotonic_ns()}").touch()

        def __call__(self, n: int) -> str:
            return f"{self.greeting} {n}"

        def close(self) -> None:
            self.note("closed")

    class Async(Handler):
        async def __call__(self, n: int) -> str:  # type: ignore[override]
            return f"{self.greeting} {n}"

        async def close(self) -> None:  # type: ignore[override]
            self.note("closed")

    handler: Any = {"plain": Handler, "async": Async, "per_worker": sw.per_worker(Handler, greeting="hi")}[form]
    found: list[str] = []
    graph = sw.Graph()
    graph.source(range(300)).map(handler).sink(found.append)
    sw.run(graph, workers=2, runner=runner)
    word = "hi" if form == "per_worker" else "hello"
    assert found == [f"{word} {n}" for n in range(300)]
    built = sorted(path.name.split("-")[1] for path in tmp_path.glob("built-*"))
    closed = sorted(path.name.split("-")[1] for path in tmp_path.glob("closed-*"))
    assert built == closed == sorted(set(built))
    assert len(built) == (1 if runner == "inline" else 2)


def test_an_async_class_is_built_inside_the_running_loop(runner: Any) -> None:
    class Handler:
        def __init__(self) -> None:
            import asyncio

            self.loop = asyncio.get_running_loop()

        async def __call__(self, n: int) -> bool:
            import asyncio

            return asyncio.get_running_loop() is self.loop

    found: list[bool] = []
    graph = sw.Graph()
    graph.source(range(5)).map(Handler).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert found == [True] * 5


def test_inline_works_inside_a_running_loop() -> None:
    import asyncio

    async def late(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    async def notebook() -> list[int]:
        found: list[int] = []
        graph = sw.Graph()
        graph.source(range(5)).map(late).map(lambda n: n * 2).sink(found.append)
        sw.run(graph, runner="inline")
        return found

    assert asyncio.run(notebook()) == [2, 4, 6, 8, 10]


def test_ordered_handlers_see_the_numbers_in_order(both: Callable[..., Any]) -> None:
    async def late(n: int) -> int:
        import asyncio

        await asyncio.sleep(0.003 if n % 3 == 0 else 0)
        return n

    def graph(seen: Any) -> sw.Graph:
        class Last:
            def __init__(self) -> None:
                self.last = -1

            def __call__(self, n: int) -> int:
                last, self.last = self.last, n
                return last

        graph = sw.Graph()
        graph.source(range(60)).map(late, concurrency=30).map(Last, ordered=True).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == list(range(-1, 59))


def test_ordinary_classes_are_functions(runner: Any) -> None:
    found: list[Any] = []
    graph = sw.Graph()
    graph.source(["1", "2"]).map(int).map(Decimal).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert found == [Decimal(1), Decimal(2)]


def test_none_is_an_event(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source([None, 1, None]).map(lambda n: n).flat_map(lambda n: [n, None]).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == [None, None, 1, None, None, None]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_list_that_fails_is_run_again_event_by_event(is_async: bool, both: Callable[..., Any]) -> None:
    def halve(events: list[Any]) -> list[int]:
        return [6 // event["n"] for event in events]

    async def halve_late(events: list[Any]) -> list[int]:
        return halve(events)

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        halved = graph.source([{"n": n} for n in (1, 2, 0, 3, 0)]).map_batches(
            halve_late if is_async else halve, batch_size=3, on_error="dead_letter"
        )
        halved.sink(seen.sink("out"))
        graph.dead_letters().sink(seen.sink("letters"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == [6, 3, 2]
    assert [(letter.seq, letter.event, letter.attempts) for letter in seen.events("letters")] == [
        (2, {"n": 0}, 1),
        (4, {"n": 0}, 1),
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_list_that_its_handler_has_changed_is_run_again_as_it_came(both: Callable[..., Any], is_async: bool) -> None:
    def refuse(numbers: list[int]) -> list[int]:
        numbers.reverse()
        if 5 in numbers:
            raise ValueError("five")
        return numbers[::-1]

    async def refuse_late(numbers: list[int]) -> list[int]:
        return refuse(numbers)

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        handler = refuse_late if is_async else refuse
        lists = graph.source(list(range(20))).map_batches(handler, batch_size=10, on_error="skip")
        lists.sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == [n for n in range(20) if n != 5]


def test_a_list_of_one_is_handled_once(both: Callable[..., Any], tmp_path: Path) -> None:
    def refuse(events: list[Any]) -> list[Any]:
        for event in events:
            event["calls"] += 1
        raise ValueError(events[0]["calls"])

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source([{"calls": 0}] * 2).map_batches(refuse, batch_size=1, on_error="dead_letter").sink(seen.sink("out"))
        graph.dead_letters().map(lambda letter: (letter.error, letter.event)).sink(seen.sink("letters"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("letters") == [("ValueError: 1", {"calls": 0})] * 2


def test_stop_iteration_is_an_error_like_any_other(both: Callable[..., Any]) -> None:
    def first(n: int) -> int:
        return next(iter([n] if n % 3 else []))

    async def late(n: int) -> int:
        return n

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(range(10)).map(first, on_error="dead_letter", workers=1).sink(seen.sink("out"))
        graph.dead_letters().map(lambda letter: letter.error).sink(seen.sink("letters"))
        return graph

    def beside_async(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        numbers = graph.source(range(10))
        numbers.map(first, on_error="dead_letter", workers=1, retries=1).map(late, workers=2).sink(seen.sink("out"))
        graph.dead_letters().map(lambda letter: letter.error).sink(seen.sink("letters"))
        return graph

    texts = set()
    for make in (graph, beside_async):
        _, seen = both(make)
        assert seen.events("out") == [n for n in range(10) if n % 3]
        texts.update(seen.events("letters"))
    assert texts == {"RuntimeError: the handler raised StopIteration"}


def test_a_handler_that_is_cancelled_from_inside_fails(both: Callable[..., Any]) -> None:
    async def await_what_is_cancelled(n: int) -> int:
        import asyncio

        if n == 2:
            other = asyncio.ensure_future(asyncio.sleep(60))
            other.cancel()
            await other
        return n

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(range(5)).map(await_what_is_cancelled, on_error="dead_letter").sink(seen.sink("out"))
        graph.dead_letters().map(lambda letter: letter.seq).sink(seen.sink("letters"))
        return graph

    _, seen = both(graph, workers=1)
    assert (seen.events("out"), seen.events("letters")) == ([0, 1, 3, 4], [2])


def test_each_branch_has_its_own_copy(both: Callable[..., Any]) -> None:
    def spoil(event: dict[str, Any]) -> dict[str, Any]:
        event["spoilt"] = True
        return event

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source([{"n": n} for n in range(20)])
        source.map(spoil).sink(seen.sink("spoilt"))
        source.filter(lambda event: event.pop("n") % 2).sink(seen.sink("odd"))
        source.sink(seen.sink("clean"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("clean") == [{"n": n} for n in range(20)]


def test_the_callers_own_events_are_never_changed(runner: Any) -> None:
    events = [{"n": 1}, {"n": 2}]

    def clear(event: dict[str, int]) -> dict[str, int]:
        event.clear()
        return event

    graph = sw.Graph()
    graph.source(events).map(clear).sink(lambda event: event.update(seen=1))
    sw.run(graph, workers=1, runner=runner)
    assert events == [{"n": 1}, {"n": 2}]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset[str]


EXACT: list[Any] = [
    *[(1, (2, [3])), {1, 2}, frozenset({"a"}), b"bytes", bytearray(b"array"), 2**80, -1.5, float("inf"), 3 + 4j],
    *[datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC), Decimal("1.10"), Path("/tmp"), Colour.RED, range(3), True, None],
    *[{"nested": {(1, 2): [Point(1, frozenset({"t"}))]}}, "\ud800", "ä", slice(1, 2), int, {3: "three"}],
    *[numpy.float32(1.5), numpy.int64(7)],
]


def test_payloads_arrive_with_their_exact_types(runner: Any) -> None:
    def tell(event: Any) -> Any:
        return repr(event), type(event).__name__, event

    found: list[Any] = []
    graph = sw.Graph()
    graph.source(EXACT).map(tell).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert len(found) == len(EXACT)
    for (text, kind, event), sent in zip(found, EXACT, strict=True):
        assert type(event) is type(sent)
        assert event == sent
        assert (text, kind) == (repr(sent), type(sent).__name__)


def test_arrays_arrive_writable(runner: Any) -> None:
    def double(array: Any) -> Any:
        array *= 2
        return array

    found: list[Any] = []
    graph = sw.Graph()
    graph.source([numpy.arange(n, dtype="int32") for n in (0, 3, 100_000)]).map(double).map(double).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    for array, size in zip(found, (0, 3, 100_000), strict=True):
        assert array.dtype == numpy.int32
        assert (array == 4 * numpy.arange(size)).all()
        array += 1


def test_a_result_that_cannot_be_sent_fails_its_event() -> None:
    found: list[Any] = []
    graph = sw.Graph()
    graph.source(range(5)).map(lambda n: (i for i in ()) if n == 3 else n, on_error="skip").sink(found.append)
    assert sw.run(graph, workers=1).skipped == 1
    assert found == [0, 1, 2, 4]


# -- sinks -------------------------------------------------------------------------------------------------------


def test_sinks_are_written_number_by_number_in_the_order_they_were_added(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source(range(50))
        odd = source.filter(lambda n: n % 2, name="odd", workers=1)
        odd.flat_map(lambda n: [n, n], workers=2).sink(seen.sink("twice"))
        source.sink(seen.sink("raw"))
        odd.sink(seen.sink("odd"))
        return graph

    _, seen = both(graph)
    assert [row[:2] for row in seen.journal[:6]] == [
        *[("raw", 0), ("twice", 1), ("twice", 1), ("raw", 1), ("odd", 1), ("raw", 2)]
    ]


def test_sinks_run_in_the_calling_thread(runner: Any) -> None:
    threads: set[int] = set()
    graph = sw.Graph()
    graph.source(range(3)).map(lambda n: n).sink(lambda n: threads.add(threading.get_ident()))
    sw.run(graph, workers=1, runner=runner)
    assert threads == {threading.get_ident()}


def test_the_life_of_a_sink(runner: Any) -> None:
    good, bad = Collector(), Collector()
    graph = sw.Graph()
    graph.source(range(3)).sink(good)
    sw.run(graph, runner=runner)
    assert good.life == ["open", 0, 1, 2, "close"]
    graph = sw.Graph()
    graph.source([1, 0]).map(lambda n: 1 // n).sink(bad)
    with pytest.raises(sw.HandlerError):
        sw.run(graph, workers=1, runner=runner)
    assert bad.life == ["open", 1, "abort"]


def test_handlers_behind_dead_letters(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        numbers = graph.source(["1", "x", "2", "y", "z"]).map(int, on_error="dead_letter", retries=1)
        numbers.sink(seen.sink("out"))
        letters = graph.dead_letters()
        letters.sink(seen.sink("letters"))
        letters.filter(lambda letter: letter.event != "y").map(lambda letter: letter.event).sink(seen.sink("events"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == [1, 2]
    assert seen.events("events") == ["x", "z"]
    assert [letter.attempts for letter in seen.events("letters")] == [2, 2, 2]
    assert seen.report.dead_letters == seen.report.retries == 3
    assert [row[0] for row in seen.journal] == ["out", "letters", "events", "out", "letters", "letters", "events"]


def test_what_is_skipped_is_counted_and_three_are_logged(runner: Any, caplog: pytest.LogCaptureFixture) -> None:
    graph = sw.Graph()
    graph.source([*"abcde"]).map(int, on_error="skip").sink(print)
    report = sw.run(graph, workers=1, runner=runner)
    assert (report.skipped, report.events_out) == (5, 0)
    assert [record.name for record in caplog.records] == ["sluiceway"] * 3
    assert "'int' skipped number 0" in caplog.messages[0]


def test_retries_with_a_pause_give_way_to_others(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        def flaky(n: int) -> int:
            if n % 10 == 0 and sw.current().attempt < 3:
                raise OSError("not yet")
            return n

        graph = sw.Graph()
        graph.source(range(100)).map(flaky, retries=2, backoff_s=0.001).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == list(range(100))
    assert seen.report.retries == 20


# -- running -----------------------------------------------------------------------------------------------------


def test_a_limit(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(endless).map(lambda n: n).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2, limit=333)
    assert seen.events("out") == list(range(333))
    assert (seen.report.events_in, seen.report.ended_by) == (333, "limit")


def test_a_stop_signal_releases_what_was_read(runner: Any) -> None:
    stop = threading.Event()
    found: list[int] = []

    def take(n: int) -> None:
        found.append(n)
        if n == 100:
            stop.set()

    graph = sw.Graph()
    graph.source(endless).map(lambda n: n).sink(take)
    report = sw.run(graph, workers=1, stop=stop, runner=runner)
    assert report.ended_by == "stop"
    assert found == list(range(report.events_in))


def test_a_time_limit_succeeds(runner: Any) -> None:
    found: list[int] = []
    graph = sw.Graph()
    graph.source(endless).map(lambda n: n).sink(found.append)
    report = sw.run(graph, workers=1, time_limit_s=0.5, runner=runner)
    assert report.ended_by == "time_limit"
    assert found == list(range(report.events_in))


def test_a_stop_signal_that_is_set_already(runner: Any) -> None:
    stop = threading.Event()
    stop.set()
    graph = sw.Graph()
    graph.source(endless).sink(print)
    assert sw.run(graph, stop=stop, runner=runner).ended_by == "stop"


def test_several_runs_at_once_from_several_threads() -> None:
    found: dict[int, list[int]] = {at: [] for at in range(4)}

    def work(at: int) -> None:
        graph = sw.Graph(f"run-{at}")
        graph.source(range(at, 4000, 4)).map(lambda n: n).sink(found[at].append)
        sw.run(graph, workers=1)

    threads = [threading.Thread(target=work, args=(at,)) for at in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {at: list(range(at, 4000, 4)) for at in range(4)}


def test_a_sink_may_run_a_graph() -> None:
    found: list[int] = []

    def run_inner(n: int) -> None:
        graph = sw.Graph()
        graph.source([n]).map(lambda n: n * 10).sink(found.append)
        sw.run(graph, workers=1)

    graph = sw.Graph()
    graph.source([1, 2]).map(lambda n: n + 1).sink(run_inner)
    sw.run(graph, workers=1)
    assert found == [20, 30]


def test_progress_is_told_at_the_end_too(runner: Any) -> None:
    told: list[Any] = []
    graph = sw.Graph("counted")
    graph.source(range(10)).map(lambda n: n).sink(lambda n: None)
    sw.run(graph, workers=1, runner=runner, progress=told.append)
    assert told[-1].events_in == 10
    assert told[-1].graph == "counted"


def test_the_report(runner: Any) -> None:
    graph = sw.Graph("logins")
    kept = graph.source(range(100)).filter(lambda n: n % 4, name="keep").map(lambda n: n, name="same")
    kept.sink(lambda n: None)
    report = sw.run(graph, workers=2, runner=runner)
    assert (report.events_in, report.events_out, report.filtered) == (100, 75, 25)
    assert list(report.nodes) == ["keep", "same"]
    assert (report.nodes["keep"].events_in, report.nodes["same"].events_in) == (100, 75)
    assert report.wall_s > 0
    assert "logins: 100 events in, 75 out" in str(report)
    assert report.as_dict()["nodes"]["keep"]["events_out"] == 75


def test_the_report_says_how_busy_workers_were(runner: Any) -> None:
    """A bounded source offers far more than the workers can handle; they are busy all the time, but not more."""
    graph = sw.Graph("slow")
    graph.source(range(200)).map(lambda n: time.sleep(0.002) or n, name="sleep").sink(lambda n: None)
    report = sw.run(graph, workers=2, runner=runner)
    node = report.nodes["sleep"]
    workers = 1 if runner == "inline" else 2
    assert 0.0 < node.busy <= 1.0  # on a busy machine the start of the workers takes most of the run
    assert node.busy == pytest.approx(node.events_in / node.service_rate / (workers * report.wall_s), rel=0.01)
    assert report.as_dict()["nodes"]["sleep"]["utilisation"] == node.utilisation


def test_native_libraries_have_one_thread_each_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)

    def look(name: str) -> str | None:
        return os.environ.get(name)

    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    assert list(sw.imap(look, names, workers=1)) == ["1", "1", "3"]
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_a_handler_changes_in_its_closure_stays_in_its_worker() -> None:
    counted = {"n": 0}

    def count(n: int) -> int:
        counted["n"] += 1
        return counted["n"]

    assert list(sw.imap(count, range(5), workers=1)) == [1, 2, 3, 4, 5]
    assert counted == {"n": 0}


def test_tcp_with_keys() -> None:
    assert list(sw.imap(lambda n: n + 1, range(100), workers=2, transport="tcp")) == list(range(1, 101))


def test_a_worker_is_replaced_when_it_has_handled_enough() -> None:
    results = sw.imap(lambda n: (n, os.getpid()), range(2000), workers=1, max_events_per_worker=500, window_numbers=200)
    rows = list(results)
    assert [n for n, _ in rows] == list(range(2000))
    assert len({pid for _, pid in rows}) > 1
    assert results.report.worker_deaths == 0


def test_a_stop_and_a_time_limit_are_seen_while_a_source_waits(runner: Any) -> None:
    """The next tick would come in a quarter of an hour."""
    stop = threading.Event()
    graph = sw.Graph()
    graph.source(sw.every(1000)).map(lambda n: n).sink(lambda n: stop.set())
    assert sw.run(graph, workers=1, runner=runner, stop=stop).ended_by == "stop"
    assert sw.run(graph, workers=1, runner=runner, time_limit_s=0.2).ended_by == "time_limit"


def test_ctrl_c_while_a_source_waits_inline() -> None:
    graph = sw.Graph()
    graph.source(sw.every(1000)).sink(lambda n: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        sw.run(graph, runner="inline")
