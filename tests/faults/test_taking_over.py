"""Without `workers`, a run that moves to processes gives what it gave before, or does not move."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

#: How many results are looked at behind the number at which it is decided where the run goes on.
MORE = 20


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module that a worker finds as it is on the disk."""
    (tmp_path / "config_here.py").write_text("FACTOR = 1\nPLUGINS = {}\ndef fetch(n):\n    raise OSError('no network')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import config_here

    yield config_here
    del sys.modules["config_here"]


def slowly(call: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return a handler that takes long enough for processes to be brought in at once."""

    def handle(n: int) -> Any:
        time.sleep(0.025)
        return call(n)

    return handle


def is_decided(report: sw.RunReport) -> bool:
    return report.placement.startswith("no processes") or "from number" in report.placement


def results_of(handler: Callable[[int], Any], **words: Any) -> tuple[list[Any], sw.RunReport]:
    """Return the results of a run that ends some results behind the decision where it goes on, and its report."""
    decided = threading.Event()

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            if decided.is_set():
                return
            yield n

    found, more = [], 0
    results = sw.imap(handler, numbers(), **words)
    for result in results:
        found.append(result)
        more += is_decided(results.report)
        if more >= MORE:
            decided.set()
    return found, results.report


def stays(results: list[Any], report: sw.RunReport, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Check that all was handled here, and that this was said once, with the remedy."""
    assert report.placement == f"no processes: {why}"
    assert (report.events_in, report.events_out, report.in_caller) == (len(results),) * 3
    said = [record.getMessage() for record in caplog.records if "goes on in the calling process" in record.getMessage()]
    assert len(said) == 1
    assert f"imap: no processes: {why}; " in said[0]
    assert "by setup=" in said[0]


DIFFERS = "what number {} gives in a worker is not what it gave here"


def differs(report: sw.RunReport) -> str:
    number = next(word for word in report.placement.split() if word.isdigit())
    return DIFFERS.format(number)


@pytest.mark.parametrize("case", ["setting", "registry", "hash"])
def test_what_a_worker_does_not_see_is_noticed(case: str, config: Any, caplog: pytest.LogCaptureFixture) -> None:
    config.FACTOR = 10
    config.PLUGINS["double"] = 2
    calls: dict[str, Callable[[int], Any]] = {
        "setting": lambda n: __import__("config_here").FACTOR * n + 1,
        "registry": lambda n: __import__("config_here").PLUGINS.get("double"),
        "hash": lambda n: hash(f"word {n}"),
    }
    results, report = results_of(slowly(calls[case]))
    assert results == [calls[case](n) for n in range(len(results))]
    stays(results, report, differs(report), caplog)


def test_with_setup_it_is_seen_and_they_take_over(config: Any) -> None:
    def setup() -> None:
        import config_here

        config_here.FACTOR = 10

    results, report = results_of(slowly(lambda n: __import__("config_here").FACTOR * n), setup=setup)
    assert results == [10 * n for n in range(len(results))]
    assert "worker processes from number" in report.placement


def test_a_patched_function_is_noticed(config: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(config, "fetch", lambda n: -n)
    results, report = results_of(slowly(lambda n: __import__("config_here").fetch(n)))
    assert results == [-n for n in range(len(results))]
    assert "workers fail where it did not fail here: HandlerError: " in report.placement
    assert "OSError: no network" in report.placement
    stays(results, report, report.placement.removeprefix("no processes: "), caplog)


def test_what_a_handler_changes_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    results, report = results_of(slowly(seen.append))
    assert results == [None] * len(results)
    assert seen == list(range(len(results)))
    stays(results, report, "the handler 'handle' captures 'call', which has changed since the run began", caplog)


def test_what_is_caught_and_counted_is_compared_too() -> None:
    """Skipped numbers, dead letters and several sinks; the figures count each number once, whoever handled it last."""
    def run(**words: Any) -> tuple[list[Any], sw.RunReport]:
        def picky(n: int) -> int:
            time.sleep(0.015)
            if n % 3 == 0:
                raise ValueError(f"three in {n}")
            return n

        out: list[Any] = []
        graph = sw.Graph()
        numbers = graph.source(range(150))
        numbers.map(picky, name="letters", on_error="dead_letter").sink(lambda n: out.append(("map", n)), name="one")
        numbers.filter(picky, name="skips", on_error="skip").sink(lambda n: out.append(("filter", n)), name="two")
        numbers.flat_map(lambda n: [n] * (n % 3), name="many").sink(lambda n: out.append(("many", n)), name="three")
        graph.dead_letters().sink(lambda letter: out.append((letter.seq, letter.error)), name="letters-out")
        return out, sw.run(graph, **words)

    expected, reference = run(runner="inline")
    out, report = run()
    assert "worker processes from number" in report.placement
    assert out == expected
    for name in "events_in", "events_out", "skipped", "dead_letters", "filtered":
        assert getattr(report, name) == getattr(reference, name), name
    for name, node in reference.nodes.items():
        assert (report.nodes[name].events_in, report.nodes[name].events_out) == (node.events_in, node.events_out)


@pytest.mark.parametrize("make", [iter, list, lambda numbers: ([n] for n in numbers)], ids=["iterator", "list", "lists"])
@pytest.mark.parametrize("limit", [None, 30])
def test_what_processes_had_read_is_handled_here(make: Any, limit: int | None) -> None:
    start = time.monotonic()

    def handle(n: Any) -> Any:
        time.sleep(0.025)
        return n, sw.current().seq, time.monotonic() - start

    rows = list(sw.imap(handle, make(range(60)), limit=limit))
    assert [(n if isinstance(n, int) else n[0], seq) for n, seq, _ in rows] == [(n, n) for n in range(limit or 60)]


def test_processes_that_cannot_be_built_leave_the_run_here(config: Any, caplog: pytest.LogCaptureFixture) -> None:
    def late(n: int) -> int:
        return n

    late.__module__, late.__qualname__ = "config_here", "late"
    config.late = late
    results, report = results_of(lambda n, fetch=config.late: (time.sleep(0.025), fetch(n))[1])
    assert results == list(range(len(results)))
    assert "config_here.late is not known in this process" in report.placement
    stays(results, report, report.placement.removeprefix("no processes: "), caplog)
