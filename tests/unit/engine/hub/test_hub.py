"""The hub over a backend whose workers are plain objects of this process: what another runner has to bring."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.codec.codec import Encoder, Payload
from sluiceway.engine.core.effects import Acknowledge, AskState, Pull, Restore, SendTask, Spawn, StopSource, StopWorker
from sluiceway.engine.hub.backend import BackendEffect, RunHandle
from sluiceway.engine.options import RunOptions
from sluiceway.engine.plan.plan import Plan
from sluiceway.engine.tasks.runner import TaskRunner
from sluiceway.engine.tasks.task import AnswerMessage, Grant, Part, TaskMessage
from sluiceway.nodes.dispatch.blame import LastSeen, Phase
from sluiceway.nodes.execution.monitor import NoMonitor
from sluiceway.nodes.ordering.sequencer import Chunk


class NoProgress(NoMonitor):
    """Nobody observes a worker of this process."""

    def codec(self, start: int, size: int = 0) -> None:
        """Record nothing."""


class Worker:
    """A worker as an object; the outbox of its own runner."""

    def __init__(self, name: str, index: int, plan: Plan, pool: int, run: RunHandle) -> None:
        self.name = name
        self._run = run
        self._dispatcher = run.core.pools[pool].dispatcher
        self._runner = TaskRunner(
            plan.wiring.pools[pool].program,
            plan.pools[pool].handlers,
            worker=index,
            ordered=True,  # without a thread that watches for long batches
            progress=NoProgress(),
            outbox=self,
        )

    def work(self, effect: SendTask, now: float) -> None:
        task = effect.task
        ports = [
            [
                Part(
                    given.lo,
                    given.hi,
                    given.segment.start,
                    given.segment.stop,
                    given.segment.payload,
                    given.segment.counts,
                    given.segment.indices,
                )
                for given in slices
            ]
            for slices in effect.inputs
        ]
        self._now = now
        self._runner.run(TaskMessage(task.id, task.start, task.stop, effect.answer_batch, task.orders, ports))

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        return payload

    def send_answer(self, answer: AnswerMessage) -> None:
        self._run.core.record_answer(
            self.name,
            answer.task,
            answer.start,
            answer.size,
            answer.exits,
            answer.failures,
            answer.tallies,
            answer.seconds,
            self._now,
        )

    def return_rest(self, task: int, number: int) -> None:
        self._dispatcher.record_return(self.name, task, number)


@dataclass
class InProcess:
    """A backend without processes."""

    plan: Plan
    workers: dict[str, Worker] = field(default_factory=dict)
    tasks: deque[SendTask] = field(default_factory=deque)
    calls: list[str] = field(default_factory=list)
    deaths: int = 0
    kept: int = 0

    def open(self, run: RunHandle) -> None:
        self.calls.append("open")
        self._run = run
        self._readers: dict[int, Iterator[Any]] = {
            at: iter(source.node.subject()) for at, source in enumerate(self.plan.sources) if source.remote
        }

    def start(self) -> None:
        self.calls.append("start")

    def do(self, effect: BackendEffect) -> bool:
        if isinstance(effect, SendTask):
            self.tasks.append(effect)
            return False
        if isinstance(effect, Spawn):
            self.workers[effect.worker] = Worker(effect.worker, effect.index, self.plan, effect.pool, self._run)
            self._run.core.record_ready(effect.worker)
            self._run.record_up()
        elif isinstance(effect, Pull):
            self._read(effect.source, effect.count)
        elif isinstance(effect, StopSource):
            self._run.feeds.record_end(effect.source, 0.0)
        else:
            assert not isinstance(effect, (StopWorker, AskState, Restore, Acknowledge)), "none of these runs needs it"
        return True

    def _read(self, source: int, count: int) -> None:
        events = list(islice(self._readers[source], min(count, 7)))
        if events:
            payload = Encoder().encode(events)
            self._run.core.record_chunk(source, Chunk(len(events), payload, payload.nbytes))
        else:
            self._run.feeds.record_end(source, 0.0)

    def dies(self, effect: SendTask) -> bool:
        """Whether a worker dies of a task before it answers it."""
        return False

    def poll(self, now: float) -> bool:
        if self.tasks:
            effect = self.tasks.popleft()
            if self.dies(effect):
                self._kill(effect)
            else:
                self.workers[effect.worker].work(effect, now)
        return bool(self.tasks)

    def _kill(self, effect: SendTask) -> None:
        self.deaths += 1
        del self.workers[effect.worker]
        self.tasks = deque(task for task in self.tasks if task.worker != effect.worker)
        # All that such a backend can tell: the task that it was on.
        self._run.core.record_death(effect.worker, LastSeen(Phase.BATCH, 0, effect.task.start), "was lost")

    def keep(self, payload: Payload) -> Payload:
        self.kept += 1
        return payload

    def wait(self, timeout_s: float) -> bool:
        return not self.tasks and bool(select.select([self._run.wakeup], [], [], timeout_s)[0])

    def stop(self, *, orderly: bool, hurried: Callable[[], bool]) -> dict[str, str]:
        self.calls.append(f"stop orderly={orderly}")
        return dict.fromkeys(self.workers, "stopped")

    def close(self) -> None:
        self.calls.append("close")

    def complete(self, report: sw.RunReport) -> None:
        """Add nothing."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[InProcess]:
    """Return the backends of the runs that begin from now on; all of them are in this process."""
    backends: list[InProcess] = []

    class Made(InProcess):
        def __init__(self, plan: Plan, options: RunOptions, site: object, *, paused: bool) -> None:
            super().__init__(plan)
            backends.append(self)

    monkeypatch.setattr("sluiceway.engine.runners.processes.ChildBackend", Made)
    return backends


