"""What the two ends of one file name share: its arguments, and the output while it is open as a sink.

Decides what a file object is between runs (arguments only: it can be pickled and used again) and in one. It knows
nothing of what stands in the file.
"""

from __future__ import annotations

from typing import Any

from .errors import GraphError
from .outputs import Output
from .paths import STANDARD, Paths, checked_paths, is_pattern


class FileEnds:
    """The base of the file objects; `maker` is the public function that makes them."""

    maker = "file"

    def __init__(self, paths: Paths, encoding: str, append: bool) -> None:
        self.paths = checked_paths(paths, self.maker)
        self.encoding = encoding
        self.append = append
        #: Standard input belongs to the calling process.
        self.in_caller = STANDARD in self.paths
        self._output: Output | None = None
        try:
            "".encode(encoding)
        except LookupError:
            raise GraphError(
                f"cannot make {self!r}: python knows no text encoding {encoding!r}; pass one, such as 'utf-8'"
            ) from None

    def __repr__(self) -> str:
        paths = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        return f"{self.maker}({paths!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_output": None}

    def check_sink(self) -> None:
        """Raise `GraphError` unless exactly one file is named."""
        if len(self.paths) > 1 or is_pattern(self.paths[0]):
            raise GraphError(
                f"cannot sink to {self!r}: a sink is one file, not a list or pattern; name the file, or add a sink for "
                "each"
            )

    def open(self) -> None:
        """Open the file for the events of one run; raises `OSError` when it cannot be made."""
        self.check_sink()
        self._output = Output(self.paths[0], self.encoding, self.append)

    def close(self) -> None:
        """Put the file in its place: what was written is complete."""
        output, self._output = self._output, None
        if output is not None:
            output.commit()

    def abort(self) -> None:
        """Keep what was written as `NAME.partial` and leave the file itself as it was."""
        output, self._output = self._output, None
        if output is not None:
            output.abandon()

    def output(self) -> Output:
        """Give the open output, opening it when the engine did not."""
        if self._output is None:
            self.open()
        assert self._output is not None
        return self._output
