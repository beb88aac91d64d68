"""Bugs planted in what checkpoints are made of: the lives must show every one within their usual number of schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from lives import live
from lives_ends import MemoryStore
from lives_keeping import KeptRows
from msgspec.structs import replace
from sim_laws import LawBroken
from sluiceway.engine.checkpoints.checkpoints import Checkpoints
from sluiceway.engine.checkpoints.store import Saved
from sluiceway.engine.core.answers import Answers
from sluiceway.engine.core.commits import Commits
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Acknowledge, AskState, Commit, DeliverLoose, Keep
from sluiceway.engine.core.keeping import Keeping
from sluiceway.engine.core.pool import Pool
from sluiceway.engine.delivery.sinks import SinkSet
from sluiceway.engine.sources.resumed import ResumedSource
from sluiceway.nodes.dispatch.dispatcher import Dispatcher
from sluiceway.nodes.ordering.cuts import Cut, Cuts
from sluiceway.nodes.ordering.kept_answers import KeptAnswer, KeptNumbers
from sluiceway.nodes.ordering.order_log import OrderLog, Run
from sluiceway.nodes.ordering.retention import Retention
from sluiceway.nodes.ordering.sequencer import Sequencer
from sluiceway.nodes.ordering.source_positions import PositionTracker, SourcePosition
from test_lives import SCHEDULES

_left, _ask_states, _commit, _state_to_ask = Dispatcher.record_exit, Commits.ask_states, Core._commit, Pool.next_state_request
_place, _offered, _lose_state = PositionTracker.position, PositionTracker.record_reads, Pool.record_state_loss
_resume, _trim, _took = Sequencer.resume, MemoryStore.trim, Retention.record_snapshot
_begin_log, _begin_resumed, _keep, _whole = OrderLog.__init__, ResumedSource.__init__, Checkpoints.save, Cuts.take_complete

_take_new, _take_loose, _ready, _find = Keeping.pop_group, Keeping.take_loose, KeptNumbers.record_ready, KeptRows.find
_trim_kept, _keep_failed, _off_hands = KeptRows.trim, Answers._keep, Dispatcher.take_undurable


def _release_before_durable(self: Keeping, frontier: int) -> int:
    return frontier


def _release_loose_before_durable(self: Keeping) -> list[DeliverLoose]:
    ready = [effect for _, effect in self._loose]
    self._loose.clear()
    return ready


def _durable_by_the_first_group(self: Keeping, frontier: int) -> int:
    return min([frontier, *(group.lowest for group in list(self._groups)[:1] if group.lowest is not None)])


def _keep_without_the_log(self: Keeping) -> list[Keep]:
    return [replace(keep, log=None) for keep in _take_new(self)]


def _answer_of_another_number(self: KeptRows, at: int, lo: int, hi: int) -> list[KeptAnswer]:
    found = []
    for answer in _find(self, at, lo, hi):
        others = [row for pool, row in self.rows if pool == at and row.size == answer.size and row.start != answer.start]
        found.append(replace(answer, exits=others[0].exits) if others else answer)
    return found


def _failures_of_no_number(self: KeptRows, at: int, lo: int, hi: int) -> list[KeptAnswer]:
    return [replace(answer, failures=()) for answer in _find(self, at, lo, hi)]


def _trim_one_too_many(self: KeptRows, n: int) -> None:
    _trim_kept(self, n + 1)


def _hand_out_what_is_kept(self: KeptNumbers, lo: int, hi: int) -> list[tuple[int, int]]:
    rest = _ready(self, lo, hi)
    if self._due and not rest:
        self._due_count -= self._due[0][1] - self._due[0][0]
        rest.append(self._due.pop(0))
    return rest


def _keep_what_fails(self: Answers, pool: Pool, *given: Any) -> None:
    fatal, self._barrier.fatal = self._barrier.fatal, set()
    _keep_failed(self, pool, *given)
    self._barrier.fatal = fatal


def _off_hands_when_answered(self: Dispatcher) -> list[tuple[str, int]]:
    for name, count in _off_hands(self):
        self.record_durable(name, count)
    return []


def _log_nothing(self: SinkSet, entries: Any) -> None:
    return None


def _trim_runs(self: MemoryStore, saved: Saved) -> None:
    _trim(self, saved)
    self.runs = [run for run in self.runs if run.number >= saved.n]


def _trim_reads(self: MemoryStore, saved: Saved) -> None:
    _trim(self, saved)
    self.reads = [read for read in self.reads if read.start > saved.starts[read.source]]


def _repeat_from_the_start_of_a_run(self: OrderLog, number: int = 0, runs: Sequence[Run] = (), reads: Any = ()) -> None:
    _begin_log(self, 0, runs, reads)


def _repeat_no_run(self: OrderLog, number: int = 0, runs: Sequence[Run] = (), reads: Any = ()) -> None:
    _begin_log(self, number, (), reads)


def _log_again(self: OrderLog, number: int = 0, runs: Sequence[Run] = (), reads: Any = ()) -> None:
    _begin_log(self, number, runs, ())


def _repeat_no_read(self: ResumedSource, subject: Any, name: str, place: SourcePosition | None = None, reads: Any = ()) -> None:
    _begin_resumed(self, subject, name, place)


def _lose_the_key(self: ResumedSource, subject: Any, name: str, place: SourcePosition | None = None, reads: Any = ()) -> None:
    _begin_resumed(self, subject, name, place and replace(place, key=None), reads)


def _restore_without_replay(self: Dispatcher, name: str, seen: Any, cause: str) -> Any:
    retained, self.replay_from = self.replay_from, None
    worker = _left(self, name, seen, cause)
    self.replay_from = retained
    return worker


def _let_go_when_asked(self: Commits, *, full: bool) -> list[AskState]:
    asked = _ask_states(self, full=full)
    for _, pool in self._stateful:
        kept = pool.retention
        if kept is not None and kept.asked is not None:
            upto = max(kept.upto, min(kept.asked, pool.dispatcher.frontier))
            for stream in pool.wiring.ports:
                self._streams.consume((stream,), kept.upto, upto)
            kept.upto = pool.dispatcher.replay_from = upto
    return asked


def _take_and_lose_a_state(self: Retention, n: int, packed: bytes, nbytes: int) -> None:
    _took(self, n, packed, nbytes)
    self.packed = None


def _count_what_is_gone(self: Retention, n: int, packed: bytes, nbytes: int) -> None:
    _took(self, n, packed, nbytes + self._kept_bytes)


def _ask_for_cuts_only(self: Pool, cut: int | None, *, full: bool) -> Any:
    if cut is None or self.dispatcher.handed_out_below(self.arrived_below) < cut:
        return None
    return _state_to_ask(self, cut, full=full)


def _ask_no_leaver(self: Pool, cut: int | None, *, full: bool) -> Any:
    leaving = [worker for worker in self.dispatcher.workers.values() if worker.leaving]
    return None if leaving and cut is None else _state_to_ask(self, cut, full=full)


def _hold_nothing(self: Pool, cut: int | None) -> None:
    _lose_state(self, None)


def _one_event_further(self: PositionTracker) -> SourcePosition:
    place = _place(self)
    return replace(place, skip=place.skip + 1) if place.skip else place


def _one_event_back(self: PositionTracker) -> SourcePosition:
    place = _place(self)
    return replace(place, skip=place.skip - 1) if place.skip else place


def _forget_what_is_left_out(self: PositionTracker, marks: Any, log: Any = None) -> None:
    self._lead = 0
    _offered(self, marks, log)


def _whole_without_states(self: Cuts, released: int) -> Cut | None:
    self._pools, pools = (), self._pools
    try:
        return _whole(self, released)
    finally:
        self._pools = pools


def _whole_before_its_numbers(self: Cuts, released: int) -> Cut | None:
    return _whole(self, released + 1)


def _release_past_a_cut(self: Cuts, frontier: int) -> int:
    return frontier


def _tell_sources_early(self: Core, frontier: int) -> None:
    count = len(self._effects)
    _commit(self, frontier)
    for effect in self._effects[count:]:
        for source, place in enumerate(effect.cut.positions if isinstance(effect, Commit) else ()):
            if place.position is not None:
                self._effects.append(Acknowledge(source, place.position))


def _lose_the_turn(self: Sequencer, number: int, places: Sequence[SourcePosition], turn: int) -> None:
    _resume(self, number, places, 0)


def _go_on_without_a_stopped_source(self: Sequencer, feed: Any) -> bool:
    return not feed.ended


def _no_states(self: Checkpoints) -> dict[int, bytes]:
    return {}


def _finished_by_a_pause(self: Checkpoints, cut: Cut, tokens: Mapping[str, Any]) -> None:
    _keep(self, replace(cut, ended_by=None), tokens)


def _never_finished(self: Checkpoints, cut: Cut, tokens: Mapping[str, Any]) -> None:
    _keep(self, replace(cut, final=False), tokens)


PLANTED: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "nothing logged before a delivery": (SinkSet, "log", _log_nothing),
    "runs of the log trimmed too far": (MemoryStore, "trim", _trim_runs),
    "reads of the log trimmed too far": (MemoryStore, "trim", _trim_reads),
    "a run repeated from its start": (OrderLog, "__init__", _repeat_from_the_start_of_a_run),
    "runs that are not repeated": (OrderLog, "__init__", _repeat_no_run),
    "reads that are not repeated": (ResumedSource, "__init__", _repeat_no_read),
    "repeated reads logged again": (OrderLog, "__init__", _log_again),
    "the key of a merge lost": (ResumedSource, "__init__", _lose_the_key),
    "whose turn it is lost": (Sequencer, "resume", _lose_the_turn),
    "a merge that goes on without a stopped source": (Sequencer, "_waits_for", _go_on_without_a_stopped_source),
    "a state restored without the numbers since": (Dispatcher, "record_exit", _restore_without_replay),
    "inputs let go of before the state is there": (Commits, "ask_states", _let_go_when_asked),
    "a state lost with its worker": (Retention, "record_snapshot", _take_and_lose_a_state),
    "inputs counted that are gone": (Retention, "record_snapshot", _count_what_is_gone),
    "states that the budget does not ask for": (Pool, "next_state_request", _ask_for_cuts_only),
    "a worker that is to leave its state and not asked": (Pool, "next_state_request", _ask_no_leaver),
    "a new worker that runs past a cut": (Pool, "record_state_loss", _hold_nothing),
    "states lost between two lives": (Checkpoints, "packed", _no_states),
    "a place one event too far": (PositionTracker, "position", _one_event_further),
    "a place one event too near": (PositionTracker, "position", _one_event_back),
    "events left out counted as new": (PositionTracker, "record_reads", _forget_what_is_left_out),
    "a cut given before its states": (Cuts, "take_complete", _whole_without_states),
    "a cut given before its numbers": (Cuts, "take_complete", _whole_before_its_numbers),
    "numbers released past a cut": (Cuts, "release_limit", _release_past_a_cut),
    "sources told before the commit": (Core, "_commit", _tell_sources_early),
    "a pause taken for the end": (Checkpoints, "save", _finished_by_a_pause),
    "an answer released before it is durable": (Keeping, "release_limit", _release_before_durable),
    "an answer given to an unordered sink before it is durable": (Keeping, "take_loose", _release_loose_before_durable),
    "one group taken for all": (Keeping, "release_limit", _durable_by_the_first_group),
    "an answer kept without the order of its number": (Keeping, "pop_group", _keep_without_the_log),
    "a kept answer of another number": (KeptRows, "find", _answer_of_another_number),
    "a kept answer without its failures": (KeptRows, "find", _failures_of_no_number),
    "an answer trimmed one number too early": (KeptRows, "trim", _trim_one_too_many),
    "a kept number worked on": (KeptNumbers, "record_ready", _hand_out_what_is_kept),
    "a number kept that fails the run": (Answers, "_keep", _keep_what_fails),
    "hands that are free before the answers are durable": (Dispatcher, "take_undurable", _off_hands_when_answered),
    "an end taken for a pause": (Checkpoints, "save", _never_finished),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug = PLANTED[name]
    monkeypatch.setattr(owner, attribute, bug)
    for seed in range(SCHEDULES):
        try:
            live(seed)
        except LawBroken:
            return
    pytest.fail(f"{name}: not found in {SCHEDULES} schedules")