def test_a_graph_runs_over_any_backend(made: list[InProcess]) -> None:
    assert list(sw.imap(lambda n: n * n, range(5000), workers=3, runner="processes")) == [n * n for n in range(5000)]
    (backend,) = made
    assert backend.calls == ["open", "start", "stop orderly=True", "close"]
    assert sorted(backend.workers) == ["0.0.1", "0.1.2", "0.2.3"]
    assert backend.kept > 0


def test_pools_pass_their_columns_on(made: list[InProcess]) -> None:
    words = sw.Graph().source(["a b", "", "c d e"] * 200).flat_map(str.split, workers=2)
    assert list(sw.iterate(words.map(str.upper, workers=1), runner="processes")) == list("ABCDE") * 200
    assert len(made[0].plan.pools) == 2


def test_a_worker_that_is_lost_is_replaced_and_its_numbers_are_handed_out_again(
    made: list[InProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InProcess, "dies", lambda self, effect: effect.worker in ("0.0.1", "0.1.2"))
    assert list(sw.imap(str, range(3000), workers=2, runner="processes")) == [str(n) for n in range(3000)]
    assert made[0].deaths == 2


def test_the_event_that_loses_every_worker_is_found(made: list[InProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(self: InProcess, effect: SendTask) -> bool:
        return effect.task.start <= 700 < effect.task.stop

    monkeypatch.setattr(InProcess, "dies", dies)
    with pytest.raises(sw.WorkerDied, match="number 700"):
        list(sw.imap(str, range(3000), workers=2, runner="processes"))


def test_a_failing_handler_ends_the_run(made: list[InProcess]) -> None:
    with pytest.raises(sw.HandlerError, match="number 2"):
        list(sw.imap(lambda n: 1 // (2 - n), range(10), workers=2, runner="processes"))
    assert made[0].calls[-2:] == ["stop orderly=False", "close"]


def test_sources_outside_the_caller_are_the_backends(made: list[InProcess]) -> None:
    def numbers() -> Iterator[int]:
        yield from range(100)

    texts = sw.Graph().source(numbers).map(str, workers=2)
    assert list(sw.iterate(texts, runner="processes")) == [str(n) for n in range(100)]
    assert made[0].kept == 0


def test_an_error_of_the_backend_is_that_of_the_run(made: list[InProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: InProcess, now: float) -> bool:
        raise sw.SluicewayError("the cluster is gone")

    monkeypatch.setattr(InProcess, "poll", broken)
    with pytest.raises(sw.SluicewayError, match="the cluster is gone"):
        list(sw.imap(str, range(10), workers=1, runner="processes"))
    assert made[0].calls[-1] == "close"
