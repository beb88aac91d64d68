"""What the core does about the states of ordered pools: when it asks for them, and that nothing waits for it in vain."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import AskState, Commit, Deliver, Finish, Restore, SendTask, Spawn, StopWorker
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.dispatch.worker_name import WorkerName
from sluiceway.nodes.ordering.barrier import FailureRecord
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.order_log import OrderLog
from sluiceway.nodes.ordering.retention import POOL_SHARE
from sluiceway.nodes.ordering.segments import ExitData
from sluiceway.nodes.ordering.sequencer import Chunk
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import Step, make_program


class _Packing:
    def pack(self, items: list[Any]) -> tuple[Any, int]:
        return items, len(items)

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        return payload[:count], count


def _pool(at: int, port: int, stream: int) -> PoolWiring:
    step = Step(kind=NodeKind.SCAN, node=f"scan{at}", node_id=at, inputs=(0,), output=1)
    return PoolWiring(step.node, make_program(1, 2, [step], [1]), 1, True, (port,), (stream,), in_order=True, stateful=True)


def _failure(number: int) -> FailureRecord:
    return FailureRecord(number, 0, "scan0", 0, "fail", "ValueError", "", 1, "error", (None, b""))


class _Run:
    """A core with ordered pools that keep a state. A worker does what it is told when `work` is called.

    With several `parts` a pool before them gives each its own inputs.
    """

    def __init__(
        self, window_bytes: int = 1 << 30, *, cuts: bool = False, needs_end: bool = False, parts: int = 1
    ) -> None:
        exits = tuple(range(1, parts + 1))
        step = Step(kind=NodeKind.MAP, node="part", node_id=99, inputs=(0,), output=1)
        before = PoolWiring("part", make_program(1, 2, [step], [1] * parts), 1, False, (0,), exits)
        pools = (_pool(0, 0, 1),) if parts == 1 else (*(_pool(at, 1 + at, 1 + at + parts) for at in range(parts)), before)
        tail = tuple(pool.exits[0] for pool in pools if pool.stateful)
        wiring = Wiring(pools, tail, (), (False,), needs_end=needs_end)
        self.core = Core(
            wiring, _Packing(), budget=Budget(window_bytes, 1 << 20), log=OrderLog() if cuts else None
        )
        self.mail: list[SendTask | AskState] = []
        self.asked: list[int] = []
        self.tasks: list[tuple[int, int]] = []
        self.restored: list[bytes] = []
        self.commits: list[Commit] = []
        self.stopped: list[str] = []
        self.delivered = 0
        self.finish: Finish | None = None
        self.worker = ""
        self.each_s = 1e-6
        self.fails_at: int | None = None
        self.core.start()
        self.cycle()

    def cycle(self) -> None:
        while effects := self.core.cycle(0.0):
            for effect in effects:
                if isinstance(effect, (SendTask, AskState)):
                    self.mail.append(effect)
                if isinstance(effect, SendTask):
                    self.tasks.append((effect.task.start, effect.task.stop))
                elif isinstance(effect, AskState):
                    self.asked.append(effect.n)
                elif isinstance(effect, Restore):
                    self.restored.append(effect.packed)
                elif isinstance(effect, Spawn):
                    self.worker = effect.worker
                    self.core.record_ready(effect.worker)
                elif isinstance(effect, StopWorker):
                    self.stopped.append(effect.worker)
                elif isinstance(effect, Commit):
                    self.commits.append(effect)
                elif isinstance(effect, Deliver):
                    self.delivered = effect.release.hi
                    self.core.record_consumed(effect.release.hi)
                elif isinstance(effect, Finish):
                    self.finish = effect

    def give(self, count: int, nbytes: int = 0) -> None:
        self.core.record_chunk(0, Chunk(count, [0] * count, nbytes))
        self.cycle()

    def work(self) -> None:
        """Let the worker do the first thing in its mail."""
        effect = self.mail.pop(0)
        if isinstance(effect, AskState):
            self.core.record_state(effect.worker, effect.n, b"%d" % effect.n)
        else:
            task = effect.task
            size = task.stop - task.start
            wiring = self.core.wiring.pools[WorkerName.parse(effect.worker).pool]
            exits = [ExitData([0] * size, 0) for _ in wiring.exits]
            failures = [_failure(n) for n in range(task.start, task.stop) if n == self.fails_at]
            seconds = self.each_s * size
            self.core.record_answer(effect.worker, task.id, task.start, size, exits, failures, [[0.0] * 6], seconds, 0.0)
        self.cycle()

    def work_all(self) -> None:
        while self.mail:
            self.work()

    def lose(self) -> None:
        """Let the worker go; another one takes its place."""
        self.mail.clear()
        self.core.record_death(self.worker, None, "was stopped")
        self.cycle()


def test_what_a_snapshot_has_set_free_does_not_ask_for_the_next_one() -> None:
    """Also what was with the worker when it was asked: it is answered before the snapshot, which has it."""
    run = _Run(POOL_SHARE * 1_000)
    run.give(1)
    run.work()
    run.give(1, 1_000)
    run.give(1, 1_000)
    run.work()
    assert run.asked == [3], "the third is with the worker"
    run.work_all()
    run.give(1)
    run.work_all()
    assert run.asked == [3], "one small number is kept"


def _end(run: _Run) -> None:
    """Let the source end behind two events; the worker has the number of the end."""
    run.give(2)
    run.work_all()
    run.core.record_source_end(0)
    run.cycle()
    assert run.core.end == 2


def test_no_cut_leaves_the_end_of_the_input_to_be_numbered_once_more() -> None:
    """Another run would go on behind it and give what is given at the end a second time."""
    run = _Run(cuts=True, needs_end=True)
    _end(run)
    run.core.cuts.request()
    run.cycle()
    run.work_all()
    assert [(commit.cut.n, commit.cut.final) for commit in run.commits] == [(3, True)]


def test_a_stop_behind_the_end_of_the_input_is_no_pause() -> None:
    run = _Run(cuts=True, needs_end=True)
    _end(run)
    run.core.stop_reading("stop")
    run.cycle()
    run.work_all()
    assert [commit.cut.ended_by for commit in run.commits] == ["source"]


def test_a_cut_where_a_state_is_on_its_way_already_holds_nothing_back() -> None:
    run = _Run(POOL_SHARE * 1_000, cuts=True)
    run.give(1, 2_000)
    run.work()
    assert run.asked == [1]
    run.core.cuts.request()
    run.cycle()
    run.work()
    assert [commit.cut.n for commit in run.commits] == [1]
    run.give(1)
    run.work_all()
    assert run.delivered == 2


def test_a_worker_that_is_to_be_replaced_leaves_its_state_behind() -> None:
    """However little a worker may do, the next one does something new."""
    run = _Run()
    for number in range(5):
        run.give(1)
        run.core.dispatcher_of(run.worker).record_leaving(run.worker)
        run.cycle()
        assert not run.stopped, "it has a number"
        run.work()
        assert not run.stopped, "it is asked for its state"
        run.work()
        assert run.stopped == [run.worker]
        run.stopped.clear()
        run.lose()
        assert run.restored[-1] == b"%d" % (number + 1)
    assert run.tasks == [(number, number + 1) for number in range(5)]


def test_a_worker_that_dies_again_and_again_gets_further() -> None:
    """Where it never lives to the usual number of a snapshot, it is asked earlier: else it would begin at 0 for ever."""
    run = _Run()
    run.each_s = 0.05  # so that every number is a task
    run.give(40)
    lives = 0
    while run.delivered < 40 or run.mail:
        for _ in range(min(4, len(run.mail))):
            run.work()
        run.lose()
        lives += 1
        assert lives < 100, f"nothing above {run.delivered} is answered, and the last state is that at {run.asked[-1:]}"


def test_one_death_costs_hardly_any_snapshots() -> None:
    run = _Run()
    run.give(1_000)
    run.work_all()
    run.lose()
    run.work_all()
    assert (run.delivered, run.asked) == (1_000, [])


def test_a_worker_that_is_to_be_replaced_below_a_cut_leaves_the_rest_to_the_next() -> None:
    run = _Run(cuts=True)
    run.give(1)
    run.core.dispatcher_of(run.worker).record_leaving(run.worker)
    run.give(1)
    run.core.cuts.request()
    run.cycle()
    run.work_all()
    run.lose()
    run.give(1)
    run.work_all()
    assert run.asked == [1, 2]
    assert [(commit.cut.n, commit.cut.states) for commit in run.commits] == [(2, {0: b"2"})]
    assert run.delivered == 3


def test_a_budget_that_only_kept_inputs_fill_is_made_room_in() -> None:
    """A segment stays whole until the last of its numbers may go, which alone is not worth a snapshot."""
    run = _Run(2_000)
    run.each_s = 0.05  # so that every number is a task
    run.give(10, 2_100)
    run.work_all()
    assert run.asked == [3, 6, 9, 10]
    assert run.core.budget.bytes == 0


def test_an_open_cut_does_not_keep_inputs_beyond_their_share() -> None:
    """It lacks the state behind all of its numbers, which may be many; until then others are asked for as ever."""
    run = _Run(2_000, cuts=True)
    run.each_s = 0.05
    run.give(10, 2_100)
    run.core.cuts.request()
    run.cycle()
    run.work_all()
    assert run.asked == [3, 6, 9, 10]
    assert [(commit.cut.n, commit.cut.states) for commit in run.commits] == [(10, {0: b"10"})]


def test_many_pools_with_states_together_leave_room_in_the_budget() -> None:
    run = _Run(100_000, parts=24)
    for _ in range(400):
        run.give(1)
        run.work_all()
        assert run.core.budget.bytes < 60_000
    assert run.delivered == 400
    assert len(run.asked) > 24


@pytest.mark.parametrize("failure", [True, False])
def test_a_run_that_fails_releases_what_waits_behind_an_open_cut(failure: bool) -> None:
    run = _Run(cuts=True)
    run.each_s = 0.05
    run.fails_at = 3 if failure else None
    run.give(2)
    run.core.cuts.request()
    run.cycle()
    run.give(2)
    if not failure:
        run.core.record_source_end(0, "broken")
    states: list[AskState] = []
    while run.mail:
        if isinstance(run.mail[0], AskState):
            states.append(run.mail.pop(0))  # it comes last
        else:
            run.work()
    assert (run.delivered, run.finish) == (2, None)
    run.mail += states
    run.work_all()
    assert run.delivered == (3 if failure else 4)
    assert run.finish is not None
