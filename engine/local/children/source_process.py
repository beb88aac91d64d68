"""A source process: reads one source on its main thread and sends the hub what has been read when it asks.

Decides nothing: each pull says how much to send. A source that is stuck in user code still ends at a stop, because
another thread talks to the hub.
"""

from __future__ import annotations

import os
import threading
import traceback
from pathlib import Path

import zmq

from ....nodes.errors import describe
from ....nodes.ordering.source_positions import ReadMark
from ...codec.codec import Encoder
from ...codec.errors import CodecError
from ...codec.pickling import dumps, loads
from ...sources.feed import LINGER_S, POLL_S, Feed
from ...sources.slice_feed import FeedBatch
from ...tasks.encoding import pack_cause
from ..transport.launch import ChildSettings
from ..transport.link import Link
from ..transport.messages import Kind, Message, pack, pack_chunk
from .setup import apply_caller_settings, flush_output, send_ready, set_up_process, unpack_user_code

#: How long a source that nothing depends on may take to close, in seconds.
_CLOSE_S = 0.3


def main(child: str, argument: bytes) -> None:
    """Read a source until its end or a stop."""
    settings = ChildSettings.load(argument)
    server = _SourceServer(settings)
    talking = threading.Thread(target=server.serve, name="sluiceway-talk", daemon=True)
    talking.start()
    server.up.wait()
    if server.feed is not None:
        apply_caller_settings(Path(settings.spec_path).parent)  # some of them are those of a thread
        server.feed.run()
    talking.join()
    flush_output()


class _SourceServer:
    """The thread that owns the socket; it answers pulls with events of the feed."""

    def __init__(self, settings: ChildSettings) -> None:
        self._settings = settings
        self._encoder = Encoder()
        self._pulls: list[tuple[int, int]] = []
        self._event_bytes = 0.0
        self._ended = self._stopped = False
        self.feed: Feed | None = None
        self.up = threading.Event()

    def serve(self) -> None:
        link = self._link = Link(self._settings)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        inbox, self._notify = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        inbox.bind("inproc://feed")
        self._notify.connect("inproc://feed")
        set_up_process(self._settings, link)
        try:
            spec = Path(self._settings.spec_path)
            name, subject, key = unpack_user_code(spec.parent, spec.read_bytes())
            self.feed = Feed(subject, key=key, name=name)
            self.feed.attach(lambda: self._notify.send(b""))
        except BaseException as error:  # also a sys.exit() at the import of what the source needs: somebody waits for `up`
            self._fail(error)
        self.up.set()
        send_ready(link)
        poller = zmq.Poller()
        poller.register(link.socket, zmq.POLLIN)
        poller.register(inbox, zmq.POLLIN)
        while not self._ended and not self._stopped:
            polls = self._pulls and self.feed is not None and self.feed.bulk
            for socket, _ in poller.poll(int(POLL_S * 1000) if polls else 500):
                if socket is inbox:
                    inbox.recv()
            halted = self._receive_all()
            if not self._stopped:
                self._answer(halted)
            link.flush()
        while not self._stopped:
            message = link.receive(500)
            if message is not None:
                self._receive(message)
        self._close_feed()
        flush_output()
        link.close()
        os._exit(0)

    def _receive_all(self) -> bool:
        """Take what the hub says; return whether it wants no more than what is read."""
        halted = False
        while (message := self._link.receive(0)) is not None:
            self._receive(message)
            halted = halted or message.kind is Kind.HALT
        return halted

    def _receive(self, message: Message) -> None:
        if message.kind is Kind.PULL:
            count, nbytes = message.fields
            self._pulls.append((count, nbytes))
        elif message.kind is Kind.COMMITTED and self.feed is not None:
            self.feed.acknowledge(loads(message.frames[0]))
        elif message.kind is Kind.STOP:  # the hub needs nothing more: the run may have failed before the source has ended
            self._stopped = True

    def _close_feed(self) -> None:
        """Let the reading thread close the source: what it has taken may have to be stored or acknowledged.

        User code that does not return is left behind, soon where nothing depends on it.
        """
        if self.feed is not None:
            self.feed.close()
            self.feed.closed.wait(LINGER_S if self.feed.marking.listens else _CLOSE_S)

    def _answer(self, halted: bool) -> None:
        feed = self.feed
        if feed is None or self._ended:
            return
        if halted:
            self._send_chunk(feed, feed.stop())
            return
        while self._pulls and not self._ended:
            count, nbytes = self._pulls[0]
            if self._event_bytes:
                count = max(1, min(count, int(nbytes / self._event_bytes)))
            taken = feed.read(count, self._event_bytes)
            if taken is None:
                return
            self._pulls.pop(0)
            self._send_chunk(feed, taken)

    def _send_chunk(self, feed: Feed, taken: FeedBatch) -> None:
        events, error = taken.events, taken.error
        while events:
            try:
                payload = self._encoder.encode(events)
                keys = Encoder().encode(taken.keys[: len(events)]) if taken.keys is not None else None
            except CodecError as refused:
                error, events = refused, events[: refused.position or 0]
                continue
            self._event_bytes = payload.nbytes / len(events)
            marks = [_packed(mark) for mark in taken.marks_of(len(events))]
            self._link.send(pack_chunk(len(events), payload, keys, feed.fraction, marks))
            break
        if error is not None:
            self._fail(error)
        elif taken.ended:
            self._ended = True
            self._link.send(pack(Kind.ENDED, feed.count, float(feed.read_s)))

    def _fail(self, error: BaseException) -> None:
        self._ended = True
        text = "".join(traceback.format_exception(error))
        count = self.feed.count if self.feed is not None else 0
        read_s = self.feed.read_s if self.feed is not None else 0.0
        position = repr(self.feed.position) if self.feed is not None else ""
        self._link.send(
            pack(Kind.FAILED, describe(error), text, position, count, float(read_s), frames=[pack_cause(error)])
        )


def _packed(mark: ReadMark) -> tuple[int, bytes, bytes | None]:
    """Return a mark whose position and extent only this process can unpack."""
    return mark.size, dumps(mark.position), None if mark.extent is None else dumps(mark.extent)
