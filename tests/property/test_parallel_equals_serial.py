"""Law 4: whatever the graph, the workers and the batch sizes, processes have exactly the results of one thread.

Graphs are drawn from a seed, which is the test's id: a failure is drawn again by running that test alone. Handlers
are functions of their event; they change it in place, fail by its value, and some are late.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from drawn_graphs import Drawn
from sluiceway.engine.runners import inline
from sluiceway.engine.sources import feed
from sluiceway.nodes.dispatch import batch_sizing as pacing

#: How many graphs are run in processes, and how many in this process alone; the second figures are for slow tests.
RUNS, SLOW_RUNS = 20, 600


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
