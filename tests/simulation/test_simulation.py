"""Thousands of whole runs in made-up time: whatever dies, waits or fails, the laws hold.

`SIMULATE_SEED=n` repeats one run, `SIMULATE_SCHEDULES=n` sets how many the long test draws.
"""

from __future__ import annotations

import os

import pytest
from sim_laws import LawBroken
from sim_scenario import make_scenario
from simulator import simulate

SCHEDULES = 2_000
LONG = int(os.environ.get("SIMULATE_SCHEDULES", "20000"))
PARTS = 8


def _run(seeds: range) -> None:
    for seed in seeds:
        try:
            simulate(seed)
        except LawBroken as broken:
            pytest.fail(f"{broken}\nrepeat with: SIMULATE_SEED={seed} pytest tests/simulation -k one_seed", pytrace=False)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_laws_hold_in_every_schedule(part: int) -> None:
    each = SCHEDULES // PARTS
    _run(range(part * each, (part + 1) * each))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_laws_hold_in_very_many_schedules() -> None:
    _run(range(SCHEDULES, SCHEDULES + LONG))


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
    for seed in range(SCHEDULES // 4):
        scenario = make_scenario(seed)
        seen.add(f"{len(scenario.wiring.pools)} pools")
        seen.add(scenario.wiring.order)
        for pool, script in zip(scenario.wiring.pools, scenario.pools, strict=True):
            seen |= {fault.kind for fault in script.faults.values()}
            seen |= {step.on_error for step in pool.program.steps}
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
