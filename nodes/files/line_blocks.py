"""How one file is read as blocks of whole lines, thousands at a time.

Decides what ends a line, where a block ends, how an undecodable or damaged file is reported after all lines before
the damage, and how a file is noticed that no longer contains what was read. It does not know what a line means.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ..errors import CheckpointError
from .streams.byte_streams import READ_ERRORS, ByteStream, open_stream

#: Bytes read at once: large enough that the work per block vanishes, small enough for the processor's cache.
BLOCK_BYTES = 1 << 18

#: Bytes of a file's beginning that are compared when reading resumes in it.
HEAD_BYTES = 4096

Split = Callable[[str], list[str]]


class SeenBytes(NamedTuple):
    """What was seen of a file: the length and CRC-32 of its beginning, and of the block of lines read last.

    All of it counts bytes after decompression, in UTF-8 where the file's encoding is no superset of ASCII.
    """

    head: int = 0
    head_check: int = 0
    block: int = 0
    block_check: int = 0


def split_plain(text: str) -> list[str]:
    """Split at every line end that Python's text mode knows, and drop it."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return split_at_newlines(text)


def split_at_newlines(text: str) -> list[str]:
    """Split at `\\n` only, and drop it."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def split_keeping(text: str) -> list[str]:
    """Split at every line end that Python's text mode knows, and keep it as `\\n`."""
    return io.StringIO(text, newline=None).readlines()


def split_raw(text: str) -> list[str]:
    """Split at every line end that Python's text mode knows, and keep it as it is."""
    return io.StringIO(text, newline="").readlines()


NOTHING = SeenBytes()


class LineBlocks:
    """One file as blocks of whole lines; `start` and `line` are where the last block began.

    Opened at an offset that another one had as its `start`, with its `line` and what it had `seen`, it begins with
    the same block; raises `CheckpointError` for a file in which these bytes differ.
    """

    def __init__(
        self,
        path: str,
        encoding: str,
        split: Split,
        offset: int = 0,
        line: int = 0,
        seen: SeenBytes = NOTHING,
        opened: ByteStream | None = None,
    ) -> None:
        self.path = path
        self.start = self._end = offset
        self.line = self._next_line = line
        self._asked_encoding = encoding
        self._split = split
        self._carry: list[bytes] = []
        self._failure: Exception | None = None
        self._head = self._block = self._again = b""
        self._seen: SeenBytes | None = seen
        self._stream, self._encoding = open_stream(path, encoding, opened)
        try:
            if offset or seen.head:
                self._resume(offset, seen)
        except BaseException:
            self._stream.close()
            raise

    def _resume(self, offset: int, seen: SeenBytes) -> None:
        """Seek to the block at `offset` and check what was seen of the file before."""
        self._stream.seek(0)
        self._head = self._read_checked(seen.head, seen.head_check, 0)
        begun = self._head[offset:]
        self._stream.seek(max(offset, len(self._head)))
        if len(begun) >= seen.block:  # a file so short that its beginning is all that was seen
            self._again = begun
        else:
            self._again = self._read_checked(seen.block, seen.block_check, offset, begun)

    def _read_checked(self, size: int, check: int, offset: int, begun: bytes = b"") -> bytes:
        """Read until there are `size` bytes, all those from `offset` on; raises unless they are what was seen."""
        data = begun
        try:
            while len(data) < size:
                more = self._stream.read(size - len(data))
                if not more:
                    break
                data += more
        except READ_ERRORS as error:
            raise OSError(f"cannot read {self.path} to go on in it: {error}") from error
        except UnicodeDecodeError:
            pass  # not what was seen, which could be decoded
        if len(data) == size and zlib.crc32(data) == check:
            return data
        reason = (
            f"it ends before byte {offset + size}, up to which it was read"
            if len(data) < size
            else f"its bytes {offset} to {offset + size} are not those that were read"
        )
        raise CheckpointError(
            f"cannot go on in {self.path}: {reason}; give the file that was read, which may have grown at its end, or "
            "begin afresh with resume='never'"
        )

    @property
    def seen(self) -> SeenBytes:
        """What to compare when reading resumes in the last block."""
        if self._seen is None:
            self._seen = SeenBytes(len(self._head), zlib.crc32(self._head), len(self._block), zlib.crc32(self._block))
        return self._seen

    def next(self, size: int) -> list[str] | None:
        """Return the next lines, of about `size` bytes: `None` at the end, empty when nothing is there yet."""
        if self._again:
            again, self._again = self._again, b""
            return self._lines(again)
        while self._failure is None:
            try:
                data = self._stream.read(size)
            except UnicodeDecodeError as error:
                self._failure = self._undecodable(error)
                break
            except READ_ERRORS as error:
                raise OSError(f"cannot read {self.path} past line {self._next_line}: {error}") from error
            if data is None:
                return []
            if not data and not self._carry:
                return None
            end = self._whole_length(data) if data else 0
            if data and not end:
                self._carry.append(data)
                continue
            whole = b"".join([*self._carry, data[:end]])
            self._carry = [data[end:]] if end < len(data) else []
            lines = self._lines(whole)
            if lines:
                return lines
        assert self._failure is not None
        raise self._failure

    def _whole_length(self, data: bytes) -> int:
        """Return the length of the whole lines in `data`; a final `\\r` may be half of a line end."""
        end = data.rfind(b"\n") + 1
        if not end and self._split is not split_at_newlines:
            end = data.rfind(b"\r", 0, len(data) - 1) + 1
        return end

    def _lines(self, whole: bytes) -> list[str]:
        encoding = self._encoding
        if encoding == "utf-8-sig" and self._end:
            encoding = "utf-8"  # a byte order mark stands only at the beginning
        try:
            text = whole.decode(encoding)
        except UnicodeDecodeError as error:
            self._failure = error
            last = whole.rfind(b"\n", 0, error.start)
            if self._split is not split_at_newlines:
                last = max(last, whole.rfind(b"\r", 0, error.start))
            whole = whole[: last + 1]
            text = whole.decode(encoding)
        lines = self._split(text)
        if self._end < HEAD_BYTES:
            self._head = (self._head[: self._end] + whole)[:HEAD_BYTES]
        self._block, self._seen = whole, None
        self.start, self.line = self._end, self._next_line
        self._end += len(whole)
        self._next_line += len(lines)
        if isinstance(self._failure, UnicodeDecodeError):
            self._failure = self._undecodable(self._failure)
        return lines

    def _undecodable(self, error: UnicodeDecodeError) -> ValueError:
        failure = ValueError(
            f"cannot read {self.path}, line {self._next_line + 1}: it is not {self._asked_encoding} text "
            f"({error.reason}); pass the file's encoding, or correct the line"
        )
        failure.__cause__ = error
        return failure

    def consumed(self) -> int:
        """Return how many bytes of the file on disk were read."""
        return self._stream.consumed()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
