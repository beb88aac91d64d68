"""Large events and what is done with them; by itself, because workers import the module that a handler comes from."""

from __future__ import annotations

MIB = 1 << 20


def block_of(number: int, size: int = MIB) -> bytes:
    """Return bytes that are all the same and tell their number."""
    return bytes([number % 256]) * size


def flip(block: bytes) -> bytes:
    """Return bytes the other way round."""
    return bytes(bytearray(block)[::-1])
