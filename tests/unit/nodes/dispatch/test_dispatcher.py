"""Who gets which numbers, and what is handed out again when a worker dies."""

from __future__ import annotations

from typing import Any

from sluiceway.nodes.dispatch.blame import LastSeen, Phase
from sluiceway.nodes.dispatch.dispatcher import Dispatcher, merge_ready
from sluiceway.nodes.dispatch.task import Task
from sluiceway.nodes.ordering.budget import Pace
from sluiceway.nodes.ordering.intervals import Intervals
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, make_program


def _dispatcher(
    *workers: str, ordered: bool = False, kind: NodeKind = NodeKind.MAP, is_async: bool = False, **options: Any
) -> Dispatcher:
    step = Step(
        kind=kind, node="work", node_id=1, inputs=(0,), output=1, options=Options(**options), is_async=is_async
    )
    dispatcher = Dispatcher(make_program(1, 2, [step], [1]), ordered=ordered)
    for worker in workers:
        dispatcher.add_worker(worker)
    return dispatcher


def _fast(dispatcher: Dispatcher, each_s: float = 1e-5) -> Dispatcher:
    for _ in range(10):
        dispatcher.sizer.learn(1000, 1000 * each_s, 1000)
    return dispatcher


def _out(dispatcher: Dispatcher, pace: Pace = Pace.FREE, head: int = 0) -> list[tuple[str, int, int]]:
    return [(task.worker, task.start, task.stop) for task in dispatcher.hand_out(pace, head, 0.0)]


def _accept_all(dispatcher: Dispatcher, tasks: list[Task]) -> None:
    for task in tasks:
        dispatcher.accept(task.worker, task.id, task.start, task.stop, False)


def test_the_lowest_numbers_go_first_and_nobody_gets_more_than_its_room() -> None:
    dispatcher = _dispatcher("a", "b")
    dispatcher.add_ready(5, 9)
    dispatcher.add_ready(0, 3)
    assert _out(dispatcher) == [("a", 0, 1), ("b", 1, 2)]
    assert _out(dispatcher) == []
    assert dispatcher._ready_numbers == 5


def test_runs_that_touch_are_joined_and_shared() -> None:
    dispatcher = _fast(_dispatcher("a", "b"))
    for start in range(0, 400, 10):
        dispatcher.add_ready(start, start + 10)
    first, second, *rest = _out(dispatcher)
    assert (first, second[:2]) == (("a", 0, 200), ("b", 200))
    assert [second, *rest][-1][2] == 400


def test_hardly_any_work_is_not_shared() -> None:
    dispatcher = _fast(_dispatcher("a", "b"))
    dispatcher.add_ready(0, 20)
    assert _out(dispatcher) == [("a", 0, 20)]


def test_nothing_is_wanted_while_there_are_no_workers() -> None:
    dispatcher = _dispatcher()
    assert dispatcher.wanted(1) == 0
    dispatcher.add_worker("a")
    assert dispatcher.wanted(0) == 1
    assert dispatcher.wanted(1) == 2
    dispatcher.add_ready(0, 1)
    assert dispatcher.wanted(1) == 1


def test_a_worker_that_says_twice_that_it_is_there_keeps_its_tasks() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.add_ready(0, 1)
    _out(dispatcher)
    dispatcher.add_worker("a")
    assert dispatcher.holder_of(0) == "a"


def test_only_the_head_is_handed_out_above_the_budget() -> None:
    dispatcher = _fast(_dispatcher("a", "b"))
    dispatcher.add_ready(3, 800)
    assert _out(dispatcher, Pace.HOLD) == []
    assert _out(dispatcher, Pace.HEAD, head=0) == []
    [(worker, start, stop)] = _out(dispatcher, Pace.HEAD, head=3)
    assert (worker, start) == ("a", 3)
    assert stop - start < dispatcher.batch
    assert _out(dispatcher, Pace.HEAD, head=3) == [], "the head is out already"


def test_an_answer_counts_once_and_only_from_whom_it_was_asked() -> None:
    dispatcher = _fast(_dispatcher("a"))
    dispatcher.add_ready(0, 10)
    [task] = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    assert dispatcher.accept("b", task.id, 0, 10, False) == []
    assert dispatcher.accept("a", task.id + 1, 0, 10, False) == []
    assert dispatcher.accept("a", task.id, 0, 4, False) == [(0, 4)]
    assert dispatcher.accept("a", task.id, 2, 6, False) == [(4, 6)]
    assert dispatcher.accept("a", task.id, 0, 4, False) == []
    assert dispatcher.workers["a"].load == 4
    assert dispatcher.accept("a", task.id, 6, 50, False) == [(6, 10)]
    assert dispatcher.workers["a"].tasks == {}
    assert dispatcher.workers["a"].load == 0
    assert dispatcher.frontier == 10


