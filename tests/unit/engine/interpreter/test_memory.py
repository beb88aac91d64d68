"""Garbage is collected when the memory has grown, and only then."""

from __future__ import annotations

import sys

import pytest
from sluiceway.engine.interpreter.memory import GrowthCollector

MB = 1 << 20


def test_it_collects_after_growth_and_begins_anew() -> None:
    now, after = [100 * MB], [100 * MB]
    collections: list[int] = []

    def collect() -> None:
        collections.append(now[0] // MB)
        now[0] = after[0]

    collector = GrowthCollector(lambda: now[0], collect)
    for size in 120, 163, 164, 163, 90, 400:
        now[0] = size * MB
        collector.collect_if_grown()
    assert collections == [164, 400]
    after[0] = 1000 * MB
    now[0] = 1000 * MB
    collector.collect_if_grown()
    assert collections == [164, 400, 1000]
    for size in 1100, 1249, 1250:
        now[0] = size * MB
        collector.collect_if_grown()
    assert collections == [164, 400, 1000, 1250]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the memory at a cost")
def test_it_reads_the_memory_of_this_process() -> None:
    collector = GrowthCollector.of_this_process()
    assert collector is not None
    collector.collect_if_grown()
