"""Law 4: whatever the graph, the workers and the batch sizes, processes have exactly the results of one thread.

Graphs are drawn from a seed, which is the test's id: a failure is drawn again by running that test alone. Handlers
are functions of their event; they change it in place, fail by its value, and some are late.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any
from zlib import crc32

import pytest
import sluiceway as sw
from sluiceway.engine.codec.copying import safe_copies
from sluiceway.engine.plan.compiler import compile_graph
from sluiceway.engine.runners import inline
from sluiceway.engine.sources import feed
from sluiceway.nodes.dispatch import batch_sizing as pacing
from sluiceway.nodes.execution.async_executor import AsyncExecutor
from sluiceway.nodes.execution.executor import Executor
from sluiceway.nodes.handlers import build
from sluiceway.nodes.program.column import Column
from sluiceway.nodes.program.program import Answer, Program
from sluiceway.nodes.program.steps import join_answers

#: How many graphs are run in processes, and how many in this process alone; the second figures are for slow tests.
RUNS, SLOW_RUNS = 20, 600
PURE, SLOW_PURE = 100, 1200
#: The first seeds of the two tests that run in this process alone.
STEPS, LOOPS = 0, 10_000

Make = Callable[[Any], sw.Graph]


# -- handlers: built inside functions, so that they travel by value -----------------------------------------------


def make_tools(late: bool) -> tuple[Callable[[Any], int], Callable[[Any, str], Any], Callable[[int], None]]:
    """Return what handlers are made of: a number for an event, a change in place, a short delay."""

    def weigh(event: Any) -> int:
        return crc32(repr(event).encode())

    def change(event: Any, tag: str) -> Any:
        if isinstance(event, dict):
            event["log"].append(tag)
            return event
        if isinstance(event, tuple):
            return tuple(change(part, tag) for part in event)
        return {"n": event, "log": [tag]}

    def dawdle(weight: int) -> None:
        if late and weight % 11 == 0:
            import time

            time.sleep(0.002)

    return weigh, change, dawdle


def make_handler(kind: str, tag: str, fails: int, recovers: bool, form: str, late: bool) -> Any:
    """Make a handler of a kind; every `fails`-th event fails, for good or (`recovers`) only at the first attempt."""
    weigh, change, dawdle = make_tools(late)

    def work(event: Any) -> Any:
        weight = weigh(event)
        dawdle(weight)
        event = change(event, tag)
        if fails and weight % fails == 0 and not (recovers and sw.current().attempt > 1):
            raise ValueError(f"{tag} takes no {weight}")
        if kind == "filter":
            return weight % 3 > 0
        if kind == "flat_map":
            return [change(safe(event), f"{tag}{at}") for at in range(weight % 4)]
        return event

    def safe(event: Any) -> Any:
        import copy

        return copy.deepcopy(event)

    def generate(event: Any) -> Iterator[Any]:
        yield from work(event)

    async def generate_late(event: Any) -> AsyncIterator[Any]:
        for output in work(event):
            await asyncio.sleep(0)
            yield output

    async def work_late(event: Any) -> Any:
        await asyncio.sleep(0.001 if late and weigh(event) % 7 == 0 else 0)
        return work(event)

    def work_list(events: list[Any]) -> list[Any]:
        return [work(event) for event in events]

    async def work_list_late(events: list[Any]) -> tuple[Any, ...]:
        await asyncio.sleep(0)
        return tuple(work(event) for event in events)

    class Worker:
        def __init__(self, prefix: str = "") -> None:
            self.prefix = prefix

        def __call__(self, event: Any) -> Any:
            return work(event)

    class LateWorker(Worker):
        async def __call__(self, event: Any) -> Any:
            return await work_late(event)

    if kind == "map_batches":
        return work_list_late if form == "async" else work_list
    if kind == "flat_map" and form in ("async", "generator"):
        return generate_late if form == "async" else generate
    forms = {"async": work_late, "class": Worker, "async class": LateWorker}
    return sw.per_worker(Worker, prefix="p") if form == "per_worker" else forms.get(form, work)


def make_counter(tag: str) -> Any:
    """Make a handler that remembers: its results tell in which order it saw the events."""

    class Counter:
        def __init__(self) -> None:
            self.seen = 0

        def __call__(self, event: Any) -> Any:
            self.seen = crc32(repr((self.seen, event)).encode())
            return {"n": self.seen, "log": [tag]}

    return Counter


# -- drawing a graph ---------------------------------------------------------------------------------------------


class Drawn:
    """A graph drawn from a seed; `make` gives it afresh, always the same."""

    def __init__(self, seed: int, *, loops: bool = True, many_sources: bool = True, most: int = 60) -> None:
        self._seed = seed
        self._loops = loops
        self._many_sources = many_sources
        self._most = most

    def make(self, seen: Any) -> sw.Graph:
        """Build the graph with sinks that write into `seen`."""
        rng = random.Random(self._seed)
        graph = sw.Graph(f"drawn-{self._seed}")
        self._letters = False
        streams = [(self._source(rng, graph), True)]
        for at in range(rng.randint(1, 6)):
            streams.append(self._step(rng, streams, at))
        self._sinks(rng, graph, streams, seen)
        return graph

    def _source(self, rng: random.Random, graph: sw.Graph) -> sw.Stream[Any]:
        size = rng.choice([0, 1, 2, 7, 30, self._most])
        if not self._many_sources or rng.random() < 0.6:
            return graph.source(_subject(rng, size, rng.random() < 0.1), name="source-0")
        count = rng.randint(2, 3)
        order = rng.choice(["round_robin", "key"])
        streams = [graph.source(_sorted(rng, size), name=f"source-{at}") for at in range(count)]
        if order == "key":
            return graph.sequence(*streams, key=lambda n: n if n % 3 else None)
        return graph.sequence(*streams, order="round_robin")

    def _step(
        self, rng: random.Random, streams: list[tuple[sw.Stream[Any], bool]], at: int
    ) -> tuple[sw.Stream[Any], bool]:
        kinds = ["map"] * 4 + ["filter", "flat_map", "map_batches", "map_batches", "zip", "merge", "counter", "barrier"]
        kind = rng.choice(kinds)
        stream, alone = streams[-1] if rng.random() < 0.7 else rng.choice(streams)
        if kind in ("zip", "merge"):
            able = [pair for pair in streams if pair[1] or kind == "merge"]
            if able:
                chosen = [rng.choice(able)[0] for _ in range(rng.randint(2, 3))]
                return (sw.zip(*chosen), True) if kind == "zip" else (sw.merge(*chosen), False)
            kind = "map"
        if kind == "barrier":
            return (stream.barrier() if stream.node.kind.value != "barrier" else stream), alone
        name = f"node-{at}"
        if kind == "counter":
            return stream.map(make_counter(name), ordered=True, name=name), alone
        return self._handle(rng, stream, kind, name), alone and kind != "flat_map"

    def _handle(self, rng: random.Random, stream: sw.Stream[Any], kind: str, name: str) -> sw.Stream[Any]:
        forms = ["plain", "class", "per_worker", "generator"] + ["async", "async class"] * self._loops
        fails = rng.choice([0, 0, 3, 10, 40])
        words: dict[str, Any] = {"name": name}
        words["on_error"] = rng.choice(["fail", "skip", "dead_letter"] if fails > 3 else ["skip", "dead_letter"])
        self._letters = self._letters or words["on_error"] == "dead_letter"
        words["retries"] = rng.choice([0, 0, 1, 2])
        if self._loops and words["retries"] and rng.random() < 0.4:
            words["backoff_s"] = 0.001
        if rng.random() < 0.3:
            words["workers"] = rng.randint(1, 3)
        if rng.random() < 0.1:
            words["ordered"] = True
            words.pop("workers", None)
        if rng.random() < 0.2:
            words["concurrency"] = rng.choice([1, 2, 50])
        if kind == "map_batches":
            words["batch_size"] = rng.choice([None, 1, 2, 3, 7])
        handler = make_handler(kind, name, fails, rng.random() < 0.4, rng.choice(forms), rng.random() < 0.3)
        return getattr(stream, kind)(handler, **words)  # type: ignore[no-any-return]

    def _sinks(
        self, rng: random.Random, graph: sw.Graph, streams: list[tuple[sw.Stream[Any], bool]], seen: Any
    ) -> None:
        used = {given for node in graph.nodes for given in node.inputs}
        leaves = {stream.node: stream for stream, _ in streams if stream.node not in used}
        for extra, _ in rng.sample(streams, min(len(streams), rng.randint(0, 2))):
            leaves.setdefault(extra.node, extra)
        for at, stream in enumerate(leaves.values()):
            ordered = rng.random() < 0.8
            stream.sink(seen.sink(f"sink-{at}", ordered=ordered), name=f"sink-{at}", ordered=ordered)
        if self._letters:
            letters = graph.dead_letters()
            letters.sink(seen.sink("letters"), name="letters")
            if rng.random() < 0.4:
                short = letters.filter(lambda letter: letter.seq % 2).map(lambda letter: (letter.seq, letter.error))
                short.sink(seen.sink("odd-letters"), name="odd-letters")


def _sorted(rng: random.Random, size: int) -> Any:
    numbers = sorted(rng.randrange(100) for _ in range(rng.randint(0, size)))
    return _subject(rng, numbers, False)


def _subject(rng: random.Random, size: Any, breaks: bool) -> Any:
    """Return a source of integers, or of events that can be changed, in one of the forms that a source may have."""
    values = list(range(size)) if isinstance(size, int) else size
    form = rng.choice(["list", "range", "generator", "iterator", "async"])
    if form == "range" and isinstance(size, int):
        return range(size)
    if form == "iterator":
        return iter(values)
    if form == "list":
        return values if not isinstance(size, int) or rng.random() < 0.5 else [{"n": n, "log": []} for n in values]

    def generate() -> Iterator[Any]:
        yield from values
        if breaks:
            raise OSError("the line is cut")

    async def generate_late() -> AsyncIterator[Any]:
        for value in values:
            yield value
        if breaks:
            raise OSError("the line is cut")

    return generate_late if form == "async" else generate


# -- in processes ------------------------------------------------------------------------------------------------


def pressed(rng: random.Random, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Draw the sizes of batches and of the budget, and give the options of the run."""
    patch.setattr(pacing, "MAX_BATCH", rng.choice([1, 2, 5, 8192]))
    patch.setattr(pacing, "MAX_GROWTH", rng.choice([2, 16]))
    patch.setattr(pacing, "TARGET_S", rng.choice([0.0001, 0.004]))
    patch.setattr(feed, "_FIRST", rng.choice([1, 4]))
    patch.setattr(inline, "_MAX_TURN", rng.choice([1, 3, 4096]))
    options: dict[str, Any] = {"workers": rng.randint(1, 3)}
    if rng.random() < 0.5:
        options["window_numbers"] = rng.choice([1, 2, 5, 50])
    if rng.random() < 0.5:
        options["window_bytes"] = rng.choice([1, 500, 5000])
    return options


