"""The page about Ray keeps its word: its example is run on a cluster of simulated nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_page
from ray_cluster import SimulatedCluster, needs_ray

pytestmark = needs_ray
PAGE = Path(__file__).parents[2] / "docs" / "ray.md"


def test_the_example_prints_what_stands_under_it(
    nothing_on_nodes: SimulatedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    # This process is connected already, so the address is left out.
    check_page(PAGE.read_text(), 1, capsys, server=('sw.ray_runner("auto")', '"ray"'))
