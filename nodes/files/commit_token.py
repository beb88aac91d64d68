"""What a checkpoint records about a file that is being written, and how the file is checked against it.

Decides the token of file sinks:

    {"kind": "file", "n": int, "length": int, "check": int, "tail": bytes, "encoder": int | str, "names": list[str] | None,
     "whole": int | None}

`n` is the last number that is in the file, `length` the bytes of the file that are durable, `check` the CRC-32 of the
last 4,096 of them (or of all, where they are fewer). `tail` holds the plain bytes of a compressed file that
are in no complete stream yet, packed by zlib (`compression`); it is empty for plain files. `encoder` is
the state of the text encoder. `names` is the header of a CSV file, `None` before it is written and for other files.
`whole` is the CRC-32 of all durable bytes of a file that is written anew, `None` for one that is appended to.
For standard output, devices and pipes, length, check and tail have no meaning.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import CheckpointError

#: How many bytes before the end of a durable file are checked.
CHECKED_BYTES = 4096

REMEDY = "put the file of the interrupted run back, or begin afresh with resume='never'"


@dataclass(frozen=True, slots=True)
class CommitToken:
    """How far a file is durable; see the head of this module."""

    n: int
    length: int = 0
    check: int = 0
    tail: bytes = b""
    encoder: int | str = 0
    names: list[str] | None = None
    whole: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the token as plain values."""
        return {"kind": "file", **asdict(self)}


def parse_token(token: object, who: str) -> CommitToken:
    """Parse a token; raises `CheckpointError` for one that no file sink has returned."""
    if isinstance(token, dict) and token.get("kind") == "file":
        try:
            return CommitToken(**{name: value for name, value in token.items() if name != "kind"})
        except TypeError:
            pass  # it has other fields: refused below
    raise CheckpointError(
        f"cannot go on in {who}: the checkpoint holds no token of a file for it; give the sink that the run had, or "
        "begin afresh with resume='never'"
    )


def packed(waiting: bytes) -> bytes:
    """Pack plain bytes for a token."""
    return zlib.compress(waiting, 1) if waiting else b""


def unpacked(tail: bytes) -> bytes:
    """Return the plain bytes of a token's tail."""
    return zlib.decompress(tail) if tail else b""


def check_of(number: int, length: int) -> int:
    """Return the check of the first `length` bytes of the open file `number`."""
    begin = max(length - CHECKED_BYTES, 0)
    data = b""
    while len(data) < length - begin:
        piece = os.pread(number, length - begin - len(data), begin + len(data))
        if not piece:
            break
        data += piece
    return zlib.crc32(data)


def whole_check_of(number: int, length: int) -> int:
    """Return the CRC-32 of the first `length` bytes of the open file `number`, all of which are read."""
    check = at = 0
    while at < length:
        piece = os.pread(number, min(length - at, 1 << 20), at)
        if not piece:
            break
        check, at = zlib.crc32(piece, check), at + len(piece)
    return check


def holds(number: int, committed: CommitToken) -> bool:
    """Whether the open file `number` begins with the bytes that the token describes."""
    if check_of(number, committed.length) != committed.check:
        return False
    return committed.whole is None or whole_check_of(number, committed.length) == committed.whole


def check_file(number: int, path: str, committed: CommitToken) -> None:
    """Raise `CheckpointError` unless the open file begins with the bytes that the token describes."""
    size = os.fstat(number).st_size
    if size < committed.length:
        raise CheckpointError(
            f"cannot go on in {path}: it has {size} bytes, but the checkpoint knows {committed.length}; {REMEDY}"
        )
    if not holds(number, committed):
        raise CheckpointError(
            f"cannot go on in {path}: it has {size} bytes, but those before {committed.length} are not what the checkpoint "
            f"knows; {REMEDY}"
        )
