"""A durable step over a column: what an earlier run has answered is recalled, the rest is called for in pieces and kept.

For runs that handle events in the calling process; in others a worker never sees what is answered. Decides how large a
piece is: what a crash may cost, and no more work than a few milliseconds. Where answers are kept is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeAlias

from ..events import Failure
from ..program.column import Column, join
from ..program.program import Step

#: A piece that takes longer than this, in seconds, is followed by a smaller one.
_PIECE_S = 0.008

#: The output of a step for a run of numbers, and the failures among them.
Given: TypeAlias = "tuple[Column, list[Failure]]"


class Keeps(Protocol):
    """The answers of durable nodes that outlive a run."""

    def parts(self, node: str, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """Return the parts of `lo .. hi - 1`, each with whether an earlier run has answered it."""

    def recall(self, node: str, lo: int, hi: int) -> Given:
        """Return what an earlier run has answered for all of `lo .. hi - 1`."""

    def keep(self, step: Step, given: Given) -> Given:
        """Keep the answer of a step, and return it: an output that cannot be kept is a failure of its event."""


@dataclass(slots=True)
class KeptPiece:
    """A part of a column: `recalled` from an earlier run, or to be handled."""

    column: Column
    recalled: Given | None = None


class KeptSteps:
    """The durable steps of one program."""

    def __init__(self, keeps: Keeps) -> None:
        self._keeps = keeps
        self._sizes: dict[str, int] = {}

    def pieces(self, step: Step, column: Column, *, whole: bool) -> Iterator[KeptPiece]:
        """Yield the parts of a column one after the other; with `whole` no part is cut into pieces."""
        for lo, hi, known in self._keeps.parts(step.node, column.start, column.stop):
            if known:
                yield KeptPiece(column.slice(lo, hi), self._keeps.recall(step.node, lo, hi))
                continue
            while lo < hi:
                size = hi - lo if whole else max(1, self._sizes.get(step.node, 1), step.options.batch_size or 0)
                stop = min(hi, lo + size)
                began = perf_counter()
                yield KeptPiece(column.slice(lo, stop))
                self._adapt(step, perf_counter() - began, stop - lo)
                lo = stop

    def _adapt(self, step: Step, seconds: float, size: int) -> None:
        most = max(1, step.options.concurrency // 2)
        if seconds > _PIECE_S:
            self._sizes[step.node] = max(1, size // 2)
        elif seconds < _PIECE_S / 2 and size >= self._sizes.get(step.node, 1):
            self._sizes[step.node] = min(most, size * 2)

    def keep(self, step: Step, given: Given) -> Given:
        """Keep what was handled."""
        return self._keeps.keep(step, given)


def join_given(given: list[Given], column: Column) -> Given:
    """Join what consecutive parts of a column became, up to the first number that fails the run."""
    if not given:
        return column, []
    return join([output for output, _ in given]), [failure for _, failures in given for failure in failures]


def ends_run(given: Given) -> bool:
    """Whether a number among them fails the run, so that nothing above it is needed."""
    return any(failure.on_error == "fail" for failure in given[1])
