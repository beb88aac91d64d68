"""One budget: what is in flight stays inside the window, whatever piles up, and nothing waits for ever."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

WINDOW = 1 << 18
#: Beside the window: what is on its way when it fills. Answers take half a window for each pool, a pull one window;
#: an answer whose size nobody could know has 16 numbers, of at most 50 kB here.
EXCESS = 1 << 20


def event(n: int, size: int = 1000) -> tuple[int, bytes]:
    return n, bytes(size)


def test_a_straggler_at_the_head_holds_no_more_than_the_window(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def work(n: int) -> tuple[int, bytes]:
        if n == 0:
            gate.read_bytes()
        return n, bytes(1000)

    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for n in range(20_000):
            read = n
            yield n

    def open_when_full() -> None:
        # The source stands still once the window is full: then, and only then, may the head go on.
        last = -1
        while last != read or not read:
            last = read
            time.sleep(0.2)
        gate.write_bytes(b"go on")

    opener = threading.Thread(target=open_when_full)
    opener.start()
    found: list[int] = []
    graph = sw.Graph()
    graph.source(numbers()).map(work, workers=2).sink(lambda pair: found.append(pair[0]))
    report = sw.run(graph, window_bytes=WINDOW)
    opener.join()
    assert found == list(range(20_000))
    assert report.peak_bytes <= WINDOW + EXCESS


def test_a_flat_map_that_grows_fiftyfold() -> None:
    found: list[int] = []
    graph = sw.Graph()
    grown = graph.source(range(800)).flat_map(lambda n: [(n, bytes(1000))] * 50, workers=2)
    grown.map(lambda pair: pair[0], workers=1).sink(found.append)
    report = sw.run(graph, window_bytes=WINDOW)
    assert found == [n for n in range(800) for _ in range(50)]
    assert report.peak_bytes <= WINDOW + EXCESS


def test_a_straggler_before_a_flat_map_that_grows() -> None:
    def slow(n: int) -> int:
        if n % 100 == 0:
            time.sleep(0.05)
        return n

    count = 0

    def take(pair: Any) -> None:
        nonlocal count
        count += 1

    graph = sw.Graph()
    graph.source(range(400)).map(slow, workers=2).flat_map(lambda n: [(n, bytes(1000))] * 50, workers=1).sink(take)
    report = sw.run(graph, window_bytes=WINDOW)
    assert count == 400 * 50
    assert report.peak_bytes <= WINDOW + EXCESS


@pytest.mark.parametrize("window", [1, 1000])
def test_events_larger_than_the_window(window: int) -> None:
    found: list[int] = []
    graph = sw.Graph()
    source = graph.source(event(n, 100_000) for n in range(30))
    branches = [source.map(lambda pair: pair, workers=1), source.map(lambda pair: pair, workers=2)]
    sw.zip(*branches).map(lambda pairs: pairs[0][0], workers=3).sink(found.append)
    sw.run(graph, window_bytes=window)
    assert found == list(range(30))


def test_a_window_of_one_number() -> None:
    async def late(n: int) -> int:
        return n

    found: list[int] = []
    graph = sw.Graph()
    source = graph.source(range(60))
    stream = source.map(late, workers=2).barrier().map(lambda n: n, workers=2).map_batches(list, batch_size=50)
    sw.merge(stream, source).sink(found.append)
    sw.run(graph, window_numbers=1)
    assert found == [n for n in range(60) for _ in range(2)]


def test_a_merge_with_a_silent_source_does_not_fill_up() -> None:
    gate = threading.Event()
    read = 0

    def silent() -> Iterator[int]:
        gate.wait(100)
        yield 10**9

    def busy() -> Iterator[int]:
        nonlocal read
        for n in range(10_000):
            read = n
            yield n

    def open_when_still() -> None:
        last = -1
        while last != read or not read:
            last = read
            time.sleep(0.2)
        gate.set()

    opener = threading.Thread(target=open_when_still)
    opener.start()
    graph = sw.Graph()
    found: list[int] = []
    graph.sequence(graph.source(silent()), graph.source(busy()), key=lambda n: n).map(lambda n: n).sink(found.append)
    still_at = []
    gate_was = threading.Thread(target=lambda: (gate.wait(), still_at.append(read)))
    gate_was.start()
    sw.run(graph, workers=1, window_numbers=2000)
    opener.join()
    gate_was.join()
    assert found == [*range(10_000), 10**9]
    assert still_at[0] <= 3 * 2000 + 100


def test_dead_letters_count(tmp_path: Path) -> None:
    def refuse(pair: Any) -> None:
        raise ValueError

    letters = 0

    def take(letter: sw.DeadLetter) -> None:
        nonlocal letters
        letters += 1

    graph = sw.Graph()
    graph.source(event(n) for n in range(2500)).map(refuse, on_error="dead_letter", workers=2).sink(lambda e: None)
    graph.dead_letters().sink(take)
    report = sw.run(graph, window_bytes=WINDOW)
    assert letters == report.dead_letters == 2500
    assert report.peak_bytes <= WINDOW + EXCESS


def test_a_consumer_that_takes_its_time_holds_the_source_back() -> None:
    read = 0

    def numbers() -> Iterator[tuple[int, bytes]]:
        nonlocal read
        for read in itertools.count():
            yield event(read)

    with sw.imap(lambda pair: pair, numbers(), workers=2, window_bytes=WINDOW) as results:
        for taken, _ in itertools.islice(results, 3000):
            assert read <= taken + (WINDOW + EXCESS) // 1000
    assert results.report.peak_bytes <= WINDOW + EXCESS


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_minute_with_a_slow_sink_keeps_memory_flat() -> None:
    def numbers() -> Iterator[tuple[int, bytes]]:
        for n in itertools.count():
            yield event(n)

    began = time.monotonic()
    sizes: list[int] = []

    def take(pair: Any) -> None:
        time.sleep(0.001)
        if len(sizes) < time.monotonic() - began:
            sizes.append(resident())

    graph = sw.Graph()
    graph.source(numbers).map(lambda pair: pair, workers=2).sink(take)
    report = sw.run(graph, time_limit_s=60, window_bytes=8 << 20)
    assert report.ended_by == "time_limit"
    assert max(sizes[10:]) < sizes[10] + (16 << 20)
