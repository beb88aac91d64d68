"""`run`: sources of every kind, and how a run is begun, stopped and reported, in both runners."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]


def endless() -> Iterator[int]:
    yield from itertools.count()


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
