"""What the two ends of one file name share: its arguments, and the output while it is open as a sink.

Decides what a file object is between runs (arguments only: it can be pickled and used again) and in one, and which
promises its paths allow. It knows nothing of what stands in the file. The token of a sink's commit is described in
`filemark`.
"""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from .byte_streams import DECOMPRESS, can_reread
from .commit_token import mark_of
from .compression import suffix_of
from .follow import FollowCursor
from .line_blocks import Split
from .line_cursor import LineCursor
from .output import Output
from .paths import STANDARD, Paths, checked_paths, is_pattern, is_stream


class FileEnds:
    """The base of the file objects; `maker` is the public function that makes them."""

    maker = "file"

    def __init__(self, paths: Paths, encoding: str, append: bool, follow: bool) -> None:
        self.paths = checked_paths(paths, self.maker)
        self.encoding = encoding
        self.append = append
        self.follow = follow
        #: Standard input belongs to the calling process.
        self.in_caller = STANDARD in self.paths
        self._output: Output | None = None
        try:
            "".encode(encoding)
        except LookupError:
            raise GraphError(
                f"cannot make {self!r}: python knows no text encoding {encoding!r}; pass one, such as 'utf-8'"
            ) from None
        if follow:
            self._check_follow()

    def _check_follow(self) -> None:
        path = self.paths[0]
        if len(self.paths) > 1 or is_pattern(path):
            reason, remedy = "one file is followed, not a list or pattern", "join sources with graph.sequence"
        elif path == STANDARD:
            reason, remedy = "standard input is waited for anyway", "leave follow away"
        elif suffix_of(path) in DECOMPRESS:
            reason, remedy = "the end of a compressed file cannot be waited for", "follow the plain file"
        elif self.append:
            reason, remedy = "append is for writing, follow for reading", "make one object for each"
        else:
            return
        raise GraphError(f"cannot follow {self!r}: {reason}; {remedy}")

    def __repr__(self) -> str:
        paths = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        return f"{self.maker}({paths!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_output": None}

    def check_sink(self) -> None:
        """Raise `GraphError` unless exactly one file is named, to be written."""
        if self.follow:
            raise GraphError(f"cannot sink to {self!r}: follow is for reading; make an object without it for the sink")
        if len(self.paths) > 1 or is_pattern(self.paths[0]):
            raise GraphError(
                f"cannot sink to {self!r}: a sink is one file, not a list or pattern; name the file, or add a sink for "
                "each"
            )

    def open(self) -> None:
        """Open the file for the events of one run; raises `OSError` when it cannot be made."""
        self.check_sink()
        self._output = Output(self.paths[0], self.encoding, self.append)

    @property
    def replay(self) -> str:
        """Whether reading again gives the same events: not from standard input, pipes and devices."""
        return "exact" if can_reread(self.paths) else "none"

    def cursor(self, encoding: str, split: Split, position: object | None) -> LineCursor:
        """Open the files for reading; raises `FileNotFoundError` for one that is not there."""
        if self.follow:
            return FollowCursor(self.paths[0], encoding, split, position)
        return LineCursor(self.paths, encoding, split, position)

    @property
    def delivery(self) -> str:
        """What a resumed run promises of this sink: what went to a terminal or pipe cannot be taken back."""
        return "at-least-once" if is_stream(self.paths[0]) else "exactly-once"

    def commit(self, n: int) -> dict[str, Any]:
        """Make everything that was written durable, up to number `n`, and give the token to go on from."""
        return self.output().secure(n, self._header()).token()

    def recover(self, token: object) -> int:
        """Open the file in place of `open`, undo what was written behind a commit, and give its number.

        Raises `CheckpointError` for a token of another kind of sink, and for a file that is missing, shorter than the
        checkpoint knows or another one. A file that is in its place already is left there.
        """
        self.check_sink()
        mark = mark_of(token, repr(self))
        self._output = Output(self.paths[0], self.encoding, self.append, mark)
        self._take_header(mark.names)
        return mark.n

    def settle(self, token: object) -> int:
        """Open the file of a run that had finished, only to put it in its place.

        What was appended is there already, and what stands behind it is of others.
        """
        return mark_of(token, repr(self)).n if self.append else self.recover(token)

    def _header(self) -> list[str] | None:
        """Return the names that were written as a header, where the file has one."""
        return None

    def _take_header(self, names: list[str] | None) -> None:
        """Go on behind a header of these names."""

    def close(self) -> None:
        """Put the file in its place: what was written is complete."""
        output, self._output = self._output, None
        if output is not None:
            output.finish()

    def abort(self) -> None:
        """Keep what was written as `NAME.partial` and leave the file itself as it was."""
        output, self._output = self._output, None
        if output is not None:
            output.abandon()

    def output(self) -> Output:
        """Return the open output, opening it when the engine did not."""
        if self._output is None:
            self.open()
        assert self._output is not None
        return self._output
