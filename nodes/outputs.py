"""How a file is written so that its name never holds half of a run.

Decides where the bytes go: to `NAME.partial`, put in place when the run has succeeded; to the end of the file when
appending; straight to standard output, devices and pipes. It knows nothing of events.
"""

from __future__ import annotations

import bz2
import codecs
import fcntl
import gzip
import lzma
import os
import sys
from collections.abc import Callable
from typing import IO

from .paths import STANDARD

#: Makes one complete compressed stream; such streams may follow each other in one file.
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def suffix_of(path: str) -> str:
    """Give the suffix that decides how a file is compressed, in lower case."""
    return os.path.splitext(path)[1].lower()


class Output:
    """One file, open for the events of one run."""

    def __init__(self, path: str, encoding: str, append: bool) -> None:
        self.path = path
        self.target: str | None = None  # the name to move to at the end; None where the bytes go there at once
        self._encoder = codecs.getincrementalencoder(encoding)()
        self._compress = COMPRESS.get(suffix_of(path))
        self._file: IO[bytes] | None = None
        self._stream: IO[bytes] | None = None
        self._at_once = append or path == STANDARD
        if path == STANDARD:
            return
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"cannot write {path}: the folder {folder} does not exist; make it first")
        if os.path.isdir(real):
            raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
        if append:
            self._file = open(path, "ab")  # noqa: SIM115 - closed by commit or abandon
            if self._file.tell():
                self._encoder.setstate(0)  # no byte order mark in the middle of a file
                self._end_last_line()
        elif os.path.exists(path) and not os.path.isfile(path):
            # a device or pipe cannot be moved onto
            self._file, self._at_once = open(path, "wb"), True  # noqa: SIM115 - closed by commit or abandon
        else:
            self._file, self.target = _open_partial(path, real + ".partial"), real
        if not self._at_once:
            self._stream = _compressing(self._file, suffix_of(path))

    def _end_last_line(self) -> None:
        """Finish a line that was left without its end, so that nothing is glued to it."""
        newline = self._encoder.encode("\n")
        if self._compress is not None or not os.path.isfile(self.path):
            return
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - len(newline), 0))
            if file.read() != newline and self._file is not None:
                self._file.write(newline)

    def write(self, text: str) -> None:
        """Write text; raises `UnicodeEncodeError`, with nothing written, for text the encoding cannot carry."""
        if self.path == STANDARD:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        if not text:
            return
        data = self._encoder.encode(text)
        if self._stream is not None:
            self._stream.write(data)
            return
        assert self._file is not None
        self._file.write(self._compress(data) if self._compress is not None else data)
        self._file.flush()

    def commit(self) -> None:
        """Finish the file and put it in place."""
        self._finish(self.target)

    def abandon(self) -> None:
        """Finish the file where it is, so that what was written can be read."""
        self._finish()

    def _finish(self, target: str | None = None) -> None:
        stream, file = self._stream, self._file
        self._stream = self._file = None
        try:
            if stream is not None and stream is not file:
                stream.close()
            if target is not None and file is not None:
                file.flush()
                os.replace(target + ".partial", target)  # before closing, which gives the lock away
        finally:
            if file is not None:
                file.close()


def _open_partial(path: str, partial: str) -> IO[bytes]:
    """Open and empty the partial file, unless another run holds it: two would write into each other's lines."""
    file = open(partial, "ab")  # noqa: SIM115 - closed by the caller
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (os.path.exists(partial) and os.path.samestat(os.fstat(file.fileno()), os.stat(partial))):
            raise BlockingIOError  # the other sink has put it in place just now
        file.truncate(0)
    except BaseException as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise BlockingIOError(
                f"cannot write {path}: {partial} is being written by another sink; give each sink a file of its own"
            ) from None
        raise
    return file


def _compressing(file: IO[bytes], suffix: str) -> IO[bytes]:
    """Give the stream that compresses into `file` by the suffix of its final name."""
    if suffix == ".gz":
        # no name and no time inside: equal events give equal bytes
        return gzip.GzipFile("", "wb", 6, file, mtime=0)  # type: ignore[return-value]
    if suffix == ".bz2":
        return bz2.BZ2File(file, "wb")
    if suffix == ".xz":
        return lzma.LZMAFile(file, "wb")
    return file
