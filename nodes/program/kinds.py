"""The kinds of nodes: one row of traits each, for the builder, the compiler, the executors and the reports.

A new kind is a row here, its rule in `nodes/program/steps.py` (a join: `nodes/execution`; a state: `nodes/state`), and
its method in the builder. Knows nothing of graphs, pools and handlers; what a kind computes is written where it is run.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Traits(Struct, frozen=True, kw_only=True):
    """What the project must know of a kind of node without knowing what it computes."""

    #: Its subject is the user's handler, with the options of a handler (`retries`, `on_error` ...).
    has_handler: bool = False
    #: It has something to build in a worker: a handler, or the recipe of one.
    built: bool = False
    #: It calls user code, so one event of it can fail or kill its worker.
    calls_user_code: bool = False
    #: It calls its handler once for each event, so a running batch of it can be split.
    event_by_event: bool = False
    #: It calls its handler with a list of events, and gets one output for each.
    takes_lists: bool = False
    #: It may have several events for one number: its handler may be a generator, and no `zip` may follow.
    multiplies: bool = False
    #: It makes one column of several without user code, wherever that column is read.
    joins: bool = False
    #: It remembers what it has seen, so one worker takes its numbers in order.
    stateful: bool = False
    #: Why it has one worker, for the plan; "" where only `ordered=True` can ask for that.
    why_ordered: str = ""
    #: Its subject has a `form`: what must be equal for a saved state to mean the same in a resumed run.
    has_form: bool = False
    #: It follows a `key_by`; the compiler expands it into the kinds of the second block below.
    keyed: bool = False
    #: It reads its events and never changes them, so it needs no copy of its own.
    read_only: bool = False
    #: It runs in the pool of the `key_by` it belongs to.
    beside_key: bool = False
    #: It is a part of another node, and a report counts it there.
    hidden: bool = False


class NodeKind(Enum):
    """What a node does with its inputs; the values are the methods of `Graph` and of streams, or internal names."""

    traits: Traits
    _value_: str

    def __new__(cls, value: str, traits: Traits) -> NodeKind:
        """Return a kind with `value` as its value, and its traits as an attribute."""
        kind = object.__new__(cls)
        kind._value_ = value
        kind.traits = traits
        return kind

    SOURCE = "source", Traits()
    SEQUENCE = "sequence", Traits()
    MAP = "map", Traits(has_handler=True, built=True, calls_user_code=True, event_by_event=True)
    FILTER = "filter", Traits(has_handler=True, built=True, calls_user_code=True, event_by_event=True)
    FLAT_MAP = "flat_map", Traits(has_handler=True, built=True, calls_user_code=True, event_by_event=True, multiplies=True)
    MAP_BATCHES = "map_batches", Traits(has_handler=True, built=True, calls_user_code=True, takes_lists=True)
    ZIP = "zip", Traits(joins=True)
    MERGE = "merge", Traits(joins=True, multiplies=True)
    BARRIER = "barrier", Traits()
    LETTERS = "dead_letters", Traits()
    SINK = "sink", Traits()
    SCAN = (
        "scan",
        Traits(
            built=True,
            calls_user_code=True,
            stateful=True,
            why_ordered="a scan: one worker, numbers in order",
            has_form=True,
        ),
    )
    KEY_BY = "key_by", Traits(built=True, calls_user_code=True, read_only=True, has_form=True)
    KEYED_MAP = "keyed_map", Traits(keyed=True)
    KEYED_SCAN = "keyed_scan", Traits(keyed=True, has_form=True)
    REDUCE = "reduce", Traits(keyed=True, has_form=True)
    COUNT = "count", Traits(keyed=True, has_form=True)
    WINDOW = "window", Traits(keyed=True, has_form=True, multiplies=True)

    # What the compiler makes of the keyed kinds.
    #: The event time of every event.
    TIME = "time", Traits(built=True, calls_user_code=True, read_only=True, beside_key=True, hidden=True)
    #: The partition of every key.
    CODES = "codes", Traits(built=True, read_only=True, beside_key=True, hidden=True)
    #: The events of one partition, flattened with their keys and times.
    PARTITION = "partition", Traits(beside_key=True, hidden=True)
    #: The watermark, where it may close something.
    CLOCK = (
        "clock",
        Traits(
            built=True,
            calls_user_code=True,
            stateful=True,
            why_ordered="the watermark: one worker reads the times in order",
            hidden=True,
        ),
    )
    #: What a partition does with its events.
    STATE = (
        "state",
        Traits(
            built=True,
            calls_user_code=True,
            stateful=True,
            why_ordered="by key: one worker has all keys, numbers in order",
        ),
    )
    #: The results of all partitions, in one order again.
    MERGE_PARTITIONS = "merge_partitions", Traits(joins=True, hidden=True)
