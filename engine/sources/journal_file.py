"""The file of a journal: the events of one source, in order, numbered from the beginning of the journal.

Decides when an event is durable (its transaction is synced), and that one process at a time has the file open;
`private_file` decides which files are refused. How events are packed is not known here.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ...nodes.errors import CheckpointError, GraphError, SourceError
from .private_file import BESIDE, FileKind, PrivateFile, check_pages

#: `PRAGMA application_id` of a journal: "sluj" in ASCII.
APPLICATION = 0x736C756A
VERSION = 1
#: How long to wait for another process to close the file, in seconds: the source process of a killed run ends a moment later.
LOCK_S = 10.0
_KIND = FileKind(
    APPLICATION,
    VERSION,
    noun="journal",
    use="as the journal of a source",
    contents="events",
    another="name another file for checkpoint=",
    if_damaged="restore a copy, or move it away and begin afresh",
    if_outdated="finish the run with that one",
)


class StoredBatch(Struct, frozen=True):
    """`count` consecutive events, encoded."""

    count: int
    codec: int
    body: bytes

    def digest(self, first: int) -> bytes:
        """Return a digest of this batch, whose first event is number `first`."""
        check = hashlib.blake2b(f"{first} {self.count} {self.codec} ".encode(), digest_size=16)
        check.update(self.body)
        return check.digest()


def journal_path(checkpoint: object, at: int) -> Path:
    """Return the path of the journal of source `at` of a run with `checkpoint=`; raises `GraphError` if that is not a file."""
    if not isinstance(checkpoint, str | os.PathLike) or "://" in str(checkpoint):
        raise GraphError(
            "cannot make checkpoints with journal=True: a journal is kept beside the file of the checkpoints, and"
            " checkpoint= names none; pass the path of a file"
        )
    return Path(f"{os.fspath(checkpoint)}.{at}.events")


def create_journal(path: Path) -> None:
    """Create an empty journal in place of an old one; raises `CheckpointError` for a file that is not a journal."""
    remove_journal(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise _file(path).unusable(f"{error.strerror}; name checkpoint= in a folder that you can write") from error
    with closing(_open(path)) as db:
        try:
            db.executescript(
                f"""
                BEGIN IMMEDIATE;
                PRAGMA application_id={APPLICATION};
                PRAGMA user_version={VERSION};
                CREATE TABLE events (
                    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, codec INTEGER NOT NULL, body BLOB NOT NULL,
                    digest BLOB NOT NULL);
                CREATE TABLE state (gone INTEGER NOT NULL, ended INTEGER NOT NULL);
                INSERT INTO state VALUES (0, 0);
                COMMIT;
                """
            )
        except sqlite3.DatabaseError as error:
            raise _file(path).unusable(f"{error}; make room there, or name checkpoint= elsewhere") from error


def check_nothing_stored(path: Path) -> None:
    """Raise `CheckpointError` for a journal with events that a run without a checkpoint would forget."""
    if not os.path.lexists(path):
        return
    with closing(_open(path)) as db:
        # One transaction makes all of a journal: where it has no table its run died before, and nothing is stored.
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return
    with closing(JournalFile(path, "")) as file:
        kept = file.count - file.first
    if kept:
        raise _file(path).unusable(
            f"{path.name} holds {kept} events of an earlier run that are not committed, but there is no checkpoint of"
            " that run; restore the file of its checkpoints, or forget them with resume='never'"
        )


def remove_journal(path: Path) -> None:
    """Remove a journal, if there is one.

    Raises `CheckpointError` for a file that is not a journal, is somebody else's, or is still in use.
    """
    if not os.path.lexists(path):
        return
    _open(path).close()
    with _file(path).refused():
        for suffix in (*BESIDE, ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


class JournalFile:
    """An open journal. Events `first .. count - 1` are in it, those below are removed; `ended` says that none will follow.

    Opening it waits for a process that has it open, up to `LOCK_S`, and raises `CheckpointError` for a file that is
    missing, damaged, in use, somebody else's or no journal.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self._source = source
        self._db = _open(path)
        try:
            self.first, self.count, self.ended = self._read_state()
        except sqlite3.DatabaseError as error:
            self.close()
            raise _file(path).damaged(error) from error
        except BaseException:
            self.close()
            raise

    def _read_state(self) -> tuple[int, int, bool]:
        check_pages(self._db)
        state = self._db.execute("SELECT gone, ended FROM state").fetchone()
        if state is None:
            raise sqlite3.DatabaseError("it was not made to its end")
        gone, ended = state
        first = self._db.execute("SELECT first FROM events ORDER BY first LIMIT 1").fetchone()
        last = self._db.execute("SELECT first + count FROM events ORDER BY first DESC LIMIT 1").fetchone()
        if first is not None and first[0] != gone:
            raise sqlite3.DatabaseError("its first events are missing")
        return gone, gone if last is None else last[0], bool(ended)

    def append(self, batchs: Sequence[StoredBatch], *, ended: bool = False) -> None:
        """Store events after all others, durably and all or none; `ended` says that no more will come.

        Raises `SourceError` if the file cannot be written.
        """
        rows, count = [], self.count
        for batch in batchs:
            rows.append((count, batch.count, batch.codec, batch.body, batch.digest(count)))
            count += batch.count
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
            if ended:
                self._db.execute("UPDATE state SET ended = 1")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise SourceError(
                f"cannot store {count - self.count} events of source {self._source!r} in {self.path}: {error}; make"
                " room there and run again, what was stored before is given again",
                node=self._source,
            ) from error
        self.count, self.ended = count, self.ended or ended

    def load(self, at: int) -> tuple[int, StoredBatch]:
        """Return the batch with event `at`, after the number of its first event; raises `CheckpointError` for damage."""
        try:
            row = self._db.execute(
                "SELECT first, count, codec, body, digest FROM events WHERE first <= ? ORDER BY first DESC LIMIT 1", (at,)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise _file(self.path).damaged(error) from error
        if row is None or at >= row[0] + row[1]:
            raise _file(self.path).damaged(f"event {at} is missing")
        first, batch = row[0], StoredBatch(*row[1:4])
        if batch.digest(first) != row[4]:
            raise _file(self.path).damaged(f"the events from {first} on are not what was written")
        return first, batch

    def forget(self, position: int) -> None:
        """Remove the events below a position; those in one batch with a later one stay."""
        try:
            row = self._db.execute(
                "SELECT first, first + count FROM events WHERE first < ? ORDER BY first DESC LIMIT 1", (position,)
            ).fetchone()
            gone = self.first if row is None else row[1] if row[1] <= position else row[0]
            if gone <= self.first:
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM events WHERE first < ?", (gone,))
            self._db.execute("UPDATE state SET gone = ?", (gone,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise SourceError(
                f"cannot remove what is committed from {self.path}, the journal of source {self._source!r}: {error};"
                " make room there and run again",
                node=self._source,
            ) from error
        self.first = gone

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, so that another process can open it."""
        self._db.close()


def check_journal(path: Path) -> None:
    """Raise `CheckpointError` for a journal that is missing or not private, as far as that is seen without opening it."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"cannot resume: the journal {path} is missing, and with it events that a source gave only once; restore it,"
            " or begin afresh with resume='never'"
        ) from None
    except OSError as error:
        raise _file(path).unusable(f"{error.strerror}; name another file for checkpoint=") from error
    _file(path).check(status)


def _open(path: Path) -> sqlite3.Connection:
    """Open a journal, or an empty file, for this process alone."""
    check_journal(path)
    try:
        return _file(path).connect(LOCK_S, exclusive=True)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise _file(path).unusable("another process uses it; wait for its end") from error
        raise _file(path).damaged(error) from error


def _file(path: Path) -> PrivateFile:
    return PrivateFile(path, _KIND)
