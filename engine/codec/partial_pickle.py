"""Partial unpickling: some events of a pickled batch, without running the code of the others.

Decides which opcodes of a pickle belong to which event of its list, and what replaces those of the other events:
opcodes that leave the stack and the memo as they were and call nothing. What a wanted event shares with another one (a
date, an enum member) is built all the same.
"""

from __future__ import annotations

import io
import pickletools
from itertools import accumulate
from typing import Any

#: Replacements of the opcodes that run code or change an object; all others only build plain values.
_STUBS = {
    "REDUCE": b"00N",
    "NEWOBJ": b"00N",
    "NEWOBJ_EX": b"000N",
    "BUILD": b"0",
    "APPEND": b"0",
    "SETITEM": b"00",
    "APPENDS": b"1",
    "SETITEMS": b"1",
    "ADDITEMS": b"1",
    "OBJ": b"1N",
    "INST": b"1N",
    "GLOBAL": b"N",
    "BINPERSID": b"0N",
    "PERSID": b"N",
    "EXT1": b"N",
    "EXT2": b"N",
    "EXT4": b"N",
}
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class PartialPickle:
    """The pickles of one body (see `pickling.dump`), parsed. Raises `ValueError` for anything else."""

    def __init__(self, body: Any) -> None:
        file = io.BytesIO(body)
        self._groups: list[_Group] = []
        while True:
            group = _Group(file)
            if group.is_end:
                break
            self._groups.append(group)
        #: The number of events.
        self.count = sum(len(group.spans) for group in self._groups)

    def only(self, lo: int, hi: int) -> bytes:
        """Return a body with the events `lo .. hi - 1` at their positions and placeholders elsewhere."""
        parts = []
        first = 0
        for group in self._groups:
            size = len(group.spans)
            parts.append(group.only(max(0, lo - first), max(0, min(size, hi - first))))
            first += size
        return b"".join([*parts, b"N."])


class _Group:
    """One pickled list: its opcodes, and which of them build which item."""

    def __init__(self, file: io.BytesIO) -> None:
        begin = file.tell()
        ops = list(pickletools.genops(file))
        end = file.tell()
        if ops[-1][0].name != "STOP":
            raise ValueError("a pickle without its end")
        file.seek(begin)
        raw = file.read(end - begin)
        places = [position - begin for _, _, position in ops if position is not None]
        bounds = [*places, len(raw)]
        self._names = [op.name for op, _, _ in ops]
        self._arguments = [argument for _, argument, _ in ops]
        # Frames only announce lengths, which will change.
        self._raw = [
            b"" if name == "FRAME" else raw[a:b]
            for name, a, b in zip(self._names, bounds, bounds[1:], strict=False)
        ]
        self._before = self._depths([op for op, _, _ in ops])
        self._memoized = [at for at, name in enumerate(self._names) if name == "MEMOIZE"]
        self.is_end = self._names == ["NONE", "STOP"]
        self.spans = [] if self.is_end else self._find_spans()
        stubbed = self._stubbed()
        self._without = b"".join(stubbed)
        self._offsets = list(accumulate(map(len, stubbed), initial=0))

    def _depths(self, ops: list[Any]) -> list[tuple[int, int]]:
        """Return, before each opcode and after the last, the number of open marks and the depth of the stack."""
        marks: list[int] = []
        depth = 0
        before = []
        for op in ops:
            before.append((len(marks), depth))
            if op.name == "MARK":
                marks.append(depth)
                continue
            taken = [item.name for item in op.stack_before]
            if "mark" in taken:
                depth = marks.pop() - taken.index("mark") + len(op.stack_after)
            else:
                depth += len(op.stack_after) - len(taken)
        before.append((len(marks), depth))
        return before

    def _find_spans(self) -> list[tuple[int, int]]:
        """Return the first opcode and the one past the last for each item of the list."""
        spans: list[tuple[int, int]] = []
        chunk = self._names.index("EMPTY_LIST") + 1
        if chunk < len(self._names) and self._names[chunk] == "MEMOIZE":
            chunk += 1
        for at in range(chunk, len(self._names)):
            if self._names[at] in ("APPEND", "APPENDS") and self._before[at + 1] == (0, 1):
                many = self._names[at] == "APPENDS"
                spans += self._items(chunk + many, at, 1 if many else 0)
                chunk = at + 1
        return spans

    def _items(self, lo: int, hi: int, marks: int) -> list[tuple[int, int]]:
        last: dict[int, int] = {}
        for at in range(lo, hi):
            open_, depth = self._before[at + 1]
            if open_ == marks:
                last[depth] = at + 1
        ends = [last[depth] for depth in sorted(last) if depth > 1]
        # What ends below the last item's final depth is its own inner work.
        ends = ends[: self._before[hi][1] - 1]
        return list(zip([lo, *ends], ends, strict=False))

    def only(self, lo: int, hi: int) -> bytes:
        if lo >= hi:
            return self._without
        first, last = self.spans[lo][0], self.spans[hi - 1][1]
        shared: set[int] = set()
        self._add_shared(shared, first, last, first, last)
        parts, done = [], 0
        for a, b in sorted([(first, last), *((at, at + 1) for at in shared)]):
            parts.append(self._without[self._offsets[done] : self._offsets[a]])
            parts += self._raw[a:b]
            done = b
        return b"".join([*parts, self._without[self._offsets[done] :]])

    def _stubbed(self) -> list[bytes]:
        """Return the opcodes with those of all items replaced."""
        stubs = list(self._raw)
        for a, b in self.spans:
            stubs[a:b] = [_STUBS.get(name, raw) for name, raw in zip(self._names[a:b], self._raw[a:b], strict=True)]
        return stubs

    def _add_shared(self, shared: set[int], first: int, last: int, lo: int, hi: int) -> None:
        """Add the opcodes that build what the opcodes `lo .. hi - 1` read from the memo, of items but `first .. last - 1`."""
        for at in range(lo, hi):
            if self._names[at] not in _GETS:
                continue
            memo = self._memoized[int(self._arguments[at] or 0)]
            if not (first <= memo < last or memo in shared):
                marks, depth = self._before[memo]
                start = memo
                while self._before[start] != (marks, depth - 1):
                    start -= 1
                shared.update(range(start, memo + 1))
                self._add_shared(shared, first, last, start, memo)
