"""Checkpoints in one SQLite file.

Decides that one run at a time uses a file, and which tables it has; `private_file` decides which files are refused.
While a run uses the file, or has died with it, the last transactions are in `-wal` beside it.

SQLite writes ahead (WAL), each commit synced to the disk. Adding one small row to the order log took 2.3 ms on a disk
that syncs in 1.6 ms, 11.5 to 13.2 ms with any rollback journal (medians of 600, the modes in turn): a journal is synced
in three steps, the log in one, and numbers are delivered after that. The costs: one more file
beside the store, and no network disks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...nodes.errors import CheckpointError
from ..sources.private_file import FileKind, PrivateFile, check_pages
from .store import VERSION, Execute, TableStore, describe_run

#: `PRAGMA application_id` of a store: "slus" in ASCII.
APPLICATION = 0x736C7573
_KIND = FileKind(
    APPLICATION,
    VERSION,
    noun="store",
    use="for checkpoints",
    contents="states",
    another="name another file",
    if_damaged="restore a copy, or name another file",
    if_outdated="finish the run with that one, or begin afresh with resume='never'",
)
#: The name of the one run in the tables of a file.
_NAME = ""
_TABLES = ("run", "checkpoint", "history", "log", "answer")
#: How often to try again to lock a file that another run uses, in seconds.
_RETRY_S = 0.05


def file_store(path: Path) -> TableStore:
    """Return the store in a file, which is created when it is opened."""
    return TableStore(_SqliteFile(path))


@dataclass(slots=True)
class _SqliteFile:
    """The tables of a store in one file; the descriptor `_locked` has the lock on it."""

    path: Path
    noun: str = field(default="file", init=False)
    is_local: bool = field(default=True, init=False)
    wait_s: float = field(default=0.0, init=False)
    _db: sqlite3.Connection | None = field(default=None, init=False, repr=False)
    _locked: int | None = field(default=None, init=False, repr=False)

    @property
    def _file(self) -> PrivateFile:
        return PrivateFile(self.path, _KIND)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        """The machine and the absolute path; what the name itself links to may change."""
        return f"{os.uname().nodename}:{self.path.parent.resolve() / self.path.name}"

    def is_there(self) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(self.path)

    def acquire(self, graph: str, *, fresh: bool) -> str:
        """Lock the file and open it as a database; it serves one run, whatever the graph is called."""
        self._lock()
        try:
            self._connect(fresh)
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error
        return _NAME

    @contextlib.contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[Execute]:
        """Return a transaction that is synced to the disk when it ends, or else given to the system."""
        db = self._db
        assert db is not None, "the store is not open"
        try:
            if not synced:
                db.execute("PRAGMA synchronous=NORMAL")  # the next commit under FULL syncs what is written ahead, all of it
            db.execute("BEGIN IMMEDIATE")
            with db:  # commits, or rolls back
                yield _executing(db)
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from error
        finally:
            if not synced:
                db.execute("PRAGMA synchronous=FULL")

    def make_answers(self) -> None:
        """Make the table of kept answers unless there is one."""
        with self.transaction() as execute:
            # Moving what is written ahead to its place takes two syncs: every 32 MiB instead of 4.
            execute("PRAGMA wal_autocheckpoint=8192")
            execute(
                "CREATE TABLE IF NOT EXISTS answer (name TEXT NOT NULL, node TEXT NOT NULL, first INTEGER NOT NULL,"
                " size INTEGER NOT NULL, code TEXT NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL,"
                " PRIMARY KEY (name, node, first))"
            )

    def damaged(self, reason: object) -> CheckpointError:
        """Return the error for a file that cannot be right."""
        return self._file.damaged(reason)

    def close(self) -> None:
        """Close and unlock the file; SQLite merges what it keeps beside it."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
        descriptor, self._locked = self._locked, None
        if descriptor is not None:
            os.close(descriptor)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _refusal(self, error: sqlite3.DatabaseError) -> CheckpointError:
        """Return the error for one of SQLite: damage (pages, text, missing tables), or a disk that is full."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # there is none for text that is not UTF-8
        if not isinstance(error, sqlite3.OperationalError) or code == sqlite3.SQLITE_ERROR:
            return self.damaged(error)
        return CheckpointError(
            f"cannot keep checkpoints in {self.path}: {error}; correct that and run again: it goes on from the last one"
        )

    def _lock(self) -> None:
        """Lock the file, and create it if it is missing; SQLite's own locks are independent of this one."""
        try:
            descriptor = self._locked = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._file.unusable(f"{error.strerror}; name a file") from error
        with self._file.refused():
            status = os.fstat(descriptor)
        self._file.check(status)
        deadline = time.monotonic() + self.wait_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise self._file.unusable("another run uses it; wait for its end, or name another file")
            time.sleep(_RETRY_S)

    def _connect(self, fresh: bool) -> None:
        db = self._db = self._file.connect(30.0, any_version=fresh)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables:
            check_pages(db)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if not tables or version != VERSION:
            self._make(db, tables)

    def _make(self, db: sqlite3.Connection, old: set[str]) -> None:
        db.execute(f"PRAGMA application_id={APPLICATION}")
        with db:
            db.execute("BEGIN IMMEDIATE")
            for table in old.intersection(_TABLES):
                db.execute(f"DROP TABLE {table}")
            db.execute("CREATE TABLE run (name TEXT PRIMARY KEY, identity TEXT, began TEXT)")
            db.execute("INSERT INTO run (name) VALUES (?)", (_NAME,))
            db.execute("CREATE TABLE checkpoint (name TEXT PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL)")
            db.execute(
                "CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
                " n INTEGER, at TEXT, bytes INTEGER, finished INTEGER, note TEXT)"
            )
            db.execute(
                "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, kind TEXT NOT NULL,"
                " source INTEGER NOT NULL, first INTEGER NOT NULL, size INTEGER NOT NULL, extent BLOB NOT NULL,"
                " digest BLOB NOT NULL)"
            )
            db.execute(f"PRAGMA user_version={VERSION}")


