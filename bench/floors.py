"""The floors: what the loop, the codec, the sockets and the memory allow, and sluiceway as a multiple of each.

- loop: the same events, handler and checks in one process.
- caller: what the calling process must do itself, on one core, however many workers there are: make the events, encode each
  once, decode each result once, check it.
- codec: two encodes and two decodes of a batch, as the way to a worker and back costs them; over the cores.
- sockets: the same topology (one ROUTER, two DEALERs in processes of their own), the same frames, credit of two
  batches each, and nothing else: no events, no codec, no order.
- memory: one copy of the payload.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import json
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from time import perf_counter
from typing import Any

import zmq
from sluiceway.engine.codec.codec import Encoder, Payload, decode
from sluiceway.engine.local.transport import messages as wire
from sluiceway.nodes.ordering.segments import Segment, Slice
from sluiceway.nodes.program.program import Orders

from bench import tree
from bench.measure import Effort, Table, arguments, cores, interleave, middle, report, script, seconds_each, show
from bench.works import WORKS, Work

WORKERS = 2
BATCH = 1000
_CREDIT = 2
#: Works, and how many of their events make about a second of a run.
EVENTS = {"int identity": 2_000_000, "dict identity": 400_000, "1 MiB bytes": 700, "1 MiB arrays": 700}

_ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send(b"")
while True:
    frames = socket.recv_multipart(copy=False)
    if len(frames) == 1 and not len(frames[0].buffer):
        break
    socket.send_multipart(frames, copy=False)
"""


def batch_of(work: Work) -> int:
    """Return how many events travel together."""
    return 1 if work.bytes_each else BATCH


def frames_of(work: Work) -> list[Any]:
    """Return the message that hands a batch of this work to a worker."""
    size = batch_of(work)
    payload = Encoder().encode(list(islice(work.events(size), size)))
    segment = Segment(0, size, payload, payload.nbytes, None, None, 0.0)
    return wire.pack_task(1, 0, size, 0, Orders(), [[Slice(segment, 0, size)]])


