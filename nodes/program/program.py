"""A program: the fused steps that one pool runs over every number, as plain data.

Decides the shape only: which step reads which slot, what leaves the program, and which reader of a slot may have
the original and which need a copy. Knows nothing of how steps are run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from ..events import Failure
from .column import Column
from .kinds import NodeKind
from .options import Options


class Step(Struct, frozen=True, kw_only=True):
    """One node of a program: reads the columns in `inputs`, writes the column in `output`.

    `node_id` is the node's index in the graph; failures of one number are ordered by it.
    """

    kind: NodeKind
    node: str
    node_id: int
    inputs: tuple[int, ...]
    output: int
    options: Options = field(default_factory=Options)
    is_async: bool = False
    #: False where the same join is made, and so counted, in another program too.
    counted: bool = True
    #: The number of values per event in the first input, and in the output (a keyed column is flattened).
    width: int = 1
    width_out: int = 1
    #: A `Partition` for `PARTITION`, a `Record` for `MERGE_PARTITIONS`.
    spec: Any = None


class Program(Struct, frozen=True):
    """Steps in graph order over `slots` columns; slots `0 .. ports - 1` are filled from outside.

    `exits` are the slots that leave the program. `copied` holds the (step, input) pairs that must work on a copy
    because a later reader of the same slot needs the events untouched.
    """

    ports: int
    slots: int
    steps: tuple[Step, ...]
    exits: tuple[int, ...]
    copied: frozenset[tuple[int, int]] = frozenset()

    @property
    def needs_loop(self) -> bool:
        """Whether numbers are handled one by one in an event loop: async handlers, or a pause between retries."""
        return any(step.is_async or (step.options.backoff_s > 0 and step.options.retries > 0) for step in self.steps)

    @property
    def takes_lists(self) -> bool:
        """Whether a handler is called with lists of events, so that a task is one run and none of it is returned."""
        return any(step.kind.traits.takes_lists for step in self.steps)


def make_program(ports: int, slots: int, steps: list[Step], exits: list[int]) -> Program:
    """Return a program in which every reader of a slot but its last gets a copy.

    The partitions of one node read different events, so together they are one reader; read-only steps need no copy.
    """
    readers: dict[int, list[tuple[int, int] | None]] = {}
    for number, step in enumerate(steps):
        for place, slot in enumerate(step.inputs):
            readers.setdefault(slot, []).append((number, place))
    for slot in exits:
        readers.setdefault(slot, []).append(None)

    def owner(reader: tuple[int, int] | None) -> object:
        step = None if reader is None else steps[reader[0]]
        return ("partitions", step.node_id) if step is not None and step.kind is NodeKind.PARTITION else reader

    copied = set()
    values = {step.output for step in steps if step.kind.traits.read_only or step.kind is NodeKind.CLOCK}
    for slot, all_ in readers.items():
        if slot in values:  # keys and times, which no step changes
            continue
        last = owner(all_[-1])
        copied |= {
            reader
            for reader in all_[:-1]
            if reader is not None and not steps[reader[0]].kind.traits.read_only and owner(reader) != last
        }
    return Program(ports, slots, tuple(steps), tuple(exits), frozenset(copied))


class Tally(Struct):
    """What one step did: events in and out, seconds in user code, retries, and events dropped by rule."""

    events_in: int = 0
    events_out: int = 0
    seconds: float = 0.0
    retries: int = 0
    filtered: int = 0
    unmatched: int = 0
    late: int = 0  #: events whose windows were closed
    forgotten: int = 0  #: keys that were idle beyond their time to live
    keys: int = 0  #: the increase of keys, or open windows, that have a state

    def as_list(self) -> list[float]:
        """Return the fields in order, for the wire."""
        return [
            self.events_in,
            self.events_out,
            self.seconds,
            self.retries,
            self.filtered,
            self.unmatched,
            self.late,
            self.forgotten,
            self.keys,
        ]

    def add(self, values: Sequence[float]) -> None:
        """Add the `as_list` of another tally."""
        events_in, events_out, seconds, retries, filtered, unmatched, *more = values
        self.events_in += int(events_in)
        self.events_out += int(events_out)
        self.seconds += seconds
        self.retries += int(retries)
        self.filtered += int(filtered)
        self.unmatched += int(unmatched)
        if more:
            late, forgotten, keys = more
            self.late += int(late)
            self.forgotten += int(forgotten)
            self.keys += int(keys)


class Answer(Struct):
    """The result of a program for the numbers `start .. start + size - 1`: a column per exit, and the failures.

    Under `fail` the run is answered up to and including the lowest failed number; nothing above it is needed.
    """

    start: int
    size: int
    exits: list[Column]
    failures: list[Failure]
    tallies: list[Tally] = field(default_factory=list)


class Verdict(Struct, frozen=True):
    """The engine's decision that a call has failed (by death or time limit): answer with this failure, do not call."""

    kind: str
    error: str
    attempts: int


#: `(node, seq, index)` names a call across processes.
CallName = tuple[str, int, int]


class Orders(Struct, frozen=True):
    """What the engine adds to a run of numbers: careful bookkeeping, verdicts, and attempts already used.

    `died` counts the deaths during a call, `suspected` has the runs of numbers of each death that no call explains yet.
    `end` is the number at which the input ends, if it is one of them; it has no events.
    """

    careful: bool = False
    verdicts: dict[CallName, Verdict] = field(default_factory=dict)
    used: dict[CallName, int] = field(default_factory=dict)
    end: int | None = None
    died: dict[CallName, int] = field(default_factory=dict)
    suspected: tuple[tuple[int, int], ...] = ()

    def deaths_of(self, call: CallName) -> int:
        """Return how many workers may have died while they were in a call, so that it may have begun before."""
        if not self.careful:
            return 0
        return self.died.get(call, 0) + sum(lo <= call[1] < hi for lo, hi in self.suspected)


NO_ORDERS = Orders()