def test_a_cut_answer_needs_nothing_above_but_all_below() -> None:
    dispatcher = _fast(_dispatcher("a", is_async=True, concurrency=16))
    dispatcher.add_ready(0, 8)
    [task] = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    assert dispatcher.accept("a", task.id, 5, 6, True) == [(5, 6)]
    assert dispatcher.workers["a"].load == 5
    dispatcher.stop_at = 5
    dispatcher.record_exit("a", None, "")
    dispatcher.add_worker("b")
    assert _out(dispatcher) == [("b", 0, 5)]


def test_above_the_end_nothing_is_handed_out() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.stop_at = 5
    dispatcher.add_ready(6, 9)
    assert _out(dispatcher) == []
    assert dispatcher._ready_numbers == 0
    dispatcher.add_ready(5, 6)
    assert _out(dispatcher) == [("a", 5, 6)]


def test_a_leaver_answers_what_it_has_and_is_let_go_once() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.add_ready(0, 2)
    tasks = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    dispatcher.record_leaving("a")
    dispatcher.record_leaving("a")
    assert dispatcher.idle_leavers() == []
    assert _out(dispatcher) == []
    assert dispatcher.wanted(0) == 0
    _accept_all(dispatcher, tasks)
    assert dispatcher.idle_leavers() == ["a"]
    assert dispatcher.idle_leavers() == []


def test_a_leaver_that_dies_is_not_let_go() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.record_leaving("a")
    dispatcher.record_exit("a", None, "")
    assert dispatcher.idle_leavers() == []


def test_waiting_for_a_retry_is_no_load() -> None:
    dispatcher = _dispatcher("a", is_async=True, concurrency=2)
    dispatcher.add_ready(0, 20)
    assert len(_out(dispatcher)) == 4
    dispatcher.record_parked("a", 3)
    assert len(_out(dispatcher)) == 3
    dispatcher.record_parked("a", 0)
    assert dispatcher.workers["a"].load == 7
    assert _out(dispatcher) == []


def test_a_loop_that_works_on_lists_gets_whole_lists() -> None:
    dispatcher = _fast(_dispatcher("a", kind=NodeKind.MAP_BATCHES, is_async=True, concurrency=4, batch_size=50))
    dispatcher.add_ready(0, 200)
    assert _out(dispatcher)[0] == ("a", 0, 50)


def test_an_ordered_loop_holds_few() -> None:
    dispatcher = _dispatcher("a", ordered=True, is_async=True, concurrency=16)
    dispatcher.add_ready(0, 20)
    assert _out(dispatcher) == [("a", n, n + 1) for n in range(4)]


# -- deaths -----------------------------------------------------------------------------------------------------


def _killed(dispatcher: Dispatcher, worker: str, phase: Phase, seq: int = 0) -> None:
    dispatcher.record_exit(worker, LastSeen(phase, 0, seq), "was ended by SIGKILL")


def test_what_a_dead_worker_had_not_answered_is_handed_out_again() -> None:
    dispatcher = _fast(_dispatcher("a"))
    dispatcher.add_ready(0, 10)
    [task] = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    dispatcher.accept("a", task.id, 3, 5, False)
    dispatcher.record_exit("a", None, "")
    dispatcher.add_worker("b")
    assert [(start, stop) for _, start, stop in _out(dispatcher)] == [(0, 3), (5, 10)]


def test_a_number_that_killed_stands_alone_in_an_idle_worker() -> None:
    dispatcher = _fast(_dispatcher("a", "b"))
    dispatcher.add_ready(0, 10)
    assert _out(dispatcher) == [("a", 0, 10)]
    _killed(dispatcher, "a", Phase.EVENT, 4)
    dispatcher.add_ready(10, 20)
    assert _out(dispatcher) == [("b", 0, 4)]
    dispatcher.add_worker("c")
    tasks = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    assert [(t.worker, t.start, t.stop, t.orders.careful) for t in tasks] == [("c", 4, 5, True), ("b", 5, 20, False)]
    dispatcher.add_ready(20, 30)
    assert all(worker != "c" for worker, _, _ in _out(dispatcher))


def test_a_suspect_waits_for_one_worker_while_the_others_go_on() -> None:
    dispatcher = _dispatcher("a", "b", "c")
    dispatcher.sizer.learn(1, 0.015, 1)
    dispatcher.add_ready(0, 3)
    first = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    _killed(dispatcher, "a", Phase.EVENT, 0)
    dispatcher.add_ready(3, 9)
    assert _out(dispatcher) == [("c", 3, 4)], "the next worker is kept free of more"
    _accept_all(dispatcher, [task for task in first if task.worker == "b"])
    assert _out(dispatcher)[0] == ("b", 0, 1)


