"""A real PostgreSQL server for tests: its own folder, a free port of loopback, stopped by its process id.

`from postgres_server import postgres` gives a test module the fixture; each test makes a database of its own with
`postgres.database()`. Without PostgreSQL's programs such tests are skipped, with the package to install.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "correct horse"
_START_S = 30.0
#: Also when the tests run as root, PostgreSQL does not.
_USERS = ("postgres", "nobody")


@dataclass(slots=True)
class PostgresServer:
    """A running server; `pid` is its first process."""

    port: int
    pid: int
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database, with the password."""
        return f"postgresql+psycopg://tester:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make a new database and give its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement outside a transaction and give its rows."""
        import psycopg

        with psycopg.connect(self.url(database).replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found is not None:
        return found
    versions = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    return max(versions, key=lambda path: int(Path(path).parts[-3].partition(".")[0]), default=None)


def why_not() -> str:
    """Return why no server can be started here, or nothing."""
    missing = [name for name in ("initdb", "postgres") if _program(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found: apt-get install postgresql"
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user to run it as: apt-get install postgresql"
    return ""


def _user() -> pwd.struct_passwd | None:
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((names[name] for name in _USERS if name in names), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own, and stop it and delete the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tests-postgres-"))
    # a clean environment: what the server starts is not to be taken for what a test has left behind
    options: dict[str, Any] = {"env": {"PATH": os.defpath, "LC_ALL": "C"}, "cwd": folder}
    user = _user() if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    secret = folder / "password"
    secret.write_text(PASSWORD)
    data, port = folder / "data", _free_port()
    log = folder / "log"
    try:
        make = [str(_program("initdb")), "-D", str(data), "-U", "tester", "--auth=scram-sha-256", f"--pwfile={secret}"]
        secret.chmod(0o644)
        subprocess.run([*make, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, timeout=60, **options)
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
            "max_connections": 50, "shared_buffers": "16MB", "log_min_messages": "fatal",
        }  # fmt: skip
        command = [str(_program("postgres")), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=output, **options)
        try:
            _wait_until_it_answers(server, port, log)
            yield PostgresServer(port, server.pid)
        finally:
            server.send_signal(signal.SIGINT)  # ends open sessions, waits for nobody
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(server: subprocess.Popen[Any], port: int, log: Path) -> None:
    import time

    import psycopg

    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(
                host="127.0.0.1", port=port, user="tester", password=PASSWORD, dbname="postgres", connect_timeout=5
            ).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}") from None
        time.sleep(0.05)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Return a running server; skips the test where none can be started."""
    pytest.importorskip("psycopg")
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with running() as server:
        yield server
