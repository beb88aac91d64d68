"""Handlers in a run: every kind, their context, their classes, lists and errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]


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
