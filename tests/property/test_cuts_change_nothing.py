"""Wherever the tasks of a graph are cut, and whichever executor runs them, the results are the same."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from drawn_graphs import Drawn
from sluiceway.engine.codec.copying import safe_copies
from sluiceway.engine.plan.compiler import compile_graph
from sluiceway.nodes.execution.async_executor import AsyncExecutor
from sluiceway.nodes.execution.executor import Executor
from sluiceway.nodes.handlers import build
from sluiceway.nodes.program.column import Column
from sluiceway.nodes.program.program import Answer, Program
from sluiceway.nodes.program.steps import join_answers

PURE, SLOW_PURE = 100, 1200
#: The first seeds of the two tests that run in this process alone.
STEPS, LOOPS = 0, 10_000


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
