"""A run without an end, in a process of its own, for `bench.memory` to watch: source, two workers, a sink that checks.

Source and workers call at a socket and report their roles; the source yields nothing before it is told to start, so
that the memory of all can be measured at rest. The run ends when standard input is
closed; then one line of JSON says what it did.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import sluiceway as sw

from bench.works import MIB, WORKS, WrongResult

#: More than any run reads.
_ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: the work's name, the socket to call at, and how many events a second the sink takes (0: any)."""

    work: str
    address: str
    sink_rate: float
    workers: int
    window_bytes: int

    def as_word(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))


def call(address: str, role: str) -> socket.socket:
    """Connect, and send the role and the id of this process."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    line.sendall(f"{role} {os.getpid()}\n".encode())
    return line


def endless(address: str, work: str) -> Iterator[Any]:
    """Make events for ever, once the other end of the connection says go."""
    with call(address, "source") as line:
        line.recv(1)
    yield from WORKS[work].events(_ENDLESS)


class Step:
    """A handler that reports in which process it was built, and does the work."""

    def __init__(self, address: str, work: str) -> None:
        self._fn = WORKS[work].fn
        call(address, "worker").close()

    def __call__(self, event: Any) -> Any:
        return self._fn(event)


class Checking:
    """A sink that consumes a fixed number of events per second until it is stopped, and checks their order."""

    def __init__(self, rate: float, over: threading.Event) -> None:
        self.events = 0
        self._rate = rate
        self._over = over

    def write(self, events: Sequence[Any]) -> None:
        """Take a batch; raises `WrongResult` for an event that is not the next one."""
        for event in events:
            if _number_of(event) != self.events:
                raise WrongResult(f"event {self.events} is another")
            self.events += 1
        if self._rate:
            self._over.wait(len(events) / self._rate)

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _number_of(event: Any) -> int:
    if isinstance(event, dict):
        number: int = event["id"]
        return number
    return int.from_bytes(event[:8], "little") if len(event) == MIB else -1


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.buffer.read()
    over.set()


def main() -> None:
    """Run the order on the command line and print what was done."""
    order = Order(**json.loads(sys.argv[1]))
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(over,), name="end", daemon=True).start()
    graph, sink = sw.Graph("endless"), Checking(order.sink_rate, over)
    stream = graph.source(partial(endless, order.address, order.work), name="endless")
    stream.map(sw.per_worker(Step, order.address, order.work), name="step").sink(sink)
    done = sw.run(graph, workers=order.workers, window_bytes=order.window_bytes, stop=over)
    assert sink.events == done.events_in, f"{done.events_in} events were read, {sink.events} came"
    figures = {"events": sink.events, "wall_s": done.wall_s, "peak_in_flight_bytes": done.peak_bytes}
    print(json.dumps(figures | {"deaths": done.worker_deaths}), flush=True)


if __name__ == "__main__":
    main()
