"""Which files a path argument means.

Decides what is a path, a pattern and a list, and when each is looked up: patterns when reading starts, so that a
graph may be built before its files are there.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from os import PathLike

from ...errors import GraphError, kind_of
from ...file_names import STANDARD, is_pattern

_ARCHIVES = frozenset({".tar", ".zip", ".7z", ".tgz", ".tbz2", ".txz"})
_OTHER_FORMS = frozenset({".zst", ".lz4", ".lzma", ".br", ".lz", ".sz"})

Path = str | PathLike[str]
Paths = Path | Sequence[Path]

__all__ = ["STANDARD", "Path", "Paths", "checked_paths", "existing_files", "is_pattern", "is_stream", "unreadable"]


def checked_paths(paths: Paths, maker: str) -> tuple[str, ...]:
    """Return the paths as text; raises `GraphError` for what is no path. `maker` is the public function's name."""
    given = list(paths) if isinstance(paths, Sequence) and not isinstance(paths, str | bytes) else [paths]
    if not given:
        raise GraphError(f"cannot make {maker}([]): it needs at least one path; pass a path, a pattern or a list")
    texts = []
    for path in given:
        text = os.fspath(path) if isinstance(path, str | PathLike) else None
        if not isinstance(text, str) or not text:
            raise GraphError(
                f"cannot make {maker}() from {kind_of(path)}: it needs a path; pass a text that is not empty, "
                "a pathlib.Path or a list of them"
            )
        if (known := _packed_otherwise(text)) is not None:
            raise GraphError(
                f"cannot make {maker}({text!r}): by its name it is {known}, which is not unpacked here; unpack it first, or give "
                "a text file another name"
            )
        texts.append(text)
    return tuple(texts)


def _packed_otherwise(path: str) -> str | None:
    """Return what a name says that is neither text nor one of the compressed forms that are known, or `None`."""
    stem, suffix = os.path.splitext(path.lower())
    if suffix in _ARCHIVES or (suffix in (".gz", ".bz2", ".xz") and stem.endswith(".tar")):
        return "an archive"
    return f"compressed as {suffix}" if suffix in _OTHER_FORMS else None


def is_stream(path: str) -> bool:
    """Whether a path means what cannot be put in place or read again: standard output, a device, a pipe."""
    return path == STANDARD or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))


def existing_files(paths: Sequence[str]) -> list[str]:
    """Return the files that paths and patterns mean now, those of a pattern sorted by name.

    Raises `FileNotFoundError` for a file that is not there and a pattern that matches nothing.
    """
    found: list[str] = []
    for path in paths:
        matches = sorted(glob.glob(path, recursive=True)) if is_pattern(path) else [path]
        if not matches:
            raise FileNotFoundError(
                f"cannot read {path}: no file matches this pattern in {os.getcwd()}; correct the pattern or the "
                "working directory"
            )
        found.extend(match for match in matches if not (is_pattern(path) and os.path.isdir(match)))
    for path in found:
        if path != STANDARD and not os.path.exists(path):
            raise FileNotFoundError(f"cannot read {path}: there is no such file in {os.getcwd()}; correct the path")
    return found


def unreadable(path: str) -> str | None:
    """Return why a file that is there cannot be read and what to do, or `None` if it can."""
    if os.path.isdir(path):
        return "it is a folder; name the files in it, for example with a pattern"
    if not os.access(path, os.R_OK):
        return "this user may not read it; change its permissions, or run as another user"
    return None
