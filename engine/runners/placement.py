"""Where a run without `workers=` handles its events: in the calling thread, or in processes once those pay.

Decides when processes pay: by what it costs to handle one event, and what it costs to send it to a worker and
receive the result. Knows nothing of threads, nor of how a run moves over.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from msgspec import Struct

from ...nodes.handlers import needs_build
from ..codec.codec import Payload, decode, encode
from ..codec.errors import CodecError
from ..options import RunOptions
from ..plan.plan import Plan

#: One call that lasts longer than this brings in processes by itself: what is behind it must not wait.
LONG_CALL_S = 0.02
#: Costs are weighed after this many seconds of handling, and less and less often while processes do not pay.
_WEIGH_AFTER_S = 0.01
_MAX_WEIGH_AFTER_S = 0.64
#: Starting processes takes about this long, in seconds; work that is over sooner does not need them.
_START_S = 0.2
#: Processes must be faster by this factor to be brought in.
_MIN_GAIN = 1.2
#: What the hub does for one event in a large batch, beside packing it, in seconds.
_HUB_S = 2e-7
#: A sample has at most this many events, and about this many bytes.
_MAX_SAMPLE = 128
_MAX_SAMPLE_BYTES = 1 << 20


def may_start_in_caller(plan: Plan, options: RunOptions) -> bool:
    """Whether a run may begin in the calling thread: nothing in it asks for processes of its own.

    A read that blocks the calling thread cannot be ended by `stop` or `time_limit_s`, so those are for processes.
    """
    if options.workers is not None or len(plan.sources) != 1 or plan.loose_sinks or plan.whole.program.needs_loop:
        return False
    if options.stop is not None or options.time_limit_s is not None or plan.commits:
        return False
    if options.lock is not None or options.checkpoint is not None:
        return False
    if any(step.options.timeout_s is not None for step in plan.whole.program.steps):
        return False
    if any(subject is not None and needs_build(subject) for subject in plan.whole.handlers):
        return False
    return all(not pool.ordered and not pool.explicit and pool.hardware is None for pool in plan.pools)


class Costs(Struct):
    """Seconds for one number: to handle it; for the caller to send it and receive its result; for a worker to do so."""

    handle: float = 0.0
    send: float = 0.0
    serve: float = 0.0

    def gain(self, cores: int) -> float:
        """Return how many times as fast processes would be: bounded by the caller's part, and by the work per core."""
        each = max(self.send, (self.send + self.serve + self.handle) / cores)
        return self.handle / each if each > 0 else 0.0


class Placement:
    """Weighs handling in the calling thread against processes on `cores` cores; `text` is for the report."""

    def __init__(self, cores: int) -> None:
        self.text = "over before processes would have paid"
        self._why = ""  #: why processes were brought in
        self.cores = cores
        #: Seconds of handling so far, counted by the run, and at how many of them costs are weighed next.
        self.handled_s = 0.0
        self.due_s = _WEIGH_AFTER_S
        self._after_s = _WEIGH_AFTER_S
        self._costs = Costs()
        #: Where the costs were weighed last: seconds of handling, and numbers.
        self._weighed_s = 0.0
        self._weighed_at = 0

    def weigh(self, events: list[Any], outputs: list[list[Any]], size: int, *, done: int, left: int | None) -> bool:
        """Return whether processes pay, by the turns since the last time and a sample of the last one.

        `events` are the first ones of a turn of `size` events and `outputs` all of its results; `done` numbers are
        handled, and `left` events are still to come (`None`: unknown).
        """
        costs = self._costs
        costs.handle = (self.handled_s - self._weighed_s) / max(1, done - self._weighed_at)
        self._weighed_s, self._weighed_at = self.handled_s, done
        self._after_s = min(2 * self._after_s, _MAX_WEIGH_AFTER_S)
        self.due_s = self.handled_s + self._after_s
        share = len(events) / size
        try:
            encode_s, decode_s = codec_seconds(events)
            results = [codec_seconds(output[: max(1, int(len(output) * share))]) for output in outputs if output]
        except CodecError:
            self.record_unsendable("events")
            return False
        costs.send = (encode_s + sum(decode for _, decode in results)) / len(events) + _HUB_S
        costs.serve = (decode_s + sum(encode for encode, _ in results)) / len(events)
        gain = costs.gain(self.cores)
        if gain < _MIN_GAIN:
            self.text = (
                f"no processes: an event takes {costs.handle * 1e6:.2f} µs here, its way to a worker and"
                f" back {costs.send * 1e6:.2f} µs"
            )
            return False
        if left is not None and left * costs.handle < _START_S:
            return False
        self._want(f"an event takes {costs.handle * 1e6:.1f} µs, they are {gain:.1f} times as fast")
        return True

    def record_long_call(self) -> None:
        """Record that processes are brought in because one event takes long."""
        self._want(f"one event took longer than {LONG_CALL_S * 1e3:.0f} ms")

    def record_start(self, number: int) -> None:
        """Record from which number on events are handled in processes."""
        self.text = f"{self.cores} worker processes from number {number:,} on: {self._why}"

    def record_stay(self, why: str) -> None:
        """Record that processes were to be brought in, and why they are not used."""
        self.text = f"no processes: {why}"

    def record_unsendable(self, what: str) -> None:
        """Record that processes are of no use: `what` ("events", "results") cannot be sent."""
        self.text = f"no processes: its {what} cannot be sent to one"

    def _want(self, why: str) -> None:
        self._why = why
        self.text = "over before processes were up"


def sample_size(event_bytes: float) -> int:
    """Return how many events of about this size (0: unknown) are a sample."""
    return max(1, min(_MAX_SAMPLE, int(_MAX_SAMPLE_BYTES / event_bytes))) if event_bytes else _MAX_SAMPLE


def codec_seconds(events: list[Any]) -> tuple[float, float]:
    """Return the seconds that encoding and decoding these events takes, with the copy that another process reads.

    Raises `CodecError` for events that cannot be sent.
    """
    started = perf_counter()
    payload = encode(events)
    sent = Payload(payload.codec, tuple([memoryview(bytes(frame)) for frame in payload.frames]))
    encoded = perf_counter()
    decode(sent)
    return encoded - started, perf_counter() - encoded
