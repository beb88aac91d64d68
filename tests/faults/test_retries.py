"""Which errors are tried again, and giving up: the same inline and in processes, for every kind of handler."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw


class Gone(Exception):
    pass


def answer(n: int) -> int:
    """Return `n`, or fail as a server would: 404 for 1, 503 twice for 2, 503 for ever for 3."""
    if n == 1:
        raise Gone("404")
    if n == 3 or (n == 2 and sw.current().attempt < 3):
        raise ConnectionError("503")
    return n


def answer_or_give_up(n: int) -> int:
    try:
        return answer(n)
    except Gone as error:
        raise sw.GiveUp("gone") from error


async def answer_later(n: int) -> int:
    await asyncio.sleep(0)
    return answer(n)


async def answer_later_or_give_up(n: int) -> int:
    await asyncio.sleep(0)
    return answer_or_give_up(n)


def add(make: Callable[..., sw.Stream[Any]], fn: Any, **words: Any) -> Callable[[Any], sw.Graph]:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        make(graph.source(range(5)), fn, retries=2, on_error="dead_letter", **words).sink(seen.sink("out"))
        graph.dead_letters().sink(seen.sink("letters"))
        return graph

    return graph


def batched(fn: Callable[[int], int]) -> Callable[[list[int]], list[int]]:
    return lambda events: [fn(event) for event in events]


CASES: dict[str, tuple[Any, Any]] = {
    "plain": (lambda s, fn, **w: s.map(fn, **w), lambda fn: fn),
    "paused": (lambda s, fn, **w: s.map(fn, backoff_s=0.001, **w), lambda fn: fn),
    "batches": (lambda s, fn, **w: s.map_batches(fn, batch_size=3, **w), batched),
    "flat_map": (lambda s, fn, **w: s.flat_map(fn, **w), lambda fn: lambda n: [fn(n)]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("fn", "words", "error"), [
    (answer, {"retry_on": ConnectionError}, "Gone: 404"),
    (answer, {"retry_on": (OSError, KeyError)}, "Gone: 404"),
    (answer_or_give_up, {}, "GiveUp: gone"),
    (answer_or_give_up, {"retry_on": (OSError, sw.GiveUp)}, "GiveUp: gone"),
])  # fmt: skip
def test_what_will_not_help_is_not_tried_again(
    both: Callable[..., Any], case: str, fn: Any, words: dict[str, Any], error: str
) -> None:
    make, wrap = CASES[case]
    _, seen = both(add(make, wrap(fn), **words), workers=2)
    assert seen.events("out") == [0, 2, 4]
    gone, down = seen.events("letters")
    assert (gone.seq, gone.attempts, gone.error) == (1, 1, error)
    assert (down.seq, down.attempts, down.error) == (3, 3, "ConnectionError: 503")
    assert seen.report.retries == 4
    if "GiveUp" in error:
        assert "Gone: 404" in gone.traceback  # the cause


@pytest.mark.parametrize(("fn", "words"), [(answer_later, {"retry_on": OSError}), (answer_later_or_give_up, {})])
def test_async_handlers_do_the_same(both: Callable[..., Any], fn: Any, words: dict[str, Any]) -> None:
    _, seen = both(add(lambda s, fn, **w: s.map(fn, **w), fn, **words), workers=2)
    assert seen.events("out") == [0, 2, 4]
    assert [(letter.seq, letter.attempts) for letter in seen.events("letters")] == [(1, 1), (3, 3)]


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_giving_up_under_skip_and_fail(runner: Any) -> None:
    graph = sw.Graph()
    found: list[int] = []
    graph.source(range(3)).map(answer_or_give_up, retries=2, on_error="skip").sink(found.append)
    report = sw.run(graph, workers=1, runner=runner)
    assert (found, report.skipped, report.retries) == ([0, 2], 1, 2)
    with pytest.raises(sw.HandlerError, match=r"failed on number 1 \(index 0\) after 1 attempt: GiveUp: gone") as caught:
        list(sw.imap(answer_or_give_up, range(3), workers=1, runner=runner, retries=2))
    assert isinstance(caught.value.__cause__, sw.GiveUp)


@pytest.mark.parametrize(("on", "attempts"), [(TimeoutError, 2), (sw.HandlerTimeout, 2), (ConnectionError, 1)])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_past_its_limit_is_tried_again_where_it_is_meant(on: type[Exception], attempts: int, is_async: bool) -> None:
    def stuck(n: int) -> int:
        while n == 1:
            continue
        return n

    async def waiting(n: int) -> int:
        await asyncio.sleep(1000 * (n == 1))
        return n

    words: dict[str, Any] = {"timeout_s": 0.3, "retries": 1, "retry_on": on, "on_error": "dead_letter"}
    results: list[Any] = list(sw.imap(waiting if is_async else stuck, range(3), workers=1, **words))
    assert (results[0], results[2]) == (0, 2)
    assert (results[1].attempts, results[1].error.partition(":")[0]) == (attempts, "HandlerTimeout")


SCRIPT = """
import sluiceway as sw

class Down(Exception):
    pass
class Overloaded(Down):
    pass

def ask(n):
    if sw.current().attempt < 2:
        raise (Overloaded if n else KeyError)(n)
    return n

print([getattr(result, "attempts", result) for result in sw.imap(
    ask, range(3), workers=2, retries=1, retry_on=Down, on_error="dead_letter")])
"""


def test_types_of_a_script_are_known_to_its_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[1, 1, 2]\n", "")
