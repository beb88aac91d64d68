"""The Redis Streams sink: entries and the number up to which they are there, in one transaction.

Decides what makes it exactly once: between commits entries wait in this process, and above a limit in a stage on the server; a
commit adds them all and moves the number in one MULTI/EXEC, under a watch on the key of the number. Whoever opens the
sink later takes that key over, so a run that was given up for dead cannot commit any more.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import CheckpointError, LockLost, describe, kind_of
from ...scalars import exact_text, plain_value
from ...sinks import BadEvent
from ..compared import address
from .client import ANSWER_S, connect, package, text_of
from .entry import RedisEntry

#: How many bytes may wait in this process before they go to the stage.
STAGE_BYTES = 4 << 20
MAX_FIELDS = 1_000  # what the script can pass on in one call, and more
MAX_COMMANDS = 1_000

_MOVE = """
local from, count = '-', 0
repeat
  local part = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 500)
  for _, entry in ipairs(part) do
    redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
    from = '(' .. entry[1]
  end
  count = count + #part
until #part < 500
redis.call('DEL', KEYS[1])
return count
"""

Fields = Callable[[Any], "Mapping[Any, Any]"]


class RedisSink:
    """A stream as a sink; made by `sluiceway.redis_sink`."""

    delivery = "exactly-once"
    #: It commits during the run, so that little is lost and little waits.
    commits = True

    def __init__(self, stream: str, url: str, fields: Fields | None, progress: str) -> None:
        self.stream = stream
        self.fields = fields
        self.progress = progress
        self.url = url
        self._fence: int | None = None
        self._claimed: tuple[str, str] | None = None
        self._clear()

    def _clear(self) -> None:
        self._client: Any = None
        self._run = self._session = ""
        self._commits = 0
        self._last = -1
        self._rows: list[list[bytes]] = []
        self._nbytes = 0
        self._staged = 0

    def __repr__(self) -> str:
        return f"redis_sink({self.stream!r})"

    @property
    def name(self) -> str:
        """The stream, which names the node."""
        return self.stream

    def settings(self) -> dict[str, Any]:
        """Return what decides where entries and their number are stored."""
        return {"server": address(self.url), "stream": self.stream, "progress": self.progress}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fence = self._claimed = None
        self._clear()

    # The protocol of a sink

    def fence(self, token: int) -> None:
        """Store the lock's token: claiming the stream fails if a higher one has written."""
        self._fence = token

    def claim(self, run: str, place: str) -> tuple[str, int] | None:
        """Return what the stream holds of a run, or of an unfinished one of the same place; nothing is changed."""
        self._claimed = run, place
        self._start()
        try:
            held = self._retry(lambda: self._client.hgetall(self.progress))
        finally:
            self._client.close()
            self._clear()
        known = {text_of(name): text_of(value) for name, value in held.items()}
        ours = known.get("claimed_by") == run or known.get("place") == place
        return (known["claimed_by"], int(known["n"])) if ours else None

    def open(self) -> None:
        """Claim the stream for a fresh run."""
        self._start()
        self._run = uuid.uuid4().hex
        self._claim(None)

    def recover(self, token: Mapping[str, Any]) -> int:
        """Claim the stream for a resumed run; return the last number whose entries it holds.

        Raises `CheckpointError` when another run has used the progress key since, or the server has lost it.
        """
        self._start()
        self._run = token["run"]
        return self._claim(token)

    def write(self, events: Sequence[Any], /) -> None:
        """Keep entries for the next commit.

        Raises `BadEvent` for an event that is no dict of texts, bytes and numbers, nor made one by `fields`.
        """
        for position, event in enumerate(events):
            row = self._row(event, position)
            self._rows.append(row)
            self._nbytes += sum(map(len, row))
        if events:
            self._last = events.numbers[-1][0]  # type: ignore[attr-defined]
        if self._nbytes > STAGE_BYTES:
            self._stage()

    def commit(self, n: int) -> dict[str, Any]:
        """Add all entries and move the number to `n`, at once or not at all.

        Raises `LockLost` if another run has claimed the stream.
        """
        if self._staged and self._rows:
            self._stage()
        self._retry(lambda: self._add(n))
        self._rows, self._nbytes, self._staged = [], 0, 0
        return {"run": self._run, "n": n, "commits": self._commits}

    def close(self) -> None:
        """Commit what is left, record that the run has finished, and close the connection."""
        if self._client is not None:
            if self._rows or self._staged:
                self.commit(self._last)
            if self._claimed is not None:
                self._retry(self._finish)
            self._client.close()
        self._claimed = None
        self._clear()

    def abort(self) -> None:
        """Drop what was not committed, and close the connection."""
        if self._client is not None:
            if self._staged:
                self._client.delete(self._stage_key)
            self._client.close()
        self._claimed = None
        self._clear()

    # Claiming, and adding

    def _finish(self) -> None:
        """Record that the run has finished, so that another one may begin at its place; not where one has begun already."""
        with self._client.pipeline() as pipe:
            if self._watched(pipe).get("session") == self._session:
                pipe.multi()
                pipe.hset(self.progress, "place", "")
                pipe.execute()

    def _start(self) -> None:
        self._clear()
        errors = package("redis_sink").exceptions
        self._watch_error = errors.WatchError
        self._passing = (errors.ConnectionError, errors.TimeoutError)
        self._session = uuid.uuid4().hex
        self._client = connect(self.url, "redis_sink", retries=0)

    @property
    def _stage_key(self) -> str:
        return f"{self.progress}:stage:{self._session}"

    def _claim(self, token: Mapping[str, Any] | None) -> int:
        n: int = self._retry(lambda: self._try_claim(token))
        return n

    def _try_claim(self, token: Mapping[str, Any] | None) -> int:
        with self._client.pipeline() as pipe:
            held = self._watched(pipe)
            fence = int(held.get("fence", -1))
            if self._fence is not None and fence > self._fence:
                raise LockLost(
                    f"cannot write to {self!r}: a run with the later lock token {fence} has written, this one holds "
                    f"{self._fence}; look for that run"
                )
            n = -1 if token is None else self._resumed(held, token)
            self._commits = 0 if token is None else int(held["commits"])
            pipe.multi()
            if held.get("session"):
                pipe.delete(f"{self.progress}:stage:{held['session']}")
            by, place = self._claimed or ("", "")
            mapping = {
                "run": self._run, "session": self._session, "n": n, "commits": self._commits, "claimed_by": by,
                "place": place, "fence": fence if self._fence is None else self._fence,
            }  # fmt: skip
            pipe.hset(self.progress, mapping=mapping)
            pipe.execute()
            return n

    def _resumed(self, held: Mapping[str, str], token: Mapping[str, Any]) -> int:
        if held.get("run") != token["run"]:
            raise CheckpointError(
                f"cannot go on with {self!r}: another run has since written under the progress key {self.progress!r}, or "
                "the server has lost it; give each graph its own progress=, or start anew with resume='never'"
            )
        if int(held["commits"]) < token["commits"]:
            raise CheckpointError(
                f"cannot go on with {self!r}: the server holds number {held['n']}, the checkpoint {token['n']}, so it "
                "has lost what was committed; let it keep every write (appendfsync always), or start anew with "
                "resume='never'"
            )
        return int(held["n"])

    def _watched(self, pipe: Any) -> dict[str, str]:
        """Watch the progress key and return its content."""
        pipe.watch(self.progress)
        return {text_of(name): text_of(value) for name, value in pipe.hgetall(self.progress).items()}

    def _add(self, n: int) -> None:
        with self._client.pipeline() as pipe:
            held = self._watched(pipe)
            if held.get("session") != self._session:
                raise LockLost(
                    f"cannot commit up to number {n} to {self!r}: another run has taken the stream over; one graph at a "
                    "time may use a progress key, see lock="
                )
            if int(held["commits"]) > self._commits:  # an answer was lost: the commit has happened
                self._commits += 1
                return
            self._check_keys(pipe)
            pipe.multi()
            if self._staged:
                pipe.eval(_MOVE, 2, self._stage_key, self.stream)
            else:
                for row in self._rows:
                    pipe.execute_command("XADD", self.stream, "*", *row)
            pipe.hset(self.progress, mapping={"n": n, "commits": self._commits + 1})
            pipe.execute()
            self._commits += 1

    def _check_keys(self, pipe: Any) -> None:
        """Check before the transaction for what would make a part of it fail."""
        kind = text_of(pipe.type(self.stream))
        if kind not in ("stream", "none"):
            raise TypeError(f"cannot write to {self!r}: the key is a {kind}, not a stream; name another one")
        if self._staged and (there := pipe.xlen(self._stage_key)) != self._staged:
            raise LookupError(
                f"cannot commit to {self!r}: the server has {there} of {self._staged} staged entries; let it evict no "
                "keys (maxmemory-policy noeviction)"
            )

    def _retry(self, attempt: Callable[[], Any]) -> Any:
        """Repeat an idempotent attempt until it is answered, for as long as the server may be away."""
        end_at = time.monotonic() + ANSWER_S
        while True:
            try:
                return attempt()
            except self._watch_error:
                continue
            except self._passing:
                if time.monotonic() >= end_at:
                    raise
                time.sleep(0.1)  # the server is away: nothing tells when it is back

    # What waits

    def _stage(self) -> None:
        """Send what waits in this process to the stage on the server."""
        self._retry(self._send_to_stage)
        self._staged += len(self._rows)
        self._rows, self._nbytes = [], 0

    def _send_to_stage(self) -> None:
        # after a lost answer, what has arrived is counted: ids are those of the count
        there = self._client.xlen(self._stage_key) - self._staged
        for begin in range(there, len(self._rows), MAX_COMMANDS):
            pipe = self._client.pipeline(transaction=False)
            for place, row in enumerate(self._rows[begin : begin + MAX_COMMANDS], self._staged + begin + 1):
                pipe.execute_command("XADD", self._stage_key, f"1-{place}", *row)
            pipe.execute()

    def _row(self, event: Any, position: int) -> list[bytes]:
        made = event
        if self.fields is not None:
            try:
                made = self.fields(event)
            except Exception as error:
                raise BadEvent(
                    f"cannot write to {self!r}: the function fields raised {describe(error)}", position
                ) from error
        elif isinstance(event, RedisEntry):
            made = event.fields
        if not isinstance(made, Mapping) or not 0 < len(made) <= MAX_FIELDS:
            raise BadEvent(
                f"cannot write to {self!r}: an entry is a dict of 1 to {MAX_FIELDS} fields, this one is "
                f"{kind_of(made)}; pass fields= a function that gives such a dict",
                position,
            )
        row: list[bytes] = []
        for name, value in made.items():
            row += (self._encoded(name, name, position), self._encoded(value, name, position))
        return row

    def _encoded(self, value: Any, name: Any, position: int) -> bytes:
        if isinstance(value, bytes):
            return value
        value = plain_value(value)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return str(exact_text(value)).encode()
            except UnicodeEncodeError:
                reason = f"field {name!r} has half of a surrogate pair, which is no text; replace it before the sink"
            raise BadEvent(f"cannot write to {self!r}: {reason}", position)
        raise BadEvent(
            f"cannot write to {self!r}: field {name!r} is {kind_of(value)}, fields are str, bytes, int or float; "
            "make it one of them before the sink",
            position,
        )
