"""`imap`: the one-liner, ordered, lazy and bounded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
import sluiceway as sw


def test_results_come_in_order() -> None:
    assert list(sw.imap(lambda n: n * n, range(1000), workers=2)) == [n * n for n in range(1000)]


def test_a_million_small_events() -> None:
    results = sw.imap(lambda n: n + 1, range(1_000_000), workers=2)
    assert sum(results) == sum(range(1, 1_000_001))
    assert results.report.events_in == results.report.events_out == 1_000_000


@pytest.mark.slow
def test_ten_million_small_events() -> None:
    assert sum(1 for _ in sw.imap(lambda n: n, iter(range(10_000_000)), workers=2)) == 10_000_000


def test_unordered_results_are_all_there() -> None:
    results = list(sw.imap(lambda n: -n, range(500), workers=2, ordered=False))
    assert sorted(results) == list(range(-499, 1))


def test_unordered_results_do_not_wait_for_a_straggler(tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def wait_at_the_head(n: int) -> int:
        if n == 0:
            gate.read_bytes()
        return n

    taken = []
    with sw.imap(wait_at_the_head, range(5000), workers=2, ordered=False) as results:
        for n in results:
            taken.append(n)
            if len(taken) == 100:
                gate.write_bytes(b"go on")
    assert sorted(taken) == list(range(5000))
    assert 0 not in taken[:100]


def test_a_dead_letter_stands_in_its_place() -> None:
    results = list(sw.imap(int, ["1", "x", "3"], workers=2, on_error="dead_letter"))
    assert results[0::2] == [1, 3]
    letter = results[1]
    assert isinstance(letter, sw.DeadLetter)
    assert (letter.seq, letter.index, letter.node, letter.event, letter.attempts) == (1, 0, "int", "x", 1)
    assert letter.error == "ValueError: invalid literal for int() with base 10: 'x'"


def test_a_skipped_event_is_left_out() -> None:
    assert list(sw.imap(int, ["1", "x", "3"], workers=1, on_error="skip")) == [1, 3]


def test_an_error_comes_behind_all_results_below_it() -> None:
    def refuse_seven(n: int) -> int:
        if n == 7:
            raise ValueError("no sevens")
        return n

    taken = []
    results = sw.imap(refuse_seven, range(100), workers=2)
    with pytest.raises(sw.HandlerError) as caught:
        taken.extend(results)
    assert taken == list(range(7))
    assert (caught.value.seq, caught.value.event, caught.value.report.events_out) == (7, 7, 7)
    assert next(results, None) is None


def test_an_endless_iterable_ends_with_its_consumer() -> None:
    with sw.imap(lambda n: n, itertools.count(), workers=2, window_numbers=1000) as results:
        assert list(itertools.islice(results, 3000)) == list(range(3000))
    assert results.report.ended_by == "closed"


def test_an_iterator_of_the_caller_is_left_open() -> None:
    def count() -> Iterator[int]:
        yield from itertools.count()

    numbers = count()
    assert list(sw.imap(lambda n: n, numbers, workers=1, limit=3)) == [0, 1, 2]
    assert next(numbers) >= 3


def test_an_endless_iterable_that_is_dropped() -> None:
    results = sw.imap(lambda n: n, itertools.count(), workers=1)
    assert next(results) == 0
    del results  # the check behind every test sees that its processes are gone


def test_it_reads_no_further_ahead_than_the_window() -> None:
    read = 0

    def count() -> Iterator[int]:
        nonlocal read
        for n in itertools.count(1):
            read = n
            yield n

    with sw.imap(lambda n: n, count(), workers=1, window_numbers=50) as results:
        for taken in itertools.islice(results, 500):
            # Beside the window there is what is read ahead, of which the feed keeps two answers' worth.
            assert read <= taken + 50 + 2 * 50 + 10


def test_nothing_starts_before_the_first_event_is_asked_for() -> None:
    read = []

    def note() -> Iterator[int]:
        read.append(1)
        yield 1

    results = sw.imap(lambda n: n, note(), workers=1)
    assert not read
    assert list(results) == [1]


def test_async_handlers_share_a_worker() -> None:
    async def double(n: int) -> int:
        return 2 * n

    assert list(sw.imap(double, range(200), workers=1, concurrency=50)) == [2 * n for n in range(200)]


def test_a_handler_class() -> None:
    class Adder:
        def __init__(self, base: int) -> None:
            self.base = base

        def __call__(self, n: int) -> int:
            return n + self.base

    assert list(sw.imap(sw.per_worker(Adder, 10), range(5), workers=2)) == [10, 11, 12, 13, 14]


def test_inline() -> None:
    assert list(sw.imap(lambda n: n + 1, itertools.islice(itertools.count(), 5), runner="inline")) == [1, 2, 3, 4, 5]


def test_a_limit_leaves_the_rest_unread() -> None:
    numbers = iter(range(10**9))
    assert list(sw.imap(lambda n: n, numbers, workers=1, limit=5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("word", ["chunksize", "processes", "max_workers", "n_jobs"])
def test_words_of_others_are_type_errors_that_name_ours(word: str) -> None:
    with pytest.raises(TypeError, match=word) as caught:
        sw.imap(int, [], **{word: 4})  # type: ignore[call-overload]
    assert "workers" in str(caught.value) or word == "chunksize"


def test_unknown_words_are_type_errors() -> None:
    with pytest.raises(TypeError, match="colour"):
        sw.imap(int, [], colour="red")  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [{"workers": 0}, {"workers": 2.5}, {"limit": -1}, {"retries": -1}, {"runner": "rey"}])
def test_absurd_values_are_graph_errors(words: dict[str, Any]) -> None:
    with pytest.raises(sw.GraphError):
        sw.imap(int, [], **words)


def test_several_at_once_from_one_thread() -> None:
    first = sw.imap(lambda n: n, itertools.count(), workers=1, window_numbers=100)
    second = sw.imap(lambda n: -n, itertools.count(), workers=1, window_numbers=100)
    with first, second:
        pairs = list(itertools.islice(zip(first, second, strict=False), 300))
    assert pairs == [(n, -n) for n in range(300)]


def test_one_imap_feeds_another() -> None:
    inner = sw.imap(lambda n: n + 1, range(300), workers=1)
    assert list(sw.imap(lambda n: n * 2, inner, workers=1)) == [2 * (n + 1) for n in range(300)]
