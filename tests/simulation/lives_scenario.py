"""Random runs with checkpoints to simulate, made from a seed: what is read, what handles it, and how each life ends.

A run has several lives: all but the last end before their time, by a crash at a drawn moment, a pause, or an error.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from msgspec import structs
from sim_scenario import Fault, PoolScript
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, make_program

#: Where everything may end in the calling thread, between what is durable and what is not.
POINTS = (
    "before the log",
    "after the log",
    "after a write",
    "before a commit",
    "after a commit",
    "before the store",
    "after the store",
    "before an acknowledgement",
    "before the answers",
    "after the answers",
)
#: Tokens of a source begin at so many times its index, those of its second partition half as many later.
OF_SOURCE = 1000
OF_PARTITION = 500


@dataclass(slots=True)
class SourceScript:
    """What one source gives: `parts` are the numbers of events of its partitions, which a logged source interleaves."""

    kind: str  #: exact, logged or plain
    parts: tuple[int, ...]
    acknowledges: bool
    largest: int
    event_bytes: int
    silent: float
    delay_s: float

    def tokens(self, at: int) -> list[list[int]]:
        """Return the events of each partition of source `at`."""
        return [list(range(first := at * OF_SOURCE + part * OF_PARTITION, first + n)) for part, n in enumerate(self.parts)]


@dataclass(slots=True)
class Ending:
    """How one life may end before its time, and what else befalls it. With nothing given it is left alone."""

    steps: int | None = None  #: a crash after so many
    point: str | None = None  #: a crash at one of `POINTS`
    passes: int = 0  #: when it was passed so many times
    stop_s: float | None = None  #: the reading is stopped at this time
    source: tuple[int, int] | None = None  #: a source fails behind so many events
    number: tuple[int, int] | None = None  #: in a pool a number fails the run
    kills: int = 0  #: of single workers
    sweeps: int = 0  #: of all workers at once

    def __str__(self) -> str:
        told = (
            f"{self.steps} steps" if self.steps is not None else "",
            f"{self.point} {self.passes}" if self.point is not None else "",
            f"stop at {self.stop_s} s" if self.stop_s is not None else "",
            "source {} fails behind {}".format(*self.source) if self.source is not None else "",
            "pool {} fails at {}".format(*self.number) if self.number is not None else "",
        )
        return ", ".join(filter(None, told)) or "alone"


@dataclass(slots=True)
class Scenario:
    """One run to simulate. What the fake workers of `sim_workers` ask for is named as there."""

    seed: int
    wiring: Wiring
    pools: list[PoolScript]
    final: list[bool]  #: of each pool: whether it gives its state at the end of the input
    sources: list[SourceScript]
    keys: dict[int, int | None]  #: of each event, where sources are merged by key
    mode: str  #: store, commits or plain
    sinks: tuple[str, ...]
    window_bytes: int
    window_numbers: int
    limit: int | None
    ends: list[Ending]
    cut_s: float | None
    ack_s: float
    lag_s: float
    repeats: float
    lazy: float
    life: int = 0

    def describe(self) -> str:
        """Return what a person needs to see first."""
        pools = "; ".join(
            f"{w.name}: {w.workers} workers, ports {w.ports}, exits {w.exits}{', state' if w.stateful else ''}"
            f"{', durable' if w.durable else ''}{', final' if final else ''}{', loop' if s.loop else ''}, {s.each_s} s each"
            for w, s, final in zip(self.wiring.pools, self.pools, self.final, strict=True)
        )
        sources = ", ".join(f"{s.kind} {'+'.join(map(str, s.parts))}" for s in self.sources)
        ends = "; ".join(map(str, self.ends))
        return (
            f"life {self.life} of [{ends}], mode {self.mode}, sinks {self.sinks}, pools [{pools}], sources [{sources}] by"
            f" {self.wiring.order}, tail {self.wiring.tail}, loose {self.wiring.loose}, end {self.wiring.needs_end},"
            f" window {self.window_bytes} bytes and {self.window_numbers} numbers, limit {self.limit}, cut {self.cut_s} s"
        )

    def key_of(self, token: int) -> int | None:
        """Return the key that an event has: its own, or the last one before it."""
        before = range(token, token - token % OF_PARTITION - 1, -1)
        return next((self.keys[at] for at in before if self.keys[at] is not None), None)

    def of_life(self, life: int, first: int, kept: Collection[tuple[int, int]]) -> Scenario:
        """Return the scenario as a life that begins at number `first` has it: one may fail there that does not in others.

        `kept` are the pools and numbers that were answered for ever: they do not fail any more.
        """
        failing = self.ends[life].number
        if failing is None or failing[1] < first or failing in kept:
            return replace(self, life=life)
        pool, number = failing
        pools = list(self.pools)
        step = len(self.wiring.pools[pool].program.steps) - 1
        pools[pool] = replace(pools[pool], faults={number: Fault("error", step)})
        return replace(self, life=life, pools=pools)


def make_scenario(seed: int) -> Scenario:
    """Draw a run from a seed."""
    return _with_durable_pools(_draw(seed))


def _with_durable_pools(scenario: Scenario) -> Scenario:
    """Return the scenario with some pools whose answers outlive a life; of their own numbers, so that all else stays."""
    rng = Random(scenario.seed ^ 0xD0AB)
    if scenario.mode != "store" or rng.random() < 0.4:
        return scenario
    pools = []
    for pool in scenario.wiring.pools:
        if not pool.stateful and rng.random() < 0.8:
            *steps, last = pool.program.steps
            last = structs.replace(last, options=replace(last.options, durable=True, concurrency=rng.choice((1, 2, 3, 16))))
            pool = structs.replace(pool, program=structs.replace(pool.program, steps=(*steps, last)), durable=last.node)
        pools.append(pool)
    return replace(scenario, wiring=structs.replace(scenario.wiring, pools=tuple(pools)))


def _draw(seed: int) -> Scenario:
    rng = Random(seed)
    numbers = rng.choice((1, 4, 10, 20, 20, 30, 60))
    pools: list[PoolWiring] = []
    scripts: list[PoolScript] = []
    streams = 1
    for at in range(rng.choice((0, 1, 1, 2, 2, 3))):
        pool, script = _make_pool(rng, at, streams)
        streams += len(pool.exits)
        pools.append(pool)
        scripts.append(script)
    final = [pool.stateful and rng.random() < 0.5 for pool in pools]
    tail, loose = _ends(rng, pools, streams)
    count = rng.choice((1, 2, 2, 3))
    order: Any = rng.choice(("arrival", "arrival", "round_robin", "key", "key")) if count > 1 else "arrival"
    mode = rng.choice(("store",) * 8 + ("commits", "plain"))
    sources = [_make_source(rng, rng.randint(numbers // 2, numbers) // count + at, mode, order) for at in range(count)]
    remote = tuple(rng.random() < 0.6 for _ in range(count))
    lives = rng.choice((0, 1, 2, 3, 3, 5)) if mode == "store" else 0
    return Scenario(
        seed,
        Wiring(tuple(pools), tail, loose, remote, order, needs_end=any(final) or rng.random() < 0.1),
        scripts,
        final,
        sources,
        _keys(rng, sources) if order == "key" else {},
        mode,
        rng.choice((("outbox",), ("ledger",), ("outbox", "ledger"), ("outbox", "outbox"), ())) if mode != "plain" else (),
        window_bytes=rng.choice((1, 400, 900, 900, 3000, 20_000, 1 << 20)),
        window_numbers=rng.choice((1, 3, 10, 1 << 18, 1 << 18)),
        limit=rng.choice((None, None, None, None, numbers // 2, 1)),
        ends=[*(_make_end(rng, numbers, sources, pools) for _ in range(lives)), Ending(kills=rng.choice((0, 1, 3)))],
        cut_s=rng.choice((None, 0.0002, 0.002, 0.02, 0.2)),
        ack_s=rng.choice((0.0, 0.001, 0.05)),
        lag_s=rng.choice((0.0, 0.0001, 0.003)),
        repeats=rng.choice((0.0, 0.0, 0.2)),
        lazy=rng.choice((0.0, 0.5, 0.8)),
    )


def _make_pool(rng: Random, at: int, streams: int) -> tuple[PoolWiring, PoolScript]:
    ports = tuple(sorted(rng.sample(range(streams), min(streams, rng.choice((1, 1, 2)))))) if at else (0,)
    exits = tuple(range(streams, streams + rng.choice((1, 1, 2))))
    stateful = rng.random() < 0.5
    loop = not stateful and rng.random() < 0.2
    steps, slot = [], 0
    if len(ports) > 1:
        slot = len(ports)
        steps.append(Step(kind=NodeKind.MERGE, node=f"merge{at}", node_id=10 * at, inputs=tuple(range(slot)), output=slot))
    output = max(len(ports), slot + 1)
    on_error: Any = "fail" if stateful else rng.choice(("fail", "fail", "skip", "dead_letter"))
    kind = NodeKind.SCAN if stateful else NodeKind.MAP
    steps.append(
        Step(
            kind=kind,
            node=f"node{at}",
            node_id=10 * at + 1,
            inputs=(slot,),
            output=output,
            options=Options(on_error=on_error),
            is_async=loop,
        )
    )
    faults = {n: Fault("error", len(steps) - 1) for n in rng.sample(range(40), 3)} if on_error in ("skip", "dead_letter") else {}
    wiring = PoolWiring(
        f"pool{at}",
        make_program(len(ports), output + 1, steps, [output] * len(exits)),
        1 if stateful else rng.randint(1, 3),
        ordered=stateful,
        ports=ports,
        exits=exits,
        in_order=stateful or rng.random() < 0.15,
        stateful=stateful,
    )
    script = PoolScript(
        loop,
        watched=rng.random() < 0.5,
        each_s=rng.choice((1e-6, 1e-6, 0.0003, 0.003, 0.05)),
        event_bytes=rng.choice((1, 20, 300)),
        growths=rng.choice(([1], [1], [1], [0, 1], [2, 0, 1])),
        faults=faults,
        recycle_after=rng.choice((None, None, None, 1, 7)),
        parks=loop and rng.random() < 0.5,
        cuts=rng.random() < 0.5,
        gives_back=rng.random() < 0.5,
        taught=rng.choice((0, 0, 4, 30)),
    )
    return wiring, script


def _ends(rng: Random, pools: list[PoolWiring], streams: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    read = {stream for pool in pools for stream in pool.ports}
    tail, loose = [], []
    for stream in range(streams):
        wanted = rng.random()
        if wanted < 0.3 or (stream not in read and wanted < 0.85):
            tail.append(stream)
        if (stream not in read and stream not in tail) or (stream and wanted > 0.9):
            loose.append(stream)
    return tuple(tail), tuple(loose)


def _make_source(rng: Random, events: int, mode: str, order: str) -> SourceScript:
    kind = rng.choice(("exact", "plain", "logged") if order == "key" else ("exact", "plain", "logged", "logged"))
    second = rng.randint(0, events) if kind == "logged" else 0
    return SourceScript(
        kind,
        (events - second, second) if kind == "logged" else (events,),
        acknowledges=kind != "plain" and (mode == "commits" or rng.random() < 0.5),
        largest=rng.choice((1, 3, 9, 100)),
        event_bytes=rng.choice((1, 30, 300)),
        silent=rng.choice((0.0, 0.0, 0.1)),
        delay_s=rng.choice((0.0, 0.0005, 0.01)),
    )


def _keys(rng: Random, sources: list[SourceScript]) -> dict[int, int | None]:
    """Return each event a key that does not fall in its partition; where there is one, an event may repeat the last key."""
    keys: dict[int, int | None] = {}
    most = rng.choice((3, 100))
    for at, source in enumerate(sources):
        for tokens in source.tokens(at):
            drawn: list[int | None] = sorted(rng.randrange(most) for _ in tokens)
            if source.kind != "logged":
                none = rng.choice((0.0, 0.6, 0.9))
                drawn = [None if rng.random() < none else key for key in drawn]
            keys.update(zip(tokens, drawn, strict=True))
    return keys


def _make_end(rng: Random, numbers: int, sources: list[SourceScript], pools: list[PoolWiring]) -> Ending:
    end = Ending(kills=rng.choice((0, 0, 1, 3)), sweeps=rng.choice((0, 0, 0, 1)))
    kind = rng.choice(("steps", "point", "point", "stop", "source", "number"))
    if kind == "steps":
        end.steps = rng.randrange(rng.choice((20, 100, 400)))
    if kind == "point" or (kind != "steps" and rng.random() < 0.3):
        end.point, end.passes = rng.choice(POINTS), rng.choice((0, 1, rng.randrange(10)))
    if kind == "stop" or rng.random() < 0.1:
        end.stop_s = 0.001 * rng.choice((1, 10, 100)) * rng.randrange(10)
    if kind == "source":
        at = rng.randrange(len(sources))
        end.source = at, rng.randint(0, sum(sources[at].parts))
    may_fail = [at for at, pool in enumerate(pools) if pool.program.steps[-1].options.on_error == "fail" and not pool.stateful]
    if kind == "number" and may_fail:
        end.number = rng.choice(may_fail), rng.randrange(numbers)
    return end
