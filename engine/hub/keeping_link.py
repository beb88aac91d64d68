"""Between the core and the thread that keeps answers: effects to that thread, what it has done as commands to the hub.

Decides nothing; pools have names there and indices in the core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from ...nodes.ordering.kept_answers import KeptAnswer
from ..checkpoints.keeper import Keeper
from ..checkpoints.kept_store import KeptGroup, KeptStore
from ..core.core import Core
from ..core.effects import Keep, Recall


class KeepingLink:
    """The kept answers of one run. `command` has a function called in the hub's thread, `fail` ends the run."""

    def __init__(
        self,
        store: KeptStore,
        core: Core,
        command: Callable[[Callable[[], None]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._core = core
        self._command = command
        self._nodes = [pool.durable or "" for pool in core.wiring.pools]
        self._open = 0  #: groups that are with the thread, and not recorded as durable yet
        self._keeper = Keeper(store, lambda error: command(partial(fail, error)))

    @property
    def is_filling(self) -> bool:
        """Whether a checkpoint should make room."""
        return self._keeper.is_filling

    def start(self) -> None:
        """Start the thread."""
        self._keeper.start()

    def do(self, effect: Keep | Recall) -> bool:
        """Carry out an effect; return whether the core was told at once that it is done, as it is else told later."""
        if isinstance(effect, Keep):
            answers = [(self._nodes[at], answer) for at, answer in effect.answers]
            group = KeptGroup(answers, effect.log, effect.positions)
            if not self._open and self._keeper.keep_now(group):
                self._core.record_durable(effect.group)
                return True
            self._open += 1
            self._keeper.keep(group, lambda: self._command(partial(self._record_durable, effect.group)))
        else:
            self._keeper.recall(self._nodes[effect.pool], effect.lo, effect.hi, partial(self._record_recalled, effect.pool))
        return False

    def trim(self, n: int) -> None:
        """Delete the answers below a checkpoint."""
        self._keeper.trim(n)

    def close(self) -> None:
        """Keep all that was given, and end the thread."""
        self._keeper.close()

    def _record_durable(self, group: int) -> None:
        self._open -= 1
        self._core.record_durable(group)

    def _record_recalled(self, at: int, answers: list[KeptAnswer]) -> None:
        self._command(lambda: self._core.record_recalled(at, answers, answers[-1].hi, monotonic()))
