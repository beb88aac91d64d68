"""Stores and journals are made and changed whole: killed at any system call, or refused one, the next run makes them or goes on.

Each call of the process that touches a file is met in turn, by ptrace; SQLite's are among them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sluiceway as sw
from marks import slow
from sluiceway.engine.checkpoints.open_store import store_of
from sluiceway.engine.checkpoints.store import Resume, Saved
from sluiceway.engine.sources.journal_file import (
    JournalFile,
    StoredBatch,
    check_nothing_stored,
    create_journal,
    remove_journal,
)
from system_calls import FILE_CALLS, SUPPORTED, WRITING_CALLS, Act, at_each_call

IDENTITY = {"graph": "g", "nodes": []}
ACTS: dict[str, Act] = {"kill": "kill", "EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
#: How the work may end: well, refused with `CheckpointError`, or killed.
REFUSED = 3


def saved(n: int) -> Saved:
    return Saved(n, ((n, 0, None),), 0, {}, {"s": n}, False, (n,), "r")


class Case:
    """What is done while calls fail, in a folder of its own, and what must be possible afterwards."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "run.db"
        self.journal = folder / "run.db.0.events"

    def before(self) -> None:
        """Make what is there before."""

    def work(self) -> None:
        """Do what is met by failures."""

    def after(self) -> None:
        """Go on in the next run; raises where that is not possible."""

    def open(self, resume: Resume = "auto", *, write: int | None = None) -> int | None:
        """Open the store, write to it, and return the number that it had."""
        store = store_of(self.store, locked=False)
        try:
            known = store.open(IDENTITY, resume)
            if write is not None:
                store.write(saved(write))
                store.announce(write + 1)
        finally:
            store.close()
        return None if known is None else known.n


class StoreIsMade(Case):
    def work(self) -> None:
        self.open(write=1)

    def after(self) -> None:
        assert self.open(write=2) in (None, 1)
        assert self.open() == 2


class StoreIsWritten(Case):
    def before(self) -> None:
        self.open(write=1)

    def work(self) -> None:
        self.open(write=2)

    def after(self) -> None:
        assert self.open(write=3) in (1, 2)
        assert self.open() == 3


class StoreIsForgotten(Case):
    def before(self) -> None:
        self.open(write=1)

    def work(self) -> None:
        self.open("never")

    def after(self) -> None:
        assert self.open(write=2) in (None, 1)
        assert self.open() == 2


class JournalIsMade(Case):
    def work(self) -> None:
        create_journal(self.journal)

    def after(self) -> None:
        check_nothing_stored(self.journal)
        create_journal(self.journal)
        self.store_one()

    def store_one(self) -> None:
        """Store one event and find it again."""
        file = JournalFile(self.journal, "it")
        file.append([StoredBatch(1, 0, b"body")])
        file.close()
        file = JournalFile(self.journal, "it")
        assert file.count >= 1
        file.close()


class JournalIsMadeAnew(JournalIsMade):
    """In place of an old one, which is told to be forgotten."""

    def before(self) -> None:
        create_journal(self.journal)
        self.store_one()

    def after(self) -> None:
        create_journal(self.journal)
        self.store_one()


class JournalIsWritten(JournalIsMade):
    def before(self) -> None:
        create_journal(self.journal)
        self.store_one()

    def work(self) -> None:
        file = JournalFile(self.journal, "it")
        try:
            file.append([StoredBatch(1, 0, b"another")])
        except sw.SourceError:
            os._exit(REFUSED)
        finally:
            file.close()

    def after(self) -> None:
        file = JournalFile(self.journal, "it")
        assert file.count in (1, 2)
        file.close()
        self.store_one()


class JournalIsRemoved(JournalIsMade):
    def before(self) -> None:
        create_journal(self.journal)

    def work(self) -> None:
        remove_journal(self.journal)


CASES: list[type[Case]] = [
    StoreIsMade, StoreIsWritten, StoreIsForgotten, JournalIsMade, JournalIsMadeAnew, JournalIsWritten, JournalIsRemoved,
]  # fmt: skip


def meet_all(kind: type[Case], act: Act, folder: Path, step: int) -> int:
    """Meet each call of a case in turn, check what follows, and return how many there were."""
    case, met_calls = kind(folder), 0

    def work() -> None:
        try:
            case.work()
        except sw.CheckpointError:
            os._exit(REFUSED)

    def prepare() -> None:
        for path in folder.iterdir():
            path.unlink()
        case.before()

    prepare()
    for met in at_each_call(work, act, WRITING_CALLS if act == errno.ENOSPC else frozenset(FILE_CALLS), step):
        assert met.returncode in (0, REFUSED, -9), f"call {met.at} ({met.call}) ended with {met.returncode}"
        try:
            case.after()
        except BaseException as error:
            error.add_note(f"after call {met.at} ({met.call})")
            raise
        prepare()
        met_calls = met.at
    return met_calls


@pytest.mark.skipif(not SUPPORTED, reason="system calls are met by ptrace on x86-64 Linux")
@pytest.mark.timeout(700)
@pytest.mark.parametrize("step", [7, slow(1)])
@pytest.mark.parametrize("act", ["kill", "EIO", "ENOSPC", slow("EACCES")])
@pytest.mark.parametrize("kind", CASES, ids=[kind.__name__ for kind in CASES])
def test_each_system_call_fails_or_is_the_last(kind: type[Case], act: str, step: int, tmp_path: Path) -> None:
    """In a process of its own, because a process with threads must not fork."""
    folder = tmp_path / "store"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, __file__, kind.__name__, act, str(folder), str(step)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 1


def test_a_killed_birth_of_a_journal_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """What SQLite leaves of a journal whose first transaction was never committed: a header without tables."""
    journal = tmp_path / "run.db.0.events"
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA journal_mode=WAL")
    journal.chmod(0o600)
    assert journal.stat().st_size > 0
    out: list[int] = []
    graph = sw.Graph("born")
    graph.source(iter(range(5)), journal=True).sink(out.append)
    sw.run(graph, runner="inline", checkpoint=tmp_path / "run.db")
    assert out == list(range(5))


if __name__ == "__main__":
    chosen: dict[str, type[Case]] = {kind.__name__: kind for kind in CASES}
    print(meet_all(chosen[sys.argv[1]], ACTS[sys.argv[2]], Path(sys.argv[3]), int(sys.argv[4])))
