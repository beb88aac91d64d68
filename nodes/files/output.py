"""How a file is written so that its name never holds half of a run.

Decides where the bytes go: to `NAME.partial`, renamed when the run has succeeded; to the end of the file when
appending; straight to standard output, devices and pipes; and how a resumed run continues in them. It
knows nothing of events.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import logging
import os
import pwd
import stat
import sys
import zlib
from dataclasses import replace
from typing import IO

from ..errors import CheckpointError
from .commit_token import REMEDY, CommitToken, check_file, check_of, holds, packed, unpacked
from .streams.byte_streams import ends_with_newline
from .streams.compression import COMPRESS, StreamCompressor, suffix_of
from .streams.paths import STANDARD, is_stream

log = logging.getLogger("sluiceway")

#: What is added to the name of a file while it is written.
PARTIAL = ".partial"


class FileOutput:
    """One file, open for the events of one run, from its beginning or from a commit."""

    def __init__(self, path: str, encoding: str, append: bool, committed: CommitToken | None = None) -> None:
        self.path = path
        self.target: str | None = None  # the name to move to at the end; None where the bytes go there at once
        self._encoding = encoding
        self._encoder = codecs.getincrementalencoder(encoding)()
        self._suffix = suffix_of(path)
        self._file: IO[bytes] | None = None
        self._members: StreamCompressor | None = None
        self._kept = append  # what a crash leaves behind is there for the next run
        self._committed = committed
        self._changed = committed is None
        self._synced_folder = False
        self._whole = 0 if committed is None or committed.whole is None else committed.whole  # CRC-32 of what was written
        self._knows_whole = committed is None or committed.whole is not None
        if path != STANDARD:
            self._open(append)
            if committed is not None:
                self._truncate_to(committed)
        elif committed is not None:
            self._encoder.setstate(committed.encoder)

    def _open(self, append: bool) -> None:
        path = self.path
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"cannot write {path}: the folder {folder} does not exist; make it first")
        if os.path.isdir(real):
            raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
        if is_stream(path):
            # a device or pipe cannot be moved onto
            self._file, self._kept = open(path, "ab" if append else "wb"), False  # noqa: SIM115 - closed by finish
        elif append:
            self._open_end()
        else:
            self._kept, self.target = True, real
            if self._committed is None or os.path.exists(real + PARTIAL) or not _is_done(real, self._suffix, self._committed):
                self._file = _open_partial(path, real, self._committed is None)
            if self._suffix in COMPRESS:
                self._members = StreamCompressor(self._suffix)

    def _open_end(self) -> None:
        if self._committed is not None and not os.path.exists(self.path):
            raise CheckpointError(
                f"cannot go on in {self.path}: it is not there, but the checkpoint knows {self._committed.length} bytes of "
                f"it; {REMEDY}"
            )
        self._file = _open_end(self.path)
        if self._committed is None and self._file.tell():
            self._encoder.setstate(0)  # no byte order mark in the middle of a file
            try:
                self._end_last_line()
            except BaseException:
                self._file.close()
                raise

    def _truncate_to(self, committed: CommitToken) -> None:
        """Remove what was written after the commit."""
        file = self._file
        try:
            if file is not None and self._kept:
                check_file(file.fileno(), self.path if self.target is None else self.target + PARTIAL, committed)
                file.truncate(committed.length)
                file.seek(committed.length)
            self._encoder.setstate(committed.encoder)
            if self._members is not None:
                self._members.resume(unpacked(committed.tail), committed.length > 0)
        except BaseException:
            if file is not None:
                file.close()  # as it is: it may be somebody else's
            raise

    def _end_last_line(self) -> None:
        """End a last line that has no line end, so that nothing is appended to it."""
        if self._file is not None and not ends_with_newline(self.path, self._encoding):
            newline = self._encoder.encode("\n")
            compress = COMPRESS.get(self._suffix)
            self._file.write(newline if compress is None else compress(newline))

    def write(self, text: str) -> None:
        """Write text; raises `UnicodeEncodeError`, with nothing written, for text the encoding cannot carry."""
        if not text:
            return
        if self.path == STANDARD:
            self._changed = True
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        self.write_encoded(self._encoder.encode(text))

    def write_encoded(self, data: bytes) -> None:
        """Write bytes that are text in the file's encoding; not for standard output."""
        self._changed = True
        if self._file is None:
            raise CheckpointError(
                f"cannot go on in {self.path}: it is finished and in its place, but the run is not; {REMEDY}"
            )
        if self.target is not None:
            data = data if self._members is None else self._members.compress(data)
            self._file.write(data)
            self._whole = zlib.crc32(data, self._whole)
        else:
            compress = COMPRESS.get(self._suffix)
            self._file.write(compress(data) if compress is not None else data)
            self._file.flush()

    def commit(self, n: int, names: list[str] | None) -> CommitToken:
        """Make what was written durable and return the token to resume from; `names` is the header, where there is one."""
        if self._changed or self._committed is None:
            self._committed = self._sync(n, names)
            self._changed = False
        else:
            self._committed = replace(self._committed, n=n, names=names)
        return self._committed

    def _sync(self, n: int, names: list[str] | None) -> CommitToken:
        state = self._encoder.getstate()
        if self.path == STANDARD:
            sys.stdout.flush()
            return CommitToken(n, encoder=state, names=names)
        assert self._file is not None
        self._file.flush()
        number = self._file.fileno()
        if not self._kept:
            return CommitToken(n, encoder=state, names=names)
        os.fsync(number)
        if not self._synced_folder:
            _sync_folder(os.path.realpath(self.path))
            self._synced_folder = True
        length = os.fstat(number).st_size
        tail = b"" if self._members is None else packed(self._members.waiting())
        whole = self._whole if self.target is not None and self._knows_whole else None
        return CommitToken(n, length, check_of(number, length), tail, state, names, whole)

    def finish(self) -> None:
        """Finish the file and give it its final name."""
        self._end(self.target)

    def abandon(self) -> None:
        """Finish the file where it is, so that what was written can be read."""
        self._end()

    def _end(self, target: str | None = None) -> None:
        members, file = self._members, self._file
        self._members = self._file = None
        if file is None:
            return
        try:
            if members is not None:
                file.write(members.last())
            elif self._suffix in COMPRESS and self._kept and not os.fstat(file.fileno()).st_size:
                file.write(COMPRESS[self._suffix](b""))  # a file without any stream is a damaged one
            if target is not None:
                file.flush()
                if self._committed is not None:  # a checkpoint relies on it
                    os.fsync(file.fileno())
                os.replace(target + PARTIAL, target)  # before closing, which releases the lock
                if self._committed is not None:
                    _sync_folder(target)
        finally:
            file.close()


