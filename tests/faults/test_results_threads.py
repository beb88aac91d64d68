"""`Results` from a second thread, and closed by what the run itself calls."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sluiceway as sw
from gated_results import Gated, endless, same, words

__all__ = ["words"]


def test_two_threads_that_ask_at_once(words: dict[str, Any]) -> None:
    gated = Gated()
    results = sw.imap(same, gated.events(), **words)
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.extend(results))
    first.start()
    while not results._lists._asked:
        continue
    for _ in range(3):
        with pytest.raises(sw.SluicewayError, match="a second thread or task asked"):
            next(results)
    gated.let(1, 2, 3)
    gated.end()
    first.join()
    assert found == [1, 2, 3]


def test_threads_that_ask_without_a_pause_lose_nothing() -> None:
    results = sw.imap(same, range(20000), workers=1)
    found: list[list[int]] = [[], []]

    def take(out: list[int]) -> None:
        while True:
            try:
                out.append(next(results))
            except StopIteration:
                return
            except sw.SluicewayError:
                continue

    threads = [threading.Thread(target=take, args=(out,)) for out in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*found[0], *found[1]]) == list(range(20000))


@pytest.mark.parametrize("way", [{"workers": 1}, {}])
def test_close_from_a_second_thread(way: dict[str, Any]) -> None:
    gated = Gated()
    results = sw.imap(same, gated.events(), **way)
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.extend(results))
    first.start()
    gated.let(1)
    while not found:
        continue
    results.close()
    first.join()
    assert (found, results.report.ended_by) == ([1], "closed")
    gated.end()


def test_close_by_what_the_run_itself_calls(words: dict[str, Any]) -> None:
    stream = sw.Graph().source(endless()).map(same)
    seen: list[int] = []

    def sink(n: int) -> None:
        seen.append(n)
        if n == 20:
            results.close()

    stream.sink(sink)
    results = sw.iterate(stream, **words)
    found = list(results)
    assert found == list(range(len(found)))
    assert results.report.ended_by == "closed"
