"""An HTTP server as a sink: events as JSON, in order, each request answered before the next is sent.

Decides how a request names its numbers, so that the server can leave out what it already has: a request whose answer
was lost is sent again, so delivery is at least once. `Sluiceway-Seq` holds the numbers, `Idempotency-Key` the
same under the name of the run, which stays the same when the run is resumed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from ...errors import CheckpointError
from ...events import DeadLetter
from ...json_values import json_default, letter_fields, unfit
from ...sinks import BadEvent
from ..compared import digest, last_part
from .client import PASSING, Client, Endpoint, NoAnswer, shown

Number = tuple[int, int]


class HttpSink:
    """A server that events are sent to; made by `sluiceway.http_sink`."""

    delivery = "at-least-once"

    def __init__(self, to: Endpoint, method: str, batch_size: int | None) -> None:
        self._to = to
        self._method = method
        self._batch_size = batch_size
        self._client: Client | None = None
        self._run = ""

    def __repr__(self) -> str:
        return f"http_sink({shown(self._to.url)!r})"

    @property
    def name(self) -> str:
        """The end of the url's path, which names the node."""
        return last_part(self._to.url)

    def settings(self) -> dict[str, Any]:
        """Return what decides where and in which form events are sent; the query of the url as a digest."""
        return {
            "url": shown(self._to.url),
            "query": digest(urlsplit(self._to.url).query),
            "method": self._method,
            "arrays": self._batch_size is not None,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None, "_run": ""}

    def open(self) -> None:
        """Begin a run under a new name; nothing is sent before the first event."""
        self._begin(uuid.uuid4().hex)

    def _begin(self, run: str) -> None:
        self.abort()
        self._run = run
        self._client = Client(self._to, "http_sink")

    def write(self, events: Sequence[Any], /) -> None:
        """Send the events and wait for every answer.

        Raises `BadEvent` for what JSON cannot carry and what the server refuses for good, `NoAnswer` when the retries
        are over; its `position` is that of the first event that the server did not accept.
        """
        if self._client is None:
            self.open()
        numbers: list[Number] = getattr(events, "numbers", None) or [(position, 0) for position in range(len(events))]
        size = self._batch_size or 1
        for first in range(0, len(events), size):
            bodies, bad = self._bodies(events[first : first + size], first)
            if bodies:
                self._send(bodies, numbers[first : first + len(bodies)], first)
            if bad is not None:
                raise bad

    def _bodies(self, events: Sequence[Any], first: int) -> tuple[list[str], BadEvent | None]:
        """Return events as JSON, up to the first that JSON cannot carry."""
        bodies: list[str] = []
        for position, event in enumerate(events, first):
            value = letter_fields(event) if isinstance(event, DeadLetter) else event
            reason = unfit(value)
            if reason is not None:
                text = f"cannot send to {self!r}: {reason}, which JSON cannot carry; convert it before the sink"
                return bodies, BadEvent(text, position)
            bodies.append(json.dumps(value, separators=(",", ":"), default=json_default))
        return bodies, None

    def _send(self, bodies: list[str], numbers: list[Number], first: int) -> None:
        assert self._client is not None
        seq = ranges(numbers)
        headers = {
            "Content-Type": "application/json",
            "Sluiceway-Seq": seq,
            "Idempotency-Key": f"{self._run}:{seq}",
        }
        body = bodies[0] if self._batch_size is None else f"[{','.join(bodies)}]"
        try:
            self._client.send(self._method, self._to.url, content=body.encode(), headers=headers)
        except NoAnswer as error:
            if error.status is not None and error.status not in PASSING:
                raise BadEvent(str(error), first) from None
            error.position = first
            raise

    def commit(self, n: int) -> dict[str, Any]:
        """Return the token: everything that was written has been answered. It is `{"kind": "http", "n", "run"}`."""
        if not self._run:
            self.open()
        return {"kind": "http", "n": n, "run": self._run}

    def recover(self, token: object) -> int:
        """Continue under the name of the run; what was sent after the commit is sent again, with the same keys."""
        if not isinstance(token, dict) or token.get("kind") != "http":
            raise CheckpointError(
                f"cannot go on in {self!r}: the checkpoint holds no token of an http_sink for it; give the sink that "
                "the run had, or begin afresh with resume='never'"
            )
        self._begin(str(token["run"]))
        return int(token["n"])

    def close(self) -> None:
        """Close the connection."""
        self.abort()

    def abort(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def ranges(numbers: Sequence[Number]) -> str:
    """Return numbers as text: `5-7` for the events 5, 6 and 7 of index 0 each, `8.1` for index 1 of number 8."""
    texts = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: (pair[1][1], pair[1][0] - pair[0])):
        taken = [number for _, number in run]
        (first, index), last = taken[0], taken[-1][0]
        if index:
            texts += [f"{seq}.{index}" for seq, index in taken]
        else:
            texts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(texts)
