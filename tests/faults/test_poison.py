"""Events that kill every worker they meet: after `max_deaths` workers they are their handler's failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_cases import GRAPHS
from fault_events import OnDump, OnLoad, OnReduce
from fault_graphs import Strikes, branched, die, killer, same, small
from marks import slow

N = 600


def run(make: Any, handler: Any, source: Any = None, **words: Any) -> Seen:
    """Run a graph in processes; options of the run are told from those of the handler by their names."""
    of_run = {name: words.pop(name) for name in ("max_deaths", "workers", "limit") if name in words}
    source = range(N) if source is None else source
    return observe(lambda seen: make(seen, source, handler, **words), **{"workers": 2, **of_run})


def without(make: Any, lost: set[int], source: Any = None) -> Seen:
    """Return what a graph gives when the struck handler fails for the numbers in `lost` and nothing dies."""

    def lose(n: Any) -> Any:
        if n in lost:
            raise ValueError("lost")
        return n

    source = range(N) if source is None else source
    return observe(lambda seen: make(seen, source, lose, on_error="skip"), runner="inline")


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("how", [slow("kill"), "exit"])
def test_fail_ends_the_run_after_releasing_all_below(make: Any, how: str) -> None:
    seen = run(make, killer([250], how))
    error = seen.error
    assert type(error) is sw.WorkerDied
    assert (error.seq, error.index, error.node, error.event) == (250, 0, "struck", 250)
    ending = "exited with code 7" if how == "exit" else "was ended by SIGKILL"
    assert "after 3 attempts" in str(error)
    assert ending in str(error)
    assert seen.journal == [row for row in without(make, set()).journal if row[1] < 250]
    assert seen.report.worker_deaths == 3


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("numbers", [slow({0}), slow({N - 1}), slow({7, 300, 599}), {100, 101}])
def test_skip_goes_on_without_them(make: Any, numbers: set[int]) -> None:
    seen = run(make, killer(numbers), on_error="skip")
    assert seen.error is None
    assert seen.journal == without(make, numbers).journal
    assert (seen.report.skipped, seen.report.worker_deaths) == (len(numbers), 3 * len(numbers))


@pytest.mark.parametrize("make", GRAPHS)
def test_the_letter_stands_in_its_place(make: Any) -> None:
    seen = run(make, killer([200, 400]), on_error="dead_letter")
    assert seen.error is None
    rest = [row for row in seen.journal if row[0] != "letters"]
    assert rest == without(make, {200, 400}).journal
    letters = seen.events("letters")
    assert [(it.seq, it.index, it.node, it.event, it.attempts) for it in letters] == [
        (200, 0, "struck", 200, 3),
        (400, 0, "struck", 400, 3),
    ]
    assert all(it.error.startswith("WorkerDied: was ended by SIGKILL") for it in letters)
    places = [row[1] for row in seen.journal]
    assert places == sorted(places)


@pytest.mark.parametrize("max_deaths", [1, slow(2), slow(5)])
def test_max_deaths(max_deaths: int) -> None:
    seen = run(small, killer([300]), on_error="skip", max_deaths=max_deaths)
    assert seen.report.skipped == 1
    # The first death may only show the batch, the second shows the event.
    assert max_deaths <= seen.report.worker_deaths <= max(2, max_deaths)
    assert seen.journal == without(small, {300}).journal


def test_no_limit(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 8)
    seen = run(small, killer([300], "kill", strikes), max_deaths=None)
    assert seen.error is None
    assert seen.journal == without(small, set()).journal
    assert (strikes.left, seen.report.worker_deaths) == (0, 8)


@pytest.mark.parametrize("make", GRAPHS)
def test_an_event_that_recovers_is_no_poison(make: Any, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)
    seen = run(make, killer([250], "kill", strikes))
    assert seen.error is None
    assert seen.journal == without(make, set()).journal


def test_in_a_list() -> None:
    """`map_batches`: the list is run again event by event, and only the culprit is lost."""

    def strike(events: list[int]) -> list[int]:
        if 333 in events:
            die("kill")
        return events

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(N)).map_batches(strike, batch_size=50, on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(N) if n != 333]
    assert (report.skipped, report.worker_deaths) == (1, 3)


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("numbers", [{333}, slow({40, 41})])
def test_async(make: Any, numbers: set[int]) -> None:
    """Many are under way: the run is handed out in halves until the culprit stands alone."""

    async def strike(n: int) -> int:
        import asyncio

        await asyncio.sleep(0.001)
        if n in numbers:
            die("kill")
        return n

    seen = run(make, strike, on_error="skip", concurrency=8)
    assert seen.error is None
    assert seen.journal == without(make, numbers).journal
    assert seen.report.skipped == len(numbers)


def test_async_sibling() -> None:
    """After a flat_map only the output that kills is lost, also where its siblings are under way beside it."""

    async def strike(event: tuple[int, int]) -> tuple[int, int]:
        import asyncio

        await asyncio.sleep(0)
        if event == (30, 2):
            die("kill")
        return event

    one_sibling_is_lost(strike)


def test_a_sibling_of_a_flat_map() -> None:
    def strike(event: tuple[int, int]) -> tuple[int, int]:
        if event == (30, 2):
            die("kill")
        return event

    assert one_sibling_is_lost(strike).worker_deaths == 3


def one_sibling_is_lost(strike: Any) -> sw.RunReport:
    """Run four outputs of each event through a handler; assert that it loses output 2 of event 30 and no other."""

    def split(n: int) -> list[tuple[int, int]]:
        return [(n, at) for at in range(4)]

    seen = Seen()
    graph = sw.Graph()
    pairs = graph.source(range(60)).flat_map(split)
    pairs.map(strike, name="struck", on_error="dead_letter").sink(seen.sink("out"))
    graph.dead_letters().sink(seen.sink("letters"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [(n, at) for n in range(60) for at in range(4) if (n, at) != (30, 2)]
    assert [(it.seq, it.index, it.event) for it in seen.events("letters")] == [(30, 2, (30, 2))]
    return report


# -- events that kill while they are unpacked or packed ----------------------------------------------------------


def number_of(event: Any) -> int:
    return event if isinstance(event, int) else event.n


def events_with(kind: type, numbers: set[int], how: str, count: int = 200) -> list[Any]:
    return [kind(n, how if n in numbers else "") for n in range(count)]


def through(events: Any, policy: Any, **words: Any) -> Seen:
    """Run events through a handler that only looks at their number."""

    def make(seen: Seen) -> sw.Graph:
        graph = sw.Graph()
        graph.source(events).map(number_of, name="struck", on_error=policy).sink(seen.sink("out"), name="out")
        if policy == "dead_letter":
            graph.dead_letters().sink(seen.sink("letters"), name="letters")
        return graph

    return observe(make, workers=2, **words)


@pytest.mark.parametrize("kind", [OnLoad, slow(OnReduce)])
@pytest.mark.parametrize("numbers", [slow({0}), slow({30, 31, 150}), {77}])
def test_killed_while_unpacking(kind: type, numbers: set[int]) -> None:
    """No handler sees the event, so the engine itself answers for its number."""
    seen = through(events_with(kind, numbers, "die"), "dead_letter")
    assert seen.error is None
    assert seen.events("out") == [n for n in range(200) if n not in numbers]
    letters = seen.events("letters")
    lost = sorted(numbers)
    assert [(it.seq, it.index, it.node, it.event) for it in letters] == [(n, 0, "struck", None) for n in lost]
    # Each of two workers may have two tasks of the same batch before it is suspect; two deaths more to be sure.
    assert seen.report.worker_deaths <= 6 * len(numbers)
    assert all(it.error.startswith("WorkerDied: was ended by SIGKILL") for it in letters)


def test_killed_while_unpacking_under_fail() -> None:
    seen = through(events_with(OnLoad, {120}, "die"), "fail")
    assert type(seen.error) is sw.WorkerDied
    assert (seen.error.seq, seen.error.node) == (120, "struck")
    assert seen.events("out") == list(range(120))


@pytest.mark.parametrize("kind", [OnLoad, slow(OnReduce)])
@pytest.mark.parametrize("numbers", [slow({0}), slow({30, 31, 150}), {77}])
def test_raised_while_unpacking(kind: type, numbers: set[int]) -> None:
    """Only the event whose own code raises is lost, not its batch and not its worker."""
    seen = through(events_with(kind, numbers, "raise"), "dead_letter")
    assert seen.error is None
    assert seen.events("out") == [n for n in range(200) if n not in numbers]
    letters = seen.events("letters")
    lost = sorted(numbers)
    assert [(it.seq, it.node, it.event, it.attempts) for it in letters] == [(n, "struck", None, 1) for n in lost]
    assert all(it.error.endswith("its own code raised ValueError: no state") for it in letters)
    assert all("in __setstate__" in it.traceback or "in rebuild" in it.traceback for it in letters)
    assert seen.report.worker_deaths == 0


def test_raised_while_unpacking_under_fail() -> None:
    seen = through(events_with(OnLoad, {120, 130}, "raise"), "fail")
    assert type(seen.error) is sw.HandlerError
    assert (seen.error.seq, seen.error.node) == (120, "struck")
    assert seen.events("out") == list(range(120))


def test_raised_while_unpacking_for_an_async_handler() -> None:
    async def number(event: Any) -> int:
        return number_of(event)

    seen = Seen()
    graph = sw.Graph()
    graph.source(events_with(OnLoad, {50}, "raise")).map(number, name="struck", on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(200) if n != 50]
    assert (report.skipped, report.worker_deaths) == (1, 0)


@pytest.mark.parametrize("numbers", [slow({0}), slow({30, 31}), {77}])
def test_killed_while_packing(numbers: set[int]) -> None:
    def give(n: int) -> Any:
        return OnDump() if n in numbers else n

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(200)).map(give, name="struck", on_error="dead_letter").sink(seen.sink("out"))
    graph.dead_letters().sink(seen.sink("letters"))
    sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(200) if n not in numbers]
    assert [it.seq for it in seen.events("letters")] == sorted(numbers)


def test_killed_while_unpacking_in_the_second_pool() -> None:
    """The killer is the result of one pool and strikes in the next."""

    def make(n: int) -> OnLoad:
        return OnLoad(n, "die" if n in (60, 61) else "")

    seen = Seen()
    graph = sw.Graph()
    made = graph.source(range(150)).map(make, workers=1)
    made.barrier().map(number_of, name="struck", on_error="skip").sink(seen.sink("out"))
    sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(150) if n not in (60, 61)]


def test_the_source_is_not_asked_twice(tmp_path: Path) -> None:
    """Replays come from what was kept, never from the source."""
    asked = tmp_path / "asked"

    def numbers() -> Iterator[int]:
        for n in range(N):
            with open(asked, "a") as file:
                file.write("x")
            yield n

    seen = run(branched, killer([50]), numbers, on_error="skip")
    assert seen.error is None
    assert asked.stat().st_size == N


def test_same_and_source() -> None:
    assert run(branched, same).journal == without(branched, set()).journal
