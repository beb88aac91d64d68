"""A service on loopback that counts its calls, and programs over it that are killed at random moments and run again.

What a crash may cost is counted where it is paid: at the service.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PATIENCE_S = 120.0

#: A user's program: `HOW` names the handlers, `WHERE` the checkpoints.
PROGRAM = '''
import asyncio, os, socket, sys
import sluiceway as sw

PORT, HOW, WHERE, OUT, TOTAL, WORKERS, CONCURRENCY = int(sys.argv[1]), *sys.argv[2:5], *map(int, sys.argv[5:8])
RUNNER = sys.argv[8]

async def ask(n):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        writer.write(b"%s\\n" % str(n).encode())
        return int(await reader.readline())
    finally:
        writer.close()

async def ask_again(n):
    return await ask(f"again {n}")

class Line:
    """A connection that is kept, for handlers that do not await."""

    def __init__(self):
        self.file = None

    def ask(self, *calls):
        if self.file is None:
            self.file = socket.create_connection(("127.0.0.1", PORT)).makefile("rwb")
        answers = []
        for call in calls:
            self.file.write(b"%s\\n" % str(call).encode())
            self.file.flush()
            answers.append(int(self.file.readline()))
        return answers

LINE = Line()

def plain(n):
    return LINE.ask(n)[0]

def many(n):
    return [LINE.ask(n)[0] + at for at in range(n % 3)]

def batch(events):
    return LINE.ask(*events)

async def odd(n):
    return (await ask(n)) % 2

def refused(n):
    if LINE.ask(n)[0] % 7 == 0:
        raise ValueError("refused")
    return n

def letter(failed):
    return f"{failed.seq} {failed.error}"

if HOW == "imap":
    results = sw.imap(ask, range(TOTAL), checkpoint=WHERE, runner=RUNNER, workers=WORKERS, concurrency=CONCURRENCY)
    open(OUT, "w").writelines(f"{result}\\n" for result in results)
    print("recalled", results.report.recalled)
    sys.exit()
graph = sw.Graph("paid")
numbers = graph.source(range(TOTAL))
durable = {"durable": True, "workers": WORKERS, "concurrency": CONCURRENCY}
if HOW == "async":
    stream = numbers.map(ask, **durable)
elif HOW == "plain":
    stream = numbers.map(plain, **durable)
elif HOW == "flat_map":
    stream = numbers.flat_map(many, **durable)
elif HOW == "batches":
    stream = numbers.map_batches(batch, batch_size=4, **durable)
elif HOW == "filter":
    stream = numbers.filter(odd, **durable)
elif HOW == "two":
    stream = numbers.map(ask, **durable).map(ask_again, **durable)
else:
    stream = numbers.map(refused, on_error="dead_letter", **durable)
    graph.dead_letters().map(letter).sink(sw.lines(OUT + ".letters"))
stream.map(str).sink(sw.lines(OUT))
report = sw.run(graph, checkpoint=WHERE, checkpoint_interval_s=float(sys.argv[9]), runner=RUNNER)
print("recalled", report.recalled)
'''


def answer_of(call: str) -> int:
    """Return what the service answers."""
    kind, _, n = call.rpartition(" ")
    return int(n) * 3 + 1 if not kind else int(n) + 7


@dataclass
class Service:
    """A running service: how often each call was made."""

    port: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def total(self) -> int:
        """All calls so far."""
        with self._changed:
            return sum(self.calls.values())

    def wait_for(self, total: int, process: subprocess.Popen[str]) -> bool:
        """Wait until so many calls were made; gives False where the program has ended before."""
        with self._changed:
            while sum(self.calls.values()) < total:
                if process.poll() is not None:
                    return False
                self._changed.wait(0.05)
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection; each is counted before it is answered."""
        try:
            while line := await reader.readline():
                call = line.decode().strip()
                with self._changed:
                    self.calls[call] += 1
                    self._changed.notify_all()
                writer.write(b"%d\n" % answer_of(call))
                await writer.drain()
        except ConnectionError:
            pass  # who has called was killed
        finally:
            writer.close()


@contextmanager
def counting_service() -> Iterator[Service]:
    """Run a service in a thread."""
    service, ready = Service(), threading.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
        service.port = server.sockets[0].getsockname()[1]
        ready.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        nonlocal task
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            for left in asyncio.all_tasks(loop):
                left.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    task: asyncio.Task[None]
    thread = threading.Thread(target=run, name="counting-service")
    thread.start()
    assert ready.wait(10)
    try:
        yield service
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


@dataclass
class Program:
    """How a program is run: see `PROGRAM`."""

    folder: Path
    service: Service
    how: str
    total: int
    workers: int = 2
    concurrency: int = 8
    where: str = ""
    runner: str = "processes"
    interval_s: float = 0.3
    name: str = "out.txt"

    def start(self) -> subprocess.Popen[str]:
        """Start it in a session of its own."""
        script = self.folder / "paid.py"
        script.write_text(PROGRAM)
        given = [
            self.service.port, self.how, self.where or self.folder / "run.db", self.folder / self.name, self.total,
            self.workers, self.concurrency, self.runner, self.interval_s,
        ]  # fmt: skip
        return subprocess.Popen(
            [sys.executable, str(script), *map(str, given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> str:
        """Run it to its end; give what it said."""
        process = self.start()
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        return said

    def kill_at_random(self, kills: int, rng: random.Random) -> int:
        """Kill it and all its processes so many times, unless it ends before; give how often it was killed."""
        calls = self.total * (2 if self.how == "two" else 1)
        for done in range(kills):
            process = self.start()
            left = max(1, (calls - len(self.service.calls)) // (kills - done + 1))
            if not self.service.wait_for(self.service.total + rng.randint(0, 2 * left), process):
                said, _ = process.communicate()
                assert process.returncode == 0, said
                return done
            kill_all(process)
        return kills


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a program and everything that it has started, at once."""
    known = psutil.Process(process.pid)
    try:
        found = [known, *known.children(recursive=True)]
    except psutil.NoSuchProcess:
        found = []
    for one in found:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()
    psutil.wait_procs(found, timeout=PATIENCE_S)
