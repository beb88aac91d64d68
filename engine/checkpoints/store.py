"""Stores of checkpoints: what they hold, how a resumed run is compared with it, and when entries are deleted.

Decides the tables, which are the same in a file and in PostgreSQL: the run and what must be the same on resume, its last
checkpoint, a short history of earlier checkpoints and of changes of handler code (which are allowed), and the order log.
Bodies are pickled, as plain values that name no module of this package, and compared with a digest before they are
unpickled. How a statement reaches a database, and that one run at a time uses it, is decided by the backing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from ...nodes.errors import CheckpointError
from ...nodes.ordering.order_log import Read, Run
from ..codec.stored_values import decode_stored, unreadable
from .identity import code_changes, compare, read_identity

#: The version of the tables; a store of any other version is refused.
VERSION = 3
#: How many of the last checkpoints, and of the last changes of code, the history keeps.
HISTORY = 100
_LOG = logging.getLogger("sluiceway")
_ADD_TO_LOG = (
    "INSERT INTO {t}log (name, kind, source, first, size, extent, digest)"
    " VALUES (:name, :kind, :source, :first, :size, :extent, :digest)"
)

Resume = Literal["auto", "never", "required"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint: everything below `n` is committed.

    `places` are (position, skip, last key) of each source, `states` the packed states of the pools that have one,
    `tokens` what each sink's `commit` returned, by name. `starts` are the numbers of events of each source before its
    position. `run` is the id that the run keeps however often it is resumed, `ended_by` what ended the reading of a
    finished one.
    """

    n: int
    places: tuple[tuple[Any, ...], ...]
    turn: int
    states: Mapping[str, bytes]
    tokens: Mapping[str, Any]
    finished: bool = False
    starts: tuple[int, ...] = ()
    run: str = ""
    ended_by: str | None = None


_FIELDS = tuple(field.name for field in fields(Saved))


class Store(Protocol):
    """Keeps the last checkpoint of one run of one graph, and the order log after it."""

    @property
    def place(self) -> str:
        """Where it is kept: the same text for every run that uses it, whatever it holds."""

    def open(self, identity: Mapping[str, Any], resume: Resume) -> Saved | None:
        """Acquire the store for this run and return the checkpoint to resume from, if there is one.

        All of `identity` but its `"code"` must be as it was; other code is logged and noted in the history. Raises
        `CheckpointError` for a store in use, damaged, foreign, or of another graph, and for `"required"`
        without a checkpoint.
        """

    def write(self, saved: Saved) -> None:
        """Replace the checkpoint durably, and delete the entries of the order log that it covers.

        These are every `Run` wholly below `saved.n`, and every `Read` wholly before its source's entry in `starts`.
        """

    def log(self, runs: Sequence[Run], reads: Sequence[Read]) -> None:
        """Add to the order log; it is durable when this returns."""

    def logged(self) -> tuple[list[Run], list[Read]]:
        """Return the entries of the order log, in the order in which they were written."""

    def announce(self, n: int) -> None:
        """Record durably that the sinks are about to commit up to number `n`; a checkpoint behind `n` deletes it."""

    def announced(self) -> int:
        """Return the highest number announced since the checkpoint, -1 if there is none."""

    def close(self) -> None:
        """Let another run use the store."""


class Execute(Protocol):
    """Executes one statement, once for each value of a sequence, and returns its rows.

    In a statement `{t}` is the prefix of table names, `:name` a value.
    """

    def __call__(
        self, statement: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] = ..., /
    ) -> list[tuple[Any, ...]]: ...


class Backing(Protocol):
    """The database of a store: the tables `run`, `checkpoint`, `history` and `log`, in which a run has a name."""

    noun: str  #: what to call it in "name another file"
    is_local: bool  #: whether a transaction that is not synced takes less time than telling another thread
    wait_s: float  #: how long `acquire` waits for a run that is ending, in seconds

    @property
    def where(self) -> str:
        """Its name in error texts."""

    @property
    def place(self) -> str:
        """Where it is, the same from run to run and from folder to folder."""

    def is_there(self) -> bool:
        """Whether there may be tables already; acquiring what is not there makes it."""

    def acquire(self, graph: str, *, fresh: bool) -> str:
        """Acquire it for one run and return the run's name in the tables; the table `run` has a row for it then.

        With `fresh` tables of another version are accepted. Raises `CheckpointError` if another run uses it, and for
        anything that is not a store.
        """

    def transaction(self, *, synced: bool = True) -> AbstractContextManager[Execute]:
        """Return a transaction: durable when it has ended, undone by an exception. Errors come as `CheckpointError`.

        One that is not `synced` outlives every process of the run, and is durable with the next one that is.
        """

    def make_answers(self) -> None:
        """Make the table `answer` unless there is one."""

    def damaged(self, reason: object) -> CheckpointError:
        """Return the error for contents that cannot be right."""

    def close(self) -> None:
        """Release it."""


