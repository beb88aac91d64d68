"""How one file is read as blocks of whole lines, thousands at a time.

Decides what ends a line, where a file is cut, and how an undecodable or damaged file is reported after every line
before that was given. What a line means is the callers'.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from .inputs import READ_ERRORS, open_stream

#: Bytes read at once: large enough that the work per block vanishes, small enough for the processor's cache.
BLOCK_BYTES = 1 << 18

Split = Callable[[str], list[str]]


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


class Blocks:
    """One file as blocks of whole lines; `start` and `line` tell where the last block began."""

    def __init__(self, path: str, encoding: str, split: Split, offset: int = 0, line: int = 0) -> None:
        self.path = path
        self.start = self._end = offset
        self.line = self._next_line = line
        self._asked_encoding = encoding
        self._split = split
        self._carry: list[bytes] = []
        self._failure: Exception | None = None
        self._stream, self._encoding = open_stream(path, encoding)
        try:
            if offset:
                self._stream.seek(offset)
        except BaseException:
            self._stream.close()
            raise

    def next(self, size: int) -> list[str] | None:
        """Give the next lines, of about `size` bytes: `None` at the end, empty when nothing is there yet."""
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
            cut = self._cut(data) if data else 0
            if data and not cut:
                self._carry.append(data)
                continue
            whole = b"".join([*self._carry, data[:cut]])
            self._carry = [data[cut:]] if cut < len(data) else []
            lines = self._lines(whole)
            if lines:
                return lines
        assert self._failure is not None
        raise self._failure

    def _cut(self, data: bytes) -> int:
        """Give the length of the whole lines in `data`; a final `\\r` may be half of a line end."""
        cut = data.rfind(b"\n") + 1
        if not cut and self._split is not split_at_newlines:
            cut = data.rfind(b"\r", 0, len(data) - 1) + 1
        return cut

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
        """Give how many bytes of the file on disk were read."""
        return self._stream.consumed()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
