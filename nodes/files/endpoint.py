"""What source and sink of one file share: the arguments, and the output while the file is open as a sink.

Decides what a file object is between runs (arguments only: it can be pickled and used again) and in one, and which
promises its paths allow. It does not know what the file contains. `commit_token` describes the token of a sink's
commit.
"""

from __future__ import annotations

import codecs
import os
from typing import Any

from ..errors import GraphError
from .append_claim import AppendClaim, claim_file
from .commit_token import parse_token
from .follow import FollowCursor
from .line_blocks import Split
from .line_cursor import LineCursor
from .output import PARTIAL, FileOutput
from .streams.byte_streams import can_reread
from .streams.compression import suffix_of
from .streams.decompression import FORMATS
from .streams.paths import STANDARD, Paths, checked_paths, existing_files, is_pattern, is_stream, unreadable


class FileEndpoint:
    """The base of the file objects; `maker` is the public function that makes them."""

    maker = "file"

    def __init__(self, paths: Paths, encoding: str, append: bool, follow: bool) -> None:
        self.paths = checked_paths(paths, self.maker)
        self.encoding = encoding
        self.append = append
        self.follow = follow
        #: Standard input belongs to the calling process.
        self.in_caller = STANDARD in self.paths
        self._output: FileOutput | None = None
        self._claim: AppendClaim | None = None
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
        elif suffix_of(path) in FORMATS:
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
        return {**self.__dict__, "_output": None, "_claim": None}

    def check_sink(self) -> None:
        """Raise `GraphError` unless exactly one file is named, to be written."""
        if self.follow:
            raise GraphError(f"cannot sink to {self!r}: follow is for reading; make an object without it for the sink")
        if len(self.paths) > 1 or is_pattern(self.paths[0]):
            raise GraphError(
                f"cannot sink to {self!r}: a sink is one file, not a list or pattern; name the file, or add a sink for "
                "each"
            )

    def check_source(self) -> None:
        """Raise `GraphError` for a file that cannot be read and a pattern without a match."""
        try:
            found = existing_files(self.paths)
        except FileNotFoundError as error:
            raise GraphError(str(error)) from None
        for path in found:
            if path != STANDARD and (reason := unreadable(path)) is not None:
                raise GraphError(f"cannot read {path}: {reason}")

    def settings(self) -> dict[str, Any]:
        """Return what decides how the file is read and what stands in it; a position or commit means it together."""
        encoding = codecs.lookup(self.encoding).name
        return {"format": self.maker, "encoding": encoding, "append": self.append}

    def files_read(self) -> tuple[str, ...]:
        """Return the paths and patterns that are read, where it is a source."""
        return self.paths

    def files_written(self) -> tuple[str, ...]:
        """Return the names that are written, where it is a sink."""
        path = self.paths[0]
        if is_stream(path):
            return (path,)
        if self.append:
            return (path, claim_file(path))
        return (path, os.path.realpath(path) + PARTIAL)

    def claim(self, run: str, place: str) -> tuple[str, int] | None:
        """Return what a file that is appended to holds of a run, or of an unfinished one of the same place."""
        self.check_sink()
        path = self.paths[0]
        # what is not appended is written anew by a run that begins, and what was printed is gone
        self._claim = AppendClaim(path, run, place) if self.append and not is_stream(path) else None
        return None if self._claim is None else self._claim.held()

    @property
    def rewrites(self) -> bool:
        """Whether a run that begins anew writes everything anew and replaces what was there in one step."""
        return not self.append and not is_stream(self.paths[0])

    def open(self) -> None:
        """Open the file for the events of one run; raises `OSError` if it cannot be created."""
        self.check_sink()
        self._output = FileOutput(self.paths[0], self.encoding, self.append)

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
        """Make everything that was written durable, up to number `n`, and return the token to resume from."""
        token = self.output().commit(n, self._header())
        if self._claim is not None:
            self._claim.record(n, token.length)
        return token.as_dict()

    def recover(self, token: object) -> int:
        """Open the file in place of `open`, undo what was written after a commit, and return the number of that commit.

        Raises `CheckpointError` for a token of another kind of sink, and for a file that is missing, shorter than the
        checkpoint says, or a different one. A file that already has its final name is left there.
        """
        self.check_sink()
        committed = parse_token(token, repr(self))
        if self._claim is not None:
            self._claim.check_end(committed)
        self._output = FileOutput(self.paths[0], self.encoding, self.append, committed)
        self._set_header(committed.names)
        return committed.n

    def recover_finished(self, token: object) -> int:
        """Open the file of a run that had finished, only to give it its final name.

        What was appended is already there, and anything behind it belongs to others.
        """
        return parse_token(token, repr(self)).n if self.append else self.recover(token)

    def lacking(self) -> str:
        """Return what a text has that the encoding cannot carry, and what to do."""
        if codecs.lookup(self.encoding).name.startswith("utf"):
            return "half of a surrogate pair, which is no text; replace it before the sink"
        return f"characters that {self.encoding} lacks; write it with encoding='utf-8', or replace them before the sink"

    def _header(self) -> list[str] | None:
        """Return the names that were written as a header, where the file has one."""
        return None

    def _set_header(self, names: list[str] | None) -> None:
        """Continue behind a header of these names."""

    def close(self) -> None:
        """Put the file under its final name: what was written is complete."""
        output, self._output = self._output, None
        claim, self._claim = self._claim, None
        if output is not None:
            output.finish()
        if claim is not None:
            claim.finish()

    def abort(self) -> None:
        """Keep what was written as `NAME.partial` and leave the file itself as it was."""
        output, self._output = self._output, None
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.leave()
        if output is not None:
            output.abandon()

    def output(self) -> FileOutput:
        """Return the open output, opening it when the engine did not."""
        if self._output is None:
            self.open()
        assert self._output is not None
        return self._output
