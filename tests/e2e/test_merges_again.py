"""Merged sources, one of which fails: what the next run numbers is what anyone has seen of the run before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.nodes.ordering.order_log import OrderLog, Run
from sluiceway.nodes.ordering.sequencer import Chunk, Sequencer

ORDERS: dict[str, dict[str, Any]] = {"round_robin": {"order": "round_robin"}, "key": {"key": lambda event: event[1]}}


class _Witness:
    """A sink that cannot commit: what it got, it has for ever."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}

    def write(self, events: Any) -> None:
        for (seq, _), event in zip(events.numbers, events, strict=True):
            assert self.seen.setdefault(seq, event) == event, f"number {seq} is another event now"

    def close(self) -> None:
        pass


def _source(name: str, fails_at: int | None) -> Callable[[], Iterator[tuple[str, int]]]:
    def events() -> Iterator[tuple[str, int]]:
        for at in range(40):
            if at == fails_at:
                raise ConnectionError("gone")
            yield name, at

    return events


@pytest.mark.parametrize("runner", ["inline", "processes"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_failed_source_ends_a_merge_before_what_it_has_not_given(tmp_path: Path, order: str, runner: Any) -> None:
    witness = _Witness()

    def run(fails_at: int | None) -> None:
        graph = sw.Graph("merges")
        sources = [graph.source(_source("a", fails_at), name="a"), graph.source(_source("b", None), name="b")]
        graph.sequence(*sources, **ORDERS[order]).sink(witness)
        sw.run(graph, runner=runner, checkpoint=tmp_path / "run.db", checkpoint_interval_s=1000)

    with pytest.raises(sw.SourceError):
        run(fails_at=7)
    assert len(witness.seen) <= 14, "behind its seventh event nobody knows what is next"
    run(fails_at=None)
    assert [witness.seen[seq] for seq in range(80)] == [(name, at) for at in range(40) for name in "ab"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("early", [False, True])
def test_a_merge_goes_on_without_a_source_that_is_at_its_end(order: Any, early: bool) -> None:
    sequencer = Sequencer(2, order, None, OrderLog())
    sequencer.offer(0, Chunk(1, items=["a"], keys=[1]))
    sequencer.offer(1, Chunk(3, items=["b", "c", "d"], keys=[1, 2, 3]))
    for source in (0, 1):
        sequencer.record_end(source, early=early)
    taken = sequencer.number_next(9)
    assert taken is not None
    assert taken.items == (["a", "b"] if early and order == "round_robin" else ["a"] if early else ["a", "b", "c", "d"])
    assert sequencer.number_next(9) is None
    assert sequencer.finished


def test_what_comes_behind_the_end_of_what_is_repeated_is_not_numbered() -> None:
    sequencer = Sequencer(2, "arrival", None, OrderLog(0, [Run(0, 0, 2), Run(2, 1, 4)]))
    sequencer.offer(1, Chunk(1, items=["b"]))
    sequencer.record_end(0, early=True)
    assert sequencer.number_next(9) is None
    sequencer.offer(1, Chunk(2, items=["c", "d"]))
    sequencer.record_end(1, early=True)
    assert sequencer.number_next(9) is None
    assert sequencer.finished
    assert [place.start + place.skip for place in sequencer.positions] == [0, 0]


def test_without_checkpoints_all_that_was_read_is_numbered() -> None:
    sequencer = Sequencer(2, "round_robin")
    sequencer.offer(1, Chunk(3, items=["b", "c", "d"]))
    for source in (0, 1):
        sequencer.record_end(source, early=True)
    taken = sequencer.number_next(9)
    assert taken is not None
    assert taken.items == ["b", "c", "d"]
