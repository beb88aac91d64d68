"""The file of a journal: what one source gave, in order, each event named by how many were stored before it.

Decides when an event is durable (its transaction is synced), which files are taken, and that one process at a time
has one. A journal holds pickled events, so it is 0600 and only ever opened for the user that owns it. How events are
packed is not known here.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ...nodes.errors import CheckpointError, GraphError, SourceError
from ..checkpoints.sqlite_store import close_to_others

#: `PRAGMA application_id` of a journal: "penj" in ASCII.
APPLICATION = 0x70656E6A
VERSION = 1
#: A process that had the file is given so long to be gone, in seconds: a killed run's source process ends a moment later.
LOCK_S = 10.0
#: What SQLite may have beside a file.
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Piece:
    """So many events, one behind the other, in packed form."""

    count: int
    codec: int
    body: bytes

    def digest(self, first: int) -> bytes:
        """Give a check of this piece at its place."""
        check = hashlib.blake2b(f"{first} {self.count} {self.codec} ".encode(), digest_size=16)
        check.update(self.body)
        return check.digest()


def journal_path(checkpoint: object, at: int) -> Path:
    """Name the journal of the source `at` of a run with this `checkpoint=`; raises `GraphError` where that is no file."""
    if not isinstance(checkpoint, str | os.PathLike) or "://" in str(checkpoint):
        raise GraphError(
            "cannot make checkpoints with journal=True: a journal is kept beside the file of the checkpoints, and"
            " checkpoint= names none; pass the path of a file"
        )
    return Path(f"{os.fspath(checkpoint)}.{at}.events")


def begin(path: Path) -> None:
    """Make an empty journal, in the place of any before; raises `CheckpointError` for a file that is no journal."""
    drop(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise _unusable(path, f"{error.strerror}; name checkpoint= in a folder that you can write") from error
    with closing(_taken(path)) as db:
        try:
            # A transaction is one sync of one file; with the other modes of SQLite it is two to four.
            db.execute("PRAGMA journal_mode=WAL")
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
            raise _unusable(path, f"{error}; make room there, or name checkpoint= elsewhere") from error


def check_unused(path: Path) -> None:
    """Raise `CheckpointError` for a journal with events that a run without a checkpoint would forget."""
    if not os.path.lexists(path) or not os.path.getsize(path):
        return
    with closing(JournalFile(path, "")) as file:
        kept = file.count - file.first
    if kept:
        raise _unusable(
            path,
            f"{path.name} holds {kept} events of an earlier run that are not committed, but there is no checkpoint of"
            " that run; restore the file of its checkpoints, or forget them with resume='never'",
        )


def drop(path: Path) -> None:
    """Remove a journal that is not needed any more, where there is one.

    Raises `CheckpointError` for a file that is no journal, is somebody else's, or is still in use.
    """
    if not os.path.lexists(path):
        return
    _taken(path).close()
    for suffix in (*_BESIDE, ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class JournalFile:
    """An open journal. Events `first .. count - 1` are in it, those below are gone; `ended` says that none will follow.

    Opening it waits for a process that has it, up to `LOCK_S`, and raises `CheckpointError` for a file that is
    missing, damaged, in use, somebody else's or no journal.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self._source = source
        self._db = _taken(path)
        try:
            self.first, self.count, self.ended = self._look()
        except sqlite3.DatabaseError as error:
            self.close()
            raise damaged(path, error) from error
        except BaseException:
            self.close()
            raise

    def _look(self) -> tuple[int, int, bool]:
        if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages do not fit together")
        state = self._db.execute("SELECT gone, ended FROM state").fetchone()
        if state is None:
            raise sqlite3.DatabaseError("it was not made to its end")
        gone, ended = state
        first = self._db.execute("SELECT first FROM events ORDER BY first LIMIT 1").fetchone()
        last = self._db.execute("SELECT first + count FROM events ORDER BY first DESC LIMIT 1").fetchone()
        if first is not None and first[0] != gone:
            raise sqlite3.DatabaseError("its first events are missing")
        return gone, gone if last is None else last[0], bool(ended)

    def append(self, pieces: Sequence[Piece], *, ended: bool = False) -> None:
        """Store events behind all others, durably and all or none; `ended` says that no more will come.

        Raises `SourceError` where the file cannot take them.
        """
        rows, count = [], self.count
        for piece in pieces:
            rows.append((count, piece.count, piece.codec, piece.body, piece.digest(count)))
            count += piece.count
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

    def load(self, at: int) -> tuple[int, Piece]:
        """Give the piece that event `at` is in, and its first event's number; raises `CheckpointError` for damage."""
        try:
            row = self._db.execute(
                "SELECT first, count, codec, body, digest FROM events WHERE first <= ? ORDER BY first DESC LIMIT 1", (at,)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, error) from error
        if row is None or at >= row[0] + row[1]:
            raise damaged(self.path, f"event {at} is missing")
        first, piece = row[0], Piece(*row[1:4])
        if piece.digest(first) != row[4]:
            raise damaged(self.path, f"the events from {first} on are not what was written")
        return first, piece

    def forget(self, position: int) -> None:
        """Remove the events below a position; those that are packed together with a later one stay."""
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
        """Let another process have the file."""
        self._db.close()


def check_there(path: Path) -> None:
    """Check what can be seen of a journal without opening it; raises `CheckpointError`."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"cannot resume: the journal {path} is missing, and with it events that a source gave only once; restore it,"
            " or begin afresh with resume='never'"
        ) from None
    except OSError as error:
        raise _unusable(path, f"{error.strerror}; name another file for checkpoint=") from error
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "it is no plain file; name another file for checkpoint=")
    _check_owner(path, status)
    for suffix in _BESIDE:  # SQLite would read it in the place of the file
        beside = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            _check_owner(beside, os.lstat(beside))


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or stat.S_ISLNK(status.st_mode):
        raise _unusable(
            path,
            "others may have written it, and it holds pickled events; use a file that belongs to you and that only you"
            " can write (chmod 600)",
        )


def damaged(path: Path, why: object) -> CheckpointError:
    """Give the error for a journal that cannot be read."""
    return _unusable(path, f"the file is damaged or no journal ({why}); restore a copy, or move it away and begin afresh")


def _taken(path: Path) -> sqlite3.Connection:
    """Open a journal, or an empty file, for this process alone."""
    check_there(path)
    db = sqlite3.connect(path, timeout=LOCK_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA synchronous=FULL")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise _unusable(path, "it is a database of something else; name another file for checkpoint=")
        if tables and version != VERSION:
            raise _unusable(
                path,
                f"it was written by another version of sluiceway (form {version}, this one has {VERSION}); finish the run"
                " with that one",
            )
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        close_to_others(path, _BESIDE)
    except sqlite3.DatabaseError as error:
        db.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise _unusable(path, "another process uses it; wait for its end") from error
        raise damaged(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _unusable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"cannot use {path} as the journal of a source: {why}")