def test_an_ordered_pool_stays_in_order_after_a_death() -> None:
    dispatcher = _fast(_dispatcher("a", ordered=True))
    dispatcher.add_ready(0, 10)
    _out(dispatcher)
    _killed(dispatcher, "a", Phase.EVENT, 4)
    dispatcher.add_worker("b")
    seen = []
    while tasks := dispatcher.hand_out(Pace.FREE, 0, 0.0):
        seen += [(task.start, task.stop) for task in tasks]
        _accept_all(dispatcher, tasks)
    assert seen == [(0, 4), (4, 5), (5, 10)]


def test_halves_are_not_joined_again() -> None:
    dispatcher = _fast(_dispatcher("a"))
    dispatcher.add_ready(0, 16)
    sizes = []
    for name in "bcdef":
        [task] = dispatcher.hand_out(Pace.FREE, 0, 0.0)
        sizes.append(task.stop - task.start)
        _killed(dispatcher, task.worker, Phase.CODEC, task.start)
        dispatcher.add_worker(name)
    assert sizes == [16, 8, 4, 2, 1]


def test_a_death_somewhere_in_a_column_is_looked_at_carefully_as_a_whole() -> None:
    dispatcher = _fast(_dispatcher("a"))
    dispatcher.add_ready(0, 16)
    _out(dispatcher)
    _killed(dispatcher, "a", Phase.BATCH)
    dispatcher.add_worker("b")
    [task] = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    assert (task.start, task.stop, task.orders.careful) == (0, 16, True)


def test_the_task_that_a_worker_was_on_is_suspect_not_the_one_before() -> None:
    dispatcher = _fast(_dispatcher("a"))
    dispatcher.add_ready(0, 2 * dispatcher.batch)
    first, second = dispatcher.hand_out(Pace.FREE, 0, 0.0)
    _killed(dispatcher, "a", Phase.BATCH, second.start)
    assert not dispatcher.blame.concerns(first.start, first.stop)
    assert dispatcher.blame.concerns(second.start, second.stop)


def test_of_many_at_once_none_is_condemned_before_it_stood_alone() -> None:
    dispatcher = _dispatcher("w0", is_async=True, concurrency=4)
    dispatcher.add_ready(0, 8)
    poison, deaths, done = 5, 0, set()
    for _ in range(100):
        tasks = dispatcher.hand_out(Pace.FREE, 0, 0.0)
        if not tasks:
            break
        held = {n: task for task in tasks for n in range(task.start, task.stop)}
        verdicts = {call for task in tasks for call in task.orders.verdicts}
        assert verdicts <= {("work", poison, 0)}
        if poison in held and not verdicts:
            deaths += 1
            _killed(dispatcher, tasks[0].worker, Phase.MANY, max(held))
            dispatcher.add_worker(f"w{deaths}")
        else:
            _accept_all(dispatcher, tasks)
            done |= set(held)
    assert done == set(range(8))
    assert deaths == 3


def test_a_number_that_no_worker_survives_is_condemned() -> None:
    dispatcher = _dispatcher("w0")
    dispatcher.add_ready(0, 1)
    for deaths in range(1, 4):
        assert dispatcher.blame.condemned == []
        assert len(_out(dispatcher)) == 1
        _killed(dispatcher, f"w{deaths - 1}", Phase.CODEC, 0)
        dispatcher.add_worker(f"w{deaths}")
    [((_, number, _), verdict)] = dispatcher.blame.condemned
    assert (number, verdict.kind, verdict.attempts) == (0, "died", 3)
    assert _out(dispatcher) == []


def test_nobody_is_blamed_for_a_death_at_the_start() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.add_ready(0, 1)
    _out(dispatcher)
    _killed(dispatcher, "a", Phase.START)
    assert not dispatcher.blame.concerns(0, 1)


def test_a_worker_that_closes_while_it_owes_answers_has_died_of_one_of_them() -> None:
    dispatcher = _dispatcher("a")
    dispatcher.add_ready(0, 1)
    _out(dispatcher)
    _killed(dispatcher, "a", Phase.CLOSE)
    assert dispatcher.blame.concerns(0, 1)
    dispatcher.add_worker("b")
    assert _out(dispatcher) == [("b", 0, 1)]


def test_numbers_are_ready_when_every_port_covers_them() -> None:
    ports = [Intervals(), Intervals()]
    assert merge_ready(ports, 0, 0, 10) == []
    assert merge_ready(ports, 1, 2, 4) == [(2, 4)]
    assert merge_ready(ports, 1, 0, 12) == [(0, 2), (4, 10)]
    assert merge_ready(ports, 0, 8, 12) == [(10, 12)]
