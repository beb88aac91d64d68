"""Connections that break between living processes: nothing is lost, and no event is blamed."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import sluiceway as sw
from conftest import assert_same, observe
from fault_graphs import branched, same
from sluiceway.engine.local.site import LocalSite
from sluiceway.engine.local.transport.router import Router

N = 3000


class Relay:
    """Passes bytes between those who connect to it and a port, until it is told to break all connections."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._ends, self._end = socket.socketpair()
        self._selector.register(self._ends, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.broken = 0

    def break_all(self) -> None:
        """Break every connection; new ones are accepted."""
        self._end.send(b"!")

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    near, _ = self._listener.accept()
                    far = socket.create_connection(("127.0.0.1", self._target))
                    self._selector.register(near, selectors.EVENT_READ, far)
                    self._selector.register(far, selectors.EVENT_READ, near)
                elif key.fileobj is self._ends:
                    if not self._ends.recv(1):
                        self._close_all()
                        return
                    self.broken += self._close_all()
                elif key.data is not None:
                    self._pass_on(key)

    def _pass_on(self, key: Any) -> None:
        data = b""
        with suppress(OSError):
            data = key.fileobj.recv(1 << 16)
            key.data.sendall(data)
        if not data:
            self._close(key.fileobj)

    def _close(self, end: Any) -> None:
        with suppress(KeyError, ValueError):
            other = self._selector.unregister(end).data
            self._selector.unregister(other)
            other.close()
        end.close()

    def _close_all(self) -> int:
        pairs = [key for key in self._selector.get_map().values() if key.data is not None]
        for key in list(pairs):
            self._close(key.fileobj)
        return len(pairs) // 2

    def close(self) -> None:
        """End the relay."""
        self._end.close()
        self._thread.join()
        for one in (self._listener, self._ends, self._selector):
            one.close()


@pytest.fixture
def relays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Relay]]:
    """Give the relays of the runs over TCP that begin from now on: every child connects through one."""
    made: list[Relay] = []
    bind = LocalSite.bind

    def bind_behind(self: LocalSite, router: Router, folder: Any) -> None:
        bind(self, router, folder)
        made.append(Relay(int(router.endpoint.rpartition(":")[2])))
        router.endpoint = f"tcp://127.0.0.1:{made[-1].port}"

    monkeypatch.setattr(LocalSite, "bind", bind_behind)
    yield made
    for relay in made:
        relay.close()


def test_workers_whose_connections_break_are_replaced(relays: list[Relay], caplog: pytest.LogCaptureFixture) -> None:
    reference = observe(lambda seen: branched(seen, range(N), same), runner="inline")
    due = [N // 4, N // 2, 3 * N // 4]

    def make(seen: Any) -> sw.Graph:
        graph = branched(seen, range(N), same)
        sink = next(node for node in graph.nodes if node.name == "out").subject
        write = sink.write

        def write_and_strike(events: Any) -> None:
            write(events)
            if due and len(seen.journal) >= due[0]:
                del due[0]
                relays[-1].break_all()

        sink.write = write_and_strike
        return graph

    # The window keeps workers from being done with everything before the first strike.
    seen = observe(make, workers=2, transport="tcp", max_deaths=1, window_numbers=300)
    assert_same(reference, seen)
    assert relays[-1].broken > 0
    assert "lost its connection to the calling process" in caplog.text


def test_workers_that_cannot_connect_end_the_run_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = LocalSite.bind

    def bind_nowhere(self: LocalSite, router: Router, folder: Any) -> None:
        bind(self, router, folder)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            router.endpoint = f"tcp://127.0.0.1:{closed.getsockname()[1]}"

    monkeypatch.setattr(LocalSite, "bind", bind_nowhere)
    with pytest.raises(sw.SluicewayError, match="could not connect to the calling process; let the nodes reach its ports"):
        list(sw.imap(str, range(10), workers=1, transport="tcp"))
