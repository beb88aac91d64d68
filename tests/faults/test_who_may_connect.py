"""Who may connect to a run: other users, other machines, keys."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sluiceway as sw
import zmq
from fault_graphs import Inside
from hostile_peers import Attack, inside

__all__ = ["inside"]


# -- who may connect ----------------------------------------------------------------------------------------------


def test_the_folder_is_private(inside: Inside) -> None:
    with Attack(inside) as attack:
        folder = attack.inside.folder()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in [*folder.iterdir(), Path("/dev/shm") / folder.name]:
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path) if path.endswith("hub") else open(path, "rb")
    except PermissionError:
        continue
    sys.exit(f"let in at {path}")
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
def test_a_process_of_another_user_cannot_connect(inside: Inside) -> None:
    with Attack(inside) as attack:
        folder = attack.inside.folder()
        paths = [folder / "hub", folder / "pool0"]
        if (Path("/dev/shm") / folder.name).exists():
            paths.append(Path("/dev/shm") / folder.name)
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, *map(str, paths)], capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        attack.consume(1000)


# -- tcp ----------------------------------------------------------------------------------------------------------


def test_tcp_works() -> None:
    results = sw.imap(abs, range(5000), workers=2, transport="tcp")
    assert list(results) == list(range(5000))
    assert set(results.report.children.values()) == {"stopped"}


@pytest.mark.parametrize("key", ["none", "other", "server"])
def test_tcp_needs_the_key(key: str, inside: Inside) -> None:
    with Attack(inside, transport="tcp") as attack:
        dealer = attack.socket(b"mallory")
        keys = attack.inside.keys()
        assert keys is not None
        if key != "none":
            public, secret = zmq.curve_keypair()
            dealer.set(zmq.CURVE_SERVERKEY, keys[0] if key == "server" else zmq.curve_keypair()[0])
            dealer.set(zmq.CURVE_PUBLICKEY, public)
            dealer.set(zmq.CURVE_SECRETKEY, secret)
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )  # fmt: skip
        dealer.connect(attack.inside.address())
        dealer.send(b"hello")
        assert monitor.poll(10_000)  # it was turned away
        dealer.disable_monitor()
        monitor.close()
        attack.consume(5000)


def test_tcp_listens_on_loopback_only(inside: Inside) -> None:
    with Attack(inside, transport="tcp") as attack:
        assert attack.inside.address().startswith("tcp://127.0.0.1:")


def test_refusals_are_not_logged_with_payloads(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    with Attack(inside) as attack, caplog.at_level(logging.DEBUG):
        attack.send(b"mallory", b"secret words")
        attack.is_refused("'mallory'")
    assert "secret" not in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "sluiceway-hub"]