def copy_file(path: Path, target: Path) -> None:
    """Copy the store in a file as it is at one moment, also while a run uses it; raises `CheckpointError`.

    The copy is a file of its own that only its owner can read. One that exists is not replaced.
    """
    if not path.is_file():
        raise CheckpointError(f"cannot copy {path}: there is no such file; name the file given as checkpoint=")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise CheckpointError(f"cannot copy {path} to {target}: {error.strerror}; name a file that is not there yet") from error
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)) as db,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            (application,) = db.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION:
                raise CheckpointError(f"cannot copy {path}: it is no store of checkpoints; name one")
            db.backup(copy)  # in one step, which reads what one transaction reads
    except BaseException as error:
        os.unlink(target)
        if isinstance(error, sqlite3.DatabaseError):
            raise CheckpointError(f"cannot copy {path}: {error}") from error
        raise


def describe_file(path: Path) -> str:
    """Return a description of the store in a file for a person, also while a run uses it; raises `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"cannot look into {path}: there is no such file; name the file given as checkpoint=")
    # Without a log beside it the file is whole and nobody writes it: nothing needs to be made to read it.
    whole = not path.with_name(path.name + "-wal").exists()
    address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30.0, isolation_level=None)) as db:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION:
                raise CheckpointError(f"cannot look into {path}: it is not a store of checkpoints; name one")
            if version != VERSION:
                raise CheckpointError(
                    f"cannot look into {path}: it was written by another version of sluiceway (form {version}, this one"
                    f" has {VERSION}); look with that one"
                )
            return describe_run(str(path), _NAME, _executing(db))
    except (sqlite3.DatabaseError, ValueError) as error:
        raise CheckpointError(f"cannot look into {path}: the file is damaged or no store ({error})") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _executing(db: sqlite3.Connection) -> Execute:
    def execute(
        statement: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), /
    ) -> list[tuple[Any, ...]]:
        statement = statement.format(t="")
        if isinstance(values, Mapping):
            return db.execute(statement, values).fetchall()
        return db.executemany(statement, values).fetchall() if values else db.execute(statement).fetchall()

    return execute
