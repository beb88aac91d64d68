"""Events that turn dear in the middle: thousands were cheap, so the batches are large, and then each takes long."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.nodes.execution.batch_split import BatchSplitter

CHEAP, DEAR = 150_000, 60
EACH_S = 0.02
#: How many of the dear ones may wait for the first of them to be seen.
AHEAD = 40


def watched(folder: Path) -> Any:
    """Return a handler of numbers of which the late ones wait until the consumer has seen the first dear one."""
    seen, hands = str(folder / "seen"), str(folder / "hand")

    def handle(n: int) -> tuple[int, int]:
        if n >= CHEAP:
            time.sleep(EACH_S)
            with open(f"{hands}-{os.getpid()}", "a") as file:
                file.write(f"{n}\n")
        deadline = time.monotonic() + 60
        while n >= CHEAP + AHEAD and not os.path.exists(seen):
            assert time.monotonic() < deadline, "the results that are there were kept back"
            time.sleep(0.001)
        return n, sw.current().seq

    return handle


def taken(results: Any, folder: Path) -> list[tuple[int, int]]:
    rows = []
    for row in results:
        if row[0] == CHEAP:
            (folder / "seen").touch()
        rows.append(row)
    return rows


@pytest.mark.parametrize("workers", [2, None])
@pytest.mark.parametrize("make", [iter, list, lambda numbers: numbers], ids=["iterator", "list", "range"])
def test_they_are_shared_and_come_one_by_one(workers: int | None, make: Any, tmp_path: Path) -> None:
    words: dict[str, Any] = {} if workers is None else {"workers": workers}
    results = sw.imap(watched(tmp_path), make(range(CHEAP + DEAR)), **words)
    rows = taken(results, tmp_path)
    assert [row[0] for row in rows] == list(range(CHEAP + DEAR))
    assert all(row[1] == row[0] for row in rows)
    hands = [len(path.read_text().split()) for path in tmp_path.glob("hand-*")]
    assert len(hands) >= 2
    # Without `workers` they begin with the first of them, before the second is up.
    assert workers is None or max(hands) < DEAR - 5
    report = results.report
    assert (report.events_in, report.events_out, report.worker_deaths) == (CHEAP + DEAR, CHEAP + DEAR, 0)
    assert sum(node.events_in for node in report.nodes.values()) == CHEAP + DEAR


@pytest.mark.parametrize("workers", [2, None])
def test_every_event_is_handled_once(workers: int | None, tmp_path: Path) -> None:
    """What is given back was not begun, also where cheap and dear events take turns.

    Without `workers` those that the calling process handled last, and only they, are handled in a worker too.
    """
    words: dict[str, Any] = {} if workers is None else {"workers": workers}
    folder = str(tmp_path)

    def handle(event: dict[str, int]) -> dict[str, int]:
        n = event["n"]
        if n % 30_000 > 29_990:
            time.sleep(0.03)
            with open(f"{folder}/{os.getpid()}", "a") as file:
                file.write(f"{n}\n")
        event["n"] = -n
        return event

    given = list(sw.imap(handle, ({"n": n} for n in range(120_000)), **words))
    assert given == [{"n": -n} for n in range(120_000)]
    calls = Counter(int(line) for path in tmp_path.iterdir() for line in path.read_text().split())
    once = Counter(n for n in range(120_000) if n % 30_000 > 29_990)
    assert calls == once or (workers is None and calls.keys() == once.keys() and calls.total() - once.total() < 9)


@pytest.mark.parametrize("workers", [2, None])
def test_filters_flat_maps_branches_and_failures(workers: int | None) -> None:
    """All that a first step may be, and what hangs on the same input."""
    words: dict[str, Any] = {} if workers is None else {"workers": workers}

    def slow(n: int) -> int:
        if n > 60_000:
            time.sleep(0.01)
        if n == 60_030:
            raise ValueError("one of the dear ones")
        return n

    def run(**words: Any) -> tuple[list[Any], Any]:
        graph = sw.Graph("branches")
        numbers = graph.source(iter(range(60_060)), name="numbers")
        kept = numbers.filter(lambda n: slow(n) % 3, name="kept", on_error="skip")
        many = numbers.flat_map(lambda n: [n] * (n % 3), name="many")
        out: list[Any] = []
        report = sw.run(_collecting(graph, sw.merge(kept, many), out), **words)
        return out, report

    reference, expected = run(runner="inline")
    out, report = run(**words)
    assert out == reference
    assert (report.skipped, report.filtered) == (expected.skipped, expected.filtered)


def _collecting(graph: sw.Graph, stream: Any, out: list[Any]) -> sw.Graph:
    stream.sink(out.append, name="out")
    return graph


def test_turns_are_cut_short_also_while_processes_come_up(tmp_path: Path) -> None:
    """A slow first event has brought them in already; behind cheap ones come dear ones before they are there."""
    cheap, dear = 10_000, 300
    here, mine = os.getpid(), str(tmp_path / "mine")

    def handle(n: int) -> int:
        if n == 0:
            time.sleep(0.05)
        elif n >= cheap:
            time.sleep(0.01)
            if os.getpid() == here:
                with open(mine, "a") as file:
                    file.write(".")
        return n

    assert list(sw.imap(handle, iter(range(cheap + dear)))) == list(range(cheap + dear))
    assert Path(mine).stat().st_size < dear / 2


@pytest.mark.parametrize("limit", [None, 3000])
@pytest.mark.parametrize("make", [iter, list], ids=["iterator", "list"])
def test_nobody_reads_on_before_what_was_cut_off_is_put_back(
    make: Any, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that cuts is held up with what it has claimed; meanwhile the calling one comes to the end of its turn."""
    take_rest, held_up = BatchSplitter.take_rest, []

    def slowly(splitter: BatchSplitter) -> list[Any]:
        taken = take_rest(splitter)
        if taken:
            held_up.append(len(taken))
            time.sleep(0.1)
        return taken

    def handle(n: int) -> tuple[int, int]:
        if n == 2000:
            time.sleep(0.06)
        return n, sw.current().seq

    monkeypatch.setattr(BatchSplitter, "take_rest", slowly)
    assert list(sw.imap(handle, make(range(3000)), limit=limit)) == [(n, n) for n in range(3000)]
    assert held_up


def test_a_pool_that_works_in_order_keeps_what_it_got() -> None:
    calls: list[int] = []

    def slow(n: int) -> int:
        assert not calls or calls[-1] == n - 1, "not in order"
        calls.append(n)
        if n > 60_000:
            time.sleep(0.01)
        return n

    stream = sw.Graph("order").source(iter(range(60_040)), name="numbers").map(slow, name="slow", ordered=True)
    assert list(sw.iterate(stream, workers=2)) == list(range(60_040))


def test_behind_a_barrier_a_later_handler_is_cut_short_too(tmp_path: Path) -> None:
    numbers = sw.Graph("late").source(iter(range(CHEAP + DEAR)), name="numbers")
    stream = numbers.map(lambda n: n, name="cheap").barrier().map(watched(tmp_path), name="dear")
    rows = taken(sw.iterate(stream, workers=2), tmp_path)
    assert [row[0] for row in rows] == list(range(CHEAP + DEAR))
    assert len(list(tmp_path.glob("hand-*"))) == 2
