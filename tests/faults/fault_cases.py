"""On which graphs a fault is tried: in every run on the one with branches and two pools, else also on the small one."""

from __future__ import annotations

from fault_graphs import branched, small
from marks import slow

GRAPHS = (branched, slow(small))
