"""Frames in shared memory: which ones go there, how they are written, and what a process may read.

Decides that a peer can only refer to memory it was granted, and that frames there are read-only, so that decoding copies
them. The arena and the grants decide who may use which part.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from ...codec.codec import Buffer, Payload
from ...tasks.task import Grant
from .extents import Slot, round_up

#: Smaller frames go through the socket, where they cost less than an allocation here.
FRAME_BYTES = 64 * 1024
#: Frames inside one slot begin at multiples of a cache line.
_CACHE_LINE_BYTES = 64
#: How much Linux maps at one read, by default.
_FAULT_AROUND_BYTES = 64 * 1024
_KEPT_BLOCK_BYTES = 8 << 20


class Region:
    """A part of the arena that may be referred to; frames outside are refused."""

    def __init__(self, memory: memoryview, start: int, stop: int) -> None:
        self._memory = memory
        self._start = start
        self._stop = stop

    def frame(self, offset: int, nbytes: int) -> memoryview:
        """Return a frame to read; raises `ValueError` if it is not inside."""
        if nbytes < 0 or offset < self._start or offset + nbytes > self._stop:
            raise ValueError("a frame lies outside of the memory that may be used")
        return self._memory[offset : offset + nbytes].toreadonly()


class ChildArena:
    """The arena in a child; it is mapped when the first frame is read or written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mapped: memoryview | None = None
        self._mapped_bytes = 0

    def frame(self, offset: int, nbytes: int) -> memoryview:
        """Return a frame to read before its task is answered; raises `ValueError` outside of the arena."""
        memory = self._memory()
        frame = Region(memory, 0, len(memory)).frame(offset, nbytes)
        self._map_up_to(offset + nbytes)
        return frame

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        """Write large frames into the memory granted, as far as they fit; return the payload that refers to them."""
        if grant is None or not shared_bytes(payload):
            return payload
        memory = self._memory()
        if grant.stop > len(memory):
            raise ValueError("room was granted outside of the arena")
        self._map_up_to(grant.stop)
        placed, grant.at = write_frames(memory, payload, None, grant.at, grant.stop)
        return placed

    def _map_up_to(self, upto: int) -> None:
        if upto > self._mapped_bytes:
            map_pages(self._memory(), self._mapped_bytes, upto)
            self._mapped_bytes = upto

    def _memory(self) -> memoryview:
        if self._mapped is None:
            if self._path is None:
                raise ValueError("there is no shared memory here")
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._mapped = memoryview(mmap.mmap(file, os.fstat(file).st_size))
            finally:
                os.close(file)
        return self._mapped


def map_pages(memory: memoryview, start: int, stop: int) -> None:
    """Map pages of the arena into this process by reading: a read maps many pages at once, a write only one.

    Only for ranges that have memory: elsewhere a page is made, or the process ends by SIGBUS if there is none.
    """
    bytes(memory[start:stop:_FAULT_AROUND_BYTES])


def shared_bytes(payload: Payload) -> int:
    """Return how many bytes of a slot the large frames of a payload need."""
    return sum([round_up(size, _CACHE_LINE_BYTES) for frame in payload.frames if (size := frame_bytes(frame)) >= FRAME_BYTES])


def frame_bytes(frame: Buffer) -> int:
    """Return the size of a frame in bytes."""
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


def keep_freed_blocks() -> None:
    """Make this process reuse large blocks that it frees: getting new pages costs more than filling them.

    The C library of Linux maps large blocks one by one until one is freed; from then on it allocates blocks of up to that
    size from its heap, and keeps twice as much there. On other systems this has no effect.
    """
    bytes(_KEPT_BLOCK_BYTES)


def write_frames(memory: memoryview, payload: Payload, slot: Slot | None, at: int, stop: int) -> tuple[Payload, int]:
    """Write the large frames from `at` on, as far as they fit; return the payload that refers to them and where they end."""
    frames: list[Buffer] = []
    places = []
    for frame in payload.frames:
        size = frame_bytes(frame)
        if size >= FRAME_BYTES and at + size <= stop:
            memory[at : at + size] = frame
            frames.append(memory[at : at + size].toreadonly())
            places.append(at)
            at = round_up(at + size, _CACHE_LINE_BYTES)
        else:
            frames.append(frame)
            places.append(-1)
    if max(places) < 0:
        return payload, at
    return Payload(payload.codec, tuple(frames), slot, tuple(places)), at
