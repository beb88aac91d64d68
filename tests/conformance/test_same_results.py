"""Every runner gives what the inline runner gives: the same graphs, the same order, the same letters and counts."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator

import pytest
import sluiceway as sw
from conftest import Seen, assert_same, observe
from drawn_graphs import Drawn

#: How many graphs are drawn for each runner.
DRAWN = 12
SEED = 77_000

Make = Callable[[Seen], sw.Graph]


def numbers() -> Iterator[int]:
    """Give numbers, in a process of their own."""
    yield from range(2000)


class Total:
    """Remembers what it has seen, and can be saved."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, n: int) -> int:
        self.total += n
        return self.total

    def snapshot(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


class Stubborn(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def branches(seen: Seen) -> sw.Graph:
    """Branches that are joined again, in two pools, behind a barrier."""
    graph = sw.Graph("branches")
    read = graph.source(numbers).map(lambda n: n * 3, workers=2)
    words = read.barrier().map(str, name="words", workers=3)
    halves = read.filter(lambda n: n % 2 == 0).flat_map(lambda n: [n // 2] * (n % 3))
    sw.merge(sw.zip(words, read.map(hex)), halves).sink(seen.sink("out"), name="out")
    words.sink(seen.sink("loose", ordered=False), name="loose", ordered=False)
    return graph


def failures(seen: Seen) -> sw.Graph:
    """Failures that are skipped, retried, and letters at their place."""

    def picky(n: int) -> int:
        if n % 50 == 7:
            raise Stubborn(f"not {n}")
        if n % 90 == 5 and sw.current().attempt < 3:
            raise ValueError("again")
        return n

    def skip(n: int) -> int:
        return 100 // (n % 40)

    graph = sw.Graph("failures")
    kept = graph.source(range(1500)).map(picky, on_error="dead_letter", retries=2)
    kept.map(skip, on_error="skip").sink(seen.sink("out"), name="out")
    graph.dead_letters().map(lambda letter: (letter.seq, str(letter.error))).sink(seen.sink("letters"), name="letters")
    return graph


def ending(seen: Seen) -> sw.Graph:
    """A failure that ends the run."""

    def fail(n: int) -> int:
        if n == 777:
            raise ValueError("the end")
        return n

    graph = sw.Graph("ending")
    graph.source(range(1500)).map(fail).sink(seen.sink("out"), name="out")
    return graph


def waiting(seen: Seen) -> sw.Graph:
    """Handlers that await, and handlers of lists."""

    async def later(n: int) -> int:
        await asyncio.sleep(0.0001 * (n % 3))
        return n + 1

    graph = sw.Graph("waiting")
    awaited = graph.source(range(800)).map(later, concurrency=32)
    awaited.map_batches(lambda ns: [n * n for n in ns], batch_size=17).sink(seen.sink("out"), name="out")
    return graph


def states(seen: Seen) -> sw.Graph:
    """Steps in order, keyed folds and windows."""
    graph = sw.Graph("states")
    read = graph.source(numbers)
    read.map(Total, ordered=True).sink(seen.sink("totals"), name="totals")
    keyed = read.key_by(lambda n: n % 7)
    keyed.count().sink(seen.sink("counts"), name="counts")
    read.scan(lambda state, n: (state + n) % 1000, 0).sink(seen.sink("scan"), name="scan")
    return graph


def sequenced(seen: Seen) -> sw.Graph:
    """Several sources in one order."""
    graph = sw.Graph("sequenced")
    sources = [graph.source(range(at, 900, 3), name=f"s{at}") for at in range(3)]
    graph.sequence(*sources, key=lambda n: n).map(str).sink(seen.sink("out"), name="out")
    return graph


def large(seen: Seen) -> sw.Graph:
    """Events of a mebibyte, there and back."""
    graph = sw.Graph("large")
    read = graph.source(lambda: (bytes([n]) * (1 << 20) for n in range(40)), name="blocks")
    read.map(lambda block: block[::-1], workers=2).map(lambda block: (len(block), block[:3])).sink(seen.sink("out"), name="out")
    return graph


@pytest.mark.parametrize("make", [branches, failures, ending, waiting, states, sequenced, large])
def test_graph(make: Make, elsewhere: str) -> None:
    reference = observe(make, runner="inline")
    assert_same(reference, observe(make, runner=elsewhere, workers=3))


@pytest.mark.parametrize("seed", range(SEED, SEED + DRAWN))
def test_drawn_graph(seed: int, elsewhere: str) -> None:
    drawn = Drawn(seed)
    reference = observe(drawn.make, runner="inline")
    assert_same(reference, observe(drawn.make, runner=elsewhere, workers=1 + seed % 4))


def test_results_are_iterated(elsewhere: str) -> None:
    assert list(sw.imap(lambda n: n * n, range(5000), runner=elsewhere, workers=2)) == [n * n for n in range(5000)]
    stream = sw.Graph().source(numbers).map(lambda n: -n)
    with sw.iterate(stream, runner=elsewhere, workers=2) as results:
        assert [next(results) for _ in range(10)] == [-n for n in range(10)]


def test_logs_and_prints_come_to_the_caller(
    elsewhere: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def tell(n: int) -> int:
        print(f"printed {n}")
        logging.getLogger("mine").warning("logged %d", n)
        return n

    assert list(sw.imap(tell, range(3), runner=elsewhere, workers=1)) == [0, 1, 2]
    assert [line for line in capsys.readouterr().out.splitlines() if "printed" in line] == [f"printed {n}" for n in range(3)]
    records = [record for record in caplog.records if record.name == "mine"]
    assert [record.getMessage() for record in records] == [f"logged {n}" for n in range(3)]
    assert [record.sluiceway_seq for record in records] == [0, 1, 2]  # type: ignore[attr-defined]


def test_setup_and_settings_are_those_of_the_caller(elsewhere: str) -> None:
    def set_up() -> None:
        import decimal

        decimal.getcontext().prec = 5

    def seventh(n: int) -> str:
        import decimal

        return str(decimal.Decimal(n) / 7)

    import decimal

    with decimal.localcontext():
        assert list(sw.imap(seventh, [1, 2], runner=elsewhere, workers=1, setup=set_up)) == ["0.14286", "0.28571"]


def test_a_limit_and_a_stop_end_the_reading(elsewhere: str) -> None:
    seen = observe(branches, runner=elsewhere, workers=2, limit=500)
    assert_same(observe(branches, runner="inline", limit=500), seen)
