"""Answers that outlive a life: what the store has of them, who writes them in made-up time, and the laws about them.

A number of a durable pool that was answered durably is never worked on again; nothing that follows from an answer is
seen before it is durable; a worker never has more numbers in its hands, and undurable, than one crash may cost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace
from sluiceway.engine.core.effects import Deliver, DeliverLoose, Keep, Recall
from sluiceway.nodes.ordering.kept_answers import KeptAnswer
from sluiceway.nodes.ordering.segments import SEGMENT_OVERHEAD

if TYPE_CHECKING:
    from lives import Life
    from lives_ends import World
    from sim_workers import Worker


class KeptRows:
    """The answers in a store, as one in a file would hold them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: list[tuple[int, KeptAnswer]] = []
        #: Every number that was answered durably at some time, with its pool.
        self.ever: set[tuple[int, int]] = set()

    def write(self, answers: list[tuple[int, KeptAnswer]]) -> None:
        """Keep answers."""
        self.rows += answers
        self.ever |= {(at, n) for at, answer in answers for n in range(answer.lo, answer.hi)}

    def trim(self, n: int) -> None:
        """Let go of what is wholly below a checkpoint."""
        self.rows = [(at, answer) for at, answer in self.rows if answer.hi > n]

    def known(self, at: int) -> list[tuple[int, int]]:
        """Return the numbers of a pool whose answers are here."""
        return [(answer.lo, answer.hi) for pool, answer in self.rows if pool == at]

    def find(self, at: int, lo: int, hi: int) -> list[KeptAnswer]:
        """Return the answers for some numbers, each cut to them, as far as they follow each other."""
        found = []
        for row in sorted((answer for pool, answer in self.rows if pool == at), key=lambda answer: answer.lo):
            a, b = max(lo, row.lo), min(hi, row.hi)
            if a < b:
                mine = tuple(failure for failure in row.failures if a <= failure.seq < b)
                found.append(replace(row, lo=a, hi=b, failures=mine))
        return found


class KeepingThread:
    """The thread that keeps answers and recalls them, one thing after the other."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._queue: deque[Keep | Recall] = deque()
        self._busy = False
        self._told_at = 0.0

    def put(self, effect: Keep | Recall) -> None:
        """Take an effect, to come to it when what came before is done."""
        self._queue.append(effect)
        self._wake()

    def _wake(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            life = self._life
            life.at(life.now + max(life.scenario.ack_s, 0.0001) * life.rng.random(), self._take_next)

    def _take_next(self) -> None:
        effect = self._queue.popleft()
        self._busy = False
        if isinstance(effect, Recall):
            self._recall(effect)
        else:
            group = [effect]
            while self._queue and isinstance(self._queue[0], Keep):  # all that came in meanwhile
                group.append(self._queue.popleft())  # type: ignore[arg-type]
            self._keep(group)
        self._wake()

    def _keep(self, group: list[Keep]) -> None:
        life, store = self._life, self._life.world.store
        answers = [answer for keep in group for answer in keep.answers]
        upto = max((answer.hi for _, answer in answers), default=0)
        life.world.point("before the answers")
        for keep in group:
            if keep.log is not None:
                store.runs += keep.log.runs
                store.reads += keep.log.reads
        life.laws.may_be_seen("an answer is kept", upto)
        store.kept.write(answers)
        life.world.fix(life.reference.tokens, upto)
        life.world.point("after the answers")
        for keep in group:
            self._told_at = max(self._told_at, life.now) + life.scenario.lag_s * life.rng.random()
            life.at(self._told_at, life.core.record_durable, keep.group)

    def _recall(self, effect: Recall) -> None:
        life, store = self._life, self._life.world.store
        upto = life.rng.randint(effect.lo + 1, effect.hi)
        answers = store.kept.find(effect.pool, effect.lo, upto)
        life.laws.keeping.recalled(effect)
        life.core.record_recalled(effect.pool, answers, upto, life.now)


class KeepingLaws:
    """What must hold of answers that outlive a life."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.pools = [at for at, pool in enumerate(life.scenario.wiring.pools) if pool.durable and life.scenario.mode == "store"]
        self._answered: dict[str, set[int]] = {}
        self._cost: dict[int, int] = {}
        self._behind = self._streams_behind()

    def _streams_behind(self) -> dict[int, set[int]]:
        """Give, for each stream, the durable pools that it follows from."""
        behind: dict[int, set[int]] = {0: set()}
        for at, pool in enumerate(self.life.scenario.wiring.pools):
            before = set().union(*(behind[stream] for stream in pool.ports))
            for stream in pool.exits:
                behind[stream] = before | ({at} & set(self.pools))
        return behind

    def handed(self, worker: Worker, start: int, stop: int) -> None:
        """Check a task that was just given to a worker of a durable pool."""
        if worker.pool not in self.pools:
            return
        life, ever = self.life, self.life.world.store.kept.ever
        again = [n for n in range(start, stop) if (worker.pool, n) in ever]
        if again:
            life.laws.broken(f"numbers {again} of pool {worker.pool} are worked on again, though they were answered durably")
        answered = [n for n in self._answered.get(worker.name, ()) if (worker.pool, n) not in ever]
        most = life.scenario.wiring.pools[worker.pool].program.steps[-1].options.concurrency
        if len(answered) + len(worker.open) - worker.told_parked > most and len(worker.open) > stop - start:
            life.laws.broken(f"{worker.name} has {len(worker.open)} numbers and {answered}, a crash may cost {most}")

    def answered(self, worker: Worker, start: int, stop: int) -> None:
        """Note numbers that a worker has answered and that are to be kept."""
        if worker.pool in self.pools:
            self._answered.setdefault(worker.name, set()).update(set(range(start, stop)) - self._apart)

    def delivered(self, effect: Deliver | DeliverLoose, lo: int, hi: int) -> None:
        """Check that what is about to be seen follows from durable answers only."""
        needed = set(self.pools) if isinstance(effect, Deliver) else self._behind[effect.stream]
        ever = self.life.world.store.kept.ever
        missing = [(at, n) for at in needed for n in range(lo, hi) if n not in self._apart and (at, n) not in ever]
        if missing:
            self.life.laws.broken(f"{effect!r:.60} is delivered, and the answers {missing} are not durable")

    @property
    def _apart(self) -> set[int | None]:
        """The numbers that need not be kept: the end of the input, what fails this life, what failed where nothing is kept."""
        failing = self.life.end.number
        wiring = self.life.scenario.wiring.pools
        loose = {step.node for at, pool in enumerate(wiring) if at not in self.pools for step in pool.program.steps}
        tokens, reference = self.life.reference.tokens, self.life.reference
        failed = {n for n in range(len(tokens)) for failure in reference.failures(n) if failure.node in loose}
        return {self.life.core.end, failing[1] if failing is not None else None, *failed}

    def asked(self, effect: Recall) -> int:
        """Note what is recalled; give how many bytes may come."""
        rows = self.life.world.store.kept.find(effect.pool, effect.lo, effect.hi)
        cost = sum(data.nbytes + SEGMENT_OVERHEAD for row in rows for data in row.exits)
        self._cost[effect.pool] = cost + sum(failure.nbytes for row in rows for failure in row.failures)
        return self._cost[effect.pool]

    def recalled(self, effect: Recall) -> None:
        """Note that what was recalled comes now."""
        self.life.laws.explain(-self._cost.pop(effect.pool))
