"""How bytes are compressed so that a run can be interrupted anywhere and still end up with the same file.

Decides that a compressed file is a sequence of complete streams, each of a fixed number of plain bytes but the last. A
compressor's state cannot be saved; the plain bytes of its unfinished stream can, and they are bounded.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable

#: Makes one complete compressed stream, without name and time: equal bytes in give equal bytes out.
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}

#: Plain bytes of one stream: large enough that a file grows by about one per cent at most over a single stream (xz,
#: with its large window, by two to five), small enough for the unfinished stream to fit in a checkpoint.
MEMBER_BYTES = {".gz": 1 << 19, ".bz2": 900_000, ".xz": 1 << 21}


def suffix_of(path: str) -> str:
    """Return the suffix that decides how a file is compressed, in lower case."""
    return os.path.splitext(path)[1].lower()


class StreamCompressor:
    """Splits bytes into compressed streams and keeps the plain bytes of the unfinished one."""

    def __init__(self, suffix: str) -> None:
        self._compress = COMPRESS[suffix]
        self._size = MEMBER_BYTES[suffix]
        self._waiting = bytearray()
        self._any = False

    def resume(self, waiting: bytes, any_before: bool) -> None:
        """Resume behind complete streams (`any_before`: there are some) with the plain bytes of the unfinished one."""
        self._waiting = bytearray(waiting)
        self._any = any_before

    def compress(self, data: bytes) -> bytes:
        """Add plain bytes and return the streams that they complete."""
        self._waiting += data
        if len(self._waiting) < self._size:
            return b""
        whole = len(self._waiting) - len(self._waiting) % self._size
        streams = [self._compress(bytes(self._waiting[at : at + self._size])) for at in range(0, whole, self._size)]
        del self._waiting[:whole]
        self._any = True
        return b"".join(streams)

    def waiting(self) -> bytes:
        """Return the plain bytes that are in no stream yet."""
        return bytes(self._waiting)

    def last(self) -> bytes:
        """Return the last stream: the unfinished bytes, or an empty stream if there was nothing at all."""
        if self._any and not self._waiting:
            return b""
        return self._compress(bytes(self._waiting))