def compare(seed: int, both: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    """Draw a graph and the sizes of a run, run it twice and compare."""
    both(Drawn(seed).make, **pressed(random.Random(-seed), patch))


@pytest.mark.parametrize("seed", range(RUNS))
def test_processes_give_what_one_thread_gives(
    seed: int, both: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(seed, both, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS, RUNS + SLOW_RUNS))
def test_processes_give_what_one_thread_gives_for_many_graphs(
    seed: int, both: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(seed, both, monkeypatch)


# -- executors alone ---------------------------------------------------------------------------------------------


class Nowhere:
    """Replaces what the sinks of a graph write into, where only its program is needed."""

    def sink(self, name: str, *, ordered: bool = True) -> Callable[[Any], None]:
        """Return a sink that forgets."""
        return lambda event: None


def program_of(seed: int, *, loops: bool) -> tuple[Program, list[Any], list[Any], bool]:
    """Draw a graph and give its whole program, its handlers, the events to run over, and whether order matters."""
    rng = random.Random(seed)
    graph = Drawn(seed, loops=loops, many_sources=False).make(Nowhere())
    plan = compile_graph(graph, workers=1)
    events: list[Any] = list(range(rng.choice([1, 2, 12, 40])))
    if rng.random() < 0.5:
        events = [{"n": n, "log": []} for n in events]
    return plan.whole.program, plan.whole.handlers, events, any(pool.ordered for pool in plan.pools)


def built(subjects: list[Any]) -> list[Any]:
    return [None if subject is None else build(subject)[0] for subject in subjects]


def cuts_of(seed: int, size: int) -> list[tuple[int, int]]:
    """Cut `0 .. size` anywhere."""
    rng = random.Random(seed)
    places = sorted({0, size, *(rng.randrange(size + 1) for _ in range(rng.choice([0, 1, 3, size])))})
    return list(itertools.pairwise(places))


def run_columns(program: Program, handlers: list[Any], events: list[Any], cuts: list[tuple[int, int]]) -> Answer:
    executor = Executor(program, built(handlers), safe_copies)
    return joined(executor.run([Column(lo, hi - lo, safe_copies(events[lo:hi]))]) for lo, hi in cuts)


def run_looped(
    program: Program, handlers: list[Any], events: list[Any], cuts: list[tuple[int, int]], ordered: bool
) -> Answer:
    async def work() -> Answer:
        executor = AsyncExecutor(program, built(handlers), safe_copies, ordered=ordered)
        answers = []
        for lo, hi in cuts:
            answers.append(await executor.run([Column(lo, hi - lo, safe_copies(events[lo:hi]))]))
            if any(failed.on_error == "fail" for failed in answers[-1].failures):
                break
        return joined(iter(answers))

    return asyncio.run(work())


def joined(answers: Iterator[Answer]) -> Answer:
    """Join answers up to the first that ends the run."""
    kept = []
    for answer in answers:
        kept.append(answer)
        if any(failed.on_error == "fail" for failed in answer.failures):
            break
    return join_answers(kept)


def essence(answer: Answer, program: Program) -> dict[str, Any]:
    """Return what of an answer must depend neither on the batches nor on who ran the program."""
    ids = {step.node: step.node_id for step in program.steps}
    failures = sorted(answer.failures, key=lambda f: (f.seq, ids[f.node], f.index))
    # Nobody sees the event of a skipped failure.
    events = [None if f.on_error == "skip" else f.event for f in failures]
    described = [(f.seq, f.index, f.node, f.error, f.traceback, f.attempts, e) for f, e in zip(failures, events, strict=True)]
    fatal = [row for row, f in zip(described, failures, strict=True) if f.on_error == "fail"]
    found: dict[str, Any] = {
        "numbers": (answer.start, answer.size),
        "exits": [list(zip(column.numbers(), column.events, strict=True)) for column in answer.exits],
        "failures": [row for row, f in zip(described, failures, strict=True) if f.on_error != "fail"],
        "fatal": fatal[:1],
    }
    if not fatal:
        found["tallies"] = [(t.events_in, t.events_out, t.retries, t.filtered, t.unmatched) for t in answer.tallies]
    return found


def tens(first: int) -> list[Any]:
    """Return every tenth seed from `first` on, those behind the first few marked slow."""
    many = range(first + PURE, first + PURE + SLOW_PURE, 10)
    return [*range(first, first + PURE, 10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in many)]


@pytest.mark.parametrize("seed", tens(STEPS))
def test_cuts_and_executors_change_nothing(seed: int) -> None:
    for each in range(seed, seed + 10):
        program, handlers, events, ordered = program_of(each, loops=False)
        whole = [(0, len(events))]
        reference = essence(run_columns(program, handlers, events, whole), program)
        cuts = cuts_of(each, len(events))
        with _named(each):
            assert essence(run_columns(program, handlers, events, cuts), program) == reference
            assert essence(run_looped(program, handlers, events, whole, ordered), program) == reference
            assert essence(run_looped(program, handlers, events, cuts, ordered), program) == reference


@pytest.mark.parametrize("seed", tens(LOOPS))
def test_cuts_change_nothing_in_a_loop(seed: int) -> None:
    for each in range(seed, seed + 10):
        program, handlers, events, ordered = program_of(each, loops=True)
        whole = [(0, len(events))]
        reference = essence(run_looped(program, handlers, events, whole, ordered), program)
        with _named(each):
            cuts = cuts_of(each, len(events))
            assert essence(run_looped(program, handlers, events, cuts, ordered), program) == reference


class _named(suppress):
    """Names the seed of what failed inside."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._at = seed

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if error is not None:
            error.add_note(f"seed {self._at}")
        return False
