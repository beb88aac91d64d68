"""Puts the repository on the path, so that `bench` is found when pytest is started from anywhere.

Where pytest-benchmark is not installed, the fixture `benchmark` calls once and measures nothing, so that the benches
can still be seen to work.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if importlib.util.find_spec("pytest_benchmark") is None:

    class Once:
        """What `timed` needs of a benchmark, without figures."""

        stats = None
        group = ""

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, call: Callable[[], Any]) -> Any:
            return call()

    @pytest.fixture
    def benchmark(request: pytest.FixtureRequest) -> Once:
        """Return what calls once."""
        return Once(request.node.name)
