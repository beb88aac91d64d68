"""The hub: the thread in the calling process that owns the socket and the children and carries the core's effects out.

Decides nothing about order or recovery; it turns messages, exits and commands into the core's inputs. It never waits
for a sink or a consumer: what they are given goes into a queue, what they are done with comes back as a command.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import secrets
import selectors
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import cloudpickle
import zmq

from ..nodes.blame import LastSeen, Phase
from ..nodes.errors import PenstockError, ProtocolError, SourceError, WorkerDied
from ..nodes.sequencer import Chunk
from ..nodes.window import Window
from . import inbox, wire
from .arena import Arena
from .child import ChildSettings
from .children import ChildExited, ChildStarted, Nursery, SpawnFailed, ZygoteDied
from .codec import Encoder, Payload, decode
from .codec_errors import CodecError
from .core import Core
from .effects import Deliver, DeliverLoose, Effect, Finish, Pull, SendTask, Spawn, StopSource, Warn
from .feed import Feed, SliceFeed, Taken, make_feed
from .grants import Grants
from .guard import Overrun, Stalls, has_limits, overruns, steps_of
from .options import RunOptions
from .plan import Plan
from .restarts import Restarts
from .rundir import RunDir, arena_path
from .status import Sight, StatusPage
from .worker import WorkerSpec

_LOG = logging.getLogger("penstock")
#: Messages taken in before the core is asked what follows from them.
_MOST_MESSAGES = 256
_TICK_S = 0.25
#: The tick while calls are watched for a time limit.
_LIMIT_TICK_S = 0.02


@dataclass(slots=True)
class Outcome:
    """How a run ended: why, with which error of the engine or the user, and how its children went."""

    ended_by: str
    finish: Finish | None = None
    error: BaseException | None = None
    children: dict[str, str] = field(default_factory=dict)


class Hub:
    """Runs a plan in processes. Made and commanded by the caller's thread; works in a thread of its own."""

    def __init__(self, plan: Plan, options: RunOptions, *, held: bool = False) -> None:
        self.plan = plan
        self._held = held
        #: Set when the first worker takes work; for a run that is held until `begin`.
        self.up = threading.Event()
        self.options = options
        self.core = Core(
            plan.wiring,
            _Packing(),
            window=Window(options.window_bytes, options.window_numbers),
            limit=options.limit,
            max_deaths=options.max_deaths,
        )
        #: What the caller's thread has to deliver, ending with the `Outcome`.
        self.deliveries: queue.SimpleQueue[Deliver | DeliverLoose | Outcome] = queue.SimpleQueue()
        self.began = monotonic()
        self.read_s = 0.0
        self.fractions: dict[int, float] = {}
        self.restarts = Restarts()
        self._commands: deque[Callable[[], None]] = deque()
        self._feeds: dict[int, Feed | SliceFeed] = {}
        self._pulls: dict[int, tuple[int, int]] = {}
        self._event_bytes: dict[int, float] = {}
        self._encoders: dict[int, Encoder] = {}
        self._pages: dict[str, StatusPage] = {}
        self._remote: dict[str, int] = {}
        self._auth: Any = None
        #: What living children call themselves on the socket, which nobody else can guess; and who was called so.
        self._identities: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        #: What is to be sent to sources that have not said that they are there: the socket would drop it.
        self._early: dict[str, list[list[Any]]] = {}
        self._due: list[tuple[float, Spawn]] = []
        self._leaving: set[str] = set()
        self._killed: set[str] = set()
        self._deadline: float | None = None
        self._hurry = False
        self._outcome: Outcome | None = None
        self._again = False
        self._ending = False
        self._awake = False
        self._limited = has_limits(self.core)
        self._tick_s = _LIMIT_TICK_S if self._limited else _TICK_S
        self._thread = threading.Thread(target=self._run, name="penstock-hub", daemon=True)
        self._bell_in = self._bell_out = -1

    # -- commands, from any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the run's folder and socket and start the thread."""
        self._dir = RunDir()
        self._arena = Arena(arena_path(self._dir.path), self.options.window_bytes)
        self._grants = Grants(self._arena)
        self._stalls = Stalls(self.options.stall_warning_s, self._dir.path, monotonic())
        self._stalls_at = 0.0
        try:
            self._write_specs()
        except BaseException:
            self._dir.close()
            raise
        self._bell_in, self._bell_out = os.pipe()
        os.set_blocking(self._bell_in, False)
        os.set_blocking(self._bell_out, False)
        atexit.register(self._leave_at_exit)
        self._thread.start()

    def begin(self, number: int, feed: Feed | SliceFeed) -> None:
        """Let a held run go: it numbers from `number` on and reads its one source from `feed`."""

        def command() -> None:
            self._held = False
            self.core.begin_at(number)
            self._feeds[0] = feed
            self._encoders[0] = Encoder()
            feed.attach(self.wake)

        self._command(command)

    def consume(self, upto: int) -> None:
        """Say that the sinks are done with every number below `upto`."""
        self._command(lambda: self.core.consume(upto))

    def consume_loose(self, stream: int, lo: int, hi: int) -> None:
        """Say that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self._command(lambda: self.core.consume_loose(stream, lo, hi))

    def stop_reading(self, why: str) -> None:
        """End the reading; what was read is still released."""
        self._command(lambda: self.core.stop_reading(why))

    def interrupt(self, deadline: float) -> None:
        """End the reading, and the run at `deadline` (monotonic seconds) with whatever is released by then."""

        def command() -> None:
            self._deadline = deadline
            self.core.stop_reading("interrupt")

        self._command(command)

    def abort(self, why: str) -> None:
        """End the run now; nothing more is delivered."""
        self._command(lambda: self._end(Outcome(why)))

    def hurry(self) -> None:
        """Kill what is left instead of waiting for it."""
        self._hurry = True
        self.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the hub and all its children are gone; gives whether they are."""
        if sys.is_finalizing() and self._thread.is_alive():
            # Its thread never runs again; the children end with this process, which is about to.
            self._arena.close()
            self._dir.close()
            self.deliveries.put(Outcome("closed"))
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _leave_at_exit(self) -> None:
        """End a run that is open when the interpreter ends, while its threads still run."""
        self.abort("closed")
        self._thread.join()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self.wake()

    def wake(self) -> None:
        """Make the hub look at its commands and feeds."""
        if not self._awake:
            self._awake = True
            try:
                os.write(self._bell_out, b"!")
            except (BlockingIOError, OSError):
                return  # full: it is awake already; closed: the run is over

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        nursery = Nursery(entry="penstock.engine.entry:main", preload=_preload(self.plan, self._held))
        self._nursery = nursery
        context = zmq.Context()
        self._socket = context.socket(zmq.ROUTER)
        try:
            self._open_socket()
            if self.plan.processes:
                nursery.start()
            if not self._held:
                self._start_sources()
            self.core.start()
            self._serve()
        except BaseException as error:
            self._end(Outcome("error", error=error))
        outcome = self._outcome
        assert outcome is not None
        self.up.set()
        try:
            outcome.children = self._close_children()
        finally:
            self._socket.close(linger=0)
            if self._auth is not None:
                self._auth.stop()
            context.term()
            for page in self._pages.values():
                page.close()
            self.core.forget()
            self._grants.forget()
            self._arena.close()
            self._dir.close()
            atexit.unregister(self._leave_at_exit)
            os.close(self._bell_in)
            os.close(self._bell_out)
            self.deliveries.put(outcome)

    def _open_socket(self) -> None:
        socket = self._socket
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        self._curve: tuple[bytes, bytes, bytes] | None = None
        if self.options.transport == "ipc":
            socket.bind(f"ipc://{self._dir.path}/hub")
            self._endpoint = f"ipc://{self._dir.path}/hub"
        else:
            public, secret = zmq.curve_keypair()
            child_public, child_secret = zmq.curve_keypair()
            self._auth = inbox.allow_only(socket, secret, child_public)
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            self._endpoint = f"tcp://127.0.0.1:{port}"
            self._curve = (public, child_public, child_secret)

    def _write_specs(self) -> None:
        for at, pool in enumerate(self.plan.pools):
            spec = WorkerSpec(
                self.plan.wiring.pools[at].program,
                self.plan.shipped[f"pool{at}"],
                pool.ordered,
                self.options.max_events_per_worker,
                self.options.max_rss_bytes,
            )
            self._write(f"pool{at}", cloudpickle.dumps(spec))
        for at, source in enumerate(self.plan.sources):
            if source.remote:
                self._write(f"source{at}", self.plan.shipped[f"source{at}"])

    def _write(self, name: str, data: bytes) -> None:
        path = self._dir.path / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)

    def _start_sources(self) -> None:
        for at, source in enumerate(self.plan.sources):
            if source.remote:
                name = f"source.{at}"
                self._remote[name] = at
                self._early[name] = []
                self._give_birth(name, f"source{at}")
                continue
            key = self.plan.key if self.core.sequencer.merges else None
            feed = make_feed(source.node.subject, key=key, name=source.node.name)
            self._feeds[at] = feed
            self._encoders[at] = Encoder()
            feed.start(self.wake)

    def _give_birth(self, child: str, spec: str) -> None:
        if child not in self._remote:
            self._pages[child] = StatusPage(self._dir.path / f"{child}.status", create=True)
        identity = self._identities[child] = f"{child} {secrets.token_hex(8)}".encode()
        self._names[identity] = child
        settings = ChildSettings(
            self._endpoint,
            child,
            identity,
            inbox.logger_levels(),
            inbox.prints_are_captured(),
            self._curve,
            str(self._dir.path / spec),
        )
        self._nursery.spawn(child, settings.dump())

    def _serve(self) -> None:
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._bell_in, selectors.EVENT_READ)
            self._selector.register(self._socket.FD, selectors.EVENT_READ)
            self._watched = -1
            while self._outcome is None:
                self._take_in()
                self._carry_out()
                if self._outcome is None and not self._again:
                    self._sleep()

    def _sleep(self) -> None:
        """Wait for a message, an exit, a command, or the next thing that is due."""
        self._awake = False
        # Looked at once more after the flag is down; the socket's descriptor tells of changes only.
        if self._commands or int(self._socket.EVENTS) & int(zmq.POLLIN):
            self._awake = True
            return
        self._watch_nursery()
        due = min((at for at, _ in self._due), default=monotonic() + self._tick_s)
        ready = self._selector.select(max(0.0, min(self._tick_s, due - monotonic())))
        self._awake = True
        if any(key.fd == self._bell_in for key, _ in ready):
            os.read(self._bell_in, 4096)

    def _watch_nursery(self) -> None:
        descriptor = self._nursery.fileno() if self.plan.processes else -1
        if descriptor != self._watched:
            if self._watched >= 0:
                self._selector.unregister(self._watched)
            if descriptor >= 0:
                self._selector.register(descriptor, selectors.EVENT_READ)
            self._watched = descriptor

    def _take_in(self) -> None:
        self._again = self._drain(_MOST_MESSAGES)
        for event in self._nursery.events():
            self._child(event)
        while self._commands:
            self._commands.popleft()()
        for source in list(self._pulls):
            self._pull_here(source)
        now = monotonic()
        for at, spawn in [pair for pair in self._due if pair[0] <= now]:
            self._due.remove((at, spawn))
            self._give_birth(spawn.worker, f"pool{spawn.pool}")
        self._look_round(now)

    def _drain(self, most: int) -> bool:
        """Take in messages; gives whether there may be more."""
        for _ in range(most):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return False
            self._message([part.buffer for part in parts])
        return True

    # -- messages -----------------------------------------------------------------------------------------------

    def _message(self, parts: list[Any]) -> None:
        identity = bytes(parts[0])
        peer = self._names.get(identity)
        if peer is None:
            raise ProtocolError(
                f"cannot take a message from {_shown(identity)}: it is no process of this run; check what else opens"
                " the run's folder"
            )
        message = wire.unpack(parts[1:], peer)
        kind = message.kind
        if peer not in self._identities and kind not in (wire.Kind.LOG, wire.Kind.PRINT):
            return  # late words of a process that is gone: its numbers are in other hands
        if kind is wire.Kind.ANSWER:
            self._answer(peer, message)
        elif kind is wire.Kind.CHUNK:
            self._chunk(peer, message)
        elif kind is wire.Kind.READY:
            self.core.joined(peer)
            self.restarts.ready(peer, monotonic())
            for early in self._early.pop(peer, []):
                self._send(peer, early)
            self.up.set()
        elif kind is wire.Kind.PARKED:
            self.core.parked(peer, message.fields[0])
        elif kind is wire.Kind.ENDED:
            self._source_ended(peer, message.fields[1], None)
        elif kind is wire.Kind.FAILED:
            self._failed(peer, message)
        elif kind is wire.Kind.NEED:
            self._define(peer, message.fields[0])
        elif kind is wire.Kind.LOG:
            inbox.log(peer, message)
        elif kind is wire.Kind.PRINT:
            inbox.show(*message.fields)
        elif kind is wire.Kind.LEAVING:
            self._leave(peer, message.fields[0])
        else:
            raise ProtocolError(f"cannot take a {kind.name} from {peer}: only the calling process sends it")

    def _answer(self, peer: str, message: wire.Message) -> None:
        if peer not in self._pages:
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is no worker")
        shared, slot = self._grants.of(peer, message.fields[0])
        answer: wire.AnswerMessage = wire.read(peer, message, lambda it: wire.read_answer(it, shared, slot))
        self._grants.answered(peer, answer)
        self.core.answered(
            peer,
            answer.task,
            answer.start,
            answer.size,
            answer.exits,
            answer.failures,
            answer.tallies,
            answer.seconds,
            monotonic(),
        )

    def _chunk(self, peer: str, message: wire.Message) -> None:
        size, payload, keys, fraction = wire.read(peer, message, wire.read_chunk)
        source = self._source_of(peer)
        if fraction is not None:
            self.fractions[source] = fraction
        if self.core.sequencer.merges:
            items = decode(payload, size)
            self.core.chunk(source, Chunk(size, items=items, keys=decode(keys, size) if keys is not None else None))
        else:
            self.core.chunk(source, Chunk(size, payload, payload.nbytes))

    def _source_of(self, peer: str) -> int:
        source = self._remote.get(peer)
        if source is None:
            raise ProtocolError(f"cannot take a source's message from {peer}: it is a worker")
        return source

    def _source_ended(self, peer: str, read_s: float, error: BaseException | None) -> None:
        self.read_s = max(self.read_s, read_s)
        self.core.source_ended(self._source_of(peer), error)
        self._send(peer, wire.pack(wire.Kind.STOP))

    def _failed(self, peer: str, message: wire.Message) -> None:
        text, remote, position, count, read_s = message.fields
        cause = inbox.cause(message.frames, text, remote)
        if peer in self._remote:
            source = self._remote[peer]
            error = inbox.source_error(self.plan.sources[source].node.name, text, position, count, cause)
            self._source_ended(peer, read_s, error)
            return
        pool = self.plan.pools[int(peer.split(".")[0])]
        self._end(Outcome("error", error=inbox.start_error(pool.name, text, cause)))

    def _define(self, peer: str, name: str) -> None:
        """Send what a dotted name stands for in the caller's `__main__`."""
        value: Any = sys.modules.get("__main__")
        packed = b""
        try:
            for part in name.split("."):
                value = getattr(value, part)
            packed = cloudpickle.dumps(value)
        except Exception as error:  # whatever it is, the child reports it with the number it concerns
            _LOG.debug("no definition of %s for %s: %s", name, peer, type(error).__name__)
        self._send(peer, wire.pack(wire.Kind.DEFINE, name, bool(packed), frames=[packed]))

    def _leave(self, peer: str, why: str) -> None:
        _LOG.debug("worker %s is replaced: %s", peer, why)
        self._leaving.add(peer)
        self.core.leaving(peer)

    def _send(self, peer: str, parts: list[Any]) -> None:
        if peer in self._early:
            self._early[peer].append(parts)
            return
        if peer not in self._identities:
            return  # it is gone
        try:
            self._socket.send_multipart([self._identities[peer], *parts], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            # A dead peer's exit follows and hands out again what it was to get.
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise

    # -- children -----------------------------------------------------------------------------------------------

    def _child(self, event: object) -> None:
        if isinstance(event, ChildExited):
            # What it sent before its end may still lie in the socket; it counts.
            while self._drain(_MOST_MESSAGES):
                continue
            self._gone(event.child, event.code)
        elif isinstance(event, SpawnFailed):
            self._end(Outcome("error", error=PenstockError(f"cannot start process {event.child}: {event.error}")))
        elif isinstance(event, ZygoteDied):
            if not event.was_ready:
                self._end(Outcome("error", error=PenstockError(event.reason)))
                return
            _LOG.warning("%s; it is started again with its %d children", event.reason, len(event.children))
            while self._drain(_MOST_MESSAGES):
                continue
            self._nursery.start()
            for child in event.children:
                self._gone(child, None)
        else:
            assert isinstance(event, ChildStarted)

    def _gone(self, child: str, code: int | None) -> None:
        self._identities.pop(child, None)
        if child in self._remote:
            self._source_gone(child, code)
            return
        if code is not None:  # without its exit code nobody has seen it dead, and it may still write
            self._grants.gone(child)
        page = self._pages.pop(child)
        sight = page.read()
        page.close()
        (self._dir.path / f"{child}.status").unlink(missing_ok=True)
        expected = child in self._leaving or child in self._killed or code is None
        self._leaving.discard(child)
        self._killed.discard(child)
        seen = None if expected else sight.seen
        self.core.died(child, seen, describe_exit(code))
        if seen is not None:
            self.restarts.gone(child, monotonic())
            _LOG.warning("worker %s %s while it was %s", child, describe_exit(code), self._doing(child, sight))

    def _doing(self, child: str, sight: Sight) -> str:
        seen = sight.seen
        node = steps_of(self.core, child)[seen.step].node
        return {
            Phase.START: "starting",
            Phase.IDLE: "idle",
            Phase.CODEC: "packing or unpacking events",
            Phase.BATCH: f"in node {node!r} on a batch from number {seen.seq}",
            Phase.EVENT: f"in node {node!r} on number {seen.seq}",
            Phase.MANY: "working on several numbers",
            Phase.CLOSE: "closing",
        }[seen.phase]

    def _source_gone(self, child: str, code: int | None) -> None:
        source = self._remote[child]
        if self.core.sequencer.ended(source):
            return
        name = self.plan.sources[source].node.name
        error = WorkerDied(
            f"the process of source {name!r} {describe_exit(code)}; all {self.core.sequencer.next} numbers read"
            " before are released, what it had read beyond is lost; make it read again from there",
            seq=None,
            node=name,
        )
        self.core.source_ended(source, error)

    def _close_children(self) -> dict[str, str]:
        """Take the ladder down: stop, wait, terminate, kill. Gives what it took for each child."""
        for feed in self._feeds.values():
            feed.stop()
        if not self.plan.processes:
            return {}
        outcome = self._outcome
        assert outcome is not None
        orderly = outcome.finish is not None and outcome.error is None and outcome.finish.failure is None
        took: dict[str, str] = {}
        try:
            alive = [*self._nursery.alive]
        except RuntimeError:
            return {}
        for child in alive:
            self._send(child, wire.pack(wire.Kind.STOP))
        deadline = monotonic() + (self.options.close_s if orderly else min(0.5, self.options.close_s))
        took.update(self._wait_for_exits(deadline))
        took.update(self._nursery.shutdown(1.0 if orderly else 0.2))
        return took

    def _wait_for_exits(self, deadline: float) -> dict[str, str]:
        took: dict[str, str] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket.FD, selectors.EVENT_READ)
            watched = -1
            while monotonic() < deadline and not self._hurry:
                self._drain_last_words()
                for event in self._nursery.events():
                    if isinstance(event, ChildExited):
                        took[event.child] = "stopped"
                    elif isinstance(event, ZygoteDied):
                        return took
                if not self._nursery.alive and not self._nursery.asked:
                    break
                if watched != self._nursery.fileno():
                    watched = self._nursery.fileno()
                    selector.register(watched, selectors.EVENT_READ)
                selector.select(min(_TICK_S, max(0.0, deadline - monotonic())))
            self._drain_last_words()
        return took

    def _drain_last_words(self) -> None:
        """Take in what children still say while they close: logs and prints; late answers are of no use."""
        for _ in range(_MOST_MESSAGES):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer = self._names.get(bytes(parts[0].buffer))
            if peer is None:
                continue
            try:
                self._last_word(peer, wire.unpack([part.buffer for part in parts[1:]], peer))
            except ProtocolError as error:
                _LOG.warning("%s", error)

    def _last_word(self, peer: str, message: wire.Message) -> None:
        if message.kind is wire.Kind.LOG:
            inbox.log(peer, message)
        elif message.kind is wire.Kind.PRINT:
            inbox.show(*message.fields)
        elif message.kind is wire.Kind.READY:
            self._early.pop(peer, None)
            self._send(peer, wire.pack(wire.Kind.STOP))

    # -- effects ------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while self._outcome is None:
            # A held run numbers nothing yet; all it has to do is to start its workers.
            effects = self.core.spawned() if self._held else self.core.cycle(monotonic())
            if not effects:
                return
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, SendTask):
            task = effect.task
            self._send(
                effect.worker,
                wire.pack_task(
                    task.id,
                    task.start,
                    task.stop,
                    effect.cut,
                    task.orders,
                    effect.inputs,
                    self._grants.give(effect.worker, task.id, task.stop - task.start),
                ),
            )
        elif isinstance(effect, (Deliver, DeliverLoose)):
            self.deliveries.put(effect)
        elif isinstance(effect, Pull):
            self._pull(effect)
        elif isinstance(effect, StopSource):
            self._stop_source(effect.source)
        elif isinstance(effect, Spawn):
            self._due.append((monotonic() + effect.pause_s, effect))
            self._again = True
        elif isinstance(effect, Warn):
            inbox.warn_skipped(effect.failure)
        elif isinstance(effect, Finish):
            self._end(Outcome(effect.ended_by, effect))
        else:
            self._stop_worker(effect.worker)

    def _stop_worker(self, worker: str) -> None:
        self._send(worker, wire.pack(wire.Kind.STOP))

    def _pull(self, pull: Pull) -> None:
        if pull.source not in self._feeds:
            self._send(f"source.{pull.source}", wire.pack(wire.Kind.PULL, pull.count, pull.nbytes))
            return
        self._pulls[pull.source] = (pull.count, pull.nbytes)
        self._pull_here(pull.source)

    def _pull_here(self, source: int) -> None:
        count, nbytes = self._pulls[source]
        size = self._event_bytes.get(source, 0.0)
        if size:
            count = max(1, min(count, int(nbytes / size)))
        taken = self._feeds[source].take(count, size)
        if taken is not None:
            del self._pulls[source]
            self._offer(source, taken)

    def _offer(self, source: int, taken: Taken) -> None:
        """Give the core what a feed of the caller's gave, packed unless it is to be merged."""
        feed = self._feeds[source]
        error = taken.error
        if taken.events:
            if self.core.sequencer.merges:
                error = self._offer_objects(source, taken) or error
            else:
                error = self._offer_packed(source, taken.events) or error
        if feed.fraction is not None:
            self.fractions[source] = feed.fraction
        if taken.ended or error is not None:
            self.read_s = max(self.read_s, feed.read_s)
            name = self.plan.sources[source].node.name
            if error is not None and not isinstance(error, SourceError):
                error = inbox.source_error(name, inbox.one_line(error), repr(feed.position), feed.count, error)
            self.core.source_ended(source, error)

    def _offer_objects(self, source: int, taken: Taken) -> BaseException | None:
        """Give events to be merged as they are; they are packed here once to see that they can be."""
        failed: CodecError | None = None
        events, keys = taken.events, taken.keys
        try:
            self._encoders[source].encode(events)
        except CodecError as error:
            failed, most = error, error.position or 0
            events, keys = events[:most], keys and keys[:most]
        self.core.chunk(source, Chunk(len(events), items=events, keys=keys))
        return failed

    def _offer_packed(self, source: int, events: list[Any]) -> BaseException | None:
        failed: CodecError | None = None
        try:
            payload = self._encoders[source].encode(events)
        except CodecError as error:
            failed = error
            events = events[: error.position or 0]
            payload = self._encoders[source].encode(events)
        if events:
            self._event_bytes[source] = payload.nbytes / len(events)
            if self.plan.processes:
                payload = self._arena.place(payload)
            self.core.chunk(source, Chunk(len(events), payload, payload.nbytes))
        return failed

    def _stop_source(self, source: int) -> None:
        if source not in self._feeds:
            self._send(f"source.{source}", wire.pack(wire.Kind.STOP))
            return
        self._pulls.pop(source, None)
        self._offer(source, self._feeds[source].stop())

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome

    # -- once a tick --------------------------------------------------------------------------------------------

    def _look_round(self, now: float) -> None:
        options = self.options
        if self._deadline is not None and now >= self._deadline:
            self._end(Outcome("interrupt"))
        if options.time_limit_s is not None and now - self.began >= options.time_limit_s:
            self.core.stop_reading("time_limit")
        if options.stop is not None and options.stop.is_set():
            self.core.stop_reading("stop")
        if self._limited:
            for overrun in overruns(self.core, self._pages, self._killed, now):
                self._kill_late(overrun)
        if now >= self._stalls_at:
            self._stalls_at = now + min(_TICK_S, options.stall_warning_s / 4)
            warning = self._stalls.look(self.core, self._pages, self._nursery.alive, now)
            if warning is not None:
                _LOG.warning("%s: %s", self.plan.name, warning)

    def _kill_late(self, overrun: Overrun) -> None:
        """Kill a worker for a time limit. A late event is charged an attempt; a late list is run again event by event."""
        worker, seen = overrun.worker, overrun.seen
        if overrun.event:
            self.core.overran(worker, seen, overrun.limit_s)
            self._killed.add(worker)
        _LOG.info(
            "worker %s is replaced: its call on number %d ran past timeout_s=%g", worker, seen.seq, overrun.limit_s
        )
        self._nursery.kill(worker)


