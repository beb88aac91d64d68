"""The entry point of every child process: which kind of child it is shows in its name."""

from __future__ import annotations

from . import worker


def main(child: str, argument: bytes) -> None:
    """Run a source process or a worker until it is done."""
    if child.startswith("source."):
        from . import source_process  # a run of iterables needs none

        source_process.main(child, argument)
    else:
        worker.main(child, argument)
