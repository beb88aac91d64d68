"""How a run ends with an error: errors of every kind with their texts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]


def fail_with(make_graph: Callable[[], sw.Graph], **options: Any) -> Any:
    with pytest.raises(sw.SluicewayError) as caught:
        sw.run(make_graph(), **options)
    return caught.value


def test_a_handler_error_says_all_but_the_payload(runner: Any) -> None:
    found: list[Any] = []

    def graph() -> sw.Graph:
        graph = sw.Graph()
        graph.source(["5", "4", "secret", "1"]).map(int, name="parse", retries=1).sink(found.append)
        return graph

    error = fail_with(graph, workers=2, runner=runner)
    assert type(error) is sw.HandlerError
    assert str(error) == (
        "node 'parse' failed on number 2 (index 0) after 2 attempts: ValueError: invalid literal for int() with base"
        " 10: 'secret'; everything below 2 is released, set on_error='skip' or 'dead_letter' to go on without it"
    )
    assert (error.seq, error.index, error.node, error.event) == (2, 0, "parse", "secret")
    assert isinstance(error.__cause__, ValueError)
    assert found == [5, 4]
    assert (error.report.ended_by, error.report.events_out) == ("error", 2)


def test_the_remote_traceback_is_in_the_cause() -> None:
    def deep(n: int) -> int:
        raise LookupError(f"no {n}")

    error = fail_with(lambda: _one(deep), workers=1)
    notes = "\n".join(error.__cause__.__notes__)
    assert "remote traceback" in notes
    assert "in deep" in notes
    assert "LookupError: no 0" in notes


def _one(handler: Any, **words: Any) -> sw.Graph:
    graph = sw.Graph()
    graph.source(range(3)).map(handler, **words).sink(lambda event: None)
    return graph


def test_an_exception_that_cannot_be_pickled_arrives_as_text() -> None:
    class Stubborn(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__("no way back")

        def __reduce__(self) -> Any:
            raise TypeError("not me")

    def refuse(n: int) -> int:
        raise Stubborn(1, 2)

    error = fail_with(lambda: _one(refuse), workers=1)
    assert "Stubborn: no way back" in str(error)
    assert "no way back" in str(error.__cause__)


def test_the_lowest_failed_number_ends_the_run_whoever_fails_first(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def fail_late(n: int) -> int:
        if n == 0:
            gate.read_bytes()  # until number 1 has failed
            raise KeyError("late")
        if n == 1:
            raise KeyError("early") from None
        return n

    def tell(n: int) -> int:
        return n

    class Opener:
        def __call__(self, n: int) -> int:
            if n == 1:
                gate.write_bytes(b"failed")
            return n

    graph = sw.Graph()
    source = graph.source(range(2))
    source.map(fail_late, workers=2).sink(tell)
    source.map(Opener, workers=1).sink(tell)
    error = fail_with(lambda: graph)
    assert (error.seq, str(error.__cause__)) == (0, "'late'")


def test_a_branch_that_fails_ends_the_run_for_all_sinks_at_one_number(both: Callable[..., Any]) -> None:
    def refuse(n: int) -> int:
        if n == 20:
            raise ValueError(n)
        return n

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source(range(50))
        source.map(refuse, workers=1).sink(seen.sink("refused"))
        source.map(lambda n: -n, workers=2).sink(seen.sink("other"))
        source.sink(seen.sink("raw"))
        return graph

    _, seen = both(graph)
    assert seen.error.seq == 20
    assert [len(seen.events(name)) for name in ("refused", "other", "raw")] == [20, 20, 20]


@pytest.mark.parametrize("position", [0, 1, 30])
def test_a_source_error_comes_behind_all_that_was_read(position: int, both: Callable[..., Any]) -> None:
    def numbers() -> Iterator[int]:
        yield from range(position)
        raise OSError("unplugged")

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(numbers, name="meter").map(lambda n: n).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert type(seen.error) is sw.SourceError
    assert seen.events("out") == list(range(position))
    assert f"source 'meter' failed after {position} events" in str(seen.error)
    assert "OSError: unplugged" in str(seen.error)
    assert isinstance(seen.error.__cause__, OSError)


def test_a_source_that_is_not_sorted_by_its_key(runner: Any) -> None:
    def graph() -> sw.Graph:
        graph = sw.Graph()
        graph.sequence(graph.source([1, 3, 2], name="bad"), graph.source([5]), key=lambda n: n).sink(lambda n: None)
        return graph

    error = fail_with(graph, runner=runner)
    assert type(error) is sw.SourceError
    assert "'bad'" in str(error)
    assert "event 2" in str(error)


def test_a_sink_error_names_the_number_and_nothing_above_is_delivered(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        def refuse(n: int) -> None:
            if n == 10:
                raise OSError("disk full")

        graph = sw.Graph()
        source = graph.source(range(30))
        source.sink(seen.sink("before"))
        source.sink(refuse)
        source.map(lambda n: n).sink(seen.sink("after"))
        return graph

    _, seen = both(graph, workers=1)
    assert type(seen.error) is sw.SinkError
    assert (seen.error.seq, seen.error.node, seen.error.event) == (10, "refuse", 10)
    assert "sink 'refuse' failed on number 10: OSError: disk full" in str(seen.error)
    assert seen.events("before") == list(range(11))
    assert seen.events("after") == list(range(10))


def test_a_sink_that_cannot_be_opened_or_closed(runner: Any) -> None:
    class Broken:
        def __init__(self, where: str) -> None:
            self.where = where

        def open(self) -> None:
            if self.where == "open":
                raise OSError("locked")

        def write(self, events: Any) -> None:
            pass

        def close(self) -> None:
            if self.where == "close":
                raise OSError("no room")

    for where, text in (("open", "cannot be opened: OSError: locked"), ("close", "cannot be closed: OSError: no room")):
        graph = sw.Graph()
        graph.source(range(3)).map(lambda n: n).sink(Broken(where), name="file")
        error = fail_with(lambda graph=graph: graph, workers=1, runner=runner)
        assert type(error) is sw.SinkError
        assert text in str(error)


def test_a_handler_behind_dead_letters_that_fails(runner: Any) -> None:
    def refuse(letter: sw.DeadLetter) -> None:
        raise ValueError("not even this")

    graph = sw.Graph()
    graph.source(["1", "x"]).map(int, on_error="dead_letter").sink(lambda n: None)
    graph.dead_letters().map(refuse).sink(lambda n: None)
    error = fail_with(lambda: graph, workers=1, runner=runner)
    assert type(error) is sw.HandlerError
    assert (error.seq, error.node) == (1, "refuse")


def test_a_handler_that_cannot_be_built(runner: Any) -> None:
    class Model:
        def __init__(self) -> None:
            raise FileNotFoundError("model.pt")

        def __call__(self, n: int) -> int:
            return n

    with pytest.raises((sw.HandlerError, FileNotFoundError), match=r"model\.pt"):
        sw.run(_one(Model), workers=2, runner=runner)


def test_a_handler_that_cannot_be_sent_is_refused_before_anything_starts() -> None:
    import threading

    lock = threading.Lock()
    read: list[int] = []

    def note() -> Iterator[int]:
        read.append(1)
        yield 1

    graph = sw.Graph()
    graph.source(note()).map(lambda n: (lock, n)[1], name="locked").sink(lambda n: None)
    with pytest.raises(sw.GraphError, match=r"'locked'.*captures 'lock'"):
        sw.run(graph, workers=1)
    assert not read


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_an_event_that_cannot_be_sent_is_its_sources_error(merged: bool, remote: bool) -> None:
    def numbers() -> Iterator[Any]:
        yield from range(5)
        yield (n for n in ())

    found: list[Any] = []
    graph = sw.Graph()
    stream = graph.source(numbers if remote else [*numbers()], name="odd")
    if merged:
        stream = graph.sequence(stream, graph.source([10] * 9), order="round_robin")
    stream.map(lambda n: n).sink(found.append)
    error = fail_with(lambda: graph, workers=1)
    assert type(error) is sw.SourceError
    assert "'odd'" in str(error)
    assert "generator" in str(error)
    assert [n for n in found if n < 10] == list(range(5))


def test_sys_exit_in_a_handler_fails_its_event(both: Callable[..., Any]) -> None:
    def leave(n: int) -> int:
        if n == 1:
            sys.exit("enough")
        return n

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        graph.source(range(3)).map(leave, on_error="skip").sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("out") == [0, 2]
    assert seen.report.worker_deaths == 0


def test_a_death_behind_a_failure_is_made_good(tmp_path: Path) -> None:
    """The answer for a failed number must not hide that a lower one of the same run has none."""
    once = tmp_path / "once"

    async def work(n: int) -> int:
        import asyncio

        if n == 100 and not once.exists():
            once.touch()
            await asyncio.sleep(0.2)  # time for the failures above to arrive; either way the outcome is the same
            os._exit(1)
        if 100 < n < 108:
            raise ValueError(n)
        return n

    found: list[int] = []
    graph = sw.Graph()
    graph.source(range(300)).map(work, workers=1).sink(found.append)
    error = fail_with(lambda: graph)
    assert (error.seq, found) == (101, list(range(101)))


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_a_run_that_has_released_everything_has_nothing_in_flight(n: int) -> None:
    for _ in range(5):
        report = sw.imap(abs, range(n), workers=2)
        assert len(list(report)) == n
        assert (report.report.released, report.report.in_flight) == (n, 0)
