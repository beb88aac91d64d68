"""Keys and their partitions: which values may be keys, and a hash that is the same in every process.

Equal keys have one hash (1, 1.0 and True are equal), whatever PYTHONHASHSEED and the version of Python are, so a
saved state is found again. Decides nothing about workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import Any
from uuid import UUID
from zlib import crc32

from ..errors import kind_of, with_article

#: Types whose values are all valid keys.
ALWAYS_VALID = frozenset({int, str, bytes, bool, type(None)})
#: The most partitions that one byte can number.
MAX_PARTITIONS = 255

_MASK = (1 << 64) - 1
_MAX_CACHED = 1 << 16
#: 2**32 divided by the golden ratio: spreads numbers at equal distances evenly over the partitions.
_PRIME = 4294967291
_SPREAD = 0x9E3779B1
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def stable_hash(key: Any) -> int:
    """Return a whole number for a key, equal for equal keys in every process. Raises `TypeError` for other types."""
    kind = type(key)
    if kind is str:
        return crc32(key.encode("utf-8", "surrogatepass"))
    if kind is int:
        return hash(key)
    if kind is tuple:
        return _joined(key)
    if isinstance(key, Number):  # Python gives equal numbers of all types one hash, which no seed changes
        _check_equal_to_itself(key)
        if kind.__name__ == "timedelta64":  # an integer to numpy, but equal ones may have several hashes
            raise TypeError("key_by gave a timedelta64 as a key; give its .item(), a timedelta, or the number of its units")
        return hash(key)
    if key is None:
        return 1
    equals: Any = kind.__eq__
    if isinstance(key, str | bytes) and equals in (str.__eq__, bytes.__eq__):
        return crc32(str.encode(key, "utf-8", "surrogatepass") if isinstance(key, str) else key)
    if isinstance(key, tuple) and equals is tuple.__eq__:
        return _joined(key)
    return _rarer(key, kind)


def _check_equal_to_itself(key: Any) -> None:
    """Check that a key is not one of the values that equal nothing, not even themselves. Raises `ValueError` for one."""
    if (isinstance(key, Decimal) and key.is_snan()) or key != key:
        raise ValueError(
            f"key_by gave {kind_of(key)} as a key that does not equal itself (nan or NaT); give None instead"
        )


def _rarer(key: Any, kind: type) -> int:
    if isinstance(key, frozenset):
        return sum(_joined((part,)) for part in key) & _MASK
    if isinstance(key, datetime):
        _check_equal_to_itself(key)
        key = key.replace(fold=0)  # datetimes of one zone are equal whatever their fold is
        return stable_hash(key - (_EPOCH if key.utcoffset() is None else _EPOCH_UTC))
    if isinstance(key, date):
        return key.toordinal()
    if isinstance(key, timedelta):
        return _joined((key.days, key.seconds, key.microseconds))
    if isinstance(key, time) and key.tzinfo is None:
        return _joined((key.hour, key.minute, key.second, key.microsecond))
    if isinstance(key, UUID):
        return hash(key.int)
    hashes: Any = kind.__hash__
    if isinstance(key, Enum) and hashes is Enum.__hash__:
        return crc32(f"{kind.__qualname__}.{key.name}".encode())
    raise TypeError(
        f"key_by gave {with_article(kind.__name__)} as a key; a key is a str, bytes, a number, None, a date or time, a UUID, an"
        " Enum, or a tuple or frozenset of these: give such a part of the event"
    )


def _joined(values: Sequence[Any]) -> int:
    found = 0x345678 + len(values)
    for value in values:
        found = ((found ^ (stable_hash(value) & _MASK)) * 0xF4243B + 0x9E3779B9) & _MASK
    return found


def partition_of(number: int, partitions: int) -> int:
    """Return the partition, 0 .. partitions - 1, of a key whose stable hash is `number`."""
    return ((number % _PRIME) * _SPREAD >> 32) % partitions


class Hashes(dict[Any, int]):
    """A cache of stable hashes, looked up in C."""

    def __missing__(self, key: Any) -> int:
        number = stable_hash(key)
        if len(self) >= _MAX_CACHED:
            self.clear()
        self[key] = number
        return number


class KeyCheck:
    """Finds the first value that cannot be a key."""

    def __init__(self) -> None:
        self._hashes = Hashes()

    def __call__(self, keys: list[Any]) -> tuple[int, Exception] | None:
        """Return the position of the first value that is not a key and the error for it; `None` if all are keys."""
        if set(map(type, keys)) <= ALWAYS_VALID:
            return None
        known = self._hashes
        for at, key in enumerate(keys):
            try:
                known[key]
            except Exception as error:
                return at, _explained(key, error)
        return None


def _explained(key: Any, error: Exception) -> Exception:
    """Return the error of `stable_hash`, also where Python refuses to hash the key before."""
    try:
        stable_hash(key)
    except Exception as again:
        return again.with_traceback(None)
    return error.with_traceback(None)


class _Partitions(dict[Any, int]):
    """A cache of the partitions of keys, looked up in C."""

    def __init__(self, partitions: int) -> None:
        self._count = partitions

    def __missing__(self, key: Any) -> int:
        partition = partition_of(stable_hash(key), self._count)
        if len(self) >= _MAX_CACHED:
            self.clear()
        self[key] = partition
        return partition


class Partitioner:
    """Computes the partitions of whole columns of keys, as one byte each."""

    def __init__(self, partitions: int) -> None:
        self._count = partitions
        self._known = _Partitions(partitions)

    def codes(self, keys: list[Any]) -> bytes:
        """Return the partition of every key."""
        if set(map(type, keys)) == {int}:
            partitions, prime, spread = self._count, _PRIME, _SPREAD
            return bytes([((number % prime) * spread >> 32) % partitions for number in map(hash, keys)])
        return bytes(map(self._known.__getitem__, keys))
