"""A bell: how any thread wakes the hub, which sleeps on descriptors.

Decides that a bell that has been rung and not been heard is not rung again: a flood of commands costs one write.
"""

from __future__ import annotations

import os


class Bell:
    """A pipe with a flag. `ring` may be called by any thread, all else by the one that sleeps."""

    def __init__(self) -> None:
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._end, False)
        self._heard = False

    def ring(self) -> None:
        """Wake the sleeper, or keep it from going to sleep."""
        if not self._heard:
            self._heard = True
            try:
                os.write(self._end, b"!")
            except (BlockingIOError, OSError):
                return  # full: it rings already; closed: nobody sleeps any more

    def arm(self) -> None:
        """Say that the sleeper is about to sleep; what was to be done must be looked at once more after this."""
        self._heard = False

    def answer(self, rung: bool) -> None:
        """Say that the sleeper is awake; `rung` says that the descriptor was readable."""
        self._heard = True
        if rung:
            os.read(self.descriptor, 4096)

    def close(self) -> None:
        """Close the pipe."""
        self._heard = True
        os.close(self.descriptor)
        os.close(self._end)
