"""What the Redis connectors share: the client, its errors, and how an address is shown without its password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ...errors import GraphError
from ..extras import need
from .entry import RedisEntry

#: How long a command may take, in seconds.
ANSWER_S = 10.0
#: The id before every entry.
FIRST = "0-0"

#: The id of the last entry read and, with `stop_at_end`, of the last one to read.
Position = tuple[str, "str | None"]


def package(maker: str) -> Any:
    """Return the package redis; raises `GraphError` if it is not installed."""
    return need("redis", "redis", f"{maker}()")


def checked_url(url: object, maker: str) -> str:
    """Return the address, or raise `GraphError`, whose text never repeats the address: it may hold a password."""
    if not isinstance(url, str) or not _is_url(url):
        raise GraphError(
            f"cannot make {maker}(): url must begin with redis://, rediss:// or unix://; pass for example "
            "'redis://localhost:6379/0'"
        )
    return url


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        return False


def checked_name(name: object, what: str, maker: str) -> str:
    """Return the name of a key or group, or raise `GraphError`."""
    if not isinstance(name, str) or not name:
        raise GraphError(f"cannot make {maker}(): {what} must be a name; pass a text that is not empty")
    return name


def connect(url: str, maker: str, *, answer_s: float = ANSWER_S, retries: int = 3) -> Any:
    """Return a client; it connects with its first command.

    A command is sent again after a lost connection only with `retries`: never one that must not happen twice.
    """
    redis = package(maker)
    backoff, retry = need("redis.backoff", "redis", f"{maker}()"), need("redis.retry", "redis", f"{maker}()")
    return redis.Redis.from_url(
        url,
        protocol=2,
        decode_responses=False,
        socket_timeout=answer_s,
        socket_connect_timeout=answer_s,
        retry=retry.Retry(backoff.ExponentialBackoff(cap=1.0, base=0.05), retries),
    )


def text_of(raw: bytes | str) -> str:
    """Return an id or a name as a text."""
    return raw.decode() if isinstance(raw, bytes) else raw


def read_pairs(client: Any) -> None:
    """Let a client return the fields of entries as the server sends them: a dict would lose one that is there twice."""
    for command in ("XRANGE", "XREADGROUP"):
        client.set_response_callback(command, _as_sent)


def _as_sent(answer: Any, **_: Any) -> Any:
    return answer


def entry_of(entry_id: bytes, pairs: Sequence[bytes] | None, what: str) -> RedisEntry:
    """Return an entry, without fields where it was deleted; raises `ValueError` for one that has a field twice."""
    found = pairs or ()
    fields = dict(zip(found[::2], found[1::2], strict=True))
    if 2 * len(fields) != len(found):
        raise ValueError(
            f"cannot read from {what}: the entry {text_of(entry_id)} has a field twice, which an event cannot hold; "
            "correct who writes it, and delete the entry to go on without it"
        )
    return RedisEntry(text_of(entry_id), fields)


def id_key(entry_id: str) -> tuple[int, int]:
    """Return the sort key of an entry id."""
    time_ms, _, sequence = entry_id.partition("-")
    return int(time_ms), int(sequence or 0)


def stream_info(client: Any, stream: str) -> dict[str, Any] | None:
    """Return the server's information about a stream, or `None` if there is no stream."""
    if not client.exists(stream):
        return None
    info: dict[str, Any] = client.xinfo_stream(stream)
    return info


def newest_id(client: Any, stream: str) -> str:
    """Return the highest id that a stream has ever had."""
    info = stream_info(client, stream)
    return FIRST if info is None else text_of(info["last-generated-id"])
