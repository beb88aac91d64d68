"""Where checkpoints are kept: a small interface, and an SQLite file behind it.

Decides what a store holds (the last checkpoint, and a short history of when the others were made), that one run at a
time uses it, and which files are refused. A store holds pickled states and positions, so it is 0600 and only ever
opened for the user that owns it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import sqlite3
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from ..nodes.errors import CheckpointError

#: `PRAGMA application_id` of a store: "pens" in ASCII.
APPLICATION = 0x70656E73
VERSION = 1
#: So many of the last checkpoints are remembered by number and time.
HISTORY = 100

Resume = Literal["auto", "never", "required"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint: everything below `n` is committed.

    `places` are (position, skip) of each source, `states` the packed states of the pools that have one, `tokens` what
    each sink's `commit` gave, by name.
    """

    n: int
    places: tuple[tuple[object, int], ...]
    turn: int
    states: Mapping[str, bytes]
    tokens: Mapping[str, Any]
    finished: bool = False


class Store(Protocol):
    """Keeps the last checkpoint of one run of one graph."""

    def open(self, identity: Mapping[str, Any], resume: Resume) -> Saved | None:
        """Take the store for this run and give the checkpoint to go on from, if there is one.

        Raises `CheckpointError` for a store in use, damaged, foreign, or of another graph, and for `"required"`
        without a checkpoint.
        """

    def write(self, saved: Saved) -> None:
        """Keep a checkpoint durably in the place of the one before."""

    def close(self) -> None:
        """Let another run use the store."""


