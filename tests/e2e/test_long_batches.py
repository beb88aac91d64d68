"""Batches of thousands of cheap events, which workers take block by block: all that can happen inside of one."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import assert_same, observe
from sluiceway.engine.codec import blocks

N = 60_000
ODD = 41_003  # deep inside a batch: the first ones are small


def records(n: int = N) -> list[dict[str, Any]]:
    return [{"id": i, "user": "ada", "score": i / 2} for i in range(n)]


def graph(seen: Any, handler: Any, **words: Any) -> sw.Graph:
    made = sw.Graph("long")
    stream = made.source(iter(records()), name="records").map(handler, name="handler", **words)
    some = stream.filter(lambda event: event["id"] % 7, name="some")
    many = some.flat_map(lambda event: [event["id"]] * (event["id"] % 3), name="many")
    many.sink(seen.sink("out"), name="out")
    if words.get("on_error") == "dead_letter":
        made.dead_letters().sink(seen.sink("letters"), name="letters")
    return made


def changed(event: dict[str, Any]) -> dict[str, Any]:
    event["score"] = event["id"] + 1
    return event


def raising(event: dict[str, Any]) -> dict[str, Any]:
    if event["id"] == ODD:
        raise ValueError("odd")
    return changed(event)


@pytest.mark.parametrize("policy", ["fail", "skip", "dead_letter"])
def test_a_failure_in_the_middle(policy: str) -> None:
    words = {"on_error": policy}
    reference = observe(lambda seen: graph(seen, raising, **words), runner="inline")
    seen = observe(lambda seen: graph(seen, raising, **words), workers=2)
    assert_same(reference, seen)
    assert (policy == "fail") is (seen.error is not None)


def test_a_failure_at_the_last_number_of_a_piece() -> None:
    def raising(n: int) -> int:
        frame = sys._getframe()
        while n > ODD and frame.f_code.co_name != "_run_by_blocks" and frame.f_back is not None:
            frame = frame.f_back
        if frame.f_locals.get("hi") == n + 1 < frame.f_locals["task"].stop:
            raise ValueError("odd")
        return n

    given: list[int] = []
    with pytest.raises(sw.HandlerError) as caught:
        # Without an end: on a busy machine batches take longer to grow beyond one block.
        given.extend(sw.imap(raising, itertools.count(), workers=2))
    assert isinstance(caught.value.__cause__, ValueError)
    assert given == list(range(caught.value.seq))


def test_a_fork_in_the_middle_that_goes_on(tmp_path: Path) -> None:
    """It ends at once, without a word in the name of its parent and without writing where that may write."""

    def forking(n: int) -> int:
        if n in (ODD, 2 * ODD):
            pid = os.fork()
            if pid == 0:
                return -1
            (tmp_path / str(pid)).write_text(str(os.waitpid(pid, 0)[1]))
        return n

    assert list(sw.imap(forking, range(3 * ODD), workers=2)) == list(range(3 * ODD))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["0", "0"]


def test_a_death_in_the_middle(tmp_path: Path) -> None:
    flag = tmp_path / "strike"
    flag.touch()

    def deadly(event: dict[str, Any]) -> dict[str, Any]:
        if event["id"] == ODD and flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return changed(event)

    reference = observe(lambda seen: graph(seen, changed), runner="inline")
    seen = observe(lambda seen: graph(seen, deadly), workers=2)
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 1


def test_an_event_that_always_kills_is_the_only_one_to_fail() -> None:
    def deadly(event: dict[str, Any]) -> dict[str, Any]:
        if event["id"] == ODD:
            os.kill(os.getpid(), signal.SIGKILL)
        return changed(event)

    def left_out(event: dict[str, Any]) -> dict[str, Any]:
        if event["id"] == ODD:
            raise ValueError("stands for the death")
        return changed(event)

    reference = observe(lambda seen: graph(seen, left_out, on_error="skip"), runner="inline")
    seen = observe(lambda seen: graph(seen, deadly, on_error="skip"), workers=2)
    assert seen.journal == reference.journal
    assert seen.report.skipped == 1


@pytest.mark.parametrize("every", [1, 5000])
def test_results_that_are_not_for_blocks(every: int) -> None:
    """Results of one kind, and of two kinds that take turns inside of a batch."""

    def tupled(event: dict[str, Any]) -> Any:
        return (event["id"],) if event["id"] % every == 0 else event

    given = list(sw.imap(tupled, iter(records()), workers=2))
    assert given == [tupled(event) for event in records()]
    assert {type(value) for value in given} == ({tuple} if every == 1 else {tuple, dict})


def test_a_result_that_cannot_be_packed_fails_alone() -> None:
    def locked(event: dict[str, Any]) -> Any:
        return (n for n in ()) if event["id"] == ODD else event

    with pytest.raises(sw.HandlerError) as caught:
        list(sw.imap(locked, iter(records()), workers=2))
    assert caught.value.seq == ODD


def test_what_is_done_does_not_wait_for_the_rest_of_a_batch(tmp_path: Path) -> None:
    """Where an event took long, what is done goes out at the end of its block; the rest of the batch may wait for that."""
    seen = str(tmp_path / "seen")
    done: list[int] = []

    def waiting(event: dict[str, Any]) -> int:
        if event["id"] == ODD:
            time.sleep(0.1)
            done.append(ODD)  # in the memory of one of the workers
        deadline = time.monotonic() + 30
        while done and event["id"] >= ODD + 4000 and not os.path.exists(seen):
            assert time.monotonic() < deadline, "nothing was seen of what is done"
            time.sleep(0.001)
        return event["id"]

    for n, number in enumerate(sw.imap(waiting, iter(records()), workers=2)):
        assert number == n
        if n == ODD:
            Path(seen).touch()


def test_a_state_goes_through_all_pieces() -> None:
    def add(state: int, event: dict[str, Any]) -> tuple[int, int]:
        return state + event["id"], state

    def make(seen: Any) -> sw.Graph:
        made = sw.Graph("sums")
        made.source(iter(records()), name="records").scan(add, 0, name="sum").sink(seen.sink("out"), name="out")
        return made

    assert_same(observe(make, runner="inline"), observe(make, workers=2))


def test_a_range_and_lists_of_a_batch() -> None:
    def total(numbers: list[int]) -> list[int]:
        return [n + 1 for n in numbers]

    numbers = sw.Graph("range").source(range(200_000), name="numbers")
    stream = numbers.map(lambda n: n + 1, name="one").map_batches(total, name="two")
    assert list(sw.iterate(stream, workers=2)) == list(range(2, 200_002))


def test_a_consumer_that_leaves_in_the_middle() -> None:
    """It is told to have got no more than the block it was in."""
    results = sw.imap(lambda n: {"id": n}, count(), workers=2)
    taken = [next(results)["id"] for _ in range(ODD)]
    results.close()
    assert taken == list(range(ODD))
    assert results.report.ended_by == "closed"
    assert ODD <= results.report.events_out <= ODD + blocks.MAX_BLOCK_EVENTS
