"""A task and its answer as plain values.

Decides what a worker needs to know about a task and what its answer contains; how they are sent is decided elsewhere.
"""

from __future__ import annotations

from msgspec import Struct

from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.segments import ExitData
from ...nodes.program.program import Orders
from ..codec.codec import Payload


class Grant:
    """Room for a task's answer in memory shared with the sender of the task; filled from `at` up to `stop`."""

    __slots__ = ("at", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.at = start
        self.stop = stop


class Part(Struct, frozen=True):
    """A part of one segment: of the payload's numbers `start .. stop - 1`, only `lo .. hi - 1`."""

    lo: int
    hi: int
    start: int
    stop: int
    payload: Payload
    counts: list[int] | None
    indices: list[int] | None


class TaskMessage(Struct, frozen=True):
    """A run of numbers for one worker; `answer_batch` is how many numbers each answer covers (0: any number)."""

    id: int
    start: int
    stop: int
    answer_batch: int
    orders: Orders
    ports: list[list[Part]]
    grant: Grant | None = None


class AnswerMessage(Struct, frozen=True):
    """A worker's answer for `size` numbers from `start` on."""

    task: int
    start: int
    size: int
    seconds: float
    tallies: list[list[float]]
    exits: list[ExitData]
    failures: list[FailureRecord]
