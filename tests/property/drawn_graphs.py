"""Graphs with handlers, drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from zlib import crc32

import sluiceway as sw


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
