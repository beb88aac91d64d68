"""The bytes of a compressed file, which may be several streams behind each other.

Decides what may stand in such a file, as strictly as `gzip`, `bzip2` and `xz` are: at least one stream, each complete,
and behind a stream only another one, but for zeros that pad (gzip: up to the end of the file; xz: a multiple of four).
Whatever these programs complain about, if only by a warning, is an error here: it may be all that is left of a stream.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

_READ_BYTES = 1 << 16
#: What a decompressor raises for bytes that are none of its own.
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


class _Gzip:
    """One gzip stream, with the members that the other decompressors have."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._rest = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return up to `max_length` bytes of the stream."""
        out = self._stream.decompress(self._rest + data, max_length)
        self._rest = self._stream.unconsumed_tail
        return out

    @property
    def needs_input(self) -> bool:
        """Whether the bytes given so far are used up."""
        return not self._rest

    @property
    def eof(self) -> bool:
        """Whether the stream is complete and its check right."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """The bytes behind the stream."""
        return self._stream.unused_data


#: How each suffix is decompressed: the name of the format, what reads the first stream, and those behind it.
FORMATS: dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]] = {
    ".gz": ("gzip", _Gzip, _Gzip),
    ".bz2": ("bzip2", bz2.BZ2Decompressor, bz2.BZ2Decompressor),
    ".xz": ("xz", lzma.LZMADecompressor, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
}


class Decompressed:
    """Reads the plain bytes of all streams in an open file."""

    def __init__(self, raw: IO[bytes], suffix: str) -> None:
        self._raw = raw
        self._name, self._first, self._next = FORMATS[suffix]
        self._begin()

    def _begin(self) -> None:
        self._stream: Any = self._first()
        self._count = 1  # which stream is read
        self._begun = False  # whether any byte of the file was read
        self._ahead = b""  # read from the file, and not given to the stream yet
        self._ended = False
        self._at = 0
        self.takes_more = True  # whether another stream may be added at the end

    def read(self, size: int, /) -> bytes:
        """Return up to `size` plain bytes, empty at the end; raises `OSError` or `EOFError` for a damaged file."""
        while not self._ended:
            if self._stream.eof:
                self._go_on(self._stream.unused_data)  # only now: what is behind it may be long in coming
                continue
            data, self._ahead = self._ahead, b""
            if not data and self._stream.needs_input:
                data = self._raw.read(_READ_BYTES)
                if not data:
                    raise EOFError(self._too_short())
            out = self._decompressed(data, size)
            if out:
                self._at += len(out)
                return out
        return b""

    def _too_short(self) -> str:
        if self._begun:
            return f"its {self._name} stream {self._count} ends too early"
        return f"it is empty, which no {self._name} file is"

    def _decompressed(self, data: bytes, size: int) -> bytes:
        self._begun = True
        try:
            out: bytes = self._stream.decompress(data, size)
        except _DAMAGED as error:
            behind = "" if self._count == 1 else f", behind {self._count - 1} that are whole,"
            raise OSError(f"its {self._name} stream {self._count}{behind} is none or is damaged ({error})") from error
        return out

    def _go_on(self, rest: bytes) -> None:
        """Begin with what stands behind a whole stream: the next one, or the end of the file."""
        rest = self._behind_zeros(rest or self._raw.read(_READ_BYTES))
        if not rest:
            self._ended = True
            return
        self._stream, self._count, self._ahead = self._next(), self._count + 1, rest

    def _behind_zeros(self, rest: bytes) -> bytes:
        """Return what stands behind padding of zeros."""
        if self._name == "bzip2" or not rest.startswith(b"\0"):
            return rest
        zeros = 0
        while rest:
            kept = rest.lstrip(b"\0")
            zeros += len(rest) - len(kept)
            if kept:
                break
            rest = self._raw.read(_READ_BYTES)
        kept = rest.lstrip(b"\0")
        if self._name == "xz" and zeros % 4:
            raise OSError(f"{zeros} zeros stand behind its xz stream {self._count}, which is no multiple of four")
        if self._name == "gzip" and kept:
            raise OSError(f"something else than zeros stands behind its gzip stream {self._count} and the zeros after it")
        self.takes_more = self._name != "gzip"
        return kept

    def seek(self, offset: int, /) -> None:
        """Seek to an offset in the plain bytes, by decompressing up to it."""
        if offset < self._at:
            self._raw.seek(0)
            self._begin()
        while self._at < offset and self.read(min(offset - self._at, 1 << 18)):
            pass
