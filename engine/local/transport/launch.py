"""What a child process is launched with: the settings each child gets, and what the workers of one pool share.

Decides which values these are and how they are packed; who starts a child, and with which values, is decided elsewhere.
"""

from __future__ import annotations

import ormsgpack
from msgspec import Struct

from ....nodes.program.program import Program


class ChildSettings(Struct, frozen=True):
    """What a child needs to know when it starts."""

    endpoint: str
    name: str
    identity: bytes
    levels: dict[str, int]
    forward_prints: bool
    curve: tuple[bytes, bytes, bytes] | None
    spec_path: str
    variables: tuple[tuple[str, str], ...] = ()  #: of its environment, set before it imports anything
    cores: tuple[int, ...] = ()  #: that it may use; none for all

    def dump(self) -> bytes:
        """Pack for the child's start."""
        curve = list(self.curve) if self.curve is not None else None
        return ormsgpack.packb(
            [
                self.endpoint,
                self.name,
                self.identity,
                self.levels,
                self.forward_prints,
                curve,
                self.spec_path,
                self.variables,
                self.cores,
            ]
        )

    @staticmethod
    def load(packed: bytes) -> ChildSettings:
        """Unpack in the child."""
        endpoint, name, identity, levels, forward, curve, spec, variables, cores = ormsgpack.unpackb(packed)
        keys = tuple(curve) if curve else None
        pairs = tuple((name, value) for name, value in variables)
        return ChildSettings(endpoint, name, identity, levels, forward, keys, spec, pairs, tuple(cores))


class WorkerSpec(Struct, frozen=True):
    """What the workers of one pool share, written to a file once and read by each when it starts."""

    program: Program
    handlers: bytes
    ordered: bool
    max_events: int | None
    max_rss_bytes: int | None
