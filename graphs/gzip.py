"""Ready-made graph: any file compressed on all cores into one `.gz` that gunzip takes.

    sluiceway run sluiceway.graphs.gzip:graph --set input=FILE --set output=FILE.gz

The file is divided into blocks. Each is deflated by itself, primed with the 32 KiB before it so that it refers back over
the boundary as if there were none, and ended at a whole byte (`Z_SYNC_FLUSH`), so that the blocks, appended in their
order, are one deflate stream (RFC 1951) in one gzip member (RFC 1952). A boundary costs about 20 bytes: with blocks of
256 KiB, 0.00 to 0.10 % of the size that gzip -6 reaches on texts, logs and random bytes, and 8 % of the very small size
that it reaches on zeros.

To make it your own, copy it under a name that Python's own library does not have, and write
`from sluiceway import Graph, GraphError` in the place of its relative imports (or `import sluiceway as sw`, and `sw.`
before both).
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import IO, NamedTuple

from ..nodes.errors import GraphError
from .builder.graph import Graph

#: How far back deflate can refer.
WINDOW_BYTES = 32 << 10
#: Deflate, no name and no time, so that equal files give equal bytes; made on Unix.
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
#: An empty last block in the fixed code: what ends a deflate stream.
LAST_BLOCK = b"\x03\x00"
_POLYNOMIAL = 0xEDB88320  # of CRC-32, bits reflected


def graph(*, input: str, output: str | None = None, level: int = 6, block_bytes: int = 256 << 10) -> Graph:
    """Wire the graph: `input` compressed into `output` (`None`: the input's name with `.gz`).

    `level` is 0 (stored) to 9 (smallest); `block_bytes` is how much one worker compresses at a time. Raises
    `GraphError` for values out of range.
    """
    if not 0 <= level <= 9:
        raise GraphError(f"cannot compress at level {level}: deflate has the levels 0 to 9; choose one of these")
    if block_bytes < 1:
        raise GraphError(f"cannot cut a file into blocks of {block_bytes} bytes: a block has 1 byte or more")
    gzip = Graph("gzip")
    deflated = gzip.source(FileBlocks(input, block_bytes)).map(partial(deflate, level=level))
    deflated.sink(GzipFile(f"{input}.gz" if output is None else output))
    return gzip


class Block(NamedTuple):
    """A piece of the file and the up to 32 KiB before it."""

    data: bytes
    before: bytes


class Piece(NamedTuple):
    """Where a block is in a file that any process can open; sent instead of the block, which is large."""

    path: str
    offset: int
    size: int

    def read(self) -> Block:
        """Read the block; raises `OSError` where the file has become shorter."""
        lead = min(self.offset, WINDOW_BYTES)
        with open(self.path, "rb") as file:
            file.seek(self.offset - lead)
            content = file.read(lead + self.size)
        if len(content) < lead + self.size:
            raise OSError(f"{self.path} has become shorter while it was read; compress a file that nobody changes")
        return Block(content[lead:], content[:lead])


class Deflated(NamedTuple):
    """A deflated piece, and the CRC-32 and size of what it was made of."""

    data: bytes
    crc: int
    size: int


def deflate(given: Block | Piece, *, level: int) -> Deflated:
    """Compress one block so that another may follow it."""
    block = given.read() if isinstance(given, Piece) else given
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=block.before)
    data = squeeze.compress(block.data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    return Deflated(data, zlib.crc32(block.data), len(block.data))


class FileBlocks:
    """A source: the blocks of one file, or where they are if it is a plain one; a position is an offset in bytes."""

    def __init__(self, path: str, block_bytes: int) -> None:
        self.path = path
        self.block_bytes = block_bytes

    def check_source(self) -> None:
        """Refuse a file that is not there, before anything is opened."""
        if not os.path.exists(self.path):
            raise GraphError(f"cannot read {self.path}: there is no such file in {os.getcwd()}; correct the path")

    def files_read(self) -> Sequence[str]:
        """Return the file that is read: no sink of the run may write it."""
        return [self.path]

    def size_hint(self) -> int | None:
        """Return the number of blocks, or `None` if there is no file whose size is known."""
        return -(-os.path.getsize(self.path) // self.block_bytes) if os.path.isfile(self.path) else None

    def reader(self, position: object | None, /) -> BlockReader | PieceReader:
        """Open the file at its beginning or at a position."""
        offset = position if isinstance(position, int) else 0
        if os.path.isfile(self.path):
            return PieceReader(os.path.abspath(self.path), self.block_bytes, offset)
        return BlockReader(self.path, self.block_bytes, offset)


class PieceReader:
    """Returns where the blocks of a plain file are, up to the length that it had when it was opened."""

    def __init__(self, path: str, block_bytes: int, offset: int) -> None:
        with open(path, "rb") as file:  # a file that may not be read is the source's error
            self._end = os.fstat(file.fileno()).st_size
        self._path = path
        self._block_bytes = block_bytes
        self._offset = offset

    def read(self, limit: int, /) -> Sequence[Piece] | None:
        """Return the next places, or `None` at the end."""
        upto = min(self._end, self._offset + limit * self._block_bytes)
        starts = range(self._offset, upto, self._block_bytes)
        self._offset = max(self._offset, upto)
        return [Piece(self._path, at, min(self._block_bytes, self._end - at)) for at in starts] or None

    def position(self) -> int:
        """Return the offset behind the last block."""
        return self._offset

    def close(self) -> None:
        """Do nothing: the file is open only where it is read."""


class BlockReader:
    """Reads the blocks of what can be read once, such as a pipe, and keeps the end of the last for the next."""

    def __init__(self, path: str, block_bytes: int, offset: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close
        self._block_bytes = block_bytes
        self._offset = offset
        self._before = b""
        if offset:
            self._file.seek(max(offset - WINDOW_BYTES, 0))
            self._before = self._file.read(min(offset, WINDOW_BYTES))

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Block] | None:
        """Return the next blocks, or `None` at the end."""
        blocks: list[Block] = []
        for _ in range(max(1, min(limit, max_bytes // self._block_bytes))):
            data = self._file.read(self._block_bytes)
            if not data:
                break
            blocks.append(Block(data, self._before))
            self._offset += len(data)
            self._before = (self._before + data)[-WINDOW_BYTES:]
        return blocks or None

    def position(self) -> int:
        """Return the offset behind the last block."""
        return self._offset

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GzipFile:
    """A sink: deflated blocks into one gzip member, written as `NAME.partial` and put in place at the end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._crc = self._size = 0

    def files_written(self) -> Sequence[str]:
        """Return the names that are written: no source of the run may read them."""
        return [self.path, f"{self.path}.partial"]

    def open(self) -> None:
        """Begin the file, in place of what a failed run has left."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.path}.partial")
        self._file = open(f"{self.path}.partial", "xb")  # noqa: SIM115 - closed by close and abort
        self._crc = self._size = 0
        self._file.write(HEADER)

    def write(self, events: Sequence[Deflated], /) -> None:
        """Append blocks."""
        assert self._file is not None
        for data, crc, size in events:
            self._file.write(data)
            self._crc = crc32_combine(self._crc, crc, size)
            self._size += size

    def close(self) -> None:
        """End the stream and put the file in place."""
        assert self._file is not None
        with self._file as file:
            file.write(LAST_BLOCK + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        os.replace(f"{self.path}.partial", self.path)

    def abort(self) -> None:
        """Leave what was written as `NAME.partial`."""
        if self._file is not None:
            self._file.close()


# The CRC-32 of two pieces together, in microseconds and without their bytes: a CRC is the remainder of a polynomial
# over GF(2), so putting `size` bytes behind the first piece multiplies its CRC by x^(8 size). After crc32_combine,
# multmodp and x2nmodp in crc32.c of zlib 1.2.12 (Mark Adler).


def crc32_combine(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of two pieces together from the CRC-32 of each and the size of the second in bytes."""
    return _multiply(_power(size), first) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo that of CRC-32; the highest bit is x^0."""
    product = 0
    for place in range(31, -1, -1):
        if a >> place & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=8)
def _power(size: int) -> int:
    """Return x^(8 size) modulo the polynomial of CRC-32; all blocks but the last have one size."""
    power, square = 1 << 31, 1 << 23  # x^0 and x^8
    while size:
        if size & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        size >>= 1
    return power
