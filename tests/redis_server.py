"""A real Redis server for tests, on a free port of the loopback, with a password and its files in a given folder.

The fixtures `server`, one for each test module, and `db` are there in every test, by way of `conftest.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import redis

PASSWORD = "open-sesame"


class RedisServer:
    """A running server; it keeps what it holds over `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        self._binary = binary
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        import redis

        options = {
            "port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "dir": self._folder, "save": "",
            "appendonly": "yes", "appendfsync": "no",
        }  # fmt: skip
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        with open(self._folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([self._binary, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end_at = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.exceptions.ConnectionError:  # also while it reads its files
                assert self._process.poll() is None, (self._folder / "redis.log").read_text()[-2000:]
                assert time.monotonic() < end_at, "the server did not come up"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server by its pid and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            os.kill(process.pid, signal.SIGCONT)
            os.kill(process.pid, how)
            process.wait(20)

    def freeze(self, *, frozen: bool = True) -> None:
        """Stop the server from answering, or let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client of the server, without retries."""
        import redis

        return redis.Redis.from_url(self.url, protocol=2, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a server with its files in `folder`."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return the Redis server of this test module."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def db(server: RedisServer) -> Iterator[Any]:
    """Return a client of the module's server, emptied."""
    with server.client() as client:
        client.flushall()
        yield client
