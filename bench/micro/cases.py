"""What the small benches share: batches, and figures per event beside those per batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

#: The batches that are measured: one event alone, and what a flood travels in.
SIZES = (1, 1000)
by_size = pytest.mark.parametrize("size", SIZES)


def ints(size: int) -> list[Any]:
    """Make numbers."""
    return list(range(size))


def dicts(size: int) -> list[Any]:
    """Make records of five fields."""
    return [{"id": i, "user": "ada", "type": "login", "ok": True, "score": 0.5} for i in range(size)]


def blobs(size: int) -> list[Any]:
    """Make bytes of 64 KiB."""
    return [bytes([i % 256]) * (64 << 10) for i in range(size)]


def timed(benchmark: Any, size: int, call: Callable[[], Any]) -> Any:
    """Measure one call that treats `size` events; records the median nanoseconds per event too."""
    benchmark.group = f"{benchmark.name.removeprefix('test_').partition('[')[0]}"
    result = benchmark(call)
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_batch"] = benchmark.stats.stats.median * 1e9
        benchmark.extra_info["ns_per_event"] = benchmark.stats.stats.median * 1e9 / size
    return result