class _Packing:
    """The core's way to the codec."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        payload = self._encoder.encode(items)
        return payload, payload.nbytes

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        assert isinstance(payload, Payload)
        return self.pack(decode(payload)[:count])


def _preload(plan: Plan, held: bool) -> list[str]:
    """Name the modules that the processes of a plan need, so that they are imported once for all."""
    modules = []
    if not held and any(source.remote for source in plan.sources):
        modules.append("penstock.engine.source_process")
    if any(pool.program.needs_loop for pool in plan.wiring.pools):
        modules.append("penstock.engine.loop_worker")
    return modules


def _shown(identity: bytes) -> str:
    """Give what a stranger calls itself, fit to be read."""
    return repr(identity.decode("utf-8", "backslashreplace"))[:60]


def describe_exit(code: int | None) -> str:
    """Say how a process ended, and the likely cause."""
    if code is None:
        return "died with the process that starts workers"
    if code >= 0:
        return f"exited with code {code}" + ("" if code else ", which only os._exit in user code does")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    likely = {"SIGKILL": " (killed from outside, or by the memory killer)", "SIGSEGV": " (a crash in C code)"}
    return f"was ended by {name}{likely.get(name, '')}"


#: Kept for the type checkers: the parts of a blame that the hub passes on.
Seen = LastSeen
