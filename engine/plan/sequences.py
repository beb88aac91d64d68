"""What hands out one value after another: generators of random numbers, counters.

Decides which objects these are. A copy of one in each worker hands out the same values again, so no worker gets one.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from ..codec.main_module import home_of_global_generator


class Sequences:
    """Finds such objects in what is pickled.

    The generators that `random` and numpy have themselves are none: every process has its own, seeded anew.
    """

    def __init__(self) -> None:
        self.found = False

    def look(self, value: Any) -> None:
        """Look at one object of a pickle."""
        self.found = self.found or _hands_out(value)


def _hands_out(value: Any) -> bool:
    if isinstance(value, (itertools.count, itertools.cycle)):
        return True
    if home_of_global_generator(value) is not None:
        return False
    plain, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    if plain is not None and isinstance(value, plain.Random):
        return not isinstance(value, plain.SystemRandom)
    return numpy is not None and isinstance(value, (numpy.Generator, numpy.RandomState, numpy.BitGenerator))
