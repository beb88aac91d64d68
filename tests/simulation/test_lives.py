"""Runs with checkpoints that die, pause and fail at any moment, in made-up time: whoever saw a number sees it the same.

`SIMULATE_SEED=n` repeats one run, `SIMULATE_SCHEDULES=n` sets how many the long test draws.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lives import live
from lives_scenario import POINTS, make_scenario
from sim_laws import LawBroken

SCHEDULES = 800
LONG = int(os.environ.get("SIMULATE_SCHEDULES", "100000"))
SHARDS = 2


def check(seeds: range) -> None:
    """Live the lives of these seeds; fails with the seed and what broke for the first that breaks a law."""
    for seed in seeds:
        try:
            live(seed)
        except LawBroken as broken:
            pytest.fail(f"{broken}\nrepeat with: SIMULATE_SEED={seed} pytest tests/simulation -k one_run", pytrace=False)


def _check_in_shards(first: int, count: int) -> None:
    """Check `count` schedules in as many processes as there are shards."""
    script = "import sys; from test_lives import check; check(range(*map(int, sys.argv[1:])))"
    shards = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(first + at), str(first + count), str(SHARDS)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])},
            stderr=subprocess.PIPE,
            text=True,
        )
        for at in range(SHARDS)
    ]
    told = [shard.communicate()[1] for shard in shards]
    assert [shard.returncode for shard in shards] == [0] * SHARDS, "\n".join(told)


def test_the_laws_hold_in_all_lives() -> None:
    check(range(SCHEDULES))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_laws_hold_in_the_lives_of_very_many_runs() -> None:
    _check_in_shards(SCHEDULES, LONG)


@pytest.mark.skipif("SIMULATE_SEED" not in os.environ, reason="repeats one run, given by SIMULATE_SEED")
def test_one_run() -> None:
    live(int(os.environ["SIMULATE_SEED"]))


def test_a_seed_gives_the_same_lives_again() -> None:
    for seed in range(25):
        first, again = live(seed), live(seed)
        assert (first.lives, first.fixed, first.store.saved) == (again.lives, again.fixed, again.store.saved)
        assert list(first.seen.items()) == list(again.seen.items())


def test_the_runs_are_of_every_kind() -> None:
    seen: set[str] = set()
    restored = repeated = 0
    for seed in range(250):
        scenario, world = make_scenario(seed), live(seed)
        seen |= {scenario.mode, scenario.wiring.order, *scenario.sinks, *world.lives, *world.points}
        seen |= {source.kind for source in scenario.sources}
        seen |= {"a state" for pool in scenario.wiring.pools if pool.stateful}
        seen |= {"a number for the end"} if scenario.wiring.needs_end else set()
        seen |= {"an acknowledgement"} if any(any(source.gone) for source in world.sources) else set()
        restored += world.restored
        repeated += world.repeated
    assert seen >= {
        *("store", "commits", "plain", "arrival", "round_robin", "key", "outbox", "ledger"),
        *("exact", "logged", "plain", "a state", "a number for the end", "an acknowledgement"),
        *("crash", "stop", "time_limit", "interrupt", "error", "limit", "source"),
        *POINTS,
    }
    assert restored > 40, "lives that begin with states"
    assert repeated > 30, "lives that repeat an order"
