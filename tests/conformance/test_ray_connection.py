"""The connection to Ray: whose it is, what is refused, who may connect to a run, and the way from one runner to the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
import zmq
from fault_graphs import look_inside
from ray_cluster import SimulatedCluster, needs_ray

pytestmark = [*needs_ray, pytest.mark.timeout(300)]


def test_a_connection_that_is_there_is_used_and_left(nothing_on_nodes: SimulatedCluster) -> None:
    import ray

    before = ray.get_runtime_context().get_job_id()
    assert list(sw.imap(str, range(100), runner="ray", workers=2)) == [str(n) for n in range(100)]
    assert ray.get_runtime_context().get_job_id() == before


def test_an_address_beside_a_connection_is_refused(nothing_on_nodes: SimulatedCluster) -> None:
    with pytest.raises(sw.GraphError, match="this process is connected to Ray already"):
        sw.imap(str, range(100), runner=sw.ray_runner(nothing_on_nodes.address))


def run_script(script: str, folder: Path, *arguments: str, **environment: str) -> str:
    """Run a script in an interpreter of its own; give what it printed."""
    path = folder / "script.py"
    path.write_text(script)
    given = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment
    done = subprocess.run(
        [sys.executable, str(path), *arguments], env=given, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_connection_that_we_made_ends_with_the_run(nothing_on_nodes: SimulatedCluster, tmp_path: Path) -> None:
    script = """
import signal, sys
import sluiceway as sw

before = signal.getsignal(signal.SIGTERM)
runner = sw.ray_runner(sys.argv[1])
print(sum(sw.imap(int, range(100), runner=runner)))
import ray
print(ray.is_initialized(), signal.getsignal(signal.SIGTERM) is before)
results = sw.imap(int, range(10**9), runner=runner, workers=1)
print(next(results), ray.is_initialized())
results.close()
print(ray.is_initialized())
"""
    printed = run_script(script, tmp_path, nothing_on_nodes.address)
    assert printed.split("\n") == ["4950", "False True", "0 True", "False", ""]


def test_ray_client_is_refused(nothing_on_nodes: SimulatedCluster, tmp_path: Path) -> None:
    with pytest.raises(sw.GraphError, match="cannot use an address of Ray Client: workers connect to this process"):
        sw.ray_runner("ray://somewhere:10001")
    script = """
import sluiceway as sw
try:
    sw.run(sw.Graph(), runner="ray")
except sw.GraphError as error:
    print(error)
"""
    printed = run_script(script, tmp_path, RAY_ADDRESS="ray://somewhere:10001")
    assert "RAY_ADDRESS: it is one of Ray Client" in printed


def test_the_command_line(nothing_on_nodes: SimulatedCluster, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import sluiceway as sw\n\n\ndef graph():\n    graph = sw.Graph('job')\n"
        "    graph.source(range(5)).map(hex).sink(print)\n    return graph\n"
    )
    command = [sys.executable, "-m", "sluiceway", "run", "job:graph", "--runner", "ray", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [*command, "--address", nothing_on_nodes.address], env=environment, cwd=tmp_path, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0x0\n0x1\n0x2\n0x3\n0x4\n"), done.stderr


def test_a_stranger_without_the_keys_cannot_connect(
    nothing_on_nodes: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = look_inside(monkeypatch)

    def slow(n: int) -> int:
        time.sleep(0.01)
        return n

    with zmq.Context() as context, sw.imap(slow, range(300), runner="ray", workers=2) as results:
        assert next(results) == 0
        keys = inside.keys()
        assert keys is not None
        for keyed in (False, True):
            stranger = context.socket(zmq.DEALER)
            stranger.set(zmq.LINGER, 0)
            if keyed:  # it knows the server's key, which is public, and has a pair of its own
                public, secret = zmq.curve_keypair()
                stranger.set(zmq.CURVE_SERVERKEY, keys[0])
                stranger.set(zmq.CURVE_PUBLICKEY, public)
                stranger.set(zmq.CURVE_SECRETKEY, secret)
            with stranger:
                monitor = stranger.get_monitor_socket(
                    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
                )  # fmt: skip
                stranger.connect(inside.address())
                assert monitor.poll(20_000)
                event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
                assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
                stranger.disable_monitor()
                monitor.close()
        assert list(results) == list(range(1, 300))


CHECKPOINTED = """
import os, sys, time
import sluiceway as sw

def work(n):
    time.sleep(0.002)
    return n, n * n

def numbers():
    yield from range(1500)

def build():
    graph = sw.Graph("squares")
    counts = graph.source(range(1500)).map(work).key_by(lambda pair: pair[0] % 3).count()
    counts.map(str).sink(sw.lines("out.txt"))
    return graph

def die(report):
    if os.path.exists("die") and report.released > 300:
        os.unlink("die")
        os.kill(os.getpid(), 9)

if __name__ == "__main__":
    runner = sw.ray_runner(sys.argv[2]) if sys.argv[1] == "ray" else sys.argv[1]
    sw.run(
        build(), runner=runner, workers=2, checkpoint="run.db", checkpoint_interval_s=0.05, progress=die,
        window_numbers=200,
    )
"""


@pytest.mark.parametrize(("first", "second"), [("ray", "processes"), ("processes", "ray")])
def test_a_killed_run_goes_on_with_the_other_runner(
    first: str, second: str, nothing_on_nodes: SimulatedCluster, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(CHECKPOINTED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(runner: str) -> Any:
        return subprocess.run(
            [sys.executable, str(script), runner, nothing_on_nodes.address],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    (tmp_path / "die").touch()
    assert run(first).returncode == -9
    assert not (tmp_path / "die").exists()
    done = run(second)
    assert done.returncode == 0, done.stderr
    counts = {0: 0, 1: 0, 2: 0}
    expected = []
    for n in range(1500):
        counts[n % 3] += 1
        expected.append(str((n % 3, counts[n % 3])))
    assert (tmp_path / "out.txt").read_text().splitlines() == expected
