"""The bytes of a file: plain, decompressed, in another encoding, or from standard input.

Decides by suffix and encoding. Every stream returns bytes in which a line ends with the byte 10 or 13.
"""

from __future__ import annotations

import codecs
import glob
import io
import lzma
import os
import select
import sys
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

from .compression import suffix_of
from .decompression import FORMATS, Decompressed
from .paths import STANDARD, is_pattern, is_stream

#: What reading a damaged or vanished file raises.
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

#: Encodings in which the bytes 10 and 13 are always line ends and no byte depends on those before its line.
_LINE_BY_LINE = frozenset({"utf-8", "utf-8-sig", "ascii"})
_SINGLE_BYTE = ("iso8859-", "cp125", "koi8-")

#: How long one read of standard input waits, in milliseconds, before it returns that nothing is there yet.
_WAIT_MS = 100


class ByteStream(Protocol):
    """An open file: `read` returns up to `size` bytes, empty at the end, `None` when nothing is there yet."""

    def read(self, size: int, /) -> bytes | None:
        """Read what is there, up to `size` bytes."""

    def consumed(self) -> int:
        """Return how many bytes of the file on disk were read."""

    def seek(self, offset: int, /) -> None:
        """Seek to an offset in the stream (after decompression)."""

    def close(self) -> None:
        """Close the file."""


class FileStream:
    """A file on disk, decompressed by its suffix."""

    def __init__(self, path: str) -> None:
        self._raw = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close
        suffix = suffix_of(path)
        self._stream = Decompressed(self._raw, suffix) if suffix in FORMATS else self._raw

    def read(self, size: int, /) -> bytes | None:
        """Read what is there, up to `size` bytes."""
        return self._stream.read(size)

    def consumed(self) -> int:
        """Return how many bytes of the file on disk were read."""
        return self._raw.tell() if self._raw.seekable() else 0

    def seek(self, offset: int, /) -> None:
        """Seek to an offset in the decompressed stream."""
        if not self._raw.seekable():
            raise OSError(
                f"cannot go on in {self._raw.name} from a position: what was read from a pipe is gone; read it from a "
                "file"
            )
        self._stream.seek(offset)

    def takes_more(self) -> bool:
        """Whether what is added at the end of the file can be read back; known at the end."""
        return not isinstance(self._stream, Decompressed) or self._stream.takes_more

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


class StandardInput:
    """Standard input of this process, read without blocking for longer than a moment; it is never closed."""

    def __init__(self) -> None:
        buffer = getattr(sys.stdin, "buffer", None)
        self._buffer: Any = buffer if buffer is not None else io.BytesIO(sys.stdin.read().encode())
        self._poll: select.poll | None = None
        try:
            number = self._buffer.fileno()
        except OSError:  # not a file of the system, such as a test's
            return
        self._poll = select.poll()
        self._poll.register(number, select.POLLIN | select.POLLHUP)

    def read(self, size: int, /) -> bytes | None:
        """Read what is there, up to `size` bytes; `None` after a moment without input."""
        if self._poll is not None and not self._poll.poll(_WAIT_MS):
            return None
        data: bytes = self._buffer.read1(size)
        return data

    def consumed(self) -> int:
        """Return 0: how much there will be is unknown."""
        return 0

    def seek(self, offset: int, /) -> None:
        """Refuse: what was read from standard input is gone."""
        raise OSError("cannot go on in standard input from a position: what was read is gone; read it from a file")

    def close(self) -> None:
        """Leave standard input open for its owner."""


class Transcoded:
    """A stream in any encoding, converted to UTF-8; offsets are those of the UTF-8 bytes."""

    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream = stream
        self._decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder(encoding)()
        self._failure: UnicodeDecodeError | None = None
        self._ended = False
        self._ahead = b""  # decoded, but more than was asked for
        self._at = 0
        self.consumed = stream.consumed
        self.close = stream.close

    def read(self, size: int, /) -> bytes | None:
        """Read what is there, up to `size` bytes; text before undecodable bytes is returned before they raise."""
        if not self._ahead:
            more = self._more(size)
            if not more:
                return more
            self._ahead = more
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        self._at += len(data)
        return data

    def _more(self, size: int) -> bytes | None:
        if self._failure is not None:
            raise self._failure
        while not self._ended:
            raw = self._stream.read(size)
            if raw is None:
                return None
            self._ended = not raw
            text = self._decode(raw)
            if text:
                return text.encode("utf-8", "surrogatepass")
            if self._failure is not None:
                raise self._failure
        return b""

    def _decode(self, data: bytes) -> str:
        try:
            return self._decoder.decode(data, self._ended)
        except UnicodeDecodeError as error:
            self._failure = error
            # the decoder puts the bytes it kept from earlier before `data`
            good = error.start - (len(error.object) - len(data))
            return self._decoder.decode(data[: max(good, 0)])

    def seek(self, offset: int, /) -> None:
        """Read on up to an offset of the UTF-8 bytes, not back."""
        if not self._at:
            self._stream.seek(0)  # refused where nothing can be read twice
        while self._at < offset:
            if not self.read(min(offset - self._at, 1 << 16)):
                return


def can_reread(paths: Sequence[str]) -> bool:
    """Whether what is read from all of the paths and patterns can be read again: none is a pipe or device."""
    matches = (glob.glob(path, recursive=True) if is_pattern(path) else [path] for path in paths)
    return not any(is_stream(path) for path in chain.from_iterable(matches))


def open_stream(path: str, encoding: str, opened: ByteStream | None = None) -> tuple[ByteStream, str]:
    """Open a file, unless it is `opened`; return its stream and the encoding of the bytes that the stream returns."""
    name = codecs.lookup(encoding).name
    stream = opened or (StandardInput() if path == STANDARD else FileStream(path))
    if name in _LINE_BY_LINE or name.startswith(_SINGLE_BYTE):
        return stream, name
    return Transcoded(stream, encoding), "utf-8"


def ends_with_newline(path: str, encoding: str) -> bool:
    """Whether the last line of a file that is not empty has its end.

    What is compressed, or in an encoding with a state, is read from its beginning: only so its end is known. Raises
    `OSError` for a damaged file: what is added behind the damage could not be read.
    """
    name = codecs.lookup(encoding).name
    if suffix_of(path) not in FORMATS and (name in _LINE_BY_LINE or name.startswith(_SINGLE_BYTE)):
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    opened = FileStream(path)
    stream, _ = open_stream(path, encoding, opened)
    last = b"\n"
    try:
        while data := stream.read(1 << 18):
            last = data[-1:]
        if not opened.takes_more():
            raise OSError("zeros stand behind its last gzip stream, behind which gzip reads nothing")
    except (*READ_ERRORS, UnicodeDecodeError) as error:
        raise OSError(f"cannot append to {path}: {error}; repair the file, or write to another one") from error
    finally:
        opened.close()
    return last == b"\n"
