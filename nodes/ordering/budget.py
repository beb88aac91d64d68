"""The budget of a run: one bound on the numbers and on the bytes in flight, including results that wait for the consumer.

Decides when a number may be admitted and what may be worked on while the bound is passed.
"""

from __future__ import annotations

from enum import Enum


class Pace(Enum):
    """What dispatchers may hand out now."""

    FREE = "anything"
    HEAD = "the lowest unreleased numbers only"
    HOLD = "nothing: the consumer has results to consume"


class Budget:
    """Counts what is in flight: numbers from admission, bytes from arrival, both until the consumer is done with them."""

    __slots__ = ("bytes", "limit_bytes", "limit_numbers", "peak_bytes")

    def __init__(self, limit_bytes: int, limit_numbers: int) -> None:
        self.limit_bytes = limit_bytes
        self.limit_numbers = limit_numbers
        self.bytes = 0
        self.peak_bytes = 0

    def charge(self, nbytes: int) -> None:
        """Count bytes that arrived."""
        self.bytes += nbytes
        if self.bytes > self.peak_bytes:
            self.peak_bytes = self.bytes

    def free(self, nbytes: int) -> None:
        """Count bytes that nobody needs any more."""
        self.bytes -= nbytes
        assert self.bytes >= 0, "more bytes were freed than charged"

    def room(self, numbers: int) -> int:
        """Return how many numbers may be admitted while `numbers` are in flight; 0 when the bytes are at the limit."""
        return 0 if self.bytes >= self.limit_bytes else max(0, self.limit_numbers - numbers)

    def is_wide(self, numbers: int) -> bool:
        """Whether more than half of the budget is free while `numbers` are in flight: nothing waits for room then."""
        return 2 * self.bytes < self.limit_bytes and 2 * numbers < self.limit_numbers

    def pace(self, waiting_for_consumer: bool) -> Pace:
        """Return what may be handed out; beyond the limit only the head of the line may grow."""
        if self.bytes < self.limit_bytes:
            return Pace.FREE
        return Pace.HOLD if waiting_for_consumer else Pace.HEAD
