"""Private SQLite files: they hold pickled values, so they are for their owner alone.

Decides which files are refused (those of others, those that others can write, databases of something else or of another
version), that a file is 0600, and that each transaction is written ahead and synced to the disk. What the tables hold is
not known here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from ...nodes.errors import CheckpointError

#: What SQLite may keep beside a file; it would read them in the place of the file.
BESIDE = ("-wal", "-shm", "-journal")


class FileKind(Struct, frozen=True):
    """A kind of private file: how it is recognised, and how error texts speak of it."""

    application: int  #: `PRAGMA application_id`
    version: int  #: `PRAGMA user_version`: the version of the tables
    noun: str
    use: str  #: what it is used for: "for checkpoints"
    contents: str  #: what is pickled in it
    another: str  #: how to use another file
    if_damaged: str  #: the remedy for a damaged file
    if_outdated: str  #: the remedy for a file of another version


class PrivateFile(Struct, frozen=True):
    """A private file at a path, which may not exist yet."""

    path: Path
    kind: FileKind

    def check(self, status: os.stat_result) -> None:
        """Raise `CheckpointError` unless this is a plain file that only its owner, who runs this, can write.

        `status` is that of the file; those beside it are looked at too.
        """
        if not stat.S_ISREG(status.st_mode):
            raise self.unusable(f"it is not a plain file; {self.kind.another}")
        self._check_owner(self.path, status)
        for beside in self._beside():
            with self.refused(), contextlib.suppress(FileNotFoundError):
                self._check_owner(beside, os.lstat(beside))

    def connect(self, timeout_s: float, *, exclusive: bool = False, any_version: bool = False) -> sqlite3.Connection:
        """Open the file as a database of its kind, or empty, and make it and what is beside it 0600.

        With `exclusive` no other process can open it until it is closed. `timeout_s` is how long to wait for another
        process. Raises `CheckpointError` for another database or version, and what SQLite raises.
        """
        db = sqlite3.connect(self.path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        try:
            if exclusive:
                db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check_kind(db, any_version)
            # Written ahead, a transaction is one sync of one file; in the other modes of SQLite it is two to four.
            (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
            for path in (self.path, *self._beside()):  # a copy, or one that was made before, may be for others to read
                with self.refused(), contextlib.suppress(FileNotFoundError):
                    os.chmod(path, 0o600)
            if mode != "wal":
                raise self.unusable("SQLite cannot write ahead there; name a file on a local disk")
            db.execute("PRAGMA synchronous=FULL")
            if exclusive:  # the lock is acquired by the first transaction that writes
                db.execute("BEGIN IMMEDIATE")
                db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Raise `CheckpointError` for what the system refuses to do with the file."""
        try:
            yield
        except OSError as error:
            raise self.unusable(f"{error.strerror}; mend that, or {self.kind.another}") from error

    def unusable(self, why: object, *, path: Path | None = None) -> CheckpointError:
        """Return the error for a file that is refused."""
        return CheckpointError(f"cannot use {path or self.path} {self.kind.use}: {why}")

    def damaged(self, reason: object) -> CheckpointError:
        """Return the error for a file whose contents cannot be right."""
        return self.unusable(f"the file is damaged or no {self.kind.noun} ({reason}); {self.kind.if_damaged}")

    def _beside(self) -> list[Path]:
        return [self.path.with_name(self.path.name + suffix) for suffix in BESIDE]

    def _check_owner(self, path: Path, status: os.stat_result) -> None:
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or stat.S_ISLNK(status.st_mode):
            raise self.unusable(
                f"others may have written it, and it holds pickled {self.kind.contents}; use a file that belongs to you"
                " and that only you can write (chmod 600)",
                path=path,
            )

    def _check_kind(self, db: sqlite3.Connection, any_version: bool) -> None:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != self.kind.application:
            raise self.unusable(f"it is a database of something else; {self.kind.another}")
        if tables and version != self.kind.version and not any_version:
            raise self.unusable(
                f"it was written by another version of sluiceway (form {version}, this one has {self.kind.version});"
                f" {self.kind.if_outdated}"
            )


def check_pages(db: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` for a database whose pages do not fit together."""
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its pages do not fit together")