@dataclass(slots=True)
class FileStore:
    """A store in one SQLite file."""

    path: Path
    _db: sqlite3.Connection | None = field(default=None, init=False, repr=False)
    _held: int | None = field(default=None, init=False, repr=False)

    def open(self, identity: Mapping[str, Any], resume: Resume) -> Saved | None:
        """Take the file, make it where there is none, and give its checkpoint."""
        try:
            self._take()
            self._connect()
            if resume == "never":
                self._begin(identity)
                return None
            known = self._identity()
            saved = self._last() if known is not None else None
            if saved is None:
                if resume == "required":
                    raise CheckpointError(
                        f"cannot resume from {self.path}: it holds no checkpoint; name the file of the run that is to go"
                        " on, or begin with resume='auto'"
                    )
                self._begin(identity)
                return None
            assert known is not None
            self._compare(known, identity)
            return saved
        except BaseException:
            self.close()
            raise

    def write(self, saved: Saved) -> None:
        """Keep a checkpoint in the place of the one before."""
        body = pickle.dumps(saved, protocol=5)
        check = hashlib.blake2b(body, digest_size=16).digest()
        db = self._database()
        with db:
            db.execute("DELETE FROM checkpoint")
            db.execute("INSERT INTO checkpoint (body, digest) VALUES (?, ?)", (body, check))
            db.execute(
                "INSERT INTO history (n, at, bytes, finished) VALUES (?, ?, ?, ?)",
                (saved.n, datetime.now(UTC).isoformat(timespec="milliseconds"), len(body), saved.finished),
            )
            db.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY,))

    def close(self) -> None:
        """Let go of the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Lock the file, and make it 0600 where it is not there; SQLite's own locks are of another kind."""
        try:
            held = self._held = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CheckpointError(f"cannot use {self.path} for checkpoints: {error.strerror}; name a file") from error
        status = os.fstat(held)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"cannot use {self.path} for checkpoints: it is no plain file; name one")
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise CheckpointError(
                f"cannot use {self.path} for checkpoints: others may have written it, and it holds pickled states; use"
                " a file that belongs to you and that only you can write (chmod 600)"
            )
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"cannot use {self.path} for checkpoints: another run uses it; wait for its end, or name another file"
            ) from None

    def _connect(self) -> None:
        db = self._db = sqlite3.connect(self.path, timeout=30.0, check_same_thread=False)
        try:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not empty and application != APPLICATION:
                raise CheckpointError(
                    f"cannot use {self.path} for checkpoints: it is a database of something else; name another file"
                )
            if not empty and version != VERSION:
                raise CheckpointError(
                    f"cannot use {self.path}: it was written by another version of penstock (form {version}, this one"
                    f" has {VERSION}); finish the run with that one, or begin afresh with resume='never'"
                )
            if not empty and db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("its pages do not fit together")
            db.execute("PRAGMA synchronous=FULL")
            if empty:
                self._make(db)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _make(self, db: sqlite3.Connection) -> None:
        db.executescript(
            f"""
            PRAGMA application_id={APPLICATION};
            PRAGMA user_version={VERSION};
            BEGIN;
            CREATE TABLE IF NOT EXISTS run (identity TEXT NOT NULL, began TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS checkpoint (body BLOB NOT NULL, digest BLOB NOT NULL);
            CREATE TABLE IF NOT EXISTS history (
                id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER, at TEXT, bytes INTEGER, finished INTEGER);
            COMMIT;
            """
        )

    def _begin(self, identity: Mapping[str, Any]) -> None:
        db = self._database()
        with db:
            for table in ("run", "checkpoint", "history"):
                db.execute(f"DELETE FROM {table}")
            began = datetime.now(UTC).isoformat(timespec="seconds")
            db.execute("INSERT INTO run (identity, began) VALUES (?, ?)", (json.dumps(identity), began))

    def _identity(self) -> dict[str, Any] | None:
        row = self._database().execute("SELECT identity FROM run").fetchone()
        known: dict[str, Any] | None = None if row is None else json.loads(row[0])
        return known

    def _last(self) -> Saved | None:
        try:
            row = self._database().execute("SELECT body, digest FROM checkpoint").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        if row is None:
            return None
        body, check = row
        if hashlib.blake2b(body, digest_size=16).digest() != check:
            raise self._damaged(ValueError("its checkpoint is not what was written"))
        saved = pickle.loads(body)
        assert isinstance(saved, Saved)
        return saved

    def _compare(self, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        given = json.loads(json.dumps(given))
        for key in (*known, *given):
            if known.get(key) != given.get(key):
                raise CheckpointError(
                    f"cannot resume from {self.path}: its {key} is {_short(known.get(key))}, this run's is"
                    f" {_short(given.get(key))}; run the graph as it was, or begin afresh with resume='never'"
                )

    def _damaged(self, error: BaseException) -> CheckpointError:
        return CheckpointError(
            f"cannot use {self.path} for checkpoints: the file is damaged or no store ({error}); restore a copy, or"
            " name another file"
        )

    def _database(self) -> sqlite3.Connection:
        assert self._db is not None, "the store is not open"
        return self._db


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:297] + "..."


def look_inside(path: Path) -> str:
    """Describe the store in a file for a person, also while a run uses it; raises `CheckpointError` for no store."""
    if not path.is_file():
        raise CheckpointError(f"cannot look into {path}: there is no such file; name the file given as checkpoint=")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)) as db:
        try:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION:
                raise CheckpointError(f"cannot look into {path}: it is no store of checkpoints; name one")
            run = db.execute("SELECT identity, began FROM run").fetchone()
            rows = db.execute("SELECT n, at, bytes, finished FROM history ORDER BY id DESC LIMIT 10").fetchall()
        except sqlite3.DatabaseError as error:
            raise CheckpointError(f"cannot look into {path}: the file is damaged or no store ({error})") from error
    if run is None:
        return f"{path}: no run has used it"
    identity = json.loads(run[0])
    lines = [f"{path}: graph {identity['graph']!r}, begun {run[1]}"]
    if not rows:
        lines.append("no checkpoint yet")
    elif rows[0][3]:
        lines.append("finished")
    lines += [f"{at}  everything below number {n}, {size} bytes" for n, at, size, _ in rows]
    lines.append("nodes: " + ", ".join(f"{name} ({kind})" for name, kind, _ in identity["nodes"]))
    return "\n".join(lines)
