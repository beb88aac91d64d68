"""Checks whether the sources and sinks of a graph can be opened, in the calling process and before anything is started.

Decides which of them are asked. How they answer is described in `nodes.sources` and `nodes.sinks`; `nodes.file_names`
decides which names mean one file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...nodes import file_names
from ...nodes.errors import GraphError
from .plan import Plan


def missing_input(plan: Plan) -> GraphError | None:
    """Return the error of the first source whose `check_source` raises, `None` if all can be read."""
    for source in plan.sources:
        check = getattr(source.node.subject, "check_source", None)
        try:
            if callable(check):
                check()
        except GraphError as error:
            return error
    return None


def check_apart(plan: Plan, kept: Sequence[object]) -> None:
    """Raise `GraphError` if a sink would write a file that the run reads, that another sink writes, or that is kept.

    `kept` is where the run keeps something itself, as far as these are paths.
    """
    paths = [os.fspath(path) for path in kept if isinstance(path, (str, os.PathLike))]
    sources = [source.node.subject for source in plan.sources]
    file_names.check_apart(sources, [sink.node.subject for sink in plan.sinks], paths)
