"""Names of the files that a run reads and writes: none is both, and none is written twice.

Decides what is a pattern, and whether a sink would write what its run reads, what another sink writes, or what the run
keeps: by device and inode for files that exist, by name for those that will, because a pattern is matched when the
output exists already. Pipes and devices hold nothing that could be lost.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from .errors import GraphError

#: The path that means standard input or standard output.
STANDARD = "-"

Identity = tuple[int, int] | str


def is_pattern(path: str) -> bool:
    """Whether a path is to be matched: it has `*`, `?` or `[`, and no file has just this name."""
    return glob.has_magic(path) and not os.path.lexists(path)


def check_apart(sources: Sequence[Any], sinks: Sequence[Any], kept: Sequence[str]) -> None:
    """Raise `GraphError` if a sink would write what is read, what another sink writes, or what the run keeps.

    Sources say what they read by `files_read()`, sinks what they write by `files_written()`: paths, and for a source
    patterns. `kept` is what the run writes itself.
    """
    reads = [_Read.of(source, path) for source in sources for path in _read_by(source)] if sinks else []
    for at, sink in enumerate(sinks):
        for name in _names(sink, "files_written"):
            own = identities(name)
            for read in reads:
                read.check(sink, name, own)
            for other in sinks[at + 1 :]:
                if any(own & identities(path) for path in _names(other, "files_written")):
                    raise GraphError(
                        f"cannot write {name}: two sinks would write it, {sink!r} and {other!r}; give each sink a file "
                        "of its own"
                    )
            if any(own & identities(path) for path in kept):
                raise GraphError(
                    f"cannot write {name}: the run keeps its checkpoint or lock there; write to another file"
                )


class _Read(Struct, frozen=True):
    """What one path or pattern of a source reads now; looked up once, however many files the sinks write."""

    source: Any
    path: Any
    is_pattern: bool
    files: frozenset[Identity]

    @staticmethod
    def of(source: Any, path: Any) -> _Read:
        matched = isinstance(path, str) and is_pattern(path)
        paths = glob.glob(path, recursive=True) if matched else [path]
        return _Read(source, path, matched, frozenset().union(*map(identities, paths)))

    def check(self, sink: Any, name: str, own: set[Identity]) -> None:
        """Raise `GraphError` if the file that a sink writes is read, or would be once it exists."""
        if own & self.files:
            verb = "reads"
        elif self.is_pattern and _matches(self.path, name):
            verb = "would read"
        else:
            return
        what = self.source if isinstance(self.path, str) else "a source"
        raise GraphError(
            f"cannot write {name}: {what!r} {verb} it, and {sink!r} would destroy it or never come to its end; write to "
            "another folder or name, and rename afterwards"
        )


def identities(path: Any) -> set[Identity]:
    """Return what identifies a regular file: device and inode if it exists, and its own name.

    `path` may also be an open file. What is not a regular file has no identity.
    """
    try:
        if path == STANDARD or not isinstance(path, str):
            about = os.fstat(path.fileno() if path != STANDARD else sys.stdout.fileno())
        else:
            about = os.stat(path)
    except FileNotFoundError:
        return {os.path.realpath(path)}
    except (OSError, ValueError, AttributeError):  # closed, replaced by a test's, or not accessible
        return set()
    if not stat.S_ISREG(about.st_mode):
        return set()
    return {(about.st_dev, about.st_ino)}


def _read_by(source: Any) -> Iterable[Any]:
    """Return the paths, patterns and open files that a source reads."""
    if callable(getattr(source, "fileno", None)):
        return [source]
    return [sys.stdin if path == STANDARD else path for path in _names(source, "files_read")]


def _names(end: Any, member: str) -> Sequence[str]:
    names = getattr(end, member, None)
    return names() if callable(names) and not isinstance(end, type) else ()


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern will match a file of this name once it exists."""
    folder, last = os.path.split(pattern)
    real_folder, real_name = os.path.split(os.path.realpath(name))
    if real_name.startswith(".") and not last.startswith("."):
        return False
    if last != "**" and not fnmatch.fnmatch(real_name, last):
        return False
    folder = pattern if last == "**" else folder or "."
    folders = glob.glob(folder, recursive=True) if glob.has_magic(folder) else [folder]
    if last == "**":
        folders.append(os.path.dirname(pattern) or ".")
    return any(os.path.isdir(each) and os.path.realpath(each) == real_folder for each in folders)
