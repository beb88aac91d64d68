"""Random runs to simulate, made from a seed: the wiring, the budget, the sources, and which numbers do harm where.

What a number does in a pool depends on the pool and the number alone, so that what a run must give can be computed
directly: `Reference` is that computation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Program, Step, make_program

MAX_DEATHS = 3


class Fault(NamedTuple):
    """What a number does to a pool: `kind` is error, poison, codec (the worker dies unpacking it) or slow."""

    kind: str
    step: int


@dataclass(slots=True)
class PoolScript:
    """How one pool behaves; service times in seconds."""

    loop: bool
    watched: bool
    each_s: float
    event_bytes: int
    growths: list[int]
    faults: dict[int, Fault]
    recycle_after: int | None
    parks: bool
    cuts: bool
    gives_back: bool  #: whether its workers give back what they have not begun, now and then
    taught: int  #: the batch that the pool is used to; 0 where it begins with single numbers


@dataclass(slots=True)
class SourceScript:
    """What one source gives, how much at once, and how it ends."""

    items: int
    keys: list[int] | None
    largest: int
    event_bytes: int
    silent: float
    fails: bool
    delay_s: float


@dataclass(slots=True)
class Scenario:
    """One run to simulate."""

    seed: int
    wiring: Wiring
    pools: list[PoolScript]
    sources: list[SourceScript]
    window_bytes: int
    window_numbers: int
    limit: int | None
    stop_after: int | None
    blamed_kills: int
    quiet_kills: int
    kills_at_failure: int  #: more blamed kills, each right behind a failure that ends the run
    ack_s: float
    lag_s: float
    repeats: float
    lazy: float

    def describe(self) -> str:
        """Return what a person needs to see first."""
        pools = "; ".join(
            f"{w.name}: {w.workers} workers, ports {w.ports}, exits {w.exits}"
            f"{', loop' if s.loop else ''}{', ordered' if w.ordered else ''}{', in order' if w.in_order else ''},"
            f" {s.each_s} s each, faults { {n: tuple(f) for n, f in s.faults.items()} }"
            for w, s in zip(self.wiring.pools, self.pools, strict=True)
        )
        sources = ", ".join(f"{s.items} items{' then an error' if s.fails else ''}" for s in self.sources)
        return (
            f"pools [{pools}], sources [{sources}] by {self.wiring.order}, tail {self.wiring.tail}, loose"
            f" {self.wiring.loose}, window {self.window_bytes} bytes and {self.window_numbers} numbers, limit"
            f" {self.limit}, {self.blamed_kills}+{self.kills_at_failure}+{self.quiet_kills} kills"
        )


def make_scenario(seed: int) -> Scenario:
    """Draw a run from a seed."""
    rng = Random(seed)
    numbers = rng.choice((3, 10, 20, 20, 30, 60))
    wiring_pools: list[PoolWiring] = []
    scripts: list[PoolScript] = []
    streams = 1
    for at in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        script, pool = _make_pool(rng, at, streams, numbers)
        streams += len(pool.exits)
        wiring_pools.append(pool)
        scripts.append(script)
    tail, loose = _ends(rng, wiring_pools, streams)
    count = rng.choice((1, 1, 1, 2, 3))
    order: Any = rng.choice(("arrival", "round_robin", "key")) if count > 1 else "arrival"
    remote = tuple(rng.random() < 0.6 for _ in range(count))
    sources = [_make_source(rng, numbers // count + at, order == "key") for at in range(count)]
    # Beside numbers that kill, one death of theirs may be held against a number that was only killed from outside.
    most = MAX_DEATHS - 1 - _kills(scripts)
    blamed = rng.choice((0, 0, 1, most))
    return Scenario(
        seed,
        Wiring(tuple(wiring_pools), tail, loose, remote, order),
        scripts,
        sources,
        window_bytes=rng.choice((1, 400, 900, 3000, 1 << 20, 1 << 20)),
        window_numbers=rng.choice((1, 3, 10, 1 << 18, 1 << 18)),
        limit=rng.choice((None, None, None, None, numbers // 2, 0 if rng.random() < 0.1 else 1)),
        stop_after=rng.choice((None, None, None, None, rng.randrange(60))),
        blamed_kills=blamed,
        quiet_kills=rng.choice((0, 0, 2)),
        kills_at_failure=min(most - blamed, rng.choice((0, 1))),
        ack_s=rng.choice((0.0, 0.001, 0.05)),
        lag_s=rng.choice((0.0, 0.0001, 0.003)),
        repeats=rng.choice((0.0, 0.0, 0.2)),
        lazy=rng.choice((0.0, 0.5, 0.8)),
    )


def _kills(scripts: list[PoolScript]) -> bool:
    return any(fault.kind in ("poison", "codec") for script in scripts for fault in script.faults.values())


def _make_pool(rng: Random, at: int, streams: int, numbers: int) -> tuple[PoolScript, PoolWiring]:
    ports = tuple(sorted(rng.sample(range(streams), min(streams, rng.choice((1, 1, 2)))))) if at else (0,)
    exits = tuple(range(streams, streams + rng.choice((1, 1, 1, 2))))
    loop, ordered = rng.random() < 0.25, rng.random() < 0.1
    #: Aimed at failures that end the run in the middle of what a worker has under way.
    aimed = loop and rng.random() < 0.4
    faults = _faults(rng, numbers, loop) if rng.random() < 0.6 else {}
    if aimed:
        faults = {n: Fault("error", 0) for n in rng.sample(range(numbers), min(numbers, 3))}
    timed = any(fault.kind == "slow" for fault in faults.values())
    program = _program(rng, at, len(ports), len(exits), loop, timed, 1.0 if aimed else 0.35)
    calls = [number for number, step in enumerate(program.steps) if step.kind.traits.calls_user_code]
    faults = {n: Fault(f.kind, calls[0] if f.kind == "codec" else rng.choice(calls)) for n, f in faults.items()}
    wiring = PoolWiring(
        f"pool{at}",
        program,
        1 if ordered else rng.randint(1, 3),
        ordered,
        ports,
        exits,
        in_order=ordered or rng.random() < 0.15,
    )
    script = PoolScript(
        loop,
        watched=rng.random() < 0.5,
        each_s=rng.choice((1e-6, 1e-6, 0.0003) if aimed else (1e-6, 1e-6, 0.0003, 0.003, 0.05)),
        event_bytes=rng.choice((1, 20, 300)),
        growths=rng.choice(([1], [1], [1], [0, 1], [3, 0, 1], [2])),
        faults=faults,
        recycle_after=rng.choice((None, None, None, 1, 7)),
        parks=loop and rng.random() < 0.5,
        cuts=rng.random() < 0.5,
        gives_back=rng.random() < 0.5,
        taught=rng.choice((0, 0, 4, 30)),
    )
    return script, wiring


def _faults(rng: Random, numbers: int, loop: bool) -> dict[int, Fault]:
    kinds: tuple[str, ...] = ("error", "error", "error", "poison", "poison", "codec", "slow")
    if rng.random() < 0.3:
        kinds = ("poison", "poison", "error")
    given = (rng.choice(kinds) for _ in range(rng.choice((1, 1, 2, 4))))
    first, span = rng.randrange(numbers), rng.choice((numbers, 4))
    return {
        (first + rng.randrange(span)) % numbers: Fault("error" if loop and kind == "slow" else kind, 0) for kind in given
    }


def _program(
    rng: Random, pool: int, ports: int, exits: int, loop: bool, timed: bool, fatal_share: float
) -> Program:
    steps: list[Step] = []
    slot = 0
    if ports > 1:
        steps.append(Step(kind=NodeKind.MERGE, node=f"merge{pool}", node_id=10 * pool, inputs=tuple(range(ports)), output=ports))
        slot = ports
    fatal = rng.random() < fatal_share
    for at in range(rng.choice((1, 2))):
        lists = rng.random() < 0.1
        output = max(ports, slot + 1)
        steps.append(
            Step(
                kind=NodeKind.MAP_BATCHES if lists else NodeKind.MAP,
                node=f"node{pool}{'ab'[at]}",
                node_id=10 * pool + 1 + at,
                inputs=(slot,),
                output=output,
                options=Options(
                    batch_size=rng.choice((1, 4)) if lists else None,
                    retries=rng.choice((0, 1)) if timed else 0,
                    timeout_s=1.0 if timed else None,
                    concurrency=rng.choice((1, 4, 16, 16)),
                    on_error=rng.choice(("fail", "fail", "skip")) if fatal else rng.choice(("skip", "dead_letter")),
                ),
                is_async=loop,
            )
        )
        slot = output
    return make_program(ports, slot + 1, steps, [slot] * exits)


def _ends(rng: Random, pools: list[PoolWiring], streams: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    read = {stream for pool in pools for stream in pool.ports}
    tail, loose = [], []
    for stream in range(streams):
        wanted = rng.random()
        if wanted < 0.2 or (stream not in read and wanted < 0.75):
            tail.append(stream)
        if (stream not in read and stream not in tail) or (stream and wanted > 0.9):
            loose.append(stream)
    return tuple(tail), tuple(loose)


def _make_source(rng: Random, items: int, keyed: bool) -> SourceScript:
    keys = sorted(rng.randrange(2 * items + 1) for _ in range(items)) if keyed else None
    return SourceScript(
        items,
        keys,
        largest=rng.choice((1, 3, 100)),
        event_bytes=rng.choice((1, 30, 500)),
        silent=rng.choice((0.0, 0.0, 0.1)),
        fails=rng.random() < 0.1,
        delay_s=rng.choice((0.0, 0.0005, 0.01)),
    )


class Failed(NamedTuple):
    """A failure as it must come out."""

    seq: int
    node_id: int
    index: int
    node: str
    on_error: str
    kind: str


@dataclass(slots=True)
class Reference:
    """Computes directly what every stream holds for a number, once the number is known to be `tokens[number]`."""

    scenario: Scenario
    tokens: list[int] = field(default_factory=list)
    _known: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _maker: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for at, pool in enumerate(self.scenario.wiring.pools):
            for stream in pool.exits:
                self._maker[stream] = at

    def stream(self, stream: int, number: int) -> list[int]:
        """Return the events that a stream holds for a number."""
        if not stream:
            return [self.tokens[number]]
        known = self._known.get((stream, number))
        if known is None:
            at = self._maker[stream]
            known = handle(self.scenario, at, stream, number, self.inputs(at, number))
            self._known[stream, number] = known
        return known

    def inputs(self, pool: int, number: int) -> list[int]:
        """Return the events that a pool works on for a number."""
        return [event for stream in self.scenario.wiring.pools[pool].ports for event in self.stream(stream, number)]

    def failures(self, number: int) -> list[Failed]:
        """Return the failures of a number in their order."""
        found = []
        for at, script in enumerate(self.scenario.pools):
            if number in script.faults and (inputs := self.inputs(at, number)):
                found.append(failure_of(self.scenario, at, number, len(inputs)))
        return sorted(found)


def failing_index(number: int, count: int) -> int:
    """Return which of a number's `count` events does the harm."""
    return number % count


def handle(scenario: Scenario, pool: int, stream: int, number: int, inputs: list[int]) -> list[int]:
    """Return what a pool writes to one of its streams for a number."""
    script = scenario.pools[pool]
    growth = script.growths[(number + stream) % len(script.growths)]
    fault = script.faults.get(number)
    spared = failing_index(number, len(inputs)) if fault is not None and inputs else -1
    if fault is not None and inputs:
        step = scenario.wiring.pools[pool].program.steps[fault.step]
        if fault.kind == "codec" or step.options.on_error == "fail":
            return []
    return [
        (event * 31 + stream * 7 + k) % 1000003 for at, event in enumerate(inputs) if at != spared for k in range(growth)
    ]


def failure_of(scenario: Scenario, pool: int, number: int, count: int) -> Failed:
    """Return the failure of a number that does harm in a pool where it has `count` events."""
    fault = scenario.pools[pool].faults[number]
    step = scenario.wiring.pools[pool].program.steps[fault.step]
    kind = {"error": "error", "poison": "died", "codec": "died", "slow": "timeout"}[fault.kind]
    index = 0 if fault.kind == "codec" else failing_index(number, count)
    return Failed(number, step.node_id, index, step.node, step.options.on_error, kind)