def _open_end(path: str, mode: int = 0o666, flags: int = os.O_CREAT) -> IO[bytes]:
    """Open a file for writing at its end, so that it can also be read (checks do)."""
    how = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags
    return open(path, "ab", opener=lambda name, _: os.open(name, how, mode))


def _open_partial(path: str, real: str, fresh: bool) -> IO[bytes]:
    """Open the partial file, `fresh` a new one, unless another run holds it: two would write into each other's lines.

    A link at its name is never followed. What an earlier run left there is replaced, not emptied: another name of
    it keeps what it holds.
    """
    partial = real + PARTIAL
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(real).st_mode) & 0o777
    file = None
    try:
        if os.path.lexists(partial):
            file = _held(path, partial, fresh)
        elif not fresh:
            raise CheckpointError(f"cannot go on in {partial}: it is not there, nor is what it became; {REMEDY}")
        if fresh:
            left, file = file, _created(partial, 0o666 if mode is None else mode, left=file)
            if left is not None:
                left.close()
        assert file is not None
        if mode is not None and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
            os.fchmod(file.fileno(), mode)  # it holds what the file will hold, for the same readers
    except BaseException as error:
        if file is not None:
            file.close()
        if isinstance(error, (BlockingIOError, FileExistsError)):
            raise BlockingIOError(
                f"cannot write {path}: {partial} is being written by another sink; give each sink a file of its own"
            ) from None
        raise
    return file


def _held(path: str, partial: str, fresh: bool) -> IO[bytes]:
    """Open the partial file that is there and lock it; raises `OSError` for what no run of this user has left."""
    about = os.lstat(partial)
    owner = _owner(about.st_uid)
    if stat.S_ISLNK(about.st_mode):
        raise OSError(f"cannot write {path}: {partial} is a symbolic link of user {owner}, not followed; remove it")
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"cannot write {path}: {partial} is no regular file, and belongs to user {owner}; remove it")
    if fresh and about.st_uid != os.geteuid():
        raise OSError(f"cannot write {path}: {partial} belongs to user {owner}; remove it, or write to another folder")
    file = _open_end(partial, flags=os.O_NOFOLLOW)
    try:
        _lock(file, partial)
    except BaseException:
        file.close()
        raise
    return file


def _created(partial: str, mode: int, left: IO[bytes] | None) -> IO[bytes]:
    """Create the partial file and lock it; `left` is what an earlier run left there, locked."""
    if left is not None:
        size = os.fstat(left.fileno()).st_size
        if size:
            log.warning("%s is written anew: what an earlier run left there (%d bytes) is dropped", partial, size)
        os.unlink(partial)
    file = _open_end(partial, mode, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
    try:
        _lock(file, partial)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: IO[bytes], partial: str) -> None:
    """Lock an open file; raises `BlockingIOError` if another sink holds it or has just put it in place."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not (os.path.exists(partial) and os.path.samestat(os.fstat(file.fileno()), os.stat(partial))):
        raise BlockingIOError


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_done(target: str, suffix: str, committed: CommitToken) -> bool:
    """Whether the file with the final name is the one that the run wrote; raises `CheckpointError` for another one."""
    if not os.path.isfile(target):
        return False
    rest = b""
    if suffix in COMPRESS:
        members = StreamCompressor(suffix)
        members.resume(unpacked(committed.tail), committed.length > 0)
        rest = members.last()
    with open(target, "rb") as file:
        size, whole = os.fstat(file.fileno()).st_size, committed.length + len(rest)
        if size == whole and holds(file.fileno(), committed):
            file.seek(committed.length)
            if file.read() == rest:
                return True
    raise CheckpointError(
        f"cannot go on in {target}.partial: it is not there, and {target} has {size} bytes where the run would have "
        f"written {whole} of its own; {REMEDY}"
    )


def _sync_folder(path: str) -> None:
    """Make the name of a file durable."""
    number = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
