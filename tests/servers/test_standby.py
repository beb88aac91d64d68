"""A standby on the same database: it waits for the lock, and goes on from the last checkpoint when the first run dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sluiceway as sw
from postgres_server import PostgresServer, postgres
from sql_checks import rows_of

__all__ = ["postgres"]

SCRIPT = '''
import sys, time
import sluiceway as sw

def slow(n):
    time.sleep(0.001)
    return n

def add(total, n):
    return total + n, {"n": n, "total": total + n}

url, events = sys.argv[1], int(sys.argv[2])
graph = sw.Graph("guarded")
rows = graph.source(range(events)).map(slow).scan(add, 0)
rows.sink(sw.sql_sink(url, table="rows", create={"n": int, "total": int, "seq": int, "at": int}, numbers=("seq", "at")))
lock = sw.postgres_lock(url, "guarded", wait_s=None)
sw.run(graph, workers=2, checkpoint=url, checkpoint_interval_s=0.05, lock=lock)
'''
#: Which process holds the lock of the graph, by what its session says of itself: "sluiceway host:pid guarded".
HOLDER = (
    "SELECT split_part(split_part(a.application_name, ':', 2), ' ', 1) FROM pg_stat_activity a JOIN pg_locks l USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND a.application_name ~ '^sluiceway .* guarded$'"
    " AND a.application_name !~ 'checkpoints of' AND a.datname = current_database()"
)


class _Pair:
    """An active run and its standby, started anew as they die."""

    def __init__(self, folder: Path, url: str, events: int) -> None:
        self._script, self._url, self._events = folder / "script.py", url, events
        self._script.write_text(SCRIPT)
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.ended: list[tuple[int, str]] = []

    def fill(self) -> None:
        while len(self.running) < 2:
            process = subprocess.Popen(
                [sys.executable, str(self._script), self._url, str(self._events)],
                start_new_session=True,
                stderr=subprocess.PIPE,
            )
            self.running[process.pid] = process

    def collect(self) -> None:
        """Record which have ended by themselves."""
        for pid, process in list(self.running.items()):
            if process.poll() is not None:
                self.ended.append((process.returncode, process.communicate()[1].decode()))
                del self.running[pid]

    def active(self) -> int | None:
        """Return the process that holds the lock, as soon as one does; `None` when both have ended."""
        while True:
            self.collect()
            holders = [int(pid) for (pid,) in rows_of(self._url, HOLDER)]
            if holders and holders[0] in self.running:
                return holders[0]
            if not self.running:
                return None
            time.sleep(0.01)

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)
        self.running.pop(pid).communicate()

    def finish(self) -> None:
        for pid in list(self.running):
            _, errors = self.running[pid].communicate(timeout=100)
            self.ended.append((self.running.pop(pid).returncode, errors.decode()))

    def end(self) -> None:
        for pid in list(self.running):
            self.kill(pid)


def _result(url: str) -> list[tuple[int, ...]]:
    return rows_of(url, "SELECT n, total, seq, at FROM rows ORDER BY seq")


def _rows(events: int) -> list[tuple[int, ...]]:
    return [(n, n * (n + 1) // 2, n, 0) for n in range(events)]


def _kill_the_active(folder: Path, url: str, events: int, kills: int, seed: int) -> int:
    pair, chance, killed = _Pair(folder, url, events), random.Random(seed), 0
    try:
        while killed < kills:
            pair.fill()
            active = pair.active()
            assert active is not None, pair.ended
            try:
                pair.running[active].wait(chance.uniform(0.2, 0.9))
            except subprocess.TimeoutExpired:
                pair.kill(active)
                killed += 1
                continue
            break
        pair.finish()
    finally:
        pair.end()
    assert [code for code, _ in pair.ended] == [0] * len(pair.ended), pair.ended
    assert _result(url) == _rows(events)
    ((epoch,),) = rows_of(url, "SELECT epoch FROM sluiceway_run")
    assert epoch > killed  # each that came to its turn has opened the store
    numbers = [n for (n,) in rows_of(url, "SELECT n FROM sluiceway_history ORDER BY id")]
    assert numbers == sorted(numbers)  # none began anew
    return killed


def test_a_standby_goes_on_when_the_active_run_is_killed(tmp_path: Path, postgres: PostgresServer) -> None:
    assert _kill_the_active(tmp_path, postgres.database(), 2_500, 2, 11) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_standby_goes_on_a_hundred_times(tmp_path: Path, postgres: PostgresServer) -> None:
    assert _kill_the_active(tmp_path, postgres.database(), 60_000, 100, 12) >= 50


def test_the_server_finds_out_soon_that_a_machine_is_gone(postgres: PostgresServer) -> None:
    """The sessions of lock, store and sink have locks for which a standby waits."""
    url = postgres.database()
    lock, store = sw.postgres_lock(url, "guarded"), sw.postgres_store(url, name="guarded")
    sink = sw.sql_sink(url, table="rows", create={"n": int})
    lock.acquire()
    store.open({"graph": "guarded"}, "auto")
    sink.open()
    try:
        for holder in (lock._session, store._backing._session, sink._connection):  # type: ignore[attr-defined]
            assert holder is not None
            names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
            shown = [holder.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
            assert shown == ["5", "2", "3", "10000"]
    finally:
        sink.abort()
        store.close()
        lock.release()


def test_a_run_that_loses_its_sessions_ends_and_the_standby_goes_on(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.database()
    pair = _Pair(tmp_path, url, 3_000)
    try:
        pair.fill()
        active = pair.active()
        assert active is not None
        while not rows_of(url, "SELECT 1 FROM pg_tables WHERE tablename = 'sluiceway_history'"):
            time.sleep(0.01)
        while len(rows_of(url, "SELECT n FROM sluiceway_history")) < 3:
            assert pair.running[active].poll() is None, pair.running[active].communicate()[1].decode()
            time.sleep(0.01)
        mine = f"starts_with(split_part(application_name, ':', 2), '{active} ') AND datname = current_database()"
        assert len(rows_of(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")) == 2
        pair.finish()
    finally:
        pair.end()
    codes = sorted(code for code, _ in pair.ended)
    assert codes == [0, 1], pair.ended
    assert any("sluiceway.nodes.errors." in told for code, told in pair.ended if code == 1), pair.ended
    assert _result(url) == _rows(3_000)
