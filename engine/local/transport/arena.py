"""The arena: one file of shared memory per run for large frames; sockets then carry only their offsets.

Decides where a large frame is written and when its memory is free again. Only the calling process allocates, and each
slot belongs to a Python object there, so a process that dies can neither leak nor free one. Without shared memory, or
with too little of it, frames travel through the sockets.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from pathlib import Path

from ...codec.codec import Payload
from .extents import PAGE, Extents, Slot, round_up
from .run_dir import create_locked
from .shared_frames import Region, keep_freed_blocks, map_pages, shared_bytes, write_frames

#: The file grows in steps of this many bytes.
_GROW_BYTES = 1 << 20
#: The size of the arena beyond the window: memory that is granted for answers.
_GRANT_BYTES = 32 << 20


class Arena:
    """The arena in the calling process, which allocates. All calls come from one thread.

    The first allocation makes the file; it may grow a little beyond `window_bytes`, but never to more than half of what
    is free in shared memory at that time. `path` is `None` if there is no shared memory.
    """

    def __init__(self, path: Path | None, window_bytes: int) -> None:
        self.path = path
        self._limit = window_bytes + _GRANT_BYTES
        self._file: int | None = None
        self._memory: memoryview | None = None
        self._backed = 0  #: the file has memory up to this offset
        self._returned: deque[tuple[int, int]] = deque()
        self._free = Extents(0)
        self._disabled = path is None

    def allocate(self, nbytes: int) -> Slot | None:
        """Return a slot of at least `nbytes`, or `None` if there is no room for it."""
        if self._file is None and not self._open():
            return None
        while self._returned:
            self._free.free(*self._returned.popleft())
        nbytes = round_up(max(nbytes, 1), PAGE)
        start = self._free.allocate(nbytes)
        if start is None:
            return None
        if not self._grow(start + nbytes):
            self._free.free(start, start + nbytes)
            return None
        return Slot(start, start + nbytes, self._returned)

    def share(self, payload: Payload) -> Payload:
        """Copy the large frames of a payload into a slot and return the payload that refers to them, if there is room."""
        slot = self.allocate(nbytes) if (nbytes := shared_bytes(payload)) else None
        if slot is None:
            return payload
        assert self._memory is not None
        return write_frames(self._memory, payload, slot, slot.start, slot.stop)[0]

    def region(self, slot: Slot) -> Region:
        """Return the memory that a peer may refer to if it was granted `slot`."""
        assert self._memory is not None
        return Region(self._memory, slot.start, slot.stop)

    @property
    def free_ranges(self) -> list[tuple[int, int]]:
        """The free ranges, in order; none before the first allocation."""
        while self._returned:
            self._free.free(*self._returned.popleft())
        return self._free.free_ranges()

    def close(self) -> None:
        """Remove the file; frames in use stay readable in this process."""
        self._disabled = True
        if self._file is not None:
            assert self.path is not None
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = self._memory = None

    def _open(self) -> bool:
        if self._disabled:
            return False
        self._disabled = True  # one attempt
        assert self.path is not None
        file = None
        try:
            space = os.statvfs(self.path.parent)
            size = min(self._limit, space.f_bavail * space.f_frsize // 2) // PAGE * PAGE
            if size < _GROW_BYTES:
                return False
            file = create_locked(self.path)
            os.ftruncate(file, size)
            self._memory = memoryview(mmap.mmap(file, size))
        except OSError:  # no shared memory, or no room: the sockets carry everything
            if file is not None:
                os.close(file)
                self.path.unlink(missing_ok=True)
            return False
        self._file = file
        self._free = Extents(size)
        keep_freed_blocks()
        return True

    def _grow(self, upto: int) -> bool:
        """Allocate memory for the file up to here: writing beyond it would end the process by SIGBUS."""
        if upto <= self._backed:
            return True
        assert self._file is not None
        assert self._memory is not None
        stop = min(round_up(upto, _GROW_BYTES), len(self._memory))
        try:
            os.posix_fallocate(self._file, self._backed, stop - self._backed)
        except OSError:  # shared memory is full: use what there is
            return False
        map_pages(self._memory, self._backed, stop)
        self._backed = stop
        return True
