"""Which kept answers are forgotten so that their numbers are handled again: those that failed, or those that are named.

Decides that a number is forgotten by the node where it failed and by every durable node behind. A row may be for several
numbers: it is split around those that are forgotten. What is done with the results is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from .kept_form import ADD_ANSWER, digest_of, unpack_answer
from .store import Execute

#: How many rows are looked at in one piece.
_PIECE = 256


class Mend(Struct):
    """What is to be mended: `numbers`, or all that failed. `behind` are the durable nodes behind each of them."""

    numbers: Collection[int] | None
    behind: Mapping[str, Collection[str]]
    forgotten: int = 0  #: answers that are forgotten

    def forget(self, execute: Execute, own: Mapping[str, Any], nodes: Iterable[str]) -> None:
        """Forget the answers in the tables of one run; `own` has its name, `nodes` are its durable ones."""
        for node in nodes:
            numbers = self._failed(execute, own, node) if self.numbers is None else set(self.numbers)
            for one in (node, *self.behind[node]):
                for number in sorted(numbers):
                    self._forget(execute, {**own, "node": one}, number)

    def _failed(self, execute: Execute, own: Mapping[str, Any], node: str) -> set[int]:
        """Return the numbers that failed in a node and were answered all the same: skipped, or as dead letters."""
        found: set[int] = set()
        values = {**own, "node": node, "upto": -1, "most": _PIECE}
        while rows := execute(
            "SELECT first, size, body FROM {t}answer WHERE name = :name AND node = :node AND first > :upto"
            " ORDER BY first LIMIT :most",
            values,
        ):
            for first, size, body in rows:
                answer = unpack_answer(first, first + size, body, f"the kept answer of node {node!r} for number {first}")
                found |= {failure.seq for failure in answer.failures if first <= failure.seq < first + size}
            values["upto"] = rows[-1][0]
        return found

    def _forget(self, execute: Execute, values: Mapping[str, Any], number: int) -> None:
        rows = execute(
            "SELECT first, size, code, body FROM {t}answer WHERE name = :name AND node = :node AND first <= :number"
            " ORDER BY first DESC LIMIT 1",
            {**values, "number": number},
        )
        for first, size, code, body in rows:
            if not first <= number < first + size:
                continue
            self.forgotten += 1
            execute("DELETE FROM {t}answer WHERE name = :name AND node = :node AND first = :first", {**values, "first": first})
            for lo, hi in ((first, number), (number + 1, first + size)):
                if lo < hi:
                    body = bytes(body)
                    digest = digest_of(values["node"], lo, hi - lo, body)
                    row = {"first": lo, "size": hi - lo, "code": code, "body": body, "digest": digest}
                    execute(ADD_ANSWER, {**values, **row})
