"""Bugs planted in the core: the simulation must find every one of them within its default number of schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from sim_laws import LawBroken
from simulator import simulate
from sluiceway.nodes.dispatch.blame import Blame
from sluiceway.nodes.dispatch.dispatcher import Dispatcher
from sluiceway.nodes.ordering.barrier import Barrier, Release
from sluiceway.nodes.ordering.budget import Budget, Pace
from sluiceway.nodes.ordering.segments import SegmentStore
from sluiceway.nodes.ordering.sequencer import Sequencer
from test_simulation import SCHEDULES

_accept, _left, _hand_out = Dispatcher.accept, Dispatcher.record_exit, Dispatcher.hand_out
_release, _take, _offer = Barrier.release, SegmentStore.consume, Sequencer.number_next
_made, _room = Blame.__init__, Budget.room


def _release_early(self: Barrier, frontier: int) -> Release | None:
    return _release(self, frontier + 1)


def _release_the_failed(self: Barrier, frontier: int) -> Release | None:
    if self.end_at is not None and frontier > self.end_at:
        self.end_at, end = None, self.end_at
        try:
            return _release(self, end + 1)
        finally:
            self.end_at = end
    return _release(self, frontier)


def _release_letters_reversed(self: Barrier, frontier: int) -> Release | None:
    release = _release(self, frontier)
    return release and replace(release, letters=release.letters[::-1])


def _accept_twice(self: Dispatcher, name: str, task: int, start: int, stop: int, ends_here: bool) -> list[tuple[int, int]]:
    return _accept(self, name, task, start, stop, ends_here) or [(start, stop)]


def _accept_and_keep_the_credit(
    self: Dispatcher, name: str, task: int, start: int, stop: int, ends_here: bool
) -> list[tuple[int, int]]:
    kept = self.workers[name].tasks.get(task)
    new = _accept(self, name, task, start, stop, ends_here)
    if kept is not None and not kept.open:
        self.workers[name].tasks[task] = kept
        self._loads.update(self.workers[name])
    return new


def _accept_a_cut_for_all(
    self: Dispatcher, name: str, task: int, start: int, stop: int, ends_here: bool
) -> list[tuple[int, int]]:
    new = _accept(self, name, task, start, stop, ends_here)
    if ends_here and name in self.workers:
        self.workers[name].tasks.pop(task, None)
        self._loads.update(self.workers[name])
    return new


def _forget_a_batch(self: Dispatcher, name: str, seen: Any, cause: str) -> Any:
    worker = self.workers.get(name)
    if worker is not None and len(worker.tasks) > 1:
        worker.tasks.popitem()
    return _left(self, name, seen, cause)


def _keep_the_dead(self: Dispatcher, name: str, seen: Any, cause: str) -> Any:
    worker = _left(self, name, seen, cause)
    if worker is not None:
        worker.tasks.clear()
        worker.load, worker.isolated = 0, False
        self.workers[name] = worker
        self._loads.update(worker)
    return worker


def _hand_out_anything(self: Dispatcher, pace: Pace, head: int, now: float) -> Any:
    return _hand_out(self, Pace.FREE, head, now)


def _hand_out_behind_the_head(self: Dispatcher, pace: Pace, head: int, now: float) -> Any:
    return _hand_out(self, pace, self._ready[0][0] if self._ready else head, now)


def _suspects_are_nobody(self: Blame, start: int, stop: int) -> bool:
    return False


def _one_death_less(self: Blame, steps: Any, max_deaths: int | None) -> None:
    _made(self, steps, None if max_deaths is None else max_deaths - 1)


def _one_death_more(self: Blame, steps: Any, max_deaths: int | None) -> None:
    _made(self, steps, None if max_deaths is None else max_deaths + 1)


def _all_explain(self: Blame, number: int) -> int:
    return sum(1 for parts in self._suspicions if any(lo <= number < hi for lo, hi in parts))


def _free_twice(self: SegmentStore, lo: int, hi: int) -> int:
    return 2 * _take(self, lo, hi)


def _free_never(self: SegmentStore, lo: int, hi: int) -> int:
    _take(self, lo, hi)
    return 0


def _ignore_bytes(self: Budget, numbers: int) -> int:
    return max(0, self.limit_numbers - numbers)


def _one_too_many(self: Budget, numbers: int) -> int:
    room = _room(self, numbers)
    return room + 1 if self.bytes < self.limit_bytes else room


def _beyond_the_limit(self: Sequencer) -> int | None:
    return None if self._limit is None else max(0, self._limit + 1 - self.next)


def _whole_chunks(self: Sequencer, most: int, *, fit: bool = False) -> Any:
    return _offer(self, most)


PLANTED: dict[str, tuple[type, str, Callable[..., Any] | property]] = {
    "a number released early": (Barrier, "release", _release_early),
    "the failed number released": (Barrier, "release", _release_the_failed),
    "dead letters out of order": (Barrier, "release", _release_letters_reversed),
    "an answer accepted twice": (Dispatcher, "accept", _accept_twice),
    "credit that is not given back": (Dispatcher, "accept", _accept_and_keep_the_credit),
    "numbers below a failure forgotten": (Dispatcher, "accept", _accept_a_cut_for_all),
    "a batch forgotten at a death": (Dispatcher, "record_exit", _forget_a_batch),
    "a task for a dead worker": (Dispatcher, "record_exit", _keep_the_dead),
    "work above the limit": (Dispatcher, "hand_out", _hand_out_anything),
    "work above the limit that is not the head's": (Dispatcher, "hand_out", _hand_out_behind_the_head),
    "suspects among others": (Blame, "concerns", _suspects_are_nobody),
    "a verdict one death early": (Blame, "__init__", _one_death_less),
    "a verdict one death late": (Blame, "__init__", _one_death_more),
    "neighbours that are not cleared": (Blame, "_take_charges", _all_explain),
    "bytes freed twice": (SegmentStore, "consume", _free_twice),
    "bytes never freed": (SegmentStore, "consume", _free_never),
    "admission above the bytes": (Budget, "room", _ignore_bytes),
    "admission above the numbers": (Budget, "room", _one_too_many),
    "a chunk larger than the room": (Sequencer, "number_next", _whole_chunks),
    "a limit overrun": (Sequencer, "remaining", property(_beyond_the_limit)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug = PLANTED[name]
    monkeypatch.setattr(owner, attribute, bug)
    for seed in range(SCHEDULES):
        try:
            simulate(seed)
        except LawBroken:
            return
    pytest.fail(f"{name}: not found in {SCHEDULES} schedules")
