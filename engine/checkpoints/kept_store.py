"""The answers that outlive a run, in the tables of its checkpoints: one row for each answer of a durable node.

Decides what a row is known by (the run's name, the node, its first number), that rows below the checkpoint are deleted,
how much they may take in all, and what becomes of answers that were given by other code. A group of answers is one
transaction, with the entries of the order log that it needs. It is written when that returns, so that it outlives every
process; it is synced to the disk with the next checkpoint, and after a tenth of a second at the latest, for a sync takes
longer than many a call. A group with entries of the order log is synced at once, as these always are. Which answers are
kept, and when, is not known here.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from msgspec import Struct, structs

from ...nodes.errors import CheckpointError, GraphError
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.order_log import Entries
from ...nodes.ordering.source_positions import SourcePosition
from ..codec.stored_values import decode_stored
from .kept_form import ADD_ANSWER, digest_of, pack_answer, unpack_answer
from .mending import Mend
from .store import Execute, Store, TableStore, add_to_log

#: About how many bytes of answers are recalled at once, and the most rows.
RECALL_BYTES = 4 << 20
_RECALL_ROWS = 256
#: The most that one answer may take: neither SQLite nor PostgreSQL stores more in one piece.
MAX_ANSWER_BYTES = 1_000_000_000
#: Groups of fewer bytes are written where they come up.
QUICK_BYTES = 1 << 16
#: What is written is synced to the disk after this time at the latest, in seconds.
SYNC_S = 0.1
#: A row of no node: its body are the positions of the sources. No number of an event is as high.
_POSITIONS = ""
MAX_NUMBER = (1 << 63) - 1
_LOG = logging.getLogger("sluiceway")
#: The rows that have a number from `:lo` on; the first of them may begin below it.
_FIND = (
    "SELECT first, size, length(body) FROM {t}answer WHERE name = :name AND node = :node AND first < :hi"
    " AND first >= (SELECT coalesce(max(first), :lo) FROM {t}answer WHERE name = :name AND node = :node AND first <= :lo)"
    " ORDER BY first LIMIT :most"
)


class KeptGroup(Struct, frozen=True):
    """What becomes durable at once: answers, each with the name of its node, and entries of the order log.

    `positions` are those of the sources behind all that was numbered then.
    """

    answers: Sequence[tuple[str, KeptAnswer]] = ()
    log: Entries | None = None
    positions: tuple[SourcePosition, ...] = ()


class KeptStore:
    """The kept answers of one run. `codes` are fingerprints of the code of its durable nodes, by their names.

    Used after the store was opened. What two threads write at once comes one after the other.
    """

    def __init__(
        self, store: TableStore, codes: Mapping[str, str], *, most_bytes: int, keeps_all: bool = False
    ) -> None:
        self._keeps_all = keeps_all
        self._store = store
        self._codes = codes
        self._most_bytes = most_bytes
        self.nbytes = 0  #: what all answers take
        self._counting = threading.Lock()
        self.waits_for_sync = False  #: whether some of it outlives the processes of the run, and not yet their machine
        self._sync_at = 0.0
        self._positions: tuple[SourcePosition, ...] = ()  #: written with each sync
        #: The positions of the sources behind all numbers with kept answers, where the run before had any.
        self.positions: list[SourcePosition] = []

    @property
    def is_filling(self) -> bool:
        """Whether so much is taken that a checkpoint should make room."""
        return self.nbytes > self._most_bytes // 2 and not self._keeps_all

    def open(
        self, n: int, *, afresh: bool, by_code: Sequence[str], mend: Mend | None = None
    ) -> dict[str, list[tuple[int, int]]]:
        """Return the numbers that are answered, as runs by node; what is below `n` is deleted, unless all are kept.

        `afresh` deletes all of them. Of the nodes in `by_code` answers of other code are deleted; of the others they stay.
        """
        self._store.backing.make_answers()
        with self._store.transaction() as execute:
            own = self._store.own
            if afresh:
                execute("DELETE FROM {t}answer WHERE name = :name", own)
            elif not self._keeps_all:
                execute("DELETE FROM {t}answer WHERE name = :name AND first + size <= :n", {**own, "n": n})
            if mend is not None:
                mend.forget(execute, own, self._codes)
            self.positions = self._read_positions(execute)
            known = {node: self._open_node(execute, node, drop=node in by_code) for node in self._codes}
            ((self.nbytes,),) = execute(
                "SELECT coalesce(sum(length(body)), 0) FROM {t}answer WHERE name = :name AND size > 0", own
            )
            self.nbytes = int(self.nbytes)
        return known

    def is_quick(self, group: KeptGroup) -> bool:
        """Whether writing a group now takes less time than another thread would need to hear of it."""
        if group.log is not None or self._store.is_busy or not self._store.backing.is_local:
            return False
        return sum(data.nbytes for _, answer in group.answers for data in answer.exits) < QUICK_BYTES

    def write(self, groups: Sequence[KeptGroup], *, now: bool = False) -> None:
        """Keep groups in one transaction, without a sync if it is to be `now`.

        Raises `CheckpointError` where answers would take more than they may.
        """
        rows = [self._row(node, answer) for group in groups for node, answer in group.answers]
        nbytes = sum(len(row["body"]) for row in rows)
        total = self.nbytes + nbytes
        if rows and total > self._most_bytes:
            raise CheckpointError(
                f"cannot keep the answer of node {rows[0]['node']!r} for number {rows[0]['first']}: the kept answers in"
                f" {self._store.backing.where} would take {total} bytes, and kept_bytes={self._most_bytes} is the most; run again"
                " with a larger kept_bytes="
            )
        synced = not now and (monotonic() >= self._sync_at or any(group.log is not None for group in groups))
        with self._store.transaction(synced=synced) as execute:
            for group in groups:
                if group.log is not None:
                    add_to_log(execute, self._store.own, group.log.runs, group.log.reads)
            if rows:
                execute(ADD_ANSWER, rows)
                self._positions = next(group.positions for group in reversed(groups) if group.answers)
            if synced:
                self._write_positions(execute)
        with self._counting:
            self.nbytes += nbytes
        if synced:
            self.waits_for_sync, self._sync_at = False, monotonic() + SYNC_S
        elif rows:
            self.waits_for_sync = True

    def sync(self) -> None:
        """Sync what was written to the disk."""
        self.waits_for_sync = False  # before: what is written meanwhile waits for the next one
        with self._store.transaction() as execute:
            self._write_positions(execute)
        self._sync_at = monotonic() + SYNC_S

    def read(self, node: str, lo: int, hi: int) -> list[KeptAnswer]:
        """Return the answers for the numbers from `lo` on, as many as are to be recalled at once, at most up to `hi`."""
        own, nbytes, upto = {**self._store.own, "node": node}, 0, lo
        found: list[KeptAnswer] = []
        with self._store.transaction() as execute:
            for first, size, length in execute(_FIND, {**own, "lo": lo, "hi": hi, "most": _RECALL_ROWS}):
                a, b = max(lo, first), min(hi, first + size)
                if a == upto and a < b:
                    found.append(self._answer(execute, node, first, size, a, b))
                    nbytes, upto = nbytes + length, b
                if (a > upto and a < b) or nbytes >= RECALL_BYTES:
                    break
        if upto == lo:
            raise self._store.backing.damaged(f"its answer of node {node!r} for number {lo} is gone")
        return found

    def trim(self, n: int) -> None:
        """Delete the answers that are wholly below `n`, unless all are kept."""
        if self._keeps_all:
            return
        with self._store.transaction() as execute:
            which, values = " FROM {t}answer WHERE name = :name AND first + size <= :n", {**self._store.own, "n": n}
            ((gone,),) = execute("SELECT coalesce(sum(length(body)), 0)" + which, values)
            execute("DELETE" + which, values)
        with self._counting:
            self.nbytes -= int(gone)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _answer(self, execute: Execute, node: str, first: int, size: int, lo: int, hi: int) -> KeptAnswer:
        """Return the part `lo .. hi - 1` of the answer in the row that begins at `first`."""
        values = {**self._store.own, "node": node, "first": first}
        select = "SELECT body, digest FROM {t}answer WHERE name = :name AND node = :node AND first = :first"
        ((body, digest),) = execute(select, values)
        if digest_of(node, first, size, body) != bytes(digest):
            raise self._store.backing.damaged(f"its answer of node {node!r} for number {first} is not what was written")
        answer = unpack_answer(lo, hi, body, f"the kept answer of node {node!r} for number {lo}")
        return structs.replace(answer, failures=tuple(failure for failure in answer.failures if lo <= failure.seq < hi))

    def _write_positions(self, execute: Execute) -> None:
        places = self._positions
        if not places:
            return
        body = pickle.dumps([(place.position, place.skip, place.start, place.key) for place in places], protocol=5)
        own, digest = {**self._store.own, "node": _POSITIONS}, digest_of("", 0, 0, body)
        execute("DELETE FROM {t}answer WHERE name = :name AND node = :node", own)
        execute(ADD_ANSWER, {**own, "first": MAX_NUMBER, "size": 0, "code": "", "body": body, "digest": digest})

    def _read_positions(self, execute: Execute) -> list[SourcePosition]:
        select = "SELECT body, digest FROM {t}answer WHERE name = :name AND node = :node"
        for body, digest in execute(select, {**self._store.own, "node": _POSITIONS}):
            if digest_of("", 0, 0, body) != bytes(digest):
                raise self._store.backing.damaged("what it says of the sources is not what was written")
            return [SourcePosition(*values) for values in decode_stored(body, "the positions behind the kept answers")]
        return []

    def _open_node(self, execute: Execute, node: str, *, drop: bool) -> list[tuple[int, int]]:
        """Return the numbers of a node that are answered; delete those of other code if `drop`, and say what was done."""
        values = {**self._store.own, "node": node, "code": self._codes[node]}
        where = " FROM {t}answer WHERE name = :name AND node = :node"
        ((other,),) = execute(f"SELECT coalesce(sum(size), 0){where} AND code <> :code", values)
        if other:
            if drop:
                execute(f"DELETE{where} AND code <> :code", values)
            done = "are called for again" if drop else "are used as they are; durable='by_code' calls again"
            _LOG.warning("node %r has kept answers of other code than it has now: those for %d numbers %s", node, other, done)
        return [(first, first + size) for first, size in execute(f"SELECT first, size{where} ORDER BY first", values)]

    def _row(self, node: str, answer: KeptAnswer) -> dict[str, Any]:
        body, size = pack_answer(answer), answer.hi - answer.lo
        if len(body) > MAX_ANSWER_BYTES:
            raise CheckpointError(
                f"cannot keep the answer of node {node!r} for number {answer.lo}: it takes {len(body)} bytes, and a store"
                f" holds at most {MAX_ANSWER_BYTES} in one piece; return where the result is, such as the name of a file"
            )
        return {
            **self._store.own,
            "node": node,
            "first": answer.lo,
            "size": size,
            "code": self._codes[node],
            "body": body,
            "digest": digest_of(node, answer.lo, size, body),
        }


def kept_store(store: Store, codes: Mapping[str, str], *, most_bytes: int, keeps_all: bool = False) -> KeptStore:
    """Return the kept answers of a store; raises `GraphError` for a store that has no place for them."""
    if not isinstance(store, TableStore):
        raise GraphError(
            f"cannot keep the answers of node {next(iter(codes))!r}, which is durable, in a store of your own: it has no place"
            " for them; pass the path of a file or a PostgreSQL URL as checkpoint="
        )
    store.keeps_log = keeps_all
    return KeptStore(store, codes, most_bytes=most_bytes, keeps_all=keeps_all)