class TableStore:
    """A store in the tables of a backing."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._name: str | None = None  #: of the run in the tables, while the store is open
        self._one_at_a_time = threading.Lock()
        self.keeps_log = False  #: whether the order log is kept below the checkpoint too

    def __repr__(self) -> str:
        return f"store({self._backing.where})"

    @property
    def place(self) -> str:
        """Where it is kept."""
        return self._backing.place

    @property
    def backing(self) -> Backing:
        """The database."""
        return self._backing

    @property
    def is_busy(self) -> bool:
        """Whether another thread has a transaction open."""
        return self._one_at_a_time.locked()

    @property
    def own(self) -> dict[str, Any]:
        """The values that name the run's rows in the tables, while the store is open."""
        return self._own()

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[Execute]:
        """Return a transaction for another part of the store; only one is open at a time."""
        with self._one_at_a_time, self._backing.transaction(synced=synced) as execute:
            yield execute

    def wait(self, seconds: float) -> None:
        """Let `open` wait up to `seconds` for a run that is ending."""
        self._backing.wait_s = seconds

    def open(self, identity: Mapping[str, Any], resume: Resume) -> Saved | None:
        """Acquire the store, create it if there is none, and return its checkpoint."""
        if self._name is not None:
            raise CheckpointError(
                f"cannot use {self._backing.where} for checkpoints: another run uses it; wait for its end, or make a"
                " store for each"
            )
        if resume == "required" and not self._backing.is_there():
            raise self._nothing_to_resume()
        try:
            self._name = self._backing.acquire(str(identity["graph"]), fresh=resume == "never")
            with self._backing.transaction() as execute:
                saved, changes = self._start_or_resume(execute, identity, resume)
            if changes and saved is not None:
                _LOG.warning("%r goes on at number %d: %s", identity["graph"], saved.n, "; ".join(changes))
            return saved
        except BaseException:
            self.close()
            raise

    def write(self, saved: Saved) -> None:
        """Replace the checkpoint, and trim the order log."""
        body = pickle.dumps({name: getattr(saved, name) for name in _FIELDS}, protocol=5)
        own = self._own()
        with self._one_at_a_time, self._backing.transaction() as execute:
            execute("DELETE FROM {t}checkpoint WHERE name = :name", own)
            execute(
                "INSERT INTO {t}checkpoint (name, body, digest) VALUES (:name, :body, :digest)",
                {**own, "body": body, "digest": _digest(body)},
            )
            self._add_to_history(execute, saved.n, size=len(body), finished=saved.finished)
            self._trim(execute, saved)

    def log(self, runs: Sequence[Run], reads: Sequence[Read]) -> None:
        """Add to the order log, durably."""
        if runs or reads:
            with self.transaction() as execute:
                add_to_log(execute, self._own(), runs, reads)

    def logged(self) -> tuple[list[Run], list[Read]]:
        """Return the entries of the order log, in the order in which they were written."""
        runs, reads = [], []
        with self._one_at_a_time, self._backing.transaction() as execute:
            rows = execute(
                "SELECT kind, source, first, size, extent, digest FROM {t}log WHERE name = :name ORDER BY id", self._own()
            )
        for kind, source, first, size, extent, digest in rows:
            if _row(kind, source, first, size, bytes(extent))["digest"] != bytes(digest):
                raise self._backing.damaged("its order log is not what was written")
            if kind == "run":
                runs.append(Run(first, source, size))
            elif kind == "read":
                reads.append(Read(source, first, size, decode_stored(extent, f"the order log in {self._backing.where}")))
        return runs, reads

    def announce(self, n: int) -> None:
        """Record durably what the sinks are about to commit."""
        own = self._own()
        with self._one_at_a_time, self._backing.transaction() as execute:
            execute(_ADD_TO_LOG, {**own, **_row("cut", 0, n, 1, b"")})

    def announced(self) -> int:
        """Return the highest number announced since the checkpoint, -1 if there is none."""
        with self._one_at_a_time, self._backing.transaction() as execute:
            rows = execute("SELECT max(first) FROM {t}log WHERE name = :name AND kind = 'cut'", self._own())
        return -1 if rows[0][0] is None else int(rows[0][0])

    def close(self) -> None:
        """Release the store."""
        self._name = None
        self._backing.close()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, Any]:
        assert self._name is not None, "the store is not open"
        return {"name": self._name}

    def _nothing_to_resume(self) -> CheckpointError:
        return CheckpointError(
            f"cannot resume from {self._backing.where}: it holds no checkpoint; name the {self._backing.noun} of"
            " the run that is to go on, or begin with resume='auto'"
        )

    def _start_or_resume(
        self, execute: Execute, identity: Mapping[str, Any], resume: Resume
    ) -> tuple[Saved | None, list[str]]:
        known = self._identity(execute) if resume != "never" else None
        saved = self._last(execute) if known is not None else None
        if saved is None:
            if resume == "required":
                raise self._nothing_to_resume()
            self._start(execute, identity)
            return None, []
        assert known is not None
        compare(self._backing.where, known, identity)
        changes = [] if saved.finished else code_changes(self._backing.where, known, identity)
        if changes:
            execute(
                "UPDATE {t}run SET identity = :identity WHERE name = :name",
                {**self._own(), "identity": json.dumps(identity)},
            )
            for change in changes:
                self._add_to_history(execute, saved.n, note=change)
        return saved, changes

    def _start(self, execute: Execute, identity: Mapping[str, Any]) -> None:
        own = self._own()
        for table in ("checkpoint", "history", "log"):
            execute(f"DELETE FROM {{t}}{table} WHERE name = :name", own)
        execute(
            "UPDATE {t}run SET identity = :identity, began = :began WHERE name = :name",
            {**own, "identity": json.dumps(identity), "began": _now("seconds")},
        )

    def _identity(self, execute: Execute) -> dict[str, Any] | None:
        rows = execute("SELECT identity FROM {t}run WHERE name = :name AND identity IS NOT NULL", self._own())
        try:
            return read_identity(rows[0][0]) if rows else None
        except ValueError as error:
            raise self._backing.damaged(error) from error

    def _last(self, execute: Execute) -> Saved | None:
        rows = execute("SELECT body, digest FROM {t}checkpoint WHERE name = :name", self._own())
        if not rows:
            return None
        body, digest = rows[0]
        if _digest(body) != bytes(digest):
            raise self._backing.damaged("its checkpoint is not what was written")
        what = f"the checkpoint in {self._backing.where}"
        values = decode_stored(body, what)
        try:
            return Saved(**values)
        except TypeError as error:
            raise unreadable(what, error) from error

    def _add_to_history(
        self, execute: Execute, n: int, *, size: int | None = None, finished: bool = False, note: str | None = None
    ) -> None:
        """Add a checkpoint, or a note, to the history, and delete the oldest entry of that kind."""
        row = {"n": n, "at": _now("milliseconds"), "bytes": size, "finished": finished, "note": note}
        execute(
            "INSERT INTO {t}history (name, n, at, bytes, finished, note)"
            " VALUES (:name, :n, :at, :bytes, :finished, :note)",
            {**self._own(), **row},
        )
        kind = "note IS NULL" if note is None else "note IS NOT NULL"
        execute(
            f"DELETE FROM {{t}}history WHERE name = :name AND {kind} AND id < (SELECT min(id) FROM"
            f" (SELECT id FROM {{t}}history WHERE name = :name AND {kind} ORDER BY id DESC LIMIT :most) AS last)",
            {**self._own(), "most": HISTORY},
        )

    def _trim(self, execute: Execute, saved: Saved) -> None:
        own = self._own()
        execute("DELETE FROM {t}log WHERE name = :name AND kind = 'cut' AND first + size <= :n", {**own, "n": saved.n})
        if self.keeps_log:
            return
        execute("DELETE FROM {t}log WHERE name = :name AND kind = 'run' AND first + size <= :n", {**own, "n": saved.n})
        if saved.starts:
            execute(
                "DELETE FROM {t}log WHERE name = :name AND kind = 'read' AND source = :source AND first + size <= :start",
                [{**own, "source": source, "start": start} for source, start in enumerate(saved.starts)],
            )


