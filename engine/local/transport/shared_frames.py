"""Frames in shared memory: which ones go there, how they are written, and what a process may read of it.

Decides that a peer can only refer to memory it was given, and that what lies there is read-only, so that decoding
copies it out. Who may use which part is the arena's and the grants' to say.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from ...codec.codec import Buffer, Payload
from ...tasks.task import Grant
from .extents import Slot, round_up

#: Smaller frames go through the socket: there they cost less than their place costs here.
FRAME_BYTES = 64 * 1024
#: Frames inside one slot begin at multiples of a cache line.
_CACHE_LINE_BYTES = 64
#: What Linux maps at a read, if nobody has set it otherwise.
_FAULT_AROUND_BYTES = 64 * 1024
_KEPT_BLOCK_BYTES = 8 << 20


class Region:
    """A part of the arena that may be referred to: frames that lie elsewhere are refused."""

    def __init__(self, memory: memoryview, start: int, stop: int) -> None:
        self._memory = memory
        self._start = start
        self._stop = stop

    def frame(self, offset: int, nbytes: int) -> memoryview:
        """Give a frame to read; raises `ValueError` when it is not inside."""
        if nbytes < 0 or offset < self._start or offset + nbytes > self._stop:
            raise ValueError("a frame lies outside of the memory that may be used")
        return self._memory[offset : offset + nbytes].toreadonly()


class ChildArena:
    """The arena as a child has it; it is mapped when the first frame is read or written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mapped: memoryview | None = None
        self._mapped_bytes = 0

    def frame(self, offset: int, nbytes: int) -> memoryview:
        """Give a frame to read before its task is answered; raises `ValueError` outside of the arena."""
        memory = self._memory()
        frame = Region(memory, 0, len(memory)).frame(offset, nbytes)
        self._map_up_to(offset + nbytes)
        return frame

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        """Write the large frames of a payload where they were granted room, as far as they fit."""
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
    """Have this process see memory of the arena: a read maps many pages at once, a write one after the other.

    Only for what has memory behind it: elsewhere a page is made, or the process ends by SIGBUS when there is none.
    """
    bytes(memory[start:stop:_FAULT_AROUND_BYTES])


def shared_bytes(payload: Payload) -> int:
    """Give the bytes that the large frames of a payload take in a slot."""
    return sum([round_up(size, _CACHE_LINE_BYTES) for frame in payload.frames if (size := frame_bytes(frame)) >= FRAME_BYTES])


def frame_bytes(frame: Buffer) -> int:
    """Give the size of a frame in bytes."""
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


def keep_freed_blocks() -> None:
    """Have this process keep large blocks it frees for the next ones: getting pages anew costs more than filling them.

    The C library of Linux maps large blocks one by one until one was freed; from then on it takes blocks of up to that
    size, untouched or not, from its heap, and keeps twice as much there. Elsewhere this does nothing.
    """
    bytes(_KEPT_BLOCK_BYTES)


def write_frames(memory: memoryview, payload: Payload, slot: Slot | None, at: int, stop: int) -> tuple[Payload, int]:
    """Write the large frames from `at` on, as far as they fit; give the payload that lives there and where it ends."""
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
