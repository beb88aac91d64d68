"""Numbers that an earlier run has answered are recalled, lowest first, and never handed out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.budget import Pace
from sluiceway.nodes.ordering.kept_answers import HEAD_RECALL, MAX_RECALL, KeptNumbers

RUNS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=12)


@given(RUNS, st.lists(st.integers(1, 60), min_size=1, max_size=20), st.data())
def test_every_number_is_recalled_once_or_is_ready(runs: list[tuple[int, int]], sizes: list[int], data: st.DataObject) -> None:
    known = {n for lo, size in runs for n in range(lo, lo + size)}
    kept = KeptNumbers()
    kept.resume((lo, lo + size) for lo, size in runs)
    ready: set[int] = set()
    recalled: list[int] = []
    lo = 0
    for size in sizes:
        ready |= {n for a, b in kept.record_ready(lo, lo + size) for n in range(a, b)}
        lo += size
        pace = data.draw(st.sampled_from([Pace.FREE, Pace.HEAD, Pace.HOLD]))
        while (request := kept.next_request(pace, lo)) is not None:
            assert kept.next_request(pace, lo) is None, "one request at a time"
            a, b = kept.record_recalled(data.draw(st.integers(request[0] + 1, request[1])))
            recalled += range(a, b)
    while (request := kept.next_request(Pace.FREE, 0)) is not None:
        recalled += range(*kept.record_recalled(request[1]))
    assert ready == set(range(lo)) - known
    assert sorted(recalled) == sorted(known & set(range(lo)))


def test_the_pace_of_the_budget_holds_for_them() -> None:
    kept = KeptNumbers()
    assert not kept
    assert kept.wanted == 0
    kept.resume([(10, 10_000)])
    assert kept.wanted == MAX_RECALL
    assert kept.record_ready(0, 9000) == [(0, 10)]
    assert kept.next_request(Pace.HOLD, 10) is None
    assert kept.next_request(Pace.HEAD, 9) is None
    assert kept.next_request(Pace.HEAD, 10) == (10, 10 + HEAD_RECALL)
    assert kept.record_recalled(12) == (10, 12)
    assert kept.next_request(Pace.FREE, 0) == (12, 10 + HEAD_RECALL), "what is left of the request before"