def add_to_log(execute: Execute, own: Mapping[str, Any], runs: Sequence[Run], reads: Sequence[Read]) -> None:
    """Add entries to the order log of a run; `own` has its name."""
    rows = [_row("run", run.source, run.number, run.count, b"") for run in runs]
    rows += [_row("read", read.source, read.start, read.count, pickle.dumps(read.extent, protocol=5)) for read in reads]
    if rows:
        execute(_ADD_TO_LOG, [{**own, **row} for row in rows])


def describe_run(where: str, name: str, execute: Execute) -> str:
    """Return a description of one run's part of a store, for a person."""
    own = {"name": name}
    run = execute("SELECT identity, began FROM {t}run WHERE name = :name AND identity IS NOT NULL", own)
    if not run:
        return f"{where}: no run has used it"
    identity = read_identity(run[0][0])
    select = "SELECT n, at, bytes, finished, note FROM {t}history WHERE name = :name AND note IS "
    rows = execute(select + "NULL ORDER BY id DESC LIMIT 10", own)
    changes = execute(select + "NOT NULL ORDER BY id DESC LIMIT 10", own)
    lines = [f"{where}: graph {identity['graph']!r}, begun {run[0][1]}"]
    if not rows:
        lines.append("no checkpoint yet")
    elif rows[0][3]:
        lines.append("finished")
    lines += [f"{at}  everything below number {n}, {size} bytes" for n, at, size, _, _ in rows]
    lines += [f"{change} at number {n}, {at}" for n, at, _, _, change in changes]
    lines.append("nodes: " + ", ".join(f"{node} ({kind})" for node, kind, _ in identity["nodes"]))
    return "\n".join(lines)


def _row(kind: str, source: int, first: int, size: int, extent: bytes) -> dict[str, Any]:
    digest = _digest(f"{kind} {source} {first} {size} ".encode() + extent)
    return {"kind": kind, "source": source, "first": first, "size": size, "extent": extent, "digest": digest}


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def _now(precision: str) -> str:
    return datetime.now(UTC).isoformat(timespec=precision)
