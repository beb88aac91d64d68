"""The name of a node: its `name=`, else that of its function, made unique with `-2`, `-3`.

A generated name changes if the user chooses the same one later. What names the user may choose is in `checks`.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterable, Sequence
from itertools import count

from ...nodes.handlers import PerWorker
from ...nodes.program.kinds import NodeKind
from .spec import Node


def name_of(kind: NodeKind, subject: object) -> str:
    """Return the name of the user's function, class or file, or the name of the kind if there is none."""
    name = "" if subject is None else _called(subject)
    # "<lambda>", "<genexpr>" and "<stdin>" name nothing.
    return name if name.strip() and name.isprintable() and not name.startswith("<") else kind.value


def make_name_unique(nodes: Sequence[Node], node: Node) -> None:
    """Make the name of `node` unique among `nodes`, which it is about to join."""
    taken = {other.name: other for other in nodes}
    if not node.named:
        node.name = _free(name_of(node.kind, node.subject), taken)
    elif node.name in taken:
        other = taken[node.name]
        other.name = _free(name_of(other.kind, other.subject), taken)


def _free(base: str, taken: Iterable[str]) -> str:
    if base not in taken:
        return base
    return next(name for number in count(2) if (name := f"{base}-{number}") not in taken)


def _called(subject: object) -> str:
    if isinstance(subject, PerWorker):
        return _called(subject.cls)
    if isinstance(subject, functools.partial):
        return _called(subject.func)
    name = getattr(subject, "__name__", None)
    if isinstance(name, str):
        return name
    return _file_name(subject) or type(subject).__name__


def _file_name(subject: object) -> str:
    """Return the last part of the path of a file, or of a `Source` or `Sink` that has one (the first of several)."""
    if isinstance(subject, io.IOBase) or hasattr(subject, "reader") or hasattr(subject, "write"):
        paths = getattr(subject, "paths", None)
        first = paths[0] if isinstance(paths, list | tuple) and paths else None
        for path in (getattr(subject, "name", None), getattr(subject, "path", None), first):
            if isinstance(path, str | os.PathLike) and isinstance(path := os.fspath(path), str) and path != "-":
                return os.path.basename(path)
    return ""