def sockets(work: Work, n: int) -> tuple[float, float]:
    """Send batches to echoing processes and take them back; return µs of wall and of CPU for each event."""
    message, batches = frames_of(work), max(1, n // batch_of(work))
    context = zmq.Context()
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as folder:
        router = context.socket(zmq.ROUTER)
        router.bind(f"ipc://{folder}/floor")
        before = tree.cpu_seconds()
        command = [sys.executable, "-c", _ECHO, f"ipc://{folder}/floor"]
        echoes = [subprocess.Popen(command) for _ in range(WORKERS)]
        names = [router.recv_multipart()[0] for _ in echoes]
        started = perf_counter()
        sent = 0
        for name in names * _CREDIT:
            router.send_multipart([name, *message], copy=False)
            sent += 1
        for _ in range(max(batches, sent)):
            parts = router.recv_multipart(copy=False)
            if sent < batches:
                router.send_multipart([parts[0].bytes, *message], copy=False)
                sent += 1
        took = perf_counter() - started
        for name in names:
            router.send_multipart([name, b""])
        for echo in echoes:
            echo.wait()
        router.close()
        context.term()
        events = max(batches, WORKERS * _CREDIT) * batch_of(work)
        return took / events * 1e6, (tree.cpu_seconds() - before) / events * 1e6


def codec(work: Work, effort: Effort) -> float:
    """Return the µs that two encodes and two decodes of one event take."""
    size = batch_of(work)
    events = list(islice(work.events(size), size))
    encoder = Encoder()
    encoded = encoder.encode(events)
    # As they come off a socket: nobody else's memory and not to be written to, so large events are copied out of them.
    payload = Payload(encoded.codec, tuple(memoryview(bytes(frame)) for frame in encoded.frames))
    least = effort.seconds / 8
    encoding = seconds_each(lambda: encoder.encode(events), least)
    decoding = seconds_each(lambda: decode(payload), least)
    return 2 * (encoding + decoding) / size * 1e6


def caller(work: Work, n: int) -> float:
    """Return the µs for one event of what the calling process cannot hand to others."""
    size, encoder, events = batch_of(work), Encoder(), iter(work.events(n))

    def results() -> Iterator[Any]:
        while batch := list(islice(events, size)):
            payload = encoder.encode(batch)
            yield from decode(Payload(payload.codec, tuple(memoryview(bytes(frame)) for frame in payload.frames)))

    started = perf_counter()
    # Handlers that change events are left out, so the checks of their results are as well.
    work.verify(results(), n) if work.unchanged else deque(results(), 0)
    return (perf_counter() - started) / n * 1e6


def memory(work: Work, effort: Effort) -> float:
    """Return the µs of one copy of an event's payload."""
    size = batch_of(work)
    frames = [bytes(frame) for frame in Encoder().encode(list(islice(work.events(size), size))).frames]
    data = max(frames, key=len)
    target = bytearray(len(data))

    def copy() -> None:
        target[:] = data

    return seconds_each(copy, effort.seconds / 8) / size * 1e6


def whole(peer: str, work: Work, n: int) -> tuple[float, float]:
    """Return the µs of wall (first result to last) and of CPU for each event of a run in a process of its own."""
    order = {"peer": peer, "work": work.name, "n": n, "chunk": None, "workers": WORKERS, "cold": False, "watch": False}
    done = script("cell", json.dumps(order), timeout_s=120)
    if done.returncode:
        raise RuntimeError(f"{peer} failed on {work.name}: {done.stderr[-300:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    return figures["steady_s"] / n * 1e6, figures["cpu_s"] / n * 1e6


def measure(work: Work, n: int, effort: Effort) -> Table:
    """Measure one work's floors and sluiceway over them."""
    cpu: dict[str, list[float]] = {}

    def timed(name: str, take: Callable[[], tuple[float, float]]) -> Callable[[], float]:
        def case() -> float:
            wall, used = take()
            cpu.setdefault(name, []).append(used)
            return wall

        return case

    def plain(take: Callable[[], float]) -> Callable[[], tuple[float, float]]:
        return lambda: (wall := take(), wall)

    cases = {
        "loop": timed("loop", lambda: whole("loop", work, n)),
        "caller": timed("caller", plain(lambda: caller(work, n))),
        "codec": timed("codec", plain(lambda: codec(work, effort))),
        "sockets": timed("sockets", lambda: sockets(work, n)),
        "memory": timed("memory", plain(lambda: memory(work, effort))),
        "sluiceway": timed("sluiceway", lambda: whole("sluiceway", work, n)),
        "sluiceway auto": timed("sluiceway auto", lambda: whole("sluiceway auto", work, n)),
    }
    walls = {name: middle(values) for name, values in interleave(cases, effort.repeats, warm_up=False).items()}
    used = {name: middle(values) for name, values in cpu.items()}
    walls["codec"] /= min(WORKERS, cores())  # it may be spread over the cores
    ours, auto = walls["sluiceway"], walls["sluiceway auto"]
    columns = ("floor", "µs/event", "CPU µs", "sluiceway ×", "sluiceway auto ×")
    table = Table(f"{work.name}: sluiceway as a multiple of its floors ({batch_of(work):,} events a batch)", columns)
    for name in ("loop", "caller", "codec", "sockets", "memory"):
        table.add(name, walls[name], used[name], ours / walls[name], auto / walls[name])
    parts = used["codec"] + used["loop"]
    table.add("codec + loop, CPU", None, parts, used["sluiceway"] / parts, used["sluiceway auto"] / parts)
    table.add("sluiceway", ours, used["sluiceway"], 1.0, None)
    table.add("sluiceway auto", auto, used["sluiceway auto"], None, 1.0)
    table.note = "multiples are of wall time; those of 'codec + loop, CPU' are of CPU time over all processes"
    return table


def main() -> None:
    """Measure and report."""
    effort: Effort = arguments(__doc__ or "").effort
    works = dict(list(EVENTS.items())[1:2]) if effort.tiny else EVENTS
    tables = []
    for name, events in works.items():
        work = WORKS[name]
        n = 400 if effort.tiny else max(20, int(events * effort.seconds))
        tables.append(show(measure(work, n, effort)))
    report("floors", effort, tables)


if __name__ == "__main__":
    main()
