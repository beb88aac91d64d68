"""Redis Streams as a source and a sink: the public functions and the type of an entry.

Decides the public arguments. The source is in `source` (in a group: `group_reader`), the sink in `sink`, the lock in
`lock`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import GraphError
from .client import FIRST, checked_name, checked_url, package
from .entry import RedisEntry
from .lock import RedisLock, redis_lock
from .sink import RedisSink
from .source import RedisSource

__all__ = ["RedisEntry", "RedisLock", "RedisSink", "RedisSource", "redis", "redis_lock", "redis_sink"]


def redis(
    stream: str,
    *,
    url: str,
    group: str | None = None,
    consumer: str = "sluiceway",
    stop_at_end: bool = False,
    start: str = FIRST,
) -> RedisSource:
    """Read a Redis stream: every event is a `RedisEntry`.

    Without `group` all entries are read by their ids. With one, entries are shared with the group's other consumers,
    acknowledged when every number up to them is released, and what `consumer` was given before and did not
    acknowledge comes first. With `stop_at_end` the source ends behind the entries that are there when it is opened.
    `start` is the id to begin behind, `"$"` for what comes from now on; a group that is there already ignores it.

    Raises `GraphError` for arguments of another shape and a missing package redis.
    """
    package("redis")
    if group is not None:
        checked_name(group, "group", "redis")
    checked_name(consumer, "consumer", "redis")
    if start != "$" and not all(part.isdecimal() for part in str(start).split("-", 1)):
        raise GraphError("cannot make redis(): start is the id of an entry, such as '1700000000000-0', or '$'")
    name, url = checked_name(stream, "the stream", "redis"), checked_url(url, "redis")
    return RedisSource(name, url, group, consumer, bool(stop_at_end), str(start))


def redis_sink(
    stream: str,
    *,
    url: str,
    fields: Callable[[Any], Mapping[Any, Any]] | None = None,
    progress: str | None = None,
) -> RedisSink:
    """Write events to a Redis stream, exactly once: entries and the number they reach to go in one transaction.

    An event is a dict of `str`, bytes and numbers, or a `RedisEntry`, or `fields` makes such a dict of it. Entries
    appear at each commit, about every `checkpoint_interval_s`. `progress` is the key that holds the number, by default
    made from the stream's name: graphs that write to one stream need one each.

    Raises `GraphError` for arguments of another shape and a missing package redis.
    """
    package("redis_sink")
    if fields is not None and not callable(fields):
        raise GraphError("cannot make redis_sink(): fields must be a function of the event; pass one, or leave it out")
    name = checked_name(stream, "the stream", "redis_sink")
    key = f"sluiceway:{{{name}}}" if progress is None else checked_name(progress, "progress", "redis_sink")
    return RedisSink(name, checked_url(url, "redis_sink"), fields, key)
