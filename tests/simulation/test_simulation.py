"""Thousands of whole runs in made-up time: whatever dies, waits or fails, the laws hold.

`SIMULATE_SEED=n` repeats one run, `SIMULATE_SCHEDULES=n` sets how many the long test draws.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim_laws import LawBroken
from sim_scenario import make_scenario
from simulator import simulate

SCHEDULES = 5_000
LONG = int(os.environ.get("SIMULATE_SCHEDULES", "100000"))
SHARDS = 2


def check(seeds: range) -> None:
    """Run the schedules of these seeds; raises `SystemExit` with the seed and what broke for the first that fails."""
    for seed in seeds:
        try:
            simulate(seed)
        except LawBroken as broken:
            raise SystemExit(
                f"{broken}\nrepeat with: SIMULATE_SEED={seed} pytest tests/simulation -k one_seed"
            ) from broken


def _check_in_shards(first: int, count: int) -> None:
    """Check `count` schedules in as many processes as there are shards."""
    script = "import sys; from test_simulation import check; check(range(*map(int, sys.argv[1:])))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    shards = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(first + at), str(first + count), str(SHARDS)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for at in range(SHARDS)
    ]
    told = [shard.communicate()[1] for shard in shards]
    assert [shard.returncode for shard in shards] == [0] * SHARDS, "\n".join(told)


@pytest.mark.timeout(600)  # 20 s of two cores, which others may be using
def test_the_laws_hold_in_every_schedule() -> None:
    _check_in_shards(0, SCHEDULES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_laws_hold_in_very_many_schedules() -> None:
    _check_in_shards(SCHEDULES, LONG)


@pytest.mark.skipif("SIMULATE_SEED" not in os.environ, reason="repeats one run, given by SIMULATE_SEED")
def test_one_seed() -> None:
    simulate(int(os.environ["SIMULATE_SEED"]))


def test_a_seed_gives_the_same_run_again() -> None:
    for seed in range(40):
        first, again = simulate(seed), simulate(seed)
        assert (first.steps, first.now, first.finish) == (again.steps, again.now, again.finish)
        assert first.reference.tokens == again.reference.tokens


def test_the_schedules_are_of_every_kind() -> None:
    seen = set()
    for seed in range(500):
        scenario = make_scenario(seed)
        seen.add(f"{len(scenario.wiring.pools)} pools")
        seen.add(scenario.wiring.order)
        for pool, script in zip(scenario.wiring.pools, scenario.pools, strict=True):
            seen |= {fault.kind for fault in script.faults.values()}
            seen |= {step.options.on_error for step in pool.program.steps}
            seen |= {"loop"} if script.loop else {"ordered"} if pool.ordered else {"in order"} if pool.in_order else set()
            seen |= {"join"} if len(pool.ports) > 1 else set()
        finish = simulate(seed).finish
        assert finish is not None
        seen.add(f"ended by {finish.ended_by}")
        if finish.failure is not None:
            seen.add(f"ended by a number that {finish.failure.kind}")
    assert seen >= {
        *("0 pools", "1 pools", "2 pools", "3 pools", "arrival", "round_robin", "key"),
        *("error", "poison", "codec", "slow", "fail", "skip", "dead_letter"),
        *("loop", "ordered", "in order", "join"),
        *("ended by source", "ended by limit", "ended by stop", "ended by error"),
        *("ended by a number that error", "ended by a number that died", "ended by a number that timeout"),
    }
