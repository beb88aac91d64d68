"""Whose events are the last in a file that is appended to, in a small file of its own beside it.

Decides the file `.NAME.claim`: which run is writing, where it keeps its checkpoints, and how far it has committed. It is
there from the beginning of a run with checkpoints until that run has finished. So a run whose store was lost or is
older does not append its events again, and a resumed one does not cut off what others have added.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from .commit_token import REMEDY, CommitToken

#: Digits of a number in the file: every commit writes the same bytes but for these.
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class _Held:
    run: str
    place: str
    n: int
    length: int


class AppendClaim:
    """The claim of one run on one file; `run` is the run's own id, `place` says where its checkpoints are."""

    def __init__(self, path: str, run: str, place: str) -> None:
        self._path = os.path.realpath(path)
        self._file = claim_file(path)
        self._run = run
        self._place = place
        self._open: int | None = None

    def held(self) -> tuple[str, int] | None:
        """Return the last number that the file holds of the run, else run and number of an unfinished one of its place.

        A run that was killed before its first commit, but not before its first write, holds number 0.
        """
        held = self._read()
        if held is None or (held.run != self._run and held.place != self._place):
            return None
        begun = os.path.exists(self._path) and os.path.getsize(self._path) > held.length
        return held.run, max(held.n, 0) if begun and held.run != self._run else held.n

    def check_end(self, committed: CommitToken) -> None:
        """Raise `CheckpointError` if what stands behind the commit may be of others, for it is about to be cut off."""
        size = os.path.getsize(self._path) if os.path.exists(self._path) else 0
        held = self._read() if size > committed.length else None
        if size <= committed.length or (held is not None and held.run == self._run):
            return
        whose = "nothing says whose they are" if held is None else "another run has written since"
        raise CheckpointError(
            f"cannot go on in {self._path}: the checkpoint knows {committed.length} of its {size} bytes, and {whose} "
            f"({self._file}); cut the file to {committed.length} bytes if you need nothing of that, or {REMEDY}"
        )

    def _read(self) -> _Held | None:
        try:
            # neither a link nor a pipe of a stranger is followed or waited for
            number = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            text = os.read(number, 1 << 16) if stat.S_ISREG(os.fstat(number).st_mode) else b"?"
        finally:
            os.close(number)
        if not text:
            return None  # a run that was killed before it had written anything
        try:
            found: dict[str, Any] = json.loads(text)
            return _Held(str(found["run"]), str(found["place"]), int(found["n"]), int(found["length"]))
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(
                f"cannot append to {self._path}: {self._file} does not say whose events the file holds; remove it if no run "
                "is to go on there"
            ) from None

    def _unusable(self, error: OSError) -> OSError:
        return OSError(
            f"cannot append to {self._path}: {self._file}, in which a run with checkpoints says whose events the file holds, "
            f"cannot be used ({error.strerror}); allow this user to, or append to a file in another folder"
        )

    def record(self, n: int, length: int) -> None:
        """Record that numbers up to `n` are in the first `length` bytes; before anything is written, that the run is at it."""
        fields = {"run": self._run, "place": self._place, "n": f"{n:{_DIGITS}}", "length": f"{length:{_DIGITS}}"}
        text = json.dumps(fields).encode() + b"\n"
        if self._open is not None:
            os.pwrite(self._open, text, 0)
            return
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._open = os.open(self._file, flags, 0o666)
            os.pwrite(self._open, text, 0)
        except OSError as error:
            raise self._unusable(error) from error
        os.ftruncate(self._open, len(text))
        os.fsync(self._open)
        folder = os.open(os.path.dirname(self._file), os.O_RDONLY)
        try:
            os.fsync(folder)  # a crash of the machine must not leave events of a run that nobody has claimed
        finally:
            os.close(folder)

    def finish(self) -> None:
        """Remove the claim: the run has finished, and another one may begin."""
        self.leave()
        held = self._read()
        if held is not None and held.run == self._run:
            os.unlink(self._file)

    def leave(self) -> None:
        """Keep the claim for the run that goes on."""
        number, self._open = self._open, None
        if number is not None:
            os.close(number)


def claim_file(path: str) -> str:
    """Return the name of the file beside `path`; patterns such as `*` do not match it."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.claim")
