"""A durable step over a column: what an earlier run has answered is recalled, the rest is called for in pieces and kept.

For runs that handle events in the calling process; in others a worker never sees what is answered. Decides how large a
piece is: what a crash may cost, and no more work than a few milliseconds. Where answers are kept is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from time import perf_counter
from typing import Protocol, TypeAlias

from msgspec import Struct

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


class KeptPiece(Struct):
    """A part of a column: `recalled` from an earlier run, or to be handled."""

    column: Column
    recalled: Given | None = None
    is_kept: bool = True  #: whether what becomes of it is to be kept


class KeptSteps:
    """The durable steps of one program."""

    def __init__(self, keeps: Keeps) -> None:
        self._keeps = keeps
        self._sizes: dict[str, int] = {}

    def pieces(self, step: Step, column: Column, apart: Collection[int], *, whole: bool) -> Iterator[KeptPiece]:
        """Yield the parts of a column one after the other; with `whole` no part is cut into pieces.

        The numbers in `apart` are neither recalled nor kept: an event of theirs failed in a step whose answers are not kept,
        so that it may not fail again.
        """
        lo = column.start
        for number in sorted(n for n in apart if column.start <= n < column.stop):
            yield from self._pieces(step, column, lo, number, whole)
            yield KeptPiece(column.slice(number, number + 1), is_kept=False)
            lo = number + 1
        yield from self._pieces(step, column, lo, column.stop, whole)

    def _pieces(self, step: Step, column: Column, start: int, stop: int, whole: bool) -> Iterator[KeptPiece]:
        for lo, hi, known in self._keeps.parts(step.node, start, stop) if start < stop else ():
            if known:
                yield KeptPiece(column.slice(lo, hi), self._keeps.recall(step.node, lo, hi))
                continue
            while lo < hi:
                size = hi - lo if whole else max(1, self._sizes.get(step.node, 1), step.options.batch_size or 0)
                end = min(hi, lo + size)
                began = perf_counter()
                yield KeptPiece(column.slice(lo, end))
                self._adapt(step, perf_counter() - began, end - lo)
                lo = end

    def _adapt(self, step: Step, seconds: float, size: int) -> None:
        most = max(1, step.options.concurrency // 2)
        if seconds > _PIECE_S:
            self._sizes[step.node] = max(1, size // 2)
        elif seconds < _PIECE_S / 2 and size >= self._sizes.get(step.node, 1):
            self._sizes[step.node] = min(most, size * 2)

    def keep(self, step: Step, piece: KeptPiece, given: Given) -> Given:
        """Keep what a piece became."""
        return self._keeps.keep(step, given) if piece.is_kept else given


def join_given(given: list[Given], column: Column) -> Given:
    """Join what consecutive parts of a column became, up to the first number that fails the run."""
    if not given:
        return column, []
    return join([output for output, _ in given]), [failure for _, failures in given for failure in failures]


def ends_run(given: Given) -> bool:
    """Whether a number among them fails the run, so that nothing above it is needed."""
    return any(failure.on_error == "fail" for failure in given[1])
