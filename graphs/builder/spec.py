"""The plain description of a graph that the builder writes and the compiler reads: nodes, kinds, options.

It decides nothing; checks are in `checks`, building in `graph`, meaning in the executors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ...nodes.events import OnError


class Kind(Enum):
    """What a node does with its inputs."""

    SOURCE = "source"
    SEQUENCE = "sequence"
    MAP = "map"
    FILTER = "filter"
    FLAT_MAP = "flat_map"
    MAP_BATCHES = "map_batches"
    ZIP = "zip"
    MERGE = "merge"
    BARRIER = "barrier"
    LETTERS = "dead_letters"
    SINK = "sink"
    SCAN = "scan"
    KEY_BY = "key_by"
    KEYED_MAP = "keyed_map"
    KEYED_SCAN = "keyed_scan"
    REDUCE = "reduce"
    COUNT = "count"
    WINDOW = "window"
    # What the compiler makes of the keyed ones.
    TIME = "time"
    CODES = "codes"
    PART = "part"
    CLOCK = "clock"
    STATE = "state"
    GATHER = "gather"


#: The kinds that run user code in a worker.
HANDLERS = frozenset({Kind.MAP, Kind.FILTER, Kind.FLAT_MAP, Kind.MAP_BATCHES})
#: The kinds that follow a `key_by`.
KEYED = frozenset({Kind.KEYED_MAP, Kind.KEYED_SCAN, Kind.REDUCE, Kind.COUNT, Kind.WINDOW})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one handler, after checking; the defaults are those of `Stream.map`."""

    workers: int | None = None
    ordered: bool = False
    retries: int = 0
    backoff_s: float = 0.0
    timeout_s: float | None = None
    concurrency: int = 16
    on_error: OnError = "fail"
    batch_size: int | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One node. `subject` is the user's part: a source, a handler or a sink.

    `journal` speaks of sources only, `ordered` of sinks only, `key` and `order` of sequences only; `spec` of what the
    compiler made of others. `named` says that the user chose the name, `claimed` that a run has begun to read a source
    that can be read only once.
    """

    id: int
    kind: Kind
    name: str
    inputs: tuple[Node, ...]
    subject: Any = None
    options: Options = field(default_factory=Options)
    journal: bool = False
    ordered: bool = True
    order: str = "arrival"
    key: Any = None
    spec: Any = None
    named: bool = False
    claimed: bool = False
